//! What a provider is answered, row by row of the wire formats' table.

use bowline_proto::v1;
use bowline_tests::provider::BODY;
use bowline_tests::{Provider, Receiver, Stack, admin, http, sign};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Only what the provider sees matters here.
async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

#[tokio::test]
async fn a_repeated_delivery_is_answered_with_the_first_event_and_sent_once() {
    let stack = Stack::start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;

    let first = provider.push("one").await.accepted();
    let again = provider.push("one").await;
    assert_eq!((again.status, again.json()), (200, json!({"id": first, "duplicate": true})));
    let other = provider.push("two").await.accepted();
    assert_ne!(first, other);

    receiver.await_ids(&[first, other], bowline_tests::BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 2, "nothing arrives a second time");
}

#[tokio::test]
async fn many_at_once_under_one_key_become_one_event() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let answers = futures_util::future::join_all((0..20).map(|_| provider.push("same"))).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.json()["id"].clone()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let firsts = answers.iter().filter(|answer| answer.json()["duplicate"] == json!(false)).count();
    assert_eq!(firsts, 1);
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);
}

#[tokio::test]
async fn a_key_is_known_to_its_source_alone() {
    let stack = ingest_only().await;
    let (one, other) = (Provider::create(&stack).await, Provider::create(&stack).await);
    assert_ne!(one.push("same").await.accepted(), other.push("same").await.accepted());
}

#[tokio::test]
async fn a_refused_request_claims_no_key() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let impostor = Provider { secret: "not-the-secret".to_owned(), ..provider.clone() };
    impostor.push("one").await.refused(401);
    provider.push("one").await.accepted();
}

