//! What waits: attempted by one dispatcher, however many there are, and without cost while an endpoint is down.

use std::collections::HashSet;
use std::time::Duration;

use bowline_proto::v1::{self, EndpointState};
use bowline_tests::admin::{self, Admin};
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually, http};

const RECEIVERS: usize = 8;
const EVENTS: usize = 40;

/// How many attempts of its own each dispatcher counts.
async fn attempts_of_each(stack: &Stack) -> Vec<u64> {
    let mut counts = Vec::new();
    for dispatcher in &stack.dispatchers {
        let url = format!("{}/metrics", dispatcher.ops_url());
        let metrics = http::send(::http::Method::GET, &url, &Vec::new(), "").await.unwrap().text();
        let attempts = metrics.lines().filter(|line| line.starts_with("bowline_dispatcher_attempts_total{"));
        counts.push(attempts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum());
    }
    counts
}

/// Every other request fails, so that no breaker opens and much is tried again.
fn failing_now_and_then() -> Vec<Reply> {
    (0..1000).map(|n| Reply::Status(if n % 2 == 0 { 500 } else { 200 })).collect()
}

#[tokio::test]
async fn of_two_dispatchers_each_due_delivery_is_attempted_by_one() {
    let stack = Stack::builder().dispatchers(2).start().await;
    let admin = stack.admin();
    let mut there = Vec::new();
    for _ in 0..RECEIVERS {
        let receiver = Receiver::scripted(failing_now_and_then()).await;
        let (id, _) = admin.endpoint(admin::with_waits(receiver.url(), &[Duration::ZERO; 30])).await;
        there.push((receiver, id));
    }
    let set = async |admin: &Admin, state: EndpointState| {
        for (_, id) in &there {
            admin.set_state(id, state).await;
        }
    };
    // A backlog at a time, until both have had their part of it.
    let mut rounds = 0;
    while rounds < 2 || attempts_of_each(&stack).await.contains(&0) {
        rounds += 1;
        assert!(rounds < 20, "one of two dispatchers attempts nothing");
        set(&admin, EndpointState::Paused).await;
        admin.publish_many("order.created", EVENTS).await;
        eventually(BOUND, async || {
            let waiting = stack.database.count("SELECT count(*) FROM queue WHERE owner IS NULL").await;
            eventually::holds(waiting == (RECEIVERS * EVENTS) as i64, waiting)
        })
        .await;
        set(&admin, EndpointState::Enabled).await;
        stack.await_quiet().await;
    }
    let mut requests = 0;
    for (receiver, _) in &there {
        let seen = receiver.requests();
        let attempts: HashSet<_> =
            seen.iter().map(|request| (request.id(), request.header("bowline-attempt"))).collect();
        assert_eq!(attempts.len(), seen.len(), "no attempt is made twice");
        assert_eq!(receiver.ids().len(), rounds * EVENTS);
        requests += seen.len() as i64;
    }
    let recorded = stack.database.count("SELECT count(*) FROM attempts WHERE decision <> 'stale'").await;
    assert_eq!(recorded, requests, "each request has its row");
    let delivered = stack.database.count("SELECT count(*) FROM attempts WHERE decision = 'delivered'").await;
    assert_eq!(delivered, (rounds * RECEIVERS * EVENTS) as i64, "each delivery succeeds once");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_asked_by_a_probe_and_what_waits_for_it_uses_up_no_attempt() {
    const FAILURES: usize = 5;
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted((0..FAILURES).map(|_| Reply::Status(503))).await;
    let endpoint =
        v1::Endpoint { concurrency: 1, ..admin::with_waits(receiver.url(), &[Duration::ZERO; FAILURES]) };
    let (id, _) = admin.endpoint(endpoint).await;
    let events = admin.publish_many("order.created", 20).await;
    receiver.await_ids(&events, BOUND).await;
    stack.await_quiet().await;
    let requests = receiver.requests();
    let pause = requests[FAILURES].at - requests[FAILURES - 1].at;
    assert!(pause >= Duration::from_secs(5), "the next one after five failures came {pause:?} later");
    assert_eq!(requests.len(), FAILURES + events.len());
    let mut attempts = 0;
    for event in &events {
        let delivery = admin.delivery(event, &id).await.unwrap();
        assert_eq!(delivery.state(), v1::DeliveryState::Delivered);
        attempts += delivery.attempts.len();
    }
    assert_eq!(attempts, requests.len(), "nothing is in the log but what was sent");
}

/// Whoever enables an endpoint makes due what waits for it. What a dispatcher puts off a moment later, before it hears
/// of that, it makes due itself: here that is all there is, because nobody else does it.
#[tokio::test]
async fn what_was_put_off_for_an_endpoint_is_sent_when_it_is_heard_to_be_enabled() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let event = admin.publish("order.created").await;
    eventually(BOUND, async || {
        let put_off = "SELECT count(*) FROM queue WHERE due_at > now() + interval '30 minutes'";
        let waiting = stack.database.count(put_off).await;
        if waiting == 1 { Ok(()) } else { Err(waiting) }
    })
    .await;
    let enable = "UPDATE config_state SET version = version + 1;
                  UPDATE endpoints SET state = 'enabled', config_version = (SELECT version FROM config_state)";
    stack.database.sql().batch_execute(enable).await.unwrap();
    receiver.await_ids(&[event], BOUND).await;
    stack.await_quiet().await;
}
