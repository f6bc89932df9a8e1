//! Waits that grow, with full jitter: each is anywhere between nothing and its bound. Told by when a delivery is due,
//! and not by waiting for it.

use bowline_proto::v1::AttemptKind;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// From the end of an attempt to its record.
const RECORDED_WITHIN_S: f64 = 120.0;

fn exponential(initial: Duration, factor: f64, max: Duration) -> v1::RetryPolicy {
    let (initial, max) = (Some(admin::duration(initial)), Some(admin::duration(max)));
    let backoff = Backoff::Exponential(v1::ExponentialBackoff { initial, factor, max });
    v1::RetryPolicy { backoff: Some(backoff), ..Default::default() }
}

fn seconds(time: prost_types::Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

/// How long after the end of its last attempt it is due.
fn waits_s(delivery: &v1::Delivery) -> f64 {
    let last = delivery.attempts.last().expect("an attempt");
    let took = Duration::try_from(last.duration.expect("how long it took")).unwrap();
    let ended = seconds(last.start_time.expect("when it began")) + took.as_secs_f64();
    seconds(delivery.due_time.expect("when it is due")) - ended
}

#[tokio::test]
async fn waits_grow_within_their_bounds_until_the_attempts_are_used_up() {
    // Each with an endpoint of its own: of one endpoint, so many failures would open the breaker.
    const DELIVERIES: usize = 24;
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let retry = v1::RetryPolicy { max_attempts: 4, ..exponential(HOUR, 3.0, HOUR * 6) };
    let mut endpoints = Vec::new();
    for _ in 0..DELIVERIES {
        endpoints.push(admin.endpoint(with_retry(&receiver, retry.clone())).await.0);
    }
    let event = admin.publish("order.created").await;
    // The third would be nine hours.
    for (number, bound) in [(1, HOUR), (2, HOUR * 3), (3, HOUR * 6)] {
        let mut waits = Vec::new();
        for endpoint in &endpoints {
            let seen = admin.await_attempts(&event, endpoint, number).await;
            // One that chance made so short that it is over by now was next to none.
            waits.push(if seen.attempts.len() == number { waits_s(&seen) } else { 0.0 });
        }
        let bound_s = bound.as_secs_f64();
        assert!(
            waits.iter().all(|wait| (-1.0..=bound_s + RECORDED_WITHIN_S).contains(wait)),
            "{number}: {waits:?}"
        );
        // Of so many, chance leaves half of the room empty once in millions of runs.
        let (first, last) = (waits.iter().copied().reduce(f64::min), waits.iter().copied().reduce(f64::max));
        let middle = bound_s / 2.0;
        assert!(first.unwrap() < middle && last.unwrap() > middle, "{number}: {waits:?}");
        // What a person would wait for.
        let due = "UPDATE queue SET due_at = now()";
        stack.database.sql().execute(due, &[]).await.unwrap();
    }
    for endpoint in &endpoints {
        let dead = admin.await_delivery(&event, endpoint, DeliveryState::Dead).await;
        assert_eq!((dead.dead_reason(), dead.attempt_count), (DeadReason::AttemptsExhausted, 4));
    }
    assert_eq!(receiver.count(), DELIVERIES * 4);
}

#[tokio::test]
async fn what_is_older_than_its_policy_allows_expires_instead_of_being_tried_again() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let retry = v1::RetryPolicy { max_age: Some(admin::duration(HOUR)), ..fixed(HOUR) };
    let (endpoint, _) = admin.endpoint(with_retry(&receiver, retry)).await;
    let event = admin.publish("order.created").await;
    admin.await_attempts(&event, &endpoint, 1).await;
    // Nearly as old as it may become, it is tried again; then it is older.
    let later = async |minutes: i32, count: usize, state: DeliveryState| {
        let due = "UPDATE queue SET due_at = now(), budget_from = budget_from - make_interval(mins => $1)";
        assert_eq!(stack.database.sql().execute(due, &[&minutes]).await.unwrap(), 1);
        admin.await_attempts(&event, &endpoint, count).await;
        admin.await_delivery(&event, &endpoint, state).await
    };
    later(50, 2, DeliveryState::Waiting).await;
    let expired = later(11, 3, DeliveryState::Expired).await;
    let last = expired.attempts.last().unwrap();
    assert_eq!((last.kind(), last.number), (AttemptKind::Expired, 0), "{expired:?}");
    assert_eq!((expired.attempt_count, receiver.count()), (2, 2), "it was not sent again");
    stack.await_quiet().await;
}
