//! Bulk work as operations: at a rate, with progress, cancelled, watched, and through crashes.

mod dry_runs;
mod turns;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bowline_proto::v1::{self, DeliveryState, EndpointState, OperationState};
use bowline_tests::admin::{self, Admin, reason, violations};
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually};
use tonic::Code;

use crate::by_hand::{somebody, with_dead_letters};

const CRASH_AT: &str = "BOWLINE_CRASH_AT";

async fn operation(admin: &Admin, id: &str) -> v1::Operation {
    let request = v1::GetOperationRequest { id: id.to_owned() };
    admin.operations().get_operation(request).await.unwrap().into_inner().operation.unwrap()
}

async fn await_state(admin: &Admin, id: &str, state: OperationState) -> v1::Operation {
    eventually(BOUND, async || {
        let seen = operation(admin, id).await;
        eventually::holds(seen.state() == state, seen)
    })
    .await
}

fn replay_of(endpoint: &str, event_type: &str) -> v1::ReplayEventsRequest {
    v1::ReplayEventsRequest {
        filter: Some(v1::EventFilter { event_type: event_type.into(), ..Default::default() }),
        endpoint_ids: vec![endpoint.to_owned()],
        ..Default::default()
    }
}

async fn replay(admin: &Admin, request: v1::ReplayEventsRequest) -> v1::Operation {
    admin.events().replay_events(request).await.unwrap().into_inner().operation.unwrap()
}

fn redrive_of(endpoint: &str) -> v1::RedriveDeadLettersRequest {
    v1::RedriveDeadLettersRequest {
        filter: Some(v1::DeadLetterFilter { endpoint_id: endpoint.to_owned(), ..Default::default() }),
        as_operation: true,
        ..Default::default()
    }
}

async fn redrive(admin: &Admin, request: v1::RedriveDeadLettersRequest) -> v1::Operation {
    admin.dead_letters().redrive_dead_letters(request).await.unwrap().into_inner().operation.unwrap()
}

/// How often each event arrived with success: what came before does not count.
fn arrivals(receiver: &Receiver, from: usize) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for request in receiver.requests().into_iter().skip(from) {
        *times.entry(request.id().to_owned()).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn a_redrive_goes_on_as_an_operation_that_can_be_watched() {
    let stack = Stack::builder().dispatchers(2).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, events) = with_dead_letters(&stack, &receiver, 40).await;
    let before = receiver.count();

    let dry = v1::RedriveDeadLettersRequest { dry_run: true, ..redrive_of(&endpoint) };
    let counted = admin.dead_letters().redrive_dead_letters(dry).await.unwrap().into_inner();
    assert_eq!((counted.count, counted.operation), (40, None));
    let begun =
        redrive(&admin, v1::RedriveDeadLettersRequest { rate_per_second: 50, ..redrive_of(&endpoint) }).await;
    assert_eq!(
        (begun.state(), begun.estimated_count, begun.rate_per_second),
        (OperationState::Pending, 40, 50)
    );
    let work = begun.work.unwrap();
    assert!(matches!(work, v1::operation::Work::Redrive(work) if work.endpoint_id == endpoint));

    let watch = v1::WatchOperationRequest { id: begun.id.clone() };
    let mut messages = admin.operations().watch_operation(watch).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        let operation = message.operation.unwrap();
        seen.push((operation.done_count, operation.state()));
    }
    assert!(seen.is_sorted_by_key(|(done, _)| *done), "{seen:?}");
    assert_eq!(seen.last(), Some(&(40, OperationState::Done)), "{seen:?}");
    let done = operation(&admin, &begun.id).await;
    assert_eq!((done.done_count, done.skipped_count), (40, 0));
    assert!(done.end_time.is_some());
    for event in &events {
        admin.await_delivery(event, &endpoint, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    assert!(arrivals(&receiver, before).values().all(|times| *times == 1));
    assert_eq!(receiver.count() - before, 40);
}

#[tokio::test]
async fn a_rate_is_kept_and_a_cancelled_operation_stops() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = with_dead_letters(&stack, &receiver, 30).await;
    let began = Instant::now();
    let operation_begun =
        redrive(&admin, v1::RedriveDeadLettersRequest { rate_per_second: 2, ..redrive_of(&endpoint) }).await;
    let some = eventually(BOUND, async || {
        let seen = operation(&admin, &operation_begun.id).await;
        eventually::holds(seen.done_count >= 3, seen)
    })
    .await;
    let fastest = Duration::from_secs(1);
    assert!(began.elapsed() >= fastest, "{} in {:?} at 2 a second", some.done_count, began.elapsed());
    let cancel = v1::CancelOperationRequest { id: operation_begun.id.clone() };
    let cancelled = admin.operations().cancel_operation(cancel.clone()).await.unwrap().into_inner();
    let cancelled = cancelled.operation.unwrap();
    assert_eq!(cancelled.state(), OperationState::Cancelled);
    assert!(cancelled.done_count < 30, "{cancelled:?}");
    stack.await_quiet().await;
    let left = stack.database.count("SELECT count(*) FROM dead_letters").await;
    assert_eq!(left, 30 - cancelled.done_count, "nothing goes on after the cancel");
    assert_eq!(operation(&admin, &operation_begun.id).await.done_count, cancelled.done_count);
    let again = admin.operations().cancel_operation(cancel).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::FailedPrecondition, "OPERATION_ENDED"));
}

