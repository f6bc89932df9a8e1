//! The rate of a source, which all replicas keep to together.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bowline_proto::v1;
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Provider, Stack, admin, eventually, http};

use super::{Raw, events, is_served, open_source, open_source_like, post};

const FLOOD: Duration = Duration::from_secs(10);
const FLOODS_MAX: usize = 6;

fn rated(rate: f64) -> v1::Source {
    v1::Source { rate, ..v1::Source::default() }
}

/// Posts over so many connections to each ingest for so long, as fast as answers come; how many were
/// accepted, how many refused, and in what time.
async fn flood(stack: &Stack, source: &str, connections: &[usize], for_: Duration) -> (u32, u32, f64) {
    let (accepted, refused) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let request = post(source, "{}");
    let began = Instant::now();
    let mut senders = Vec::new();
    for (ingest, connections) in stack.ingests.iter().zip(connections) {
        for _ in 0..*connections {
            let (accepted, refused, over) = (Arc::clone(&accepted), Arc::clone(&refused), Arc::clone(&over));
            let (url, request) = (ingest.http_url(), request.clone());
            senders.push(tokio::spawn(async move {
                let mut raw = Raw::connect_to(&url).await;
                while !over.load(Ordering::Relaxed) {
                    let answer = raw.send(&request).await.answer().await;
                    match answer.status {
                        200 => accepted.fetch_add(1, Ordering::Relaxed),
                        429 => {
                            assert_eq!(answer.code(), "rate_exceeded");
                            assert!(answer.header("retry-after").is_some_and(|wait| wait != "0"));
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other}: {answer:?}"),
                    };
                }
            }));
        }
    }
    let deadline = tokio::time::Instant::from_std(began + for_);
    tokio::time::sleep_until(deadline).await;
    over.store(true, Ordering::Relaxed);
    let elapsed = began.elapsed().as_secs_f64();
    for sender in senders {
        sender.await.unwrap();
    }
    (accepted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed), elapsed)
}

/// A flood brings this share of the rate, and none brings more; how many were accepted. A machine that is busy itself
/// accepts late, and never early: then the next flood shows it.
async fn keeps_to_rate(
    stack: &Stack,
    source: &str,
    connections: &[usize],
    (rate, within): (f64, RangeInclusive<f64>),
) -> u32 {
    let mut all = 0;
    for _ in 0..FLOODS_MAX {
        let (accepted, refused, elapsed) = flood(stack, source, connections, FLOOD).await;
        let share = f64::from(accepted) / (rate * elapsed);
        assert!(
            share <= *within.end(),
            "{accepted} in {elapsed} s are {share} of the rate; {refused} refused"
        );
        all += accepted;
        if within.contains(&share) {
            assert!(refused > 0, "it is no flood");
            return all;
        }
    }
    panic!("never {within:?} of the rate");
}

#[tokio::test]
async fn replicas_keep_to_one_rate_however_senders_spread() {
    let stack = Stack::builder().dispatchers(0).ingests(3).start().await;
    let rate = 40.0;
    let source = open_source_like(&stack, rated(rate)).await;
    // Nearly all at one replica, some at another, nothing at the third.
    let accepted = keeps_to_rate(&stack, &source, &[6, 1, 0], (rate, 0.9..=1.1)).await;
    assert_eq!(events(&stack).await, i64::from(accepted));
}

#[tokio::test]
async fn without_redis_each_replica_accepts_its_part() {
    let mut stack = Stack::builder().dispatchers(0).ingests(0).start().await;
    for _ in 0..2 {
        stack.add(Kind::Ingest, &[("BOWLINE_REDIS_URL", "")]).await.unwrap();
    }
    let rate = 30.0;
    let source = open_source_like(&stack, rated(rate)).await;
    // The replicas are counted from the first use of a rate on.
    flood(&stack, &source, &[1, 1], Duration::from_secs(4)).await;
    keeps_to_rate(&stack, &source, &[2, 2], (rate, 0.85..=1.15)).await;
}

/// Posts to a source whose rate is a request in a hundred seconds: how many were accepted, and the refusal. There is
/// one token for all replicas; one that Redis does not answer at once, on a busy machine, has another of its own.
async fn until_refused(mut post: impl AsyncFnMut() -> http::Answer) -> (i64, http::Answer) {
    let mut accepted = 0;
    loop {
        let answer = post().await;
        if answer.status != 200 {
            return (accepted, answer);
        }
        accepted += 1;
        assert!(accepted <= 2, "{accepted} were accepted");
    }
}

#[tokio::test]
async fn over_the_rate_is_429_with_retry_after_and_costs_nobody_else() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (slow, other) = (open_source_like(&stack, rated(0.01)).await, open_source(&stack).await);
    let (accepted, answer) =
        until_refused(async || http::post(&stack.inbound(&slow), &Vec::new(), "{}").await.unwrap()).await;
    assert!(accepted > 0);
    assert_eq!(answer.refused(429), "rate_exceeded");
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=100).contains(&wait), "{wait}");
    // It is known before the body is read.
    let mut raw = Raw::connect(&stack).await;
    raw.send(format!("{}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", super::head(&slow))).await;
    assert_eq!(raw.answer().await.status, 429);
    is_served(&stack, &other).await;
    assert_eq!(events(&stack).await, accepted + 1);

    // Without a rate it is open again.
    let update = v1::UpdateSourceRequest {
        source: Some(v1::Source { id: slow.clone(), ..v1::Source::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["rate".into()] }),
    };
    stack.admin().sources().update_source(update).await.unwrap();
    eventually(BOUND, async || {
        let status = http::post(&stack.inbound(&slow), &Vec::new(), "{}").await.unwrap().status;
        if status == 200 { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn nobody_uses_up_a_rate_without_the_secret() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let wanted = v1::Source { preset: "github".into(), ..rated(0.01) };
    let source = stack.admin().source_like(wanted, "bowline-test-github-secret").await;
    let provider = Provider {
        url: stack.inbound(&source.id),
        secret: "bowline-test-github-secret".to_owned(),
        source_id: source.id,
    };
    let impostor = Provider { secret: "not-the-secret".to_owned(), ..provider.clone() };
    for number in 0..20 {
        impostor.push(&format!("forged-{number}")).await.refused(401);
    }
    provider.push("real").await.accepted();
    let mut number = 0;
    let more = async || {
        number += 1;
        provider.push(&format!("more-{number}")).await
    };
    let (_, over) = until_refused(more).await;
    assert_eq!(over.refused(429), "rate_exceeded");
}

#[tokio::test]
async fn a_rate_is_checked_and_shown() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let wanted = v1::Source { preset: "github".into(), name: "rated".into(), ..rated(12.5) };
    let source = stack.admin().source_like(wanted.clone(), "bowline-test-github-secret").await;
    assert!((source.rate - 12.5).abs() < f64::EPSILON);
    let request = v1::CreateSourceRequest {
        source: Some(v1::Source { rate: -1.0, ip_allow_list: vec!["everyone".into()], ..wanted }),
        ..v1::CreateSourceRequest::default()
    };
    let refused = stack.admin().sources().create_source(request).await.unwrap_err();
    assert_eq!(admin::violations(&refused), ["source.ip_allow_list[0]", "source.rate"]);
}
