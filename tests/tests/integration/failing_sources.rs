//! `bowline.source.failing`: a source to which nothing that verifies comes any more.

use std::time::{Duration, Instant};

use bowline_proto::v1;
use bowline_tests::eventually::holds;
use bowline_tests::service::Service;
use bowline_tests::{BOUND, Receiver, Stack, admin, eventually, http, sign};
use chrono::{DateTime, Utc};

const SECRET: &str = "bowline-test-source-secret";
const TOLD: &str = "SELECT count(*) FROM events WHERE event_type = 'bowline.source.failing'";

async fn stack(ingests: usize, dispatchers: usize) -> Stack {
    Stack::builder()
        .ingests(ingests)
        .dispatchers(dispatchers)
        .set_ingest("BOWLINE_INGEST_SOURCE_FAILING_AFTER", "1s")
        .start()
        .await
}

async fn post(ingest: &Service, source: &str, secret: &str, delivery: &str) -> u16 {
    let headers = sign::github(secret, delivery, "push", b"{}");
    http::post(&format!("{}/in/{source}", ingest.http_url()), &headers, "{}").await.unwrap().status
}

/// Refused by this replica until its log says what came of it.
async fn refuse_until(ingest: &Service, source: &str, outcome: &str) {
    eventually(BOUND, async || {
        for _ in 0..10 {
            assert_eq!(post(ingest, source, "bowline-test-wrong-secret", "d-1").await, 401);
        }
        let log = ingest.log();
        let wanted = ["a source fails", source, outcome];
        let said = log.lines().any(|line| wanted.iter().all(|part| line.contains(part)));
        holds(said, "nothing is said of it")
    })
    .await;
}

#[tokio::test]
async fn who_asks_is_told_once_that_a_source_fails() {
    let stack = stack(2, 1).await;
    let admin = stack.admin();
    let (asking, all) = (Receiver::start().await, Receiver::start().await);
    for (receiver, event_type) in [(&asking, "bowline.source.failing"), (&all, "*")] {
        let event_types = vec![event_type.to_owned()];
        admin.endpoint(v1::Endpoint { event_types, ..admin::endpoint(receiver.url()) }).await;
    }
    let source = v1::Source { name: "pushes".into(), preset: "github".into(), ..Default::default() };
    let source = admin.source_like(source, SECRET).await.id;
    let before = Utc::now();
    refuse_until(&stack.ingests[0], &source, "outcome=\"told\"").await;

    let told = asking.await_count(1, BOUND).await.remove(0).json();
    assert_eq!(told["type"], "bowline.source.failing");
    let data = &told["data"];
    assert_eq!(
        (&data["source_id"], &data["source_name"], &data["reason"]),
        (&source.as_str().into(), &"pushes".into(), &"signature_mismatch".into())
    );
    assert!(data["message"].as_str().unwrap().contains("no signature"), "{data}");
    assert!(data["refused_count"].as_u64().unwrap() >= 10, "{data}");
    let time = |name: &str| DateTime::parse_from_rfc3339(data[name].as_str().unwrap()).unwrap().to_utc();
    // Written to the millisecond.
    assert!(time("failing_since") >= before - Duration::from_millis(1));
    assert!(time("time") >= time("failing_since") + Duration::from_secs(1));

    // The other replica sees it too, and it is the same news; so is what comes after an accepted request.
    refuse_until(&stack.ingests[1], &source, "outcome=\"told_before\"").await;
    assert_eq!(post(&stack.ingests[0], &source, SECRET, "d-2").await, 200);
    all.await_count(1, BOUND).await;
    stack.await_quiet().await;
    assert_eq!((asking.count(), all.count(), stack.database.count(TOLD).await), (1, 1, 1));
    assert_eq!(all.requests()[0].json()["type"], "push");
}

#[tokio::test]
async fn a_source_that_accepts_now_and_then_does_not_fail() {
    let stack = stack(1, 0).await;
    let admin = stack.admin();
    let (ingest, source) = (&stack.ingests[0], admin.source("github", SECRET).await);
    let began = Instant::now();
    let mut round = 0;
    while began.elapsed() < Duration::from_millis(2500) {
        for _ in 0..9 {
            assert_eq!(post(ingest, &source, "bowline-test-wrong-secret", "d-1").await, 401);
        }
        round += 1;
        assert_eq!(post(ingest, &source, SECRET, &format!("d-{round}")).await, 200);
    }
    // What is refused without a look at who sent it counts for nothing.
    let url = stack.inbound(&source);
    for _ in 0..20 {
        assert_eq!(http::send(hyper::Method::PUT, &url, &Vec::new(), "").await.unwrap().status, 405);
    }
    assert!(!ingest.log().contains("a source fails"), "{}", ingest.log());
    // Without the accepted ones it does.
    refuse_until(ingest, &source, "outcome=\"told\"").await;
    assert_eq!(stack.database.count(TOLD).await, 1);
}
