//! Tenants take turns: one with many operations holds up no other's.

use bowline_tests::proxy::{Cut, Proxy};
use bowline_tests::stores;

use super::*;

#[tokio::test]
async fn a_tenant_with_many_replays_does_not_hold_up_the_one_of_another() {
    // More than one dispatcher works on at a time, each of which takes longer than anything is waited for.
    const SLOW: usize = 40;
    const EVENTS: usize = 200;
    let mut stack = Stack::start().await;
    let (busy, modest) = (somebody(&stack, "busy", "admin").await, somebody(&stack, "modest", "admin").await);
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    busy.publish_many("order.created", EVENTS).await;
    let wanted = modest.publish_many("order.created", 3).await;
    stack.await_quiet().await;
    let (theirs, _) = busy.endpoint(admin::endpoint(slow.url())).await;
    let (ours, _) = modest.endpoint(admin::endpoint(quick.url())).await;
    // All are there before anybody takes one up.
    stack.dispatchers.remove(0).terminate(BOUND).await;
    let mut many = Vec::new();
    for _ in 0..SLOW {
        let request = v1::ReplayEventsRequest { rate_per_second: 1, ..replay_of(&theirs, "") };
        many.push(replay(&busy, request).await.id);
    }
    let single = replay(&modest, replay_of(&ours, "")).await;
    stack.add_dispatcher(&[]).await;
    let done = await_state(&modest, &single.id, OperationState::Done).await;
    assert_eq!(done.done_count, 3);
    assert_eq!(quick.await_ids(&wanted, BOUND).await.len(), 3);

    // It was the last that was asked for, and of those before it most have not begun.
    let states = async || {
        let mut states = Vec::new();
        for id in &many {
            states.push(operation(&busy, id).await.state());
        }
        states
    };
    let seen = states().await;
    let running = seen.iter().filter(|state| **state == OperationState::Running).count();
    let pending = seen.iter().filter(|state| **state == OperationState::Pending).count();
    assert_eq!(running + pending, SLOW, "none has ended: {seen:?}");
    assert!(running <= 4, "{seen:?}");
    // The oldest go first.
    assert!(seen[..running].iter().all(|state| *state == OperationState::Running), "{seen:?}");

    // Each that ends makes room for the next of the same tenant.
    let cancel = v1::CancelOperationRequest { id: many[0].clone() };
    busy.operations().cancel_operation(cancel).await.unwrap();
    await_state(&busy, &many[4], OperationState::Running).await;
    let running = states().await.iter().filter(|state| **state == OperationState::Running).count();
    assert_eq!(running, 4);
}

#[tokio::test]
async fn what_is_cut_off_with_its_worker_is_taken_up_again() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    stack.add_dispatcher(&[("BOWLINE_POSTGRES_URL", &through)]).await;
    admin.publish_many("order.created", 40).await;
    eventually(BOUND, async || {
        let unsettled = stack.database.count("SELECT count(*) FROM outbox").await;
        eventually::holds(unsettled == 0, unsettled)
    })
    .await;
    // Claimed, and the claim's answer is lost: the worker begins anew, and nobody has what it was about to begin.
    proxy.cut_once("UPDATE operations AS o SET owner = $1", Cut::Answer);
    let begun = replay(&admin, replay_of(&endpoint, "order.created")).await;
    proxy.await_cuts(1).await;
    let done = await_state(&admin, &begun.id, OperationState::Done).await;
    assert_eq!((done.done_count, done.skipped_count), (40, 0), "each once");
}
