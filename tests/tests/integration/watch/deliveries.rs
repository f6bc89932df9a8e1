//! What happens to deliveries, by one who watches.

use std::time::Duration;

use bowline_core::id::{DEFAULT_TENANT, EndpointId, EventId};
use bowline_proto::v1::{self, AttemptDecision, AttemptKind, DeliveryState};
use bowline_tests::admin::{self, Admin, KEY};
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually};
use tonic::Streaming;

use super::{Told, message, since};
use crate::by_hand::somebody;

type News = (v1::Delivery, v1::Attempt);

async fn watch(
    admin: &Admin,
    filter: v1::DeliveryFilter,
    start_time: Option<prost_types::Timestamp>,
) -> Streaming<v1::WatchDeliveriesResponse> {
    let request = v1::WatchDeliveriesRequest { filter: Some(filter), start_time, ..Default::default() };
    let mut stream = admin.deliveries().watch_deliveries(request).await.unwrap().into_inner();
    assert_eq!(message(&mut stream).await.unwrap().delivery, None, "the first says where it begins");
    stream
}

async fn watch_from(admin: &Admin, cursor: &str) -> Streaming<v1::WatchDeliveriesResponse> {
    let filter = Some(v1::DeliveryFilter::default());
    let request = v1::WatchDeliveriesRequest { filter, cursor: cursor.to_owned(), ..Default::default() };
    admin.deliveries().watch_deliveries(request).await.unwrap().into_inner()
}

async fn take(stream: &mut Streaming<v1::WatchDeliveriesResponse>, count: usize) -> Told<News> {
    let mut told = Vec::new();
    while told.len() < count {
        let message = message(stream).await.unwrap();
        if let Some(delivery) = message.delivery {
            told.push(((delivery, message.attempt.unwrap()), message.cursor));
        }
    }
    told
}

fn decisions(told: &Told<News>) -> Vec<AttemptDecision> {
    told.iter().map(|((_, attempt), _)| attempt.decision()).collect()
}

fn attempt_ids(told: &[(News, String)]) -> Vec<&str> {
    told.iter().map(|((_, attempt), _)| attempt.id.as_str()).collect()
}

#[tokio::test]
async fn every_attempt_and_decision_comes_once_with_its_delivery() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let there = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    // The second attempt is so late that it is a stray.
    let (endpoint, _) = admin.endpoint(admin::with_waits(receiver.url(), &[Duration::from_secs(4)])).await;
    let none = v1::DeliveryFilter::default;
    let mut streams = [watch(&admin, none(), None).await, watch(&there, none(), None).await];
    let mut retried =
        watch(&admin, v1::DeliveryFilter { state: DeliveryState::Waiting.into(), ..none() }, None).await;
    let by_endpoint = v1::DeliveryFilter { endpoint_id: endpoint.clone(), status_code: 200, ..none() };
    let mut succeeded = watch(&there, by_endpoint, None).await;
    let theirs = somebody(&stack, "own", "viewer").await;
    let mut of_tenant = watch(&theirs, none(), None).await;

    let first = admin.publish("order.created").await;
    admin.await_delivery(&first, &endpoint, DeliveryState::Delivered).await;
    let second = admin.publish("order.paid").await;
    admin.await_delivery(&second, &endpoint, DeliveryState::Delivered).await;
    admin.set_state(&endpoint, v1::EndpointState::Paused).await;
    let third = admin.publish("order.paid").await;
    let waiting = admin.await_delivery(&third, &endpoint, DeliveryState::Waiting).await;
    let cancel = v1::CancelDeliveryRequest { id: waiting.id.clone() };
    admin.deliveries().cancel_delivery(cancel).await.unwrap();

    let mut seen = Vec::new();
    for stream in &mut streams {
        let told = take(stream, 4).await;
        assert_eq!(
            decisions(&told),
            [
                AttemptDecision::Retry,
                AttemptDecision::Delivered,
                AttemptDecision::Delivered,
                AttemptDecision::Cancelled
            ]
        );
        seen.push(told);
    }
    assert_eq!(attempt_ids(&seen[0]), attempt_ids(&seen[1]));
    let ((delivery, attempt), _) = &seen[0][0];
    assert_eq!((delivery.event_id.as_str(), delivery.event_type.as_str()), (first.as_str(), "order.created"));
    assert_eq!((attempt.number, attempt.status_code, attempt.kind()), (1, 500, AttemptKind::Request));
    let ((delivery, attempt), _) = &seen[0][3];
    assert_eq!((&delivery.id, delivery.state()), (&waiting.id, DeliveryState::Cancelled));
    assert_eq!((attempt.number, attempt.kind()), (0, AttemptKind::Cancelled));

    let told = take(&mut retried, 1).await;
    assert_eq!(attempt_ids(&told), attempt_ids(&seen[0][..1]));
    let told = take(&mut succeeded, 2).await;
    assert_eq!(attempt_ids(&told), attempt_ids(&seen[0][1..3]));

    // From every cursor, at the other service.
    for (at, (_, cursor)) in seen[0].iter().enumerate().take(3) {
        let rest = take(&mut watch_from(&there, cursor).await, 3 - at).await;
        assert_eq!(attempt_ids(&rest), attempt_ids(&seen[0][at + 1..]), "after {at}");
    }

    // From a time: all of it again, by every way of asking.
    for (filter, expected) in [
        (none(), 4),
        (v1::DeliveryFilter { endpoint_id: endpoint.clone(), ..none() }, 4),
        (v1::DeliveryFilter { event_id: first.clone(), ..none() }, 2),
        (v1::DeliveryFilter { event_id: first.clone(), endpoint_id: endpoint.clone(), ..none() }, 2),
        (v1::DeliveryFilter { event_type: "order.paid".into(), ..none() }, 2),
        (v1::DeliveryFilter { state: DeliveryState::Delivered.into(), ..none() }, 2),
        (v1::DeliveryFilter { state: DeliveryState::Cancelled.into(), ..none() }, 1),
        (v1::DeliveryFilter { status_code: 500, ..none() }, 1),
    ] {
        let mut past = watch(&admin, filter.clone(), since(600)).await;
        let told = take(&mut past, expected).await;
        let known = attempt_ids(&seen[0]);
        let ids = attempt_ids(&told);
        let in_order: Vec<&str> = known.into_iter().filter(|id| ids.contains(id)).collect();
        assert_eq!(ids, in_order, "as they were recorded: {filter:?}");
    }

    // Nothing of it was the other tenant's.
    let (own, _) = somebody(&stack, "own", "operator").await.endpoint(admin::endpoint(receiver.url())).await;
    let published = somebody(&stack, "own", "publisher").await.publish("own.one").await;
    let told = take(&mut of_tenant, 1).await;
    assert_eq!(told[0].0.0.id, format!("{published}.{own}.0"));
    assert_eq!(receiver.await_count(4, BOUND).await.len(), 4);
}

