//! Much that is due at once: all of it is delivered, and little of it is in memory at a time.

use std::time::Duration;

use bowline_proto::v1::{self, EndpointState};
use bowline_tests::eventually::holds;
use bowline_tests::service::Service;
use bowline_tests::{BOUND, Receiver, Stack, admin, eventually};
use futures_util::StreamExt as _;

const EVENTS: usize = 120;
const BODY_BYTES: usize = 1_000_000;
const HELD_BYTES_MAX: &str = "32MiB";
/// What bodies may be in memory, those that are loaded to be looked at, and what is copied of them on the way out and in.
const GROWTH_BYTES_MAX: u64 = 192 * 1024 * 1024;

/// The most memory a service has had, by the kernel's account.
fn peak_bytes(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}

/// Publishes them to the endpoint that `ordering` asks for, lets all of them wait, and has them become due before a
/// dispatcher starts.
async fn due_at_once(ordering: v1::EndpointOrdering) {
    let mut stack = Stack::builder().start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    // No attempt fails for want of time.
    let timeout = Some(admin::duration(BOUND));
    let endpoint = v1::Endpoint { ordering: ordering.into(), timeout, ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(endpoint).await;
    admin.set_state(&id, EndpointState::Paused).await;
    let body = bytes::Bytes::from(format!("\"{}\"", "x".repeat(BODY_BYTES - 2)));
    let publish = |number: usize| {
        let request = v1::PublishEventRequest {
            event_type: "order.created".into(),
            // Many wait behind each other, and many beside.
            channel: format!("channel-{}", number % 8),
            body: body.clone(),
            ..Default::default()
        };
        let mut events = admin.events();
        async move { events.publish_event(request).await.unwrap().into_inner().event_id }
    };
    let ids: Vec<String> =
        futures_util::stream::iter(0..EVENTS).map(publish).buffer_unordered(8).collect().await;
    eventually(BOUND, async || {
        let unsettled = stack.database.count("SELECT count(*) FROM outbox").await;
        let waiting = stack.database.count("SELECT count(*) FROM queue").await;
        holds(unsettled == 0 && waiting == EVENTS as i64, (unsettled, waiting))
    })
    .await;
    stack.dispatchers.remove(0).terminate(BOUND).await;
    admin.set_state(&id, EndpointState::Enabled).await;
    stack.database.sql().execute("UPDATE queue SET due_at = now()", &[]).await.unwrap();

    let dispatcher = stack.add_dispatcher(&[("BOWLINE_DISPATCHER_BYTES_MAX", HELD_BYTES_MAX)]).await;
    let at_first = peak_bytes(dispatcher);
    let requests = receiver.await_ids(&ids, BOUND + Duration::from_secs(60)).await;
    assert!(requests.iter().all(|request| request.body.len() > BODY_BYTES));
    stack.await_quiet().await;
    let failed = "SELECT count(*) FROM attempts WHERE decision <> 'delivered'";
    assert_eq!(stack.database.count(failed).await, 0);
    let growth = peak_bytes(&stack.dispatchers[0]).saturating_sub(at_first);
    assert!(
        growth < GROWTH_BYTES_MAX,
        "{} MiB more than at the start for {} MiB that were due",
        growth >> 20,
        (EVENTS * BODY_BYTES) >> 20
    );
}

#[tokio::test]
async fn large_deliveries_that_are_due_at_once_are_loaded_in_parts() {
    due_at_once(v1::EndpointOrdering::Unspecified).await;
}

#[tokio::test]
async fn channels_of_large_deliveries_that_are_due_at_once_are_read_in_parts() {
    due_at_once(v1::EndpointOrdering::PerChannel).await;
}
