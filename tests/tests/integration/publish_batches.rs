//! Many events published by one call.

use bowline_core::id::TenantId;
use bowline_proto::v1::publish_event_result::Outcome;
use bowline_proto::v1::{self, DeliveryState};
use bowline_tests::admin::{self, violations};
use bowline_tests::{BOUND, Receiver, Stack};
use tonic::Code;

use crate::by_hand::somebody;

#[tokio::test]
async fn a_batch_has_a_result_for_each_event() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = |event_type: &str, key: &str| v1::PublishEventRequest {
        event_type: event_type.into(),
        body: "{}".into(),
        idempotency_key: key.into(),
        ..Default::default()
    };
    let mut events: Vec<_> = (0..300).map(|_| event("order.created", "")).collect();
    events[7] = event("not a type", "");
    events[8] = event("order.created", "same");
    events[9] = event("order.created", "same");
    events[10] = event("order.deleted", "same");
    events[11].tenant_id = TenantId::new().to_string();
    let request = v1::PublishEventBatchRequest { events, ..Default::default() };
    let results = admin.events().publish_event_batch(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 300);
    let mut ids = Vec::new();
    let mut failures = Vec::new();
    let mut duplicates = 0;
    for (at, result) in results.into_iter().enumerate() {
        match result.outcome.unwrap() {
            Outcome::Published(published) => {
                duplicates += usize::from(published.duplicate);
                ids.push(published.event_id);
            }
            Outcome::Failure(failure) => failures.push((at, failure.code, failure.reason)),
        }
    }
    let invalid = |at| (at, 3, "INVALID_FIELDS".to_owned());
    assert_eq!(failures, [invalid(7), (10, 6, "IDEMPOTENCY_KEY_REUSED".to_owned()), invalid(11)]);
    assert_eq!(duplicates, 1);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 296);
    receiver.await_ids(&ids, BOUND).await;
    admin.await_delivery(&ids[0], &endpoint, DeliveryState::Delivered).await;

    let many =
        v1::PublishEventBatchRequest { events: vec![event("order.created", ""); 1001], ..Default::default() };
    let large =
        v1::PublishEventRequest { body: vec![b'1'; 1024 * 1024].into(), ..event("order.created", "") };
    let heavy = v1::PublishEventBatchRequest { events: vec![large; 4], ..Default::default() };
    let mut too_heavy = heavy.clone();
    too_heavy.events.push(event("order.created", ""));
    let viewer = somebody(&stack, "default", "viewer").await;
    for bad in [many, too_heavy, v1::PublishEventBatchRequest::default()] {
        let refused = admin.events().publish_event_batch(bad).await.unwrap_err();
        assert_eq!((refused.code(), violations(&refused)), (Code::InvalidArgument, vec!["events".into()]));
    }
    let refused = viewer.events().publish_event_batch(heavy.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let results = admin.events().publish_event_batch(heavy).await.unwrap().into_inner().results;
    assert!(
        results.iter().all(|result| matches!(result.outcome, Some(Outcome::Published(_)))),
        "{results:?}"
    );
}
