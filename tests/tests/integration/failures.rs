//! SIGKILL between receipt and delivery, and in the middle of five deliveries.

use std::collections::HashMap;

use bowline_core::defaults::ENDPOINT_CONCURRENCY;
use bowline_core::id::EventId;
use bowline_proto::v1::DeliveryState;
use bowline_tests::{BOUND, Provider, Receiver, Reply, Stack, admin, eventually};

#[tokio::test]
async fn a_dispatcher_killed_between_receipt_and_delivery_loses_nothing() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Held(200));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let ids = Provider::create(&stack).await.push_many(50).await;
    receiver.await_count(1, BOUND).await;
    stack.dispatchers[0].kill().await;

    receiver.release();
    stack.dispatchers.clear();
    stack.add_dispatcher(&[]).await;
    receiver.await_ids(&ids, BOUND).await;
    for id in &ids {
        admin.await_delivery(id, &endpoint, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    let mut times: HashMap<String, usize> = HashMap::new();
    for request in receiver.requests() {
        *times.entry(request.id().to_owned()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times <= 2), "{times:?}");
    let repeated = times.values().filter(|times| **times == 2).count();
    let out_at_most = ENDPOINT_CONCURRENCY as usize;
    assert!(repeated <= out_at_most, "{repeated} arrived twice; {out_at_most} can have been out");
}

#[tokio::test]
async fn another_dispatcher_takes_over_what_a_killed_one_held() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Held(200));
    let (endpoint, _) = admin.endpoint(admin::patient(admin::endpoint(receiver.url()))).await;
    let ids = admin.publish_many("order.created", 5).await;
    receiver.await_ids(&ids, BOUND).await;
    // Alive, and free to take: what the first holds stays with it as long as it lives.
    stack.add_dispatcher(&[]).await;
    stack.dispatchers[0].kill().await;
    receiver.release();
    for id in &ids {
        admin.await_delivery(id, &endpoint, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 10, "what was out is sent again, once");
}

#[tokio::test]
async fn two_of_five_recorded_then_redis_emptied_and_the_dispatcher_killed() {
    let mut stack = Stack::builder().own_redis().start().await;
    let admin = stack.admin();
    let mut there = Vec::new();
    for number in 0..5 {
        let receiver = Receiver::start().await;
        if number >= 2 {
            receiver.answer(Reply::Held(200));
        }
        let (endpoint, _) = admin.endpoint(admin::patient(admin::endpoint(receiver.url()))).await;
        there.push((receiver, endpoint));
    }
    let event = admin.publish("order.created").await;
    for (receiver, _) in &there {
        receiver.await_count(1, BOUND).await;
    }
    let id: EventId = event.parse().unwrap();
    let recorded =
        format!("SELECT count(*) FROM attempts WHERE event_id = '{}' AND decision = 'delivered'", id.0);
    eventually(BOUND, async || {
        let count = stack.database.count(&recorded).await;
        if count == 2 { Ok(()) } else { Err(count) }
    })
    .await;

    let client = redis::Client::open(stack.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    stack.dispatchers[0].kill().await;
    stack.dispatchers.clear();
    there.iter().for_each(|(receiver, _)| receiver.release());
    stack.add_dispatcher(&[]).await;
    for (_, endpoint) in &there {
        admin.await_delivery(&event, endpoint, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    let counts: Vec<_> = there.iter().map(|(receiver, _)| receiver.count()).collect();
    assert_eq!(counts, [1, 1, 2, 2, 2], "the recorded ones are not repeated");
}

#[tokio::test]
async fn retries_outlive_the_dispatcher_that_planned_them() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    let waits = [std::time::Duration::from_secs(3)];
    let (endpoint, _) = admin.endpoint(admin::with_waits(receiver.url(), &waits)).await;
    let event = admin.publish("order.created").await;
    admin.await_attempts(&event, &endpoint, 1).await;
    stack.dispatchers[0].kill().await;
    stack.dispatchers.clear();
    stack.add_dispatcher(&[]).await;
    let delivery = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    assert_eq!((delivery.attempt_count, receiver.count()), (2, 2));
}

#[tokio::test]
async fn an_outcome_that_postgres_refuses_costs_its_details_alone() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(202));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let details = "ALTER TABLE attempts ADD CONSTRAINT details CHECK (status <> 202 OR url IS NULL)";
    stack.database.sql().batch_execute(details).await.unwrap();
    let ids = admin.publish_many("order.created", 30).await;
    for id in &ids {
        admin.await_delivery(id, &endpoint, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 30);
}

#[tokio::test]
async fn a_decision_that_postgres_refuses_is_put_off_and_its_neighbours_are_recorded() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    bad.answer(Reply::Status(202));
    let (endpoint, _) = admin.endpoint(admin::endpoint(good.url())).await;
    admin.endpoint(admin::endpoint(bad.url())).await;
    let refusal = "ALTER TABLE attempts ADD CONSTRAINT refusal CHECK (status <> 202)";
    stack.database.sql().batch_execute(refusal).await.unwrap();
    let ids = admin.publish_many("order.created", 30).await;
    for id in &ids {
        admin.await_delivery(id, &endpoint, DeliveryState::Delivered).await;
    }
    let put_off = "SELECT count(*) FROM queue WHERE owner IS NULL AND due_at > now() + interval '30 min'";
    eventually(BOUND, async || {
        let (waiting, chunks) =
            (stack.database.count(put_off).await, stack.database.count("SELECT count(*) FROM outbox").await);
        if (waiting, chunks) == (30, 0) { Ok(()) } else { Err((waiting, chunks)) }
    })
    .await;
    assert_eq!((good.count(), bad.count()), (30, 30), "nothing is sent again meanwhile");
}
