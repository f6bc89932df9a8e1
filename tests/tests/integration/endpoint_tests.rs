//! Tests of endpoints: the whole way, for one endpoint alone, of no consequence.

use bowline_proto::v1::{self, DeliveryState, EndpointState};
use bowline_tests::admin::{self, Admin, reason, violations};
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually, sign};
use serde_json::json;
use tonic::{Code, Status};

use crate::by_hand::somebody;

async fn test(admin: &Admin, id: &str, event_type: &str) -> Result<v1::Delivery, Status> {
    let request = v1::SendEndpointTestRequest {
        id: id.to_owned(),
        event_type: event_type.to_owned(),
        ..Default::default()
    };
    Ok(admin.endpoints().send_endpoint_test(request).await?.into_inner().delivery.unwrap())
}

#[tokio::test]
async fn a_test_goes_the_whole_way_past_pause_and_filters_to_one_endpoint_alone() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (receiver, bystander) = (Receiver::start().await, Receiver::start().await);
    admin.endpoint(admin::endpoint(bystander.url())).await;
    let picky = v1::Endpoint {
        event_types: vec!["invoice.*".into(), "order.created".into()],
        channels: vec!["c1".into()],
        ..admin::endpoint(receiver.url())
    };
    let (endpoint, secret) = admin.endpoint(picky).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let schema = json!({ "type": "object", "properties": { "id": { "examples": ["ord_1"] } } });
    let catalog = "INSERT INTO event_types (id, tenant_id, name, json_schema, config_version)
                   VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'order.created', $1, 1)";
    stack.database.sql().execute(catalog, &[&schema]).await.unwrap();

    let delivery = test(&admin, &endpoint, "").await.unwrap();
    assert_eq!((delivery.state(), delivery.test), (DeliveryState::Delivered, true), "{delivery:?}");
    assert_eq!((delivery.event_type.as_str(), delivery.attempts.len()), ("order.created", 1));
    assert_eq!((delivery.attempts[0].status_code, &delivery.attempts[0].request_url), (200, &receiver.url()));
    let requests = receiver.requests();
    assert_eq!((requests.len(), requests[0].id()), (1, delivery.event_id.as_str()));
    assert!(String::from_utf8_lossy(&requests[0].body).contains("ord_1"), "{:?}", requests[0].body);
    let (sent, timestamp) = (&requests[0], requests[0].header("webhook-timestamp"));
    let signature = sign::standard_signature(&secret, sent.id(), timestamp, &sent.body);
    assert_eq!(sent.header("webhook-signature"), signature, "signed as any delivery is");
    let event =
        admin.events().get_event(v1::GetEventRequest { id: delivery.event_id.clone() }).await.unwrap();
    assert!(event.into_inner().event.unwrap().test);

    let other = test(&admin, &endpoint, "something.else").await.unwrap();
    assert_eq!(other.state(), DeliveryState::Delivered);
    assert_eq!(admin.get_endpoint(&endpoint).await.state(), EndpointState::Paused);
    stack.await_quiet().await;
    assert_eq!((receiver.count(), bystander.count()), (2, 0));
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'SendEndpointTest' AND outcome = 'OK'";
    assert_eq!(stack.database.count(audited).await, 2);

    // Nor is it ever replayed.
    let replay = v1::ReplayEventsRequest {
        filter: Some(v1::EventFilter::default()),
        endpoint_ids: vec![endpoint.clone()],
        dry_run: true,
        ..Default::default()
    };
    assert_eq!(admin.events().replay_events(replay).await.unwrap().into_inner().event_count, 0);
}

