//! A bad endpoint, a bad tenant or a busy operator costs the others nothing (invariant 5).

use std::time::Duration;

use bowline_proto::v1;
use bowline_proto::v1::publish_event_result::Outcome;
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin, eventually};

/// Longer than anything here waits for: what passes did not pass because a hanging request ended.
const TIMEOUT: Duration = Duration::from_secs(60);

fn for_type(url: String, event_type: &str) -> v1::Endpoint {
    v1::Endpoint {
        event_types: vec![event_type.to_owned()],
        timeout: Some(admin::duration(TIMEOUT)),
        ..admin::endpoint(url)
    }
}

/// A receiver that answers, known to the dispatcher.
async fn healthy(admin: &bowline_tests::admin::Admin) -> Receiver {
    let receiver = Receiver::start().await;
    admin.endpoint(for_type(receiver.url(), "order.created")).await;
    let first = admin.publish("order.created").await;
    receiver.await_ids(&[first], BOUND).await;
    receiver
}

#[tokio::test]
async fn many_hanging_endpoints_hold_up_no_healthy_one() {
    let stack = Stack::builder().set_dispatcher("BOWLINE_DISPATCHER_IN_FLIGHT_MAX", "32").start().await;
    let admin = stack.admin();
    let receiver = healthy(&admin).await;
    let hanging = Receiver::start().await;
    hanging.answer(Reply::Hang);
    for _ in 0..40 {
        admin.endpoint(for_type(hanging.url(), "slow.created")).await;
    }
    admin.publish_many("slow.created", 20).await;
    // Half of the 32 requests is theirs, at the least half of that.
    hanging.await_count(8, BOUND).await;

    let ids = admin.publish_many("order.created", 20).await;
    receiver.await_ids(&ids, BOUND).await;
    assert!(hanging.count() <= 20, "{} of 32 requests are held by endpoints that hang", hanging.count());
}

#[tokio::test]
async fn large_bodies_for_a_hanging_endpoint_take_no_room_from_others() {
    let stack = Stack::builder().set_dispatcher("BOWLINE_DISPATCHER_BYTES_MAX", "2MiB").start().await;
    let admin = stack.admin();
    let receiver = healthy(&admin).await;
    let hanging = Receiver::start().await;
    hanging.answer(Reply::Hang);
    admin.endpoint(for_type(hanging.url(), "slow.created")).await;
    let body = format!(r#"{{"filling":"{}"}}"#, "x".repeat(300_000));
    for _ in 0..20 {
        let request = v1::PublishEventRequest {
            event_type: "slow.created".to_owned(),
            body: body.clone().into(),
            ..Default::default()
        };
        admin.events().publish_event(request).await.unwrap();
    }
    hanging.await_count(1, BOUND).await;

    let ids = admin.publish_many("order.created", 20).await;
    receiver.await_ids(&ids, BOUND).await;
}

#[tokio::test]
async fn a_flood_of_admin_writes_holds_up_neither_itself_nor_deliveries() {
    let stack = Stack::builder().set("BOWLINE_POSTGRES_ADMIN_POOL_SIZE", "2").start().await;
    let admin = stack.admin();
    let receiver = healthy(&admin).await;
    let writes = (0..16).map(|_| admin.endpoint(for_type(receiver.url(), "never.sent")));
    let (made, ids) =
        tokio::join!(futures_util::future::join_all(writes), admin.publish_many("order.created", 20));
    assert_eq!(made.len(), 16);
    receiver.await_ids(&ids, BOUND).await;
    assert!(!stack.logs().contains("lease had run out"));
}

#[tokio::test]
async fn a_flood_has_chunks_of_its_own_and_all_of_it_arrives() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    admin.endpoint(admin::endpoint(receiver.url())).await;
    let request = v1::CreateTenantRequest {
        tenant: Some(v1::Tenant { name: "flood".to_owned(), ..Default::default() }),
    };
    let tenant_id = admin.tenants().create_tenant(request).await.unwrap().into_inner().tenant.unwrap().id;
    let flooded = Receiver::start().await;
    let endpoint = v1::CreateEndpointRequest {
        tenant_id: tenant_id.clone(),
        endpoint: Some(admin::endpoint(flooded.url())),
        ..Default::default()
    };
    admin.endpoints().create_endpoint(endpoint).await.unwrap();

    let one = v1::PublishEventRequest {
        event_type: "order.created".to_owned(),
        body: "{}".into(),
        ..Default::default()
    };
    let batch = v1::PublishEventBatchRequest { tenant_id, events: vec![one; 500] };
    let (mut quiet, mut flood) = (Vec::new(), Vec::new());
    eventually(BOUND, async || {
        let mut events = admin.events();
        let (beside, published) =
            tokio::join!(admin.publish("order.created"), events.publish_event_batch(batch.clone()));
        quiet.push(beside);
        flood.extend(published.unwrap().into_inner().results.into_iter().map(
            |result| match result.outcome {
                Some(Outcome::Published(published)) => published.event_id,
                refused => panic!("{refused:?}"),
            },
        ));
        let bulk = stack.database.count("SELECT count(*) FROM outbox WHERE class = 1").await;
        holds(bulk > 0, bulk)
    })
    .await;
    let mixed = "SELECT count(*) FROM (
            SELECT o.id FROM outbox AS o JOIN events AS e ON e.id = ANY(o.event_ids)
             WHERE o.class = 1 GROUP BY o.id HAVING count(DISTINCT e.tenant_id) > 1) AS chunks";
    assert_eq!(stack.database.count(mixed).await, 0);

    stack.add_dispatcher(&[]).await;
    receiver.await_ids(&quiet, BOUND).await;
    flooded.await_ids(&flood, BOUND).await;
    stack.await_quiet().await;
    assert_eq!((receiver.count(), flooded.count()), (quiet.len(), flood.len()));
}