#[tokio::test]
async fn a_signature_that_does_not_fit_is_401_and_says_so_without_telling_it() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let mut headers = sign::github(&provider.secret, "d", "push", BODY);
    let right = std::mem::replace(&mut headers[3].1, format!("sha256={}", "0".repeat(64)));
    let answer = http::post(&provider.url, &headers, BODY).await.unwrap();
    answer.refused(401);
    assert!(!answer.text().contains(right.trim_start_matches("sha256=")), "{}", answer.text());

    let changed = http::post(&provider.url, &sign::github(&provider.secret, "d", "push", BODY), "{}").await;
    changed.unwrap().refused(401);
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_timestamp_outside_the_window_is_401() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source = admin.source("stripe", "whsec_bowline-test-stripe-secret").await;
    let post = async |age_s: i64| {
        let headers =
            sign::stripe("whsec_bowline-test-stripe-secret", sign::unix_now(-age_s), br#"{"id":"evt_1"}"#);
        http::post(&stack.inbound(&source), &headers, &br#"{"id":"evt_1"}"#[..]).await.unwrap()
    };
    let old = post(1000).await;
    old.refused(401);
    assert!(old.text().contains("timestamp"), "{}", old.text());
    post(-1000).await.accepted();

    let secret = sign::test_secret("windows");
    let standard = admin.source("standard", &secret).await;
    for age_s in [1000, -1000] {
        let headers = sign::standard(&secret, "msg_1", sign::unix_now(-age_s), b"{}");
        http::post(&stack.inbound(&standard), &headers, "{}").await.unwrap().refused(401);
    }
}

#[tokio::test]
async fn a_missing_or_malformed_header_is_400_and_named() {
    let stack = ingest_only().await;
    let secret = sign::test_secret("headers");
    let source = stack.admin().source("standard", &secret).await;
    for (name, malformed) in
        [("webhook-id", None), ("webhook-timestamp", Some("soon")), ("webhook-signature", Some("v1"))]
    {
        let whole = sign::standard(&secret, "msg_1", sign::unix_now(0), b"{}");
        let without: sign::Headers = whole.iter().filter(|(known, _)| known != name).cloned().collect();
        let answer = http::post(&stack.inbound(&source), &without, "{}").await.unwrap();
        answer.refused(400);
        assert!(answer.text().contains(name), "{name}: {}", answer.text());
        if let Some(value) = malformed {
            let mut headers = without;
            headers.push((name.to_owned(), value.to_owned()));
            let answer = http::post(&stack.inbound(&source), &headers, "{}").await.unwrap();
            answer.refused(400);
            assert!(answer.text().contains(name), "{name}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_body_at_the_limit_passes_and_one_byte_more_is_413() {
    let stack = ingest_only().await;
    let secret = "bowline-test-chatblocks-secret";
    let source = stack.admin().source("chatblocks", secret).await;
    for (size, status) in [(262_144, 200), (262_145, 413)] {
        let body = format!("\"{}\"", "x".repeat(size - 2));
        let headers = sign::chatblocks(secret, &size.to_string(), sign::unix_now(0), body.as_bytes());
        let answer = http::post(&stack.inbound(&source), &headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{size}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let stack = ingest_only().await;
    let wanted = v1::Source { preset: "github".into(), body_limit_bytes: 1000, ..Default::default() };
    let source = stack.admin().source_like(wanted, "bowline-test-github-secret").await;
    let address = stack.ingests[0].http_url().replace("http://", "");
    let head = format!("POST /in/{} HTTP/1.1\r\nhost: {address}\r\n", source.id);

    // It promises a gigabyte and sends none of it.
    let promised = format!("{head}content-length: 1000000000\r\n\r\n");
    // It promises nothing and never ends: far more than the limit is sent, and no end of it.
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n4000\r\n{}\r\n", "x".repeat(0x4000));
    for request in [promised, endless] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        let answered = tokio::time::timeout(bowline_tests::BOUND, stream.read_exact(&mut status)).await;
        answered.expect("an answer before the body").unwrap();
        assert_eq!(&status, b"HTTP/1.1 413");
    }
}

#[tokio::test]
async fn an_unknown_or_disabled_source_is_404_and_another_method_405() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let admin = stack.admin();
    let unknown = bowline_core::id::SourceId::new().to_string();
    for path in [format!("/in/{unknown}"), "/in/nonsense".into(), "/nowhere".into(), "/".into()] {
        let answer = http::post(&format!("{}{path}", stack.ingests[0].http_url()), &Vec::new(), "{}").await;
        assert_eq!(answer.unwrap().status, 404, "{path}");
    }
    for method in [::http::Method::GET, ::http::Method::PUT, ::http::Method::DELETE] {
        let answer = http::send(method, &provider.url, &Vec::new(), "").await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    }
    let disable = v1::UpdateSourceRequest {
        source: Some(v1::Source {
            id: provider.source_id.clone(),
            enabled: Some(false),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".into()] }),
    };
    admin.sources().update_source(disable).await.unwrap();
    assert_eq!(provider.push("late").await.status, 404, "disabled");

    let deleted = Provider::create(&stack).await;
    deleted.push("early").await.accepted();
    let delete = v1::DeleteSourceRequest { id: deleted.source_id.clone(), ..Default::default() };
    admin.sources().delete_source(delete).await.unwrap();
    assert_eq!(deleted.push("late").await.status, 404, "deleted");
}

#[tokio::test]
async fn bytes_are_kept_as_they_came() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let body = "{ \"b\" : 1.0,\n\t\"a\":\"\\u00e9 \u{e9}\", \"b\":2e+0 }\n".as_bytes();
    let headers = sign::github(&provider.secret, "exact", "push", body);
    let id = http::post(&provider.url, &headers, body).await.unwrap().accepted();
    let request = v1::GetEventRequest { id };
    let event = stack.admin().events().get_event(request).await.unwrap().into_inner().event.unwrap();
    assert_eq!(event.body, body);
    assert_eq!(event.event_type, "push");
    let kept = event.headers.iter().find(|header| header.name == "x-github-delivery");
    assert_eq!(kept.map(|header| header.value.as_str()), Some("exact"));
}

#[tokio::test]
async fn a_source_works_everywhere_when_its_creation_returns() {
    let stack = Stack::builder().ingests(2).start().await;
    let by_dispatcher = admin::Admin::new(&stack.dispatchers[0].admin_url(), Some(admin::KEY));
    for number in 0..5 {
        let path = format!("/hooks/fresh-{number}");
        let wanted = v1::Source { preset: "github".into(), path: path.clone(), ..Default::default() };
        let source = by_dispatcher.source_like(wanted, "bowline-test-github-secret").await;
        assert_eq!(source.receive_url, format!("http://ingest.test{path}"));
        for ingest in &stack.ingests {
            for path in [path.clone(), format!("/in/{}", source.id)] {
                let delivery = format!("{}{path}", ingest.http_url());
                let headers = sign::github("bowline-test-github-secret", &delivery, "push", BODY);
                http::post(&delivery, &headers, BODY).await.unwrap().accepted();
            }
        }
    }
}

#[tokio::test]
async fn an_old_secret_is_good_during_the_overlap_and_not_a_moment_without() {
    let stack = Stack::builder().dispatchers(0).ingests(2).start().await;
    let old = Provider::create(&stack).await;
    let other_ingest = |provider: &Provider| Provider {
        url: format!("{}/in/{}", stack.ingests[1].http_url(), provider.source_id),
        ..provider.clone()
    };
    other_ingest(&old).push("before").await.accepted();
    let rotate = async |overlap_s: u64| {
        let request = v1::RotateSourceSecretRequest {
            id: old.source_id.clone(),
            overlap: Some(admin::duration(std::time::Duration::from_secs(overlap_s))),
            ..Default::default()
        };
        let rotated = stack.admin().sources().rotate_source_secret(request).await.unwrap().into_inner();
        assert_eq!(rotated.unconfirmed_replicas, Vec::<String>::new());
        Provider { secret: rotated.secret, ..old.clone() }
    };

    let second = rotate(3600).await;
    // Whoever has the new secret may use it at once, at any replica.
    bowline_tests::eventually(bowline_tests::BOUND, async || {
        let answer = other_ingest(&second).push("overlap-new").await;
        bowline_tests::eventually::holds(answer.status == 200, answer)
    })
    .await;
    other_ingest(&old).push("overlap-old").await.accepted();

    let third = rotate(0).await;
    for (number, refused) in [&old, &second].into_iter().enumerate() {
        refused.push(&format!("late-{number}")).await.refused(401);
        other_ingest(refused).push(&format!("late-{number}")).await.refused(401);
    }
    third.push("fresh").await.accepted();
    other_ingest(&third).push("fresh-too").await.accepted();
}

#[tokio::test]
async fn nonsense_on_the_wire_ends_one_connection_and_nothing_else() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let address = stack.ingests[0].http_url().replace("http://", "");
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\0\0\0\0\r\n\r\n", b"POST\r\n\r\n", long.as_bytes()]
    {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // It may be closed while we still write.
        let _ = stream.write_all(nonsense).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(bowline_tests::BOUND, stream.read_to_end(&mut answer)).await;
        let _ = ended.expect("the connection ends");
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    provider.push("after").await.accepted();
}