#[tokio::test]
async fn a_failed_test_is_attempted_once_and_has_no_consequence() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let strict = v1::Endpoint {
        disable: Some(v1::DisablePolicy { after_failures: 1, ..Default::default() }),
        ..admin::endpoint(receiver.url())
    };
    let (endpoint, _) = admin.endpoint(strict).await;
    for (number, status) in [500, 410, 429].into_iter().enumerate() {
        receiver.answer(Reply::Status(status));
        let delivery = test(&admin, &endpoint, "").await.unwrap();
        assert_eq!((delivery.state(), delivery.attempts.len()), (DeliveryState::Dead, 1), "{delivery:?}");
        assert_eq!(delivery.attempts[0].status_code, i32::from(status));
        let again = v1::RetryDeliveryRequest { id: delivery.id };
        let refused = admin.deliveries().retry_delivery(again).await.unwrap_err();
        assert_eq!(reason(&refused), "DELIVERY_STATE");
        assert_eq!(receiver.count(), number + 1);
    }
    // What follows the record commit has been written when the next record's has: a real delivery's.
    receiver.answer(Reply::Status(200));
    let event = admin.publish("order.created").await;
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    let rows = "SELECT (SELECT count(*) FROM dead_letters) + (SELECT count(*) FROM endpoint_health)";
    assert_eq!(stack.database.count(rows).await, 0);
    assert_eq!(admin.get_endpoint(&endpoint).await.state(), EndpointState::Enabled);
    let stats = v1::GetEndpointStatsRequest { id: endpoint, window: None };
    let stats = admin.endpoints().get_endpoint_stats(stats).await.unwrap().into_inner().stats.unwrap();
    assert_eq!((stats.delivered_count, stats.failed_count, stats.dead_count), (1, 0, 0));
}

#[tokio::test]
async fn a_test_passes_an_open_breaker() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let forever = [std::time::Duration::from_secs(3600)];
    let one_by_one = v1::Endpoint { concurrency: 1, ..admin::with_waits(receiver.url(), &forever) };
    let (endpoint, _) = admin.endpoint(one_by_one).await;
    admin.publish_many("order.created", 10).await;
    // Put off without an attempt: it is open.
    eventually(BOUND, async || {
        let put_off = "SELECT count(*) FROM queue WHERE owner IS NULL AND attempt = 0 AND due_at > now()";
        let parked = stack.database.count(put_off).await;
        eventually::holds(parked > 0, parked)
    })
    .await;
    receiver.answer(Reply::Status(200));
    assert_eq!(test(&admin, &endpoint, "").await.unwrap().state(), DeliveryState::Delivered);
}

#[tokio::test]
async fn without_a_dispatcher_a_test_ends_and_nothing_stays_behind() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (endpoint, _) = admin.endpoint(admin::endpoint("http://127.0.0.1:1/")).await;
    let late = test(&admin, &endpoint, "").await.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::DeadlineExceeded, "TEST_NOT_TAKEN"));
    assert_eq!(stack.database.count("SELECT count(*) FROM queue").await, 0);

    let bad = v1::SendEndpointTestRequest {
        id: endpoint.clone(),
        event_type: "bowline.mine".into(),
        body: "{".into(),
        ..Default::default()
    };
    let refused = admin.endpoints().send_endpoint_test(bad).await.unwrap_err();
    assert_eq!(violations(&refused), ["event_type", "body"]);
    let stranger = somebody(&stack, "other", "operator").await;
    assert_eq!(test(&stranger, &endpoint, "").await.unwrap_err().code(), Code::NotFound);
    let viewer = somebody(&stack, "default", "viewer").await;
    assert_eq!(test(&viewer, &endpoint, "").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_test_outlives_the_dispatcher_that_took_it() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    // The other is there before: a start takes as long as the machine lets it, and who asks does not wait for that.
    stack.add_dispatcher(&[]).await;
    let mut doomed =
        stack.launch(Kind::Dispatcher, &[("BOWLINE_CRASH_AT", "dispatcher_after_claim_of_test")]).unwrap();
    doomed.ready(BOUND).await.unwrap();
    // Either may be the one that takes a test.
    let mut tests = 0;
    while doomed.ended().is_none() {
        let delivery = test(&admin, &endpoint, "").await.unwrap();
        tests += 1;
        assert_eq!((delivery.state(), receiver.count()), (DeliveryState::Delivered, tests));
        assert!(tests < 1000, "the one that is to die takes none");
    }
    assert!(!doomed.await_end().await.success());
}