#[tokio::test]
async fn a_replay_sends_what_is_chosen_to_an_endpoint_that_is_younger() {
    let stack = Stack::builder().dispatchers(2).start().await;
    let admin = stack.admin();
    let chosen = admin.publish_many("order.created", 25).await;
    let other = admin.publish_many("order.deleted", 5).await;
    stack.await_quiet().await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;

    let dry = v1::ReplayEventsRequest { dry_run: true, ..replay_of(&endpoint, "order.created") };
    let counted = admin.events().replay_events(dry).await.unwrap().into_inner();
    assert_eq!((counted.event_count, counted.operation), (25, None));
    assert_eq!((counted.delivery_count, counted.truncated), (25, false));
    let begun = replay(&admin, replay_of(&endpoint, "order.created")).await;
    let done = await_state(&admin, &begun.id, OperationState::Done).await;
    assert_eq!((done.done_count, done.skipped_count, done.estimated_count), (25, 0, 25));
    receiver.await_ids(&chosen, BOUND).await;
    stack.await_quiet().await;
    assert_eq!((receiver.ids(), receiver.count()), (chosen.clone(), 25));
    let id = format!("{}.{endpoint}.1", chosen[0]);
    let run = admin.deliveries().get_delivery(v1::GetDeliveryRequest { id }).await.unwrap().into_inner();
    assert_eq!(run.delivery.unwrap().state(), DeliveryState::Delivered);

    // Only what is missing: the other type.
    let missing = v1::ReplayEventsRequest { only_missing: true, ..replay_of(&endpoint, "") };
    let begun = replay(&admin, missing.clone()).await;
    let done = await_state(&admin, &begun.id, OperationState::Done).await;
    assert_eq!((done.done_count, done.skipped_count), (5, 25));
    receiver.await_ids(&other, BOUND).await;
    stack.await_quiet().await;
    let begun = replay(&admin, missing).await;
    assert_eq!(await_state(&admin, &begun.id, OperationState::Done).await.done_count, 0);

    // Everything again, each in a run of its own; bounded.
    let bounded = v1::ReplayEventsRequest { max_count: 10, ..replay_of(&endpoint, "order.created") };
    let begun = replay(&admin, bounded).await;
    assert_eq!(await_state(&admin, &begun.id, OperationState::Done).await.done_count, 10);
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 40);
    assert_eq!(
        arrivals(&receiver, 30).keys().cloned().collect::<std::collections::BTreeSet<_>>(),
        chosen[..10].iter().cloned().collect()
    );
}

