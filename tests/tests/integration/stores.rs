//! Postgres is the truth, Redis is a hint: what happens when either goes.

use bowline_core::id::EventId;
use bowline_tests::proxy::Proxy;
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Provider, Receiver, Reply, Stack, admin, eventually, stores};

/// Nobody listens there, and nobody will: a privileged port.
const NO_REDIS: &str = "redis://127.0.0.1:1/0";

async fn empty_redis(stack: &Stack) {
    let client = redis::Client::open(stack.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn what_waits_outlives_an_emptied_redis() {
    let mut stack = Stack::builder().dispatchers(0).own_redis().start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let mut ids = stack.admin().publish_many("order.created", 100).await;
    empty_redis(&stack).await;
    stack.add_dispatcher(&[]).await;
    receiver.await_ids(&ids, BOUND).await;

    // Emptied under a dispatcher that reads: streams and groups are gone.
    empty_redis(&stack).await;
    ids.extend(stack.admin().publish_many("order.paid", 100).await);
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 200, "each exactly once");
}

#[tokio::test]
async fn delivery_goes_on_without_redis_and_after_it_is_back() {
    let mut stack = Stack::builder().own_redis().start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;
    let mut ids = vec![provider.push("with").await.accepted()];
    receiver.await_ids(&ids, BOUND).await;

    stack.redis.as_mut().unwrap().kill().await.unwrap();
    for number in 0..20 {
        ids.push(provider.push(&format!("without-{number}")).await.accepted());
    }
    receiver.await_ids(&ids, BOUND).await;

    stack.redis.as_mut().unwrap().restart().await.unwrap();
    for number in 0..20 {
        ids.push(provider.push(&format!("back-{number}")).await.accepted());
    }
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), ids.len(), "each exactly once");
}

#[tokio::test]
async fn a_redis_that_accepts_and_says_nothing_stops_nobody() {
    let mut stack = Stack::builder().own_redis().start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;
    stack.redis.as_mut().unwrap().pause().unwrap();
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(provider.push(&format!("paused-{number}")).await.accepted());
    }
    receiver.await_ids(&ids, BOUND).await;
    stack.redis.as_mut().unwrap().resume().unwrap();
    ids.push(provider.push("resumed").await.accepted());
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), ids.len(), "each exactly once");
}

#[tokio::test]
async fn both_services_start_and_deliver_without_redis() {
    let stack = Stack::builder().set("BOWLINE_REDIS_URL", NO_REDIS).start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let ids = Provider::create(&stack).await.push_many(20).await;
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 20);
}

#[tokio::test]
async fn both_services_wait_for_postgres_and_say_so() {
    let mut stack = Stack::builder().ingests(0).dispatchers(0).start().await;
    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    proxy.refuse();
    let mut waiting = Vec::new();
    for kind in [Kind::Ingest, Kind::Dispatcher] {
        waiting.push(stack.launch(kind, &[("BOWLINE_POSTGRES_URL", &through)]).unwrap());
    }
    for service in &mut waiting {
        eventually(BOUND, async || {
            let log = service.log();
            // Twice: it goes on saying so.
            if log.matches("waiting until it answers").count() >= 2 { Ok(()) } else { Err(log) }
        })
        .await;
        assert!(service.ended().is_none(), "{}", service.log());
    }
    proxy.admit();
    for mut service in waiting {
        service.ready(BOUND).await.unwrap();
    }
}

#[tokio::test]
async fn without_postgres_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let mut stack = Stack::builder().own_postgres().start().await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Held(200));
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;
    let mut ids = provider.push_many(5).await;
    receiver.await_ids(&ids, BOUND).await;

    let postgres = stack.postgres.as_mut().unwrap();
    postgres.stop().await.unwrap();
    let shed = provider.push("away").await;
    assert_eq!(shed.status, 503, "{}", shed.text());
    assert!(shed.header("retry-after").parse::<u64>().is_ok_and(|wait_s| wait_s > 0), "{shed:?}");
    // Their outcomes cannot be recorded now; they are kept until they can.
    receiver.release();
    receiver.answer(Reply::Status(200));
    postgres.restart().await.unwrap();

    let back = eventually(BOUND, async || {
        let answer = provider.push("back").await;
        if answer.status == 200 { Ok(answer) } else { Err(answer) }
    })
    .await;
    ids.push(back.json()["id"].as_str().unwrap().to_owned());
    receiver.await_ids(&ids, BOUND).await;
    // The stack's own connection went with the server: this one is new.
    let sql = bowline_tests::database::connect(&stack.database.url).await.unwrap();
    eventually(BOUND, async || {
        let row =
            sql.query_one("SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM queue)", &[]).await;
        let left: i64 = row.map_err(|error| format!("{error:?}"))?.get(0);
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    })
    .await;
    for id in &ids {
        let delivered = "SELECT count(*) FROM attempts WHERE event_id = $1 AND decision = 'delivered'";
        let id: EventId = id.parse().unwrap();
        let count: i64 = sql.query_one(delivered, &[&id.0]).await.unwrap().get(0);
        assert_eq!(count, 1, "{id}");
    }
}
