//! `max_stored_payloads`: older bodies go within seconds, never one that a delivery still needs. What a
//! deleted source has received goes likewise.

use bowline_proto::v1;
use bowline_tests::admin::{Admin, endpoint, reason};
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually, http};
use tonic::Code;

async fn limited(admin: &Admin, payloads: i32) -> String {
    let source = v1::Source {
        insecure: true,
        event_type: "door.opened".into(),
        max_stored_payloads: Some(payloads),
        ..Default::default()
    };
    admin.source_like(source, "").await.id
}

/// The ids of the events, in the order they were sent.
async fn send(stack: &Stack, source: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let body = format!("{{\"n\": {n}}}");
        ids.push(http::post(&stack.inbound(source), &Vec::new(), body).await.unwrap().accepted());
    }
    ids
}

async fn get(admin: &Admin, id: &str) -> v1::Event {
    let request = v1::GetEventRequest { id: id.to_owned() };
    admin.events().get_event(request).await.unwrap().into_inner().event.unwrap()
}

async fn await_dropped(stack: &Stack, count: i64) {
    eventually(BOUND, async || {
        let sql = "SELECT count(*) FROM events WHERE body_dropped_at IS NOT NULL AND body = ''";
        let dropped = stack.database.count(sql).await;
        holds(dropped == count, format!("{dropped} bodies of {count} are gone"))
    })
    .await;
}

#[tokio::test]
async fn bodies_beyond_the_limit_go_and_the_events_stay() {
    let stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    let admin = stack.admin();
    let (source, other) = (limited(&admin, 3).await, limited(&admin, 0).await);
    send(&stack, &other, 5).await;
    let ids = send(&stack, &source, 10).await;
    // Nobody matches them without a dispatcher: they wait in the outbox, with their bodies.
    let waiting = "SELECT count(*) FROM payload_holds";
    eventually(BOUND, async || {
        let held = stack.database.count(waiting).await;
        holds(held == 7, format!("{held} are held"))
    })
    .await;
    assert_eq!(get(&admin, &ids[0]).await.body, "{\"n\": 0}");
    let settle = "DELETE FROM outbox";
    stack.database.sql().execute(settle, &[]).await.unwrap();
    await_dropped(&stack, 7).await;
    for (n, id) in ids.iter().enumerate() {
        let event = get(&admin, id).await;
        assert_eq!((event.body.is_empty(), event.body_drop_time.is_some()), (n < 7, n < 7), "{n}");
        assert_eq!(event.event_type, "door.opened");
    }
    let list = v1::ListPayloadsRequest { source_id: source, query: None, ..Default::default() };
    let shown = admin.payloads().list_payloads(list).await.unwrap().into_inner().payloads;
    assert_eq!(
        shown.iter().map(|payload| &payload.event_id).collect::<Vec<_>>(),
        ids.iter().rev().take(3).collect::<Vec<_>>()
    );
    assert_eq!(stack.database.count(waiting).await, 0);
}

#[tokio::test]
async fn a_body_stays_while_a_delivery_waits_for_it_or_is_dead() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    let dead = Receiver::scripted([Reply::Status(500), Reply::Status(500), Reply::Status(500)]).await;
    let (waits, _) = admin.endpoint(endpoint(receiver.url())).await;
    admin.set_state(&waits, v1::EndpointState::Paused).await;
    let source = limited(&admin, 1).await;
    let ids = send(&stack, &source, 6).await;
    for id in &ids {
        admin.await_delivery(id, &waits, v1::DeliveryState::Waiting).await;
    }
    // Later ones go, those that wait do not.
    let (dies, _) = admin.endpoint(v1::Endpoint { concurrency: 1, ..endpoint(dead.url()) }).await;
    let last = send(&stack, &source, 1).await.remove(0);
    admin.await_delivery(&last, &dies, v1::DeliveryState::Dead).await;
    send(&stack, &source, 1).await;
    eventually(BOUND, async || {
        let held = stack.database.count("SELECT count(*) FROM payload_holds").await;
        holds(held == 7, format!("{held} are held"))
    })
    .await;
    assert_eq!(
        stack.database.count("SELECT count(*) FROM events WHERE body_dropped_at IS NOT NULL").await,
        0
    );
    admin.set_state(&waits, v1::EndpointState::Enabled).await;
    let requests = receiver.await_count(8, BOUND).await;
    assert!(requests.iter().all(|request| !request.body.is_empty()));
    // All but the newest and the one that is a dead letter.
    await_dropped(&stack, 6).await;
    assert_eq!(get(&admin, &last).await.body, "{\"n\": 0}");
    let redrive = v1::RedriveDeadLettersRequest {
        delivery_ids: vec![format!("{last}.{dies}.0")],
        ..Default::default()
    };
    admin.dead_letters().redrive_dead_letters(redrive).await.unwrap();
    admin.await_delivery(&last, &dies, v1::DeliveryState::Delivered).await;
    await_dropped(&stack, 7).await;
}