#[tokio::test]
async fn what_an_endpoint_does_not_want_or_has_waiting_is_left_alone() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let picky = v1::Endpoint { event_types: vec!["order.created".into()], ..admin::endpoint(receiver.url()) };
    let (endpoint, _) = admin.endpoint(picky).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let waiting = admin.publish_many("order.created", 3).await;
    admin.publish_many("order.deleted", 3).await;
    for event in &waiting {
        admin.await_delivery(event, &endpoint, DeliveryState::Waiting).await;
    }
    let begun =
        replay(&admin, v1::ReplayEventsRequest { only_missing: true, ..replay_of(&endpoint, "") }).await;
    let done = await_state(&admin, &begun.id, OperationState::Done).await;
    assert_eq!((done.done_count, done.skipped_count), (0, 6));
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    stack.await_quiet().await;
    assert_eq!((receiver.ids(), receiver.count()), (waiting, 3));
}

#[tokio::test]
async fn what_is_wrong_with_a_replay_is_said_and_a_repeated_call_is_one() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (endpoint, _) = admin.endpoint(admin::endpoint("http://127.0.0.1:1/")).await;
    let bad = v1::ReplayEventsRequest {
        endpoint_ids: vec!["ep_x".into()],
        rate_per_second: 10_001,
        max_count: -1,
        ..Default::default()
    };
    let refused = admin.events().replay_events(bad).await.unwrap_err();
    let mut named = violations(&refused);
    named.sort();
    assert_eq!(named, ["endpoint_ids[0]", "filter", "max_count", "rate_per_second"]);
    let unknown = replay_of(&bowline_core::id::EndpointId::new().to_string(), "");
    assert_eq!(admin.events().replay_events(unknown).await.unwrap_err().code(), Code::NotFound);

    let named = v1::ReplayEventsRequest { request_id: "once".into(), ..replay_of(&endpoint, "") };
    let first = replay(&admin, named.clone()).await;
    assert_eq!(replay(&admin, named.clone()).await.id, first.id);
    let other = v1::ReplayEventsRequest { only_missing: true, ..named };
    let refused = admin.events().replay_events(other).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");

    let stranger = somebody(&stack, "other", "operator").await;
    let get = v1::GetOperationRequest { id: first.id.clone() };
    assert_eq!(stranger.operations().get_operation(get).await.unwrap_err().code(), Code::NotFound);
    let watch = v1::WatchOperationRequest { id: first.id.clone() };
    assert_eq!(stranger.operations().watch_operation(watch).await.unwrap_err().code(), Code::NotFound);
    let cancel = v1::CancelOperationRequest { id: first.id.clone() };
    assert_eq!(
        stranger.operations().cancel_operation(cancel.clone()).await.unwrap_err().code(),
        Code::NotFound
    );
    let theirs = stranger.events().replay_events(replay_of(&endpoint, "")).await.unwrap_err();
    assert_eq!(theirs.code(), Code::NotFound, "another tenant's endpoint");
    let viewer = somebody(&stack, "default", "viewer").await;
    assert_eq!(
        viewer.operations().cancel_operation(cancel.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let denied = viewer.events().replay_events(replay_of(&endpoint, "")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);

    let list = |state: OperationState| v1::ListOperationsRequest {
        filter: Some(v1::OperationFilter { state: state.into() }),
        ..Default::default()
    };
    admin.operations().cancel_operation(cancel).await.unwrap();
    let second = replay(&admin, replay_of(&endpoint, "")).await;
    let ids = async |by: &Admin, state| {
        let page = by.operations().list_operations(list(state)).await.unwrap().into_inner();
        page.operations.into_iter().map(|operation| operation.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&viewer, OperationState::Unspecified).await, [second.id.clone(), first.id.clone()]);
    assert_eq!(ids(&viewer, OperationState::Pending).await, [second.id]);
    assert_eq!(ids(&viewer, OperationState::Cancelled).await, [first.id]);
    assert!(ids(&stranger, OperationState::Unspecified).await.is_empty());
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'ReplayEvents' AND outcome = 'OK'";
    assert_eq!(stack.database.count(audited).await, 2);
}

/// Lets a dispatcher die in the middle of an operation that queues for a paused endpoint, gives the rest to
/// another, and then lets the endpoint have it: each event exactly once.
async fn a_crash_in_the_middle(
    stack: &mut Stack,
    receiver: &Receiver,
    endpoint: &str,
    id: &str,
    point: &str,
) {
    let admin = stack.admin();
    let mut doomed = stack.launch(Kind::Dispatcher, &[(CRASH_AT, point)]).unwrap();
    assert!(!doomed.await_end().await.success(), "it dies at {point}");
    let half = operation(&admin, id).await;
    assert_eq!(half.state(), OperationState::Running, "{half:?}");
    let queued = stack.database.count("SELECT count(*) FROM queue").await;
    assert_eq!(queued, half.done_count, "what is queued and what is said of it are one commit");
    assert!(queued < 60, "it died in the middle");

    let before = receiver.count();
    stack.add_dispatcher(&[]).await;
    let done = await_state(&admin, id, OperationState::Done).await;
    assert_eq!(done.done_count, 60);
    assert_eq!(stack.database.count("SELECT count(*) FROM queue").await, 60);
    admin.set_state(endpoint, EndpointState::Enabled).await;
    stack.await_quiet().await;
    let times = arrivals(receiver, before);
    assert_eq!(times.len(), 60);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

#[tokio::test]
async fn a_replay_outlives_the_dispatcher_that_worked_on_it() {
    for point in ["operation_before_commit:3", "operation_after_commit:3"] {
        let mut stack = Stack::start().await;
        let admin = stack.admin();
        admin.publish_many("order.created", 60).await;
        stack.await_quiet().await;
        stack.dispatchers.remove(0).terminate(BOUND).await;
        let receiver = Receiver::start().await;
        let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
        admin.set_state(&endpoint, EndpointState::Paused).await;
        let begun = v1::ReplayEventsRequest { rate_per_second: 50, ..replay_of(&endpoint, "order.created") };
        let begun = replay(&admin, begun).await;
        a_crash_in_the_middle(&mut stack, &receiver, &endpoint, &begun.id, point).await;
    }
}

#[tokio::test]
async fn a_redrive_outlives_the_dispatcher_that_worked_on_it() {
    for point in ["operation_before_commit:3", "operation_after_commit:3"] {
        let mut stack = Stack::start().await;
        let admin = stack.admin();
        let receiver = Receiver::start().await;
        let (endpoint, _) = with_dead_letters(&stack, &receiver, 60).await;
        stack.dispatchers.remove(0).terminate(BOUND).await;
        admin.set_state(&endpoint, EndpointState::Paused).await;
        let begun = v1::RedriveDeadLettersRequest { rate_per_second: 50, ..redrive_of(&endpoint) };
        let begun = redrive(&admin, begun).await;
        a_crash_in_the_middle(&mut stack, &receiver, &endpoint, &begun.id, point).await;
        assert_eq!(stack.database.count("SELECT count(*) FROM dead_letters").await, 0);
    }
}

#[tokio::test]
async fn a_replay_killed_with_requests_out_loses_nothing_and_repeats_only_those() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let events = admin.publish_many("order.created", 100).await;
    stack.await_quiet().await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Held(200));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let request = v1::ReplayEventsRequest { rate_per_second: 50, ..replay_of(&endpoint, "order.created") };
    let begun = replay(&admin, request).await;
    receiver.await_count(1, BOUND).await;
    stack.dispatchers[0].kill().await;
    stack.dispatchers.clear();
    receiver.release();
    stack.add_dispatcher(&[]).await;
    await_state(&admin, &begun.id, OperationState::Done).await;
    receiver.await_ids(&events, BOUND).await;
    stack.await_quiet().await;
    let times = arrivals(&receiver, 0);
    let repeated = times.values().filter(|times| **times > 1).count();
    assert!(times.values().all(|times| *times <= 2), "{times:?}");
    assert!(repeated <= bowline_core::defaults::ENDPOINT_CONCURRENCY as usize, "{repeated}");
    let delivered = "SELECT count(*) FROM attempts WHERE run = 1 AND decision = 'delivered'";
    assert_eq!(stack.database.count(delivered).await, 100);
}
