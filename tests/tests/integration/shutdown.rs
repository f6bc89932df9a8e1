//! SIGTERM: what is out finishes, nothing is lost, nothing is sent twice.

use bowline_core::defaults::ATTEMPT_TIMEOUT_MAX;
use bowline_proto::v1::{self, DeliveryState};
use bowline_tests::provider::BODY;
use bowline_tests::{BOUND, Provider, Receiver, Reply, Stack, admin, eventually, sign};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_dispatcher_finishes_the_requests_that_are_out() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted(vec![Reply::Held(200); 5]).await;
    // It is the release that ends them, however long that takes to come.
    let timeout = Some(admin::duration(ATTEMPT_TIMEOUT_MAX));
    let patient = v1::Endpoint { timeout, ..admin::endpoint(receiver.url()) };
    let (endpoint, _) = admin.endpoint(patient).await;
    let ids = admin.publish_many("order.created", 5).await;
    receiver.await_ids(&ids, BOUND).await;

    stack.dispatchers[0].signal(Signal::SIGTERM);
    // It stops taking work first: what comes now is left to the next one.
    let ops = stack.dispatchers[0].ops_url();
    eventually(BOUND, async || {
        let ready =
            bowline_tests::http::send(::http::Method::GET, &format!("{ops}/readyz"), &Vec::new(), "").await;
        match ready {
            Ok(answer) if answer.status == 200 => Err("still ready"),
            _ => Ok(()),
        }
    })
    .await;
    let late = admin.publish("order.created").await;
    receiver.release();
    stack.dispatchers[0].finish(ATTEMPT_TIMEOUT_MAX).await;
    for id in &ids {
        let delivery = admin.delivery(id, &endpoint).await.unwrap();
        assert_eq!((delivery.state(), delivery.attempt_count), (DeliveryState::Delivered, 1));
    }

    stack.add_dispatcher(&[]).await;
    receiver.await_ids(&[late], BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 6, "none was sent twice");
}

#[tokio::test]
async fn a_dispatcher_hands_its_backlog_to_the_other_without_sending_twice() {
    let mut stack = Stack::builder().dispatchers(2).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    admin.endpoint(admin::endpoint(receiver.url())).await;
    let publishing = {
        let admin = admin.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..20 {
                ids.extend(admin.publish_many("order.created", 20).await);
            }
            ids
        })
    };
    receiver.await_count(50, BOUND).await;
    stack.dispatchers[0].terminate(ATTEMPT_TIMEOUT_MAX).await;
    let ids = publishing.await.unwrap();
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), ids.len(), "each exactly once");
}

#[tokio::test]
async fn an_ingest_finishes_the_requests_it_has_begun() {
    let mut stack = Stack::builder().ingests(2).start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;

    // Half of a request is in when the signal comes.
    let address = stack.ingests[0].http_url().replace("http://", "");
    let mut head = format!(
        "POST /in/{} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n",
        provider.source_id,
        BODY.len()
    );
    for (name, value) in sign::github(&provider.secret, "half", "push", BODY) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(format!("{head}expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    // The service asks for the body: it has begun this request.
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&interim));
    stream.write_all(&BODY[..10]).await.unwrap();

    stack.ingests[0].signal(Signal::SIGTERM);
    eventually(BOUND, async || match TcpStream::connect(&address).await {
        Ok(_) => Err("still accepts connections"),
        Err(_) => Ok(()),
    })
    .await;
    stream.write_all(&BODY[10..]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stack.ingests[0].finish(BOUND).await;

    let id = answer.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    receiver.await_ids(&[id], BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn what_an_ingest_acknowledged_under_load_arrives_exactly_once() {
    let mut stack = Stack::builder().ingests(2).start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;
    let load = (0..8).map(|worker| {
        let provider = provider.clone();
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                match provider.try_push(&format!("{worker}-{number}")).await {
                    Ok(answer) if answer.status == 200 => acknowledged.push(answer.accepted()),
                    // Shed or refused: the provider would try again elsewhere.
                    _ => break,
                }
            }
            acknowledged
        })
    });
    let load: Vec<_> = load.collect();
    receiver.await_count(40, BOUND).await;
    stack.ingests[0].terminate(BOUND).await;
    let mut acknowledged = Vec::new();
    for worker in load {
        acknowledged.extend(worker.await.unwrap());
    }
    receiver.await_ids(&acknowledged, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), receiver.ids().len(), "none was sent twice");
}

#[tokio::test]
async fn at_an_orderly_end_no_worker_ends_before_it_is_asked_to() {
    let mut stack = Stack::start().await;
    let provider = Provider::create(&stack).await;
    provider.push("one").await.accepted();
    let stranger = Provider { secret: "not-the-secret".to_owned(), ..provider };
    stranger.push("two").await.refused(401);
    for service in stack.ingests.iter_mut().chain(&mut stack.dispatchers) {
        service.terminate(ATTEMPT_TIMEOUT_MAX).await;
        let log = service.log();
        // Said as an error, and of nothing that a busy machine may do besides.
        let early: Vec<&str> =
            log.lines().filter(|line| line.contains("returned although nobody asked it to")).collect();
        assert!(early.is_empty(), "{early:#?}");
    }
}
