//! A dispatcher stopped past its lease (SIGSTOP), which then wakes.

use bowline_core::defaults::ATTEMPT_TIMEOUT_MAX;
use bowline_proto::v1::{self, AttemptDecision, DeliveryState};
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin, eventually};

/// Until another has found `stack`'s first dispatcher dead.
async fn await_death(stack: &Stack) {
    eventually(BOUND, async || {
        let dead = stack.database.count("SELECT count(*) FROM replicas WHERE dead_at IS NOT NULL").await;
        if dead > 0 { Ok(()) } else { Err("nobody is dead") }
    })
    .await;
}

#[tokio::test]
async fn what_a_paused_dispatcher_held_is_taken_over_and_it_works_again_when_it_wakes() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted(vec![Reply::Held(200); 3]).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let held = admin.publish_many("order.created", 3).await;
    receiver.await_ids(&held, BOUND).await;
    stack.dispatchers[0].pause();
    stack.add_dispatcher(&[]).await;
    await_death(&stack).await;
    for id in &held {
        admin.await_delivery(id, &endpoint, DeliveryState::Delivered).await;
    }
    assert_eq!(receiver.count(), 6, "only what was out is sent again");

    // Awake, it has lost its life and takes a new one: alone, it delivers.
    stack.dispatchers[0].resume();
    let survivor = &mut stack.dispatchers[1];
    survivor.terminate(BOUND).await;
    let fresh = admin.publish_many("order.created", 10).await;
    receiver.await_ids(&fresh, BOUND).await;
    receiver.release();
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 16);
}

#[tokio::test]
async fn the_late_outcome_of_a_paused_dispatcher_has_no_effect() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Held(500)]).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    receiver.await_count(1, BOUND).await;
    stack.dispatchers[0].pause();
    stack.add_dispatcher(&[]).await;
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;

    // Its failure comes in after another's success.
    receiver.release();
    stack.dispatchers[0].resume();
    let delivery = eventually(BOUND, async || {
        let delivery = admin.delivery(&event, &endpoint).await.map_err(|status| status.to_string())?;
        let stale = delivery.attempts.iter().any(|attempt| attempt.decision() == AttemptDecision::Stale);
        if stale { Ok(delivery) } else { Err(format!("{delivery:?}")) }
    })
    .await;
    assert_eq!(delivery.state(), DeliveryState::Delivered);
    stack.await_quiet().await;
    assert_eq!(stack.database.count("SELECT count(*) FROM dead_letters").await, 0);
    assert_eq!(receiver.count(), 2, "nothing is tried again because of it");
}

#[tokio::test]
async fn the_late_success_of_a_paused_dispatcher_counts() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    // The first request succeeds late; the one that takes over fails and would wait an hour.
    let receiver = Receiver::scripted([Reply::Held(200), Reply::Status(500)]).await;
    let waits = [std::time::Duration::from_secs(3600)];
    let endpoint = v1::Endpoint {
        timeout: Some(admin::duration(ATTEMPT_TIMEOUT_MAX)),
        ..admin::with_waits(receiver.url(), &waits)
    };
    let (endpoint, _) = admin.endpoint(endpoint).await;
    let event = admin.publish("order.created").await;
    receiver.await_count(1, BOUND).await;
    stack.dispatchers[0].pause();
    // Its answer is on the wire before it wakes: no timeout decides this.
    receiver.release();
    stack.add_dispatcher(&[]).await;
    eventually(BOUND, async || {
        let failed = stack.database.count("SELECT count(*) FROM attempts WHERE decision = 'retry'").await;
        if failed == 1 { Ok(()) } else { Err(failed) }
    })
    .await;
    stack.dispatchers[0].resume();
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 2);
}
