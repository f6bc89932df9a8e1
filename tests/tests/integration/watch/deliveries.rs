//! What happens to deliveries, by one who watches.

use std::time::Duration;

use bowline_proto::v1::{self, AttemptDecision, AttemptKind, DeliveryState};
use bowline_tests::admin::{self, Admin, KEY};
use bowline_tests::{BOUND, Receiver, Reply, Stack};
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
        let mut ids = attempt_ids(&told);
        assert!(ids.iter().all(|id| known.contains(id)), "{filter:?}");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), expected, "{filter:?}");
    }

    // Nothing of it was the other tenant's.
    let (own, _) = somebody(&stack, "own", "operator").await.endpoint(admin::endpoint(receiver.url())).await;
    let published = somebody(&stack, "own", "publisher").await.publish("own.one").await;
    let told = take(&mut of_tenant, 1).await;
    assert_eq!(told[0].0.0.id, format!("{published}.{own}.0"));
    assert_eq!(receiver.await_count(4, BOUND).await.len(), 4);
}
