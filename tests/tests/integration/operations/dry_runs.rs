//! What a replay would queue, said before it does: what the same call then queues.

use bowline_core::id::{DEFAULT_TENANT, EndpointId, EventId};
use bowline_proto::v1::{self, DeliveryState, EndpointState, OperationState};
use bowline_tests::admin::{self, Admin};
use bowline_tests::{BOUND, Receiver, Stack};

use super::{await_state, replay, replay_of};

async fn dry(admin: &Admin, request: &v1::ReplayEventsRequest) -> v1::ReplayEventsResponse {
    let dry = v1::ReplayEventsRequest { dry_run: true, ..request.clone() };
    let counted = admin.events().replay_events(dry).await.unwrap().into_inner();
    assert_eq!(counted.operation, None);
    counted
}

#[tokio::test]
async fn a_dry_run_counts_what_the_replay_then_queues() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let picky = v1::Endpoint { event_types: vec!["order.created".into()], ..admin::endpoint(receiver.url()) };
    let (early, _) = admin.endpoint(picky.clone()).await;
    let known = admin.publish_many("order.created", 3).await;
    admin.publish_many("order.deleted", 5).await;
    for event in &known {
        admin.await_delivery(event, &early, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    let (with_dead, _) = admin.endpoint(picky).await;
    let (event_id, endpoint_id): (EventId, EndpointId) =
        (known[1].parse().unwrap(), with_dead.parse().unwrap());
    let letter = "
        INSERT INTO dead_letters (event_id, endpoint_id, run, tenant_id, reason, attempt, died_at)
        VALUES ($1, $2, 0, $3, 'attempts_exhausted', 1, now())";
    let letters =
        stack.database.sql().execute(letter, &[&event_id.0, &endpoint_id.0, &DEFAULT_TENANT.0]).await;
    assert_eq!(letters.unwrap(), 1);
    let of_channels = v1::Endpoint {
        event_types: vec!["order.*".into()],
        channels: vec!["eu".into()],
        ..admin::endpoint(receiver.url())
    };
    let (channelled, _) = admin.endpoint(of_channels).await;
    let (late, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    admin.set_state(&late, EndpointState::Paused).await;

    let base = |endpoints: &[&String]| v1::ReplayEventsRequest {
        endpoint_ids: endpoints.iter().map(|id| (*id).clone()).collect(),
        ..replay_of(&late, "")
    };
    let missing = |endpoints: &[&String]| v1::ReplayEventsRequest { only_missing: true, ..base(endpoints) };
    // Only counted: nothing of it changes what the next finds.
    for (what, request, count) in [
        ("of its type", base(&[&early]), 3),
        ("of its type, delivered before", missing(&[&early]), 0),
        ("one of them a dead letter", missing(&[&with_dead]), 2),
        ("without a channel", base(&[&channelled]), 0),
        ("all", base(&[&late]), 8),
        ("for two", base(&[&early, &late]), 11),
        ("for three", missing(&[&early, &late, &channelled]), 8),
        ("whole events", v1::ReplayEventsRequest { max_count: 3, ..base(&[&early, &late]) }, 4),
        ("no more than there is", v1::ReplayEventsRequest { max_count: 30, ..missing(&[&late]) }, 8),
    ] {
        let counted = dry(&admin, &request).await;
        assert_eq!(
            (counted.event_count, counted.delivery_count, counted.truncated),
            (8, count, false),
            "{what}"
        );
    }

    for (request, count) in [
        (v1::ReplayEventsRequest { max_count: 3, ..missing(&[&early, &late]) }, 3),
        (missing(&[&early, &late]), 5),
        // They wait now.
        (missing(&[&late]), 0),
        (v1::ReplayEventsRequest { max_count: 3, ..base(&[&early, &late]) }, 4),
    ] {
        assert_eq!(dry(&admin, &request).await.delivery_count, count, "{request:?}");
        let begun = replay(&admin, request).await;
        assert_eq!(await_state(&admin, &begun.id, OperationState::Done).await.done_count, count);
    }
    receiver.await_count(5, BOUND).await;
}

#[tokio::test]
async fn a_dry_run_of_very_much_says_that_there_may_be_more() {
    /// More pairs with two endpoints than are looked at, in one transaction.
    const MANY: &str = "
        INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time)
        SELECT overlay(gen_random_uuid()::text placing left(first_id_at(clock_timestamp())::text, 13) from 1 for 13)::uuid,
               $1, 'many', 'text/plain', '', 'x', now()
          FROM generate_series(1, 50500)";
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (first, _) = admin.endpoint(admin::endpoint("http://127.0.0.1:1/")).await;
    let (second, _) = admin.endpoint(admin::endpoint("http://127.0.0.1:1/")).await;
    assert_eq!(stack.database.sql().execute(MANY, &[&DEFAULT_TENANT.0]).await.unwrap(), 50_500);
    let one = dry(&admin, &replay_of(&first, "")).await;
    assert!(one.truncated || one.delivery_count == 50_500, "{one:?}");
    let two = v1::ReplayEventsRequest { endpoint_ids: vec![first, second], ..replay_of("", "") };
    let counted = dry(&admin, &two).await;
    assert!(counted.truncated && counted.delivery_count <= 100_000, "{counted:?}");
    assert_eq!(counted.event_count, 50_500);
}
