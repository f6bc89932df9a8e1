//! What a person does to deliveries that wait in a channel, and what ends them.

use bowline_proto::v1::{DeliveryState, EndpointOrdering, EndpointState};

use super::*;

/// Until every dispatcher has heard of it: one that has not yet still sends what comes to a channel.
async fn set_state(stack: &Stack, endpoint: &str, state: EndpointState) {
    stack.admin().set_state(endpoint, state).await;
    stack.await_configuration().await;
}

#[tokio::test]
async fn a_failure_holds_up_its_channel_alone_until_it_is_cancelled() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    let (endpoint, _) = admin.endpoint(patient(&receiver, EndpointOrdering::PerChannel)).await;
    let first = publish(&admin, "a").await;
    receiver.await_count(1, BOUND).await;
    let (second, third, other) =
        (publish(&admin, "a").await, publish(&admin, "a").await, publish(&admin, "b").await);
    at_rest(&stack, &receiver, 2).await;
    assert_eq!(
        arrived(&receiver, &[first.clone(), second.clone(), third.clone()]),
        std::slice::from_ref(&first)
    );
    assert_eq!(receiver.requests()[1].id(), other);

    // One that stands behind goes without a trace in the order; the head makes room for the next.
    for event in [&second, &first] {
        let waiting = admin.delivery(event, &endpoint).await.unwrap();
        assert_eq!(waiting.state(), DeliveryState::Waiting);
        let request = v1::CancelDeliveryRequest { id: waiting.id };
        admin.deliveries().cancel_delivery(request).await.unwrap();
    }
    receiver.await_ids(std::slice::from_ref(&third), BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 3);
    let cancelled = admin.delivery(&second, &endpoint).await.unwrap();
    assert_eq!(cancelled.state(), DeliveryState::Cancelled);
}

#[tokio::test]
async fn a_person_who_retries_the_first_sends_all_that_waits_behind_it() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    let (endpoint, _) = admin.endpoint(patient(&receiver, EndpointOrdering::Strict)).await;
    let mut ids = vec![publish(&admin, "a").await];
    receiver.await_count(1, BOUND).await;
    for channel in ["", "b", "a"] {
        ids.push(publish(&admin, channel).await);
    }
    at_rest(&stack, &receiver, 1).await;
    let waiting = admin.delivery(&ids[0], &endpoint).await.unwrap();
    let request = v1::RetryDeliveryRequest { id: waiting.id };
    admin.deliveries().retry_delivery(request).await.unwrap();
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn nothing_follows_in_a_channel_whose_receiver_is_gone() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(410)]).await;
    let (endpoint, _) = admin.endpoint(ordered(&receiver, EndpointOrdering::Strict)).await;
    set_state(&stack, &endpoint, EndpointState::Paused).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(publish(&admin, "a").await);
    }
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    admin.await_delivery(&ids[0], &endpoint, DeliveryState::Dead).await;
    at_rest(&stack, &receiver, 1).await;
    assert_eq!(admin.get_endpoint(&endpoint).await.state(), EndpointState::Disabled);

    // Who enables it sends the rest.
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    assert_eq!(receiver.count(), 10);
}

#[tokio::test]
async fn a_dead_letter_makes_room_and_a_redrive_joins_at_the_tail() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    let (endpoint, _) = admin.endpoint(mortal(&receiver, EndpointOrdering::PerChannel)).await;
    let first = publish(&admin, "a").await;
    admin.await_delivery(&first, &endpoint, DeliveryState::Dead).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let mut rest = vec![publish(&admin, "a").await, publish(&admin, "a").await];
    let dead = admin.delivery(&first, &endpoint).await.unwrap();
    let redrive = v1::RedriveDeadLettersRequest { delivery_ids: vec![dead.id], ..Default::default() };
    admin.dead_letters().redrive_dead_letters(redrive).await.unwrap();
    rest.push(publish(&admin, "a").await);
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    stack.await_quiet().await;
    let order = [&first, &rest[0], &rest[1], &first, &rest[2]].map(Clone::clone);
    rest.push(first);
    assert_eq!(arrived(&receiver, &rest), order);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_replay_joins_at_the_tail() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let old = [publish(&admin, "a").await, publish(&admin, "b").await, publish(&admin, "a").await];
    stack.await_quiet().await;
    set_state(&stack, &endpoint, EndpointState::Paused).await;
    let new = [publish(&admin, "a").await, publish(&admin, "a").await];
    let waits = "SELECT count(*) FROM queue";
    eventually(BOUND, async || {
        let unsettled = stack.database.count("SELECT count(*) FROM outbox").await;
        eventually::holds(unsettled == 0, unsettled)
    })
    .await;
    assert_eq!(stack.database.count(waits).await, 2);
    let filter = v1::EventFilter { channel: "a".into(), ..Default::default() };
    let replay = v1::ReplayEventsRequest {
        filter: Some(filter),
        endpoint_ids: vec![endpoint.clone()],
        ..Default::default()
    };
    admin.events().replay_events(replay).await.unwrap();
    // All four of the channel again: the two that wait, and those two that were delivered.
    eventually(BOUND, async || {
        let queued = stack.database.count(waits).await;
        eventually::holds(queued == 6, queued)
    })
    .await;
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    stack.await_quiet().await;
    let order = [&old[0], &old[2], &new[0], &new[1], &old[0], &old[2], &new[0], &new[1]].map(Clone::clone);
    let of_channel = [&old[0], &old[2], &new[0], &new[1]].map(Clone::clone);
    assert_eq!(arrived(&receiver, &of_channel), order);
}

#[tokio::test]
async fn what_the_filter_does_not_select_makes_room_for_the_next() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint {
        filter: "event.type == 'order.wanted'".into(),
        ..ordered(&receiver, EndpointOrdering::Strict)
    };
    let (endpoint, _) = admin.endpoint(endpoint).await;
    let mut wanted = Vec::new();
    for _ in 0..5 {
        let other = admin.publish("order.unwanted").await;
        wanted.push(admin.publish("order.wanted").await);
        admin.await_delivery(&other, &endpoint, DeliveryState::Cancelled).await;
    }
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &wanted), wanted);
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_paused_endpoint_keeps_its_backlog_in_order_and_a_deleted_one_has_it_cancelled() {
    let stack = Stack::builder().dispatchers(2).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let mut sent = publish_to(&admins(&stack), &["a", "b"], 5).await;
    stack.await_quiet().await;
    set_state(&stack, &endpoint, EndpointState::Disabled).await;
    for (channel, ids) in publish_to(&admins(&stack), &["a", "b"], 20).await {
        sent.get_mut(&channel).unwrap().extend(ids);
    }
    eventually(BOUND, async || {
        let waiting = stack.database.count("SELECT count(*) FROM queue").await;
        eventually::holds(waiting == 40, waiting)
    })
    .await;
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    stack.await_quiet().await;
    assert_in_order(&receiver, &sent);
    assert_eq!(receiver.count(), 50);

    set_state(&stack, &endpoint, EndpointState::Paused).await;
    publish_to(&admins(&stack), &["a", "b"], 10).await;
    let request = v1::DeleteEndpointRequest { id: endpoint.clone(), ..Default::default() };
    admin.endpoints().delete_endpoint(request).await.unwrap();
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 50);
    eventually(BOUND, async || {
        let busy = "SELECT count(*) FROM channels WHERE owner IS NOT NULL OR due_at IS NOT NULL";
        let busy = stack.database.count(busy).await;
        eventually::holds(busy == 0, busy)
    })
    .await;
}