#[tokio::test]
async fn work_by_hand_on_an_event_without_its_body_is_refused() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    let (waits, _) = admin.endpoint(endpoint(receiver.url())).await;
    admin.set_state(&waits, v1::EndpointState::Paused).await;
    let source = limited(&admin, 1).await;
    let mut ids = send(&stack, &source, 1).await;
    // A moment that lies between the two.
    let between = chrono::Utc::now() + chrono::TimeDelta::milliseconds(2);
    eventually(BOUND, async || {
        holds(chrono::Utc::now() > between + chrono::TimeDelta::milliseconds(2), between)
    })
    .await;
    ids.extend(send(&stack, &source, 1).await);
    let delivery = format!("{}.{waits}.0", ids[0]);
    admin.await_delivery(&ids[0], &waits, v1::DeliveryState::Waiting).await;
    let cancel = v1::CancelDeliveryRequest { id: delivery.clone() };
    admin.deliveries().cancel_delivery(cancel).await.unwrap();
    await_dropped(&stack, 1).await;
    let gone = |status: tonic::Status| {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "EVENT_BODY_GONE"));
        assert!(status.message().contains(&ids[0]), "{status:?}");
    };
    gone(admin.deliveries().retry_delivery(v1::RetryDeliveryRequest { id: delivery }).await.unwrap_err());
    let between = prost_types::Timestamp {
        seconds: between.timestamp(),
        nanos: between.timestamp_subsec_nanos() as i32,
    };
    let replay = v1::ReplayEventsRequest {
        filter: Some(v1::EventFilter { source_id: source, end_time: Some(between), ..Default::default() }),
        endpoint_ids: vec![waits],
        ..Default::default()
    };
    gone(admin.events().replay_events(replay.clone()).await.unwrap_err());
    // With the other one there is something to replay.
    let filter = v1::EventFilter { end_time: None, ..replay.filter.clone().unwrap() };
    let both = v1::ReplayEventsRequest { filter: Some(filter), ..replay };
    assert_eq!(admin.events().replay_events(both).await.unwrap().into_inner().event_count, 1);
}

#[tokio::test]
async fn what_a_deleted_source_received_goes_once_deliveries_have_finished() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    let (waits, _) = admin.endpoint(endpoint(receiver.url())).await;
    admin.set_state(&waits, v1::EndpointState::Paused).await;
    let source = admin.source("chatblocks", "bowline-test-chatblocks").await;
    let signed = |key: &str| {
        let now = bowline_tests::sign::unix_now(0);
        bowline_tests::sign::chatblocks("bowline-test-chatblocks", key, now, b"{}")
    };
    let url = stack.inbound(&source);
    let id = http::post(&url, &signed("key-1"), "{}").await.unwrap().accepted();
    http::post(&url, &signed("key-2"), "{\"changed\": 1}").await.unwrap().refused(401);
    admin.await_delivery(&id, &waits, v1::DeliveryState::Waiting).await;
    let left = async |what: &str| stack.database.count(&format!("SELECT count(*) FROM {what}")).await;
    eventually(BOUND, async || holds(left("rejections").await == 1, "no rejection yet")).await;
    assert_eq!(left("dedup_keys").await, 1);

    let delete = v1::DeleteSourceRequest { id: source, ..Default::default() };
    admin.sources().delete_source(delete).await.unwrap();
    eventually(BOUND, async || {
        let left = (left("rejections").await, left("dedup_keys").await, left("payload_holds").await);
        holds(left == (0, 0, 1), left)
    })
    .await;
    assert_eq!(get(&admin, &id).await.body, "{}", "a delivery waits for it");
    admin.set_state(&waits, v1::EndpointState::Enabled).await;
    admin.await_delivery(&id, &waits, v1::DeliveryState::Delivered).await;
    let request = receiver.await_count(1, BOUND).await.remove(0);
    assert!(String::from_utf8_lossy(&request.body).ends_with("\"data\":{}}"), "{request:?}");
    await_dropped(&stack, 1).await;
    assert_eq!(left("events WHERE headers <> ''").await, 0);
    // It is looked at until nothing can come any more.
    assert_eq!(left("sources WHERE swept_at IS NOT NULL").await, 0);
    let earlier = "UPDATE sources SET deleted_at = deleted_at - interval '2 minutes'";
    stack.database.sql().execute(earlier, &[]).await.unwrap();
    eventually(BOUND, async || {
        let left = (left("sources WHERE swept_at IS NOT NULL").await, left("payload_sweeps").await);
        holds(left == (1, 0), left)
    })
    .await;
}