#[tokio::test]
async fn behind_a_time_the_order_holds_however_many_retries_were_before_it() {
    /// More than a watch sorts; of an hour ago, and strays.
    const RETRIES: &str = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at, status,
                              recorded_at)
        SELECT overlay(gen_random_uuid()::text placing left(first_id_at(now() - interval '1 hour')::text, 13) from 1 for 13)::uuid,
               $1, 0, gen_random_uuid(), $2, 2, 'request', 'delivered', now(), 200, now() - interval '1 hour'
          FROM generate_series(1, 1500)";
    /// None that is: of half an hour ago.
    const EVENT: &str = "
        INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time, stray)
        VALUES (first_id_at(now() - interval '30 minutes'), $1, 'old', 'text/plain', '', 'x', now(), NULL)";
    const RETRY: &str = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at, status)
        VALUES ($1, $2, 0, gen_random_uuid(), $3, 2, 'request', 'delivered', now(), 299)";
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let endpoint_id: EndpointId = endpoint.parse().unwrap();
    let sql = stack.database.sql();
    sql.execute(RETRIES, &[&endpoint_id.0, &DEFAULT_TENANT.0]).await.unwrap();
    sql.execute(EVENT, &[&DEFAULT_TENANT.0]).await.unwrap();
    let event = admin.publish("order.created").await;
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    let event_id: EventId = event.parse().unwrap();
    sql.execute(RETRY, &[&event_id.0, &endpoint_id.0, &DEFAULT_TENANT.0]).await.unwrap();

    // Whatever else is open at the same server: what is not behind the time comes as news, from any time.
    eventually(BOUND, async || {
        let open = "SELECT count(*) FROM attempts WHERE tx >= pg_snapshot_xmin(pg_current_snapshot())";
        let open = stack.database.count(open).await;
        eventually::holds(open == 0, open)
    })
    .await;

    let told = take(&mut watch(&admin, v1::DeliveryFilter::default(), since(600)).await, 2).await;
    let statuses = |told: &Told<News>| told.iter().map(|((_, it), _)| it.status_code).collect::<Vec<_>>();
    assert_eq!(statuses(&told), [200, 299]);
    let rest = take(&mut watch_from(&admin, &told[0].1).await, 1).await;
    assert_eq!(statuses(&rest), [299]);
}
