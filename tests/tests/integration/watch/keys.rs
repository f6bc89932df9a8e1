//! A watch lasts no longer than its key allows, whatever it watches.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use bowline_proto::v1;
use bowline_tests::admin::{self, Admin, reason};
use bowline_tests::{Receiver, Stack};
use prost_types::value::Kind;
use tonic::{Code, Status, Streaming};

use super::{all, ids, message, take, watch};
use crate::by_hand::somebody;

/// A key is believed for a second, and looked at twice a second; the rest is for a machine that is busy. It ends before
/// anything else would be said: a heartbeat comes after 15 s.
const ENDS_WITHIN: Duration = Duration::from_secs(14);

struct Things {
    binding: String,
    operation: String,
}

/// A binding, and an operation that nobody does.
async fn things(admin: &Admin) -> Things {
    let source = admin.source_like(v1::Source { insecure: true, ..Default::default() }, "").await;
    let literal = prost_types::Value { kind: Some(Kind::StringValue("shown".into())) };
    let field = v1::ProjectedField { origin: Some(v1::projected_field::Origin::Literal(literal)), format: 0 };
    let binding = v1::Binding {
        source_id: source.id,
        query: Some(v1::BindingQuery { query: Some(v1::binding_query::Query::Latest(v1::LatestQuery {})) }),
        projection: Some(v1::Projection { fields: [("text".to_owned(), field)].into() }),
        widget: Some(v1::Widget { template: "metric".into(), data: None }),
        ..Default::default()
    };
    let request = v1::CreateBindingRequest { binding: Some(binding), ..Default::default() };
    let binding = admin.bindings().create_binding(request).await.unwrap().into_inner().binding.unwrap().id;
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let request = v1::ReplayEventsRequest {
        filter: Some(v1::EventFilter::default()),
        endpoint_ids: vec![endpoint],
        ..Default::default()
    };
    let begun = admin.events().replay_events(request).await.unwrap().into_inner();
    Things { binding, operation: begun.operation.unwrap().id }
}

/// How it ends, whatever comes before.
async fn end<M: Debug>(mut stream: Streaming<M>) -> Status {
    loop {
        if let Err(status) = message(&mut stream).await {
            return status;
        }
    }
}

/// How each of the watches ends when this has happened to the key.
async fn ends_of(admin: &Admin, things: &Things, happens: impl Future<Output = ()>) -> [Status; 4] {
    let events = watch(admin, all()).await;
    let deliveries = v1::WatchDeliveriesRequest::default();
    let mut deliveries = admin.deliveries().watch_deliveries(deliveries).await.unwrap().into_inner();
    let binding = v1::WatchBindingRequest { id: things.binding.clone(), ..Default::default() };
    let mut binding = admin.bindings().watch_binding(binding).await.unwrap().into_inner();
    let operation = v1::WatchOperationRequest { id: things.operation.clone() };
    let mut operation = admin.operations().watch_operation(operation).await.unwrap().into_inner();
    // All of them have begun.
    message(&mut deliveries).await.unwrap();
    message(&mut binding).await.unwrap();
    message(&mut operation).await.unwrap();
    happens.await;
    let happened = Instant::now();
    let (events, deliveries, binding, operation) =
        tokio::join!(end(events), end(deliveries), end(binding), end(operation));
    assert!(happened.elapsed() < ENDS_WITHIN, "after {:?}", happened.elapsed());
    [events, deliveries, binding, operation]
}

#[tokio::test]
async fn a_watch_ends_with_its_key() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let things = things(&stack.admin()).await;
    let mut beside = watch(&stack.admin(), all()).await;
    let change = async |role: &str, what: &str| {
        let change = format!("UPDATE api_keys SET {what} WHERE key_hash = sha256($1::text::bytea)");
        let key = format!("bwl_test_default_{role}");
        assert_eq!(stack.database.sql().execute(&change, &[&key]).await.unwrap(), 1);
    };
    for (role, what, code, why) in [
        ("viewer", "revoked_at = now()", Code::Unauthenticated, "KEY_INVALID"),
        ("operator", "expires_at = now() + interval '1 second'", Code::Unauthenticated, "KEY_INVALID"),
        ("admin", "role = 'publisher'", Code::PermissionDenied, "ROLE_INSUFFICIENT"),
    ] {
        let theirs = somebody(&stack, "default", role).await;
        let ends = ends_of(&theirs, &things, change(role, what)).await;
        for end in ends {
            assert_eq!((end.code(), reason(&end).as_str()), (code, why), "{what}");
        }
    }
    // Who still has a key goes on.
    let published = stack.admin().publish("after").await;
    let told = take(&mut beside, 1).await;
    assert_eq!(ids(&told), [&published]);
}
