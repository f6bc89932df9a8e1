//! What a person does about deliveries, dead letters and secrets.

use std::time::Duration;

use bowline_core::id::{ApiKeyId, EndpointId, EventId, TenantId};
use bowline_proto::v1::{self, AttemptDecision, DeliveryState};
use bowline_tests::admin::{self, Admin, reason, violations};
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually};
use tonic::Code;

const FOREVER: Duration = Duration::from_secs(3600);

/// Somebody with a key of this role, bound to a tenant of that name (a new one unless `default`).
pub(super) async fn somebody(stack: &Stack, tenant: &str, role: &str) -> Admin {
    let sql = stack.database.sql();
    sql.execute(
        "INSERT INTO tenants (id, name) VALUES ($1, $2) ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING",
        &[&TenantId::new().0, &tenant],
    )
    .await
    .unwrap();
    let key = format!("bwl_test_{tenant}_{role}");
    sql.execute(
        "INSERT INTO api_keys (id, tenant_id, role, key_hash)
         VALUES ($1, (SELECT id FROM tenants WHERE name = $2), $3, sha256($4::text::bytea))",
        &[&ApiKeyId::new().0, &tenant, &role, &key],
    )
    .await
    .unwrap();
    Admin::new(&stack.ingests[0].admin_url(), Some(&key))
}

/// An endpoint with `count` dead letters, as they are after one attempt each. Written down: before so many
/// had failed, its breaker would be open.
pub(super) async fn with_dead_letters(
    stack: &Stack,
    receiver: &Receiver,
    count: usize,
) -> (String, Vec<String>) {
    let admin = stack.admin();
    let events = admin.publish_many("order.created", count).await;
    stack.await_quiet().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let id: EndpointId = endpoint.parse().unwrap();
    let sql = stack.database.sql();
    let letters = "
        INSERT INTO dead_letters (event_id, endpoint_id, run, tenant_id, reason, attempt, died_at)
        SELECT id, $1, 0, tenant_id, 'attempts_exhausted', 1, now() FROM events";
    assert_eq!(sql.execute(letters, &[&id.0]).await.unwrap(), count as u64);
    let attempts = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at, status)
        SELECT id, $1, 0, gen_random_uuid(), tenant_id, 1, 'request', 'dead', now(), 500 FROM events";
    sql.execute(attempts, &[&id.0]).await.unwrap();
    (endpoint, events)
}

async fn retry(admin: &Admin, delivery: &v1::Delivery) -> Result<v1::Delivery, tonic::Status> {
    let request = v1::RetryDeliveryRequest { id: delivery.id.clone() };
    Ok(admin.deliveries().retry_delivery(request).await?.into_inner().delivery.unwrap())
}

async fn cancel(admin: &Admin, delivery: &v1::Delivery) -> Result<v1::CancelDeliveryResponse, tonic::Status> {
    let request = v1::CancelDeliveryRequest { id: delivery.id.clone() };
    Ok(admin.deliveries().cancel_delivery(request).await?.into_inner())
}

async fn dead_letters(stack: &Stack) -> i64 {
    stack.database.count("SELECT count(*) FROM dead_letters").await
}

/// The delivery, once its request is out and its row is in the queue.
async fn out_and_parked(stack: &Stack, receiver: &Receiver, event: &str, endpoint: &str) -> v1::Delivery {
    let admin = stack.admin();
    receiver.await_count(1, BOUND).await;
    eventually(BOUND, async || {
        let owned = stack.database.count("SELECT count(*) FROM queue WHERE owner IS NOT NULL").await;
        eventually::holds(owned == 1, owned)
    })
    .await;
    admin.await_delivery(event, endpoint, DeliveryState::Waiting).await
}

fn decisions(delivery: &v1::Delivery) -> Vec<(i32, AttemptDecision)> {
    delivery.attempts.iter().map(|attempt| (attempt.status_code, attempt.decision())).collect()
}

#[tokio::test]
async fn a_retry_is_at_once_and_counts_as_a_fresh_budget() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    // Two attempts, an hour apart.
    let (endpoint, _) = admin.endpoint(admin::with_waits(receiver.url(), &[FOREVER])).await;
    let event = admin.publish("order.created").await;
    let waiting = admin.await_attempts(&event, &endpoint, 1).await;
    assert_eq!((waiting.state(), waiting.attempt_count), (DeliveryState::Waiting, 1));

    // The second attempt is not the last of its budget any more.
    retry(&admin, &waiting).await.unwrap();
    receiver.await_count(2, BOUND).await;
    let still = eventually(BOUND, async || {
        let seen = admin.delivery(&event, &endpoint).await.unwrap();
        eventually::holds(seen.attempt_count == 2 && seen.state() == DeliveryState::Waiting, seen)
    })
    .await;
    let due = |delivery: &v1::Delivery| delivery.due_time.map(|time| (time.seconds, time.nanos));
    assert!(due(&still) > due(&waiting));

    receiver.answer(Reply::Status(200));
    retry(&admin, &waiting).await.unwrap();
    let delivered = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    assert_eq!(delivered.attempt_count, 3);
    let refused = retry(&admin, &delivered).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "DELIVERY_STATE"));
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'RetryDelivery' AND outcome = ";
    assert_eq!(stack.database.count(&format!("{audited}'OK'")).await, 2);
    assert_eq!(stack.database.count(&format!("{audited}'FAILED_PRECONDITION'")).await, 1);
}

#[tokio::test]
async fn many_retries_of_a_dead_delivery_at_once_are_one() {
    let stack = Stack::builder().dispatchers(2).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
    assert_eq!((receiver.count(), dead_letters(&stack).await), (3, 1));

    receiver.answer(Reply::Status(200));
    let calls = futures_util::future::join_all((0..20).map(|_| retry(&admin, &dead))).await;
    assert!(calls.iter().any(Result::is_ok));
    for refused in calls.into_iter().filter_map(Result::err) {
        assert_eq!(reason(&refused), "DELIVERY_STATE", "only because it was delivered meanwhile: {refused}");
    }
    let delivered = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!((delivered.attempt_count, receiver.count()), (4, 4));
    assert_eq!(dead_letters(&stack).await, 0);
}

#[tokio::test]
async fn a_retry_while_a_request_is_out_is_one_more_attempt_if_that_one_fails() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Held(500)]).await;
    let mut once = admin::patient(admin::with_waits(receiver.url(), &[FOREVER]));
    once.retry.as_mut().unwrap().max_attempts = 1;
    let (endpoint, _) = admin.endpoint(once).await;
    let event = admin.publish("order.created").await;
    let out = out_and_parked(&stack, &receiver, &event, &endpoint).await;
    retry(&admin, &out).await.unwrap();
    assert_eq!(receiver.count(), 1, "no second request beside the one that is out");
    receiver.release();

    let delivered = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    let expected = [(500, AttemptDecision::Retry), (200, AttemptDecision::Delivered)];
    assert_eq!(decisions(&delivered), expected, "it would have been the last one");
    stack.await_quiet().await;
    assert_eq!((receiver.count(), dead_letters(&stack).await), (2, 0));
}

#[tokio::test]
async fn a_retry_while_a_request_is_out_adds_none_if_that_one_succeeds() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Held(200)]).await;
    let (endpoint, _) = admin.endpoint(admin::patient(admin::endpoint(receiver.url()))).await;
    let event = admin.publish("order.created").await;
    let out = out_and_parked(&stack, &receiver, &event, &endpoint).await;
    retry(&admin, &out).await.unwrap();
    receiver.release();
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_cancelled_delivery_is_not_sent_until_it_is_retried() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    let (endpoint, _) = admin.endpoint(admin::with_waits(receiver.url(), &[FOREVER])).await;
    let event = admin.publish("order.created").await;
    let waiting = admin.await_attempts(&event, &endpoint, 1).await;
    let cancelled = cancel(&admin, &waiting).await.unwrap();
    assert!(!cancelled.may_still_be_sent);
    assert_eq!(cancelled.delivery.unwrap().state(), DeliveryState::Cancelled);
    assert_eq!(stack.database.count("SELECT count(*) FROM queue").await, 0);
    let again = cancel(&admin, &waiting).await.unwrap_err();
    assert_eq!((again.code(), reason(&again).as_str()), (Code::FailedPrecondition, "DELIVERY_STATE"));

    retry(&admin, &waiting).await.unwrap();
    let delivered = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    let of = |decision| (0, decision);
    let expected =
        [(500, AttemptDecision::Retry), of(AttemptDecision::Cancelled), (200, AttemptDecision::Delivered)];
    assert_eq!(decisions(&delivered), expected);
}

#[tokio::test]
async fn what_is_out_when_it_is_cancelled_counts_only_if_it_succeeds() {
    for (status, state) in [(200, DeliveryState::Delivered), (500, DeliveryState::Cancelled)] {
        let stack = Stack::start().await;
        let admin = stack.admin();
        let receiver = Receiver::scripted([Reply::Held(status)]).await;
        let (endpoint, _) = admin.endpoint(admin::patient(admin::endpoint(receiver.url()))).await;
        let event = admin.publish("order.created").await;
        let out = out_and_parked(&stack, &receiver, &event, &endpoint).await;
        assert!(cancel(&admin, &out).await.unwrap().may_still_be_sent);
        receiver.release();
        eventually(BOUND, async || {
            let seen = admin.delivery(&event, &endpoint).await.unwrap();
            eventually::holds(seen.attempts.len() == 2 && seen.state() == state, seen)
        })
        .await;
        stack.await_quiet().await;
        assert_eq!((receiver.count(), dead_letters(&stack).await), (1, 0));
    }
}

#[tokio::test]
async fn who_may_not_see_a_delivery_may_not_touch_it_and_a_lost_body_is_said() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;

    let stranger = somebody(&stack, "other", "operator").await;
    assert_eq!(retry(&stranger, &dead).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cancel(&stranger, &dead).await.unwrap_err().code(), Code::NotFound);
    let purge = v1::PurgeDeadLettersRequest { delivery_ids: vec![dead.id.clone()], ..Default::default() };
    let refused = stranger.dead_letters().purge_dead_letters(purge.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let viewer = somebody(&stack, "default", "viewer").await;
    assert_eq!(retry(&viewer, &dead).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(cancel(&viewer, &dead).await.unwrap_err().code(), Code::PermissionDenied);
    let refused = viewer.dead_letters().purge_dead_letters(purge).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(dead_letters(&stack).await, 1);

    let id: EventId = event.parse().unwrap();
    stack.database.sql().execute("DELETE FROM events WHERE id = $1", &[&id.0]).await.unwrap();
    let gone = retry(&admin, &dead).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::FailedPrecondition, "EVENT_BODY_GONE"));
    let by_id = v1::RedriveDeadLettersRequest { delivery_ids: vec![dead.id], ..Default::default() };
    let gone = admin.dead_letters().redrive_dead_letters(by_id).await.unwrap_err();
    assert_eq!(reason(&gone), "EVENT_BODY_GONE");
    assert_eq!(dead_letters(&stack).await, 1, "it stays where it was");
}

#[tokio::test]
async fn purged_dead_letters_are_forgotten_and_their_deliveries_stay_in_the_log() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, events) = with_dead_letters(&stack, &receiver, 5).await;
    let mut letters = admin.dead_letters();
    let one = format!("{}.{endpoint}.0", events[0]);
    let unknown = v1::PurgeDeadLettersRequest {
        delivery_ids: vec![one.clone(), one.replace(".0", ".9")],
        ..Default::default()
    };
    assert_eq!(letters.purge_dead_letters(unknown).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(dead_letters(&stack).await, 5, "all or none");
    let named = v1::PurgeDeadLettersRequest { delivery_ids: vec![one], ..Default::default() };
    assert_eq!(letters.purge_dead_letters(named).await.unwrap().into_inner().count, 1);

    let filter = Some(v1::DeadLetterFilter { endpoint_id: endpoint.clone(), ..Default::default() });
    let by_filter = |dry_run, max_count| v1::PurgeDeadLettersRequest {
        filter: filter.clone(),
        dry_run,
        max_count,
        ..Default::default()
    };
    let counted = letters.purge_dead_letters(by_filter(true, 0)).await.unwrap().into_inner();
    assert_eq!((counted.count, dead_letters(&stack).await), (4, 4));
    let some = letters.purge_dead_letters(by_filter(false, 3)).await.unwrap().into_inner();
    assert_eq!((some.count, some.more, dead_letters(&stack).await), (3, true, 1));
    let rest = letters.purge_dead_letters(by_filter(false, 0)).await.unwrap().into_inner();
    assert_eq!((rest.count, rest.more, dead_letters(&stack).await), (1, false, 0));
    let dead = admin.delivery(&events[0], &endpoint).await.unwrap();
    assert_eq!((dead.state(), dead.attempt_count), (DeliveryState::Dead, 1));
    let neither = letters.purge_dead_letters(v1::PurgeDeadLettersRequest::default()).await.unwrap_err();
    assert_eq!(violations(&neither), ["delivery_ids"]);
}

#[tokio::test]
async fn a_secret_is_shown_again_only_where_the_endpoint_says_so() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let of_format = |format: &str, revealable: Option<bool>| v1::Endpoint {
        url: "http://127.0.0.1:1/".into(),
        format: format.into(),
        secret_revealable: revealable,
        ..Default::default()
    };
    let (chimpbase, secret) = admin.endpoint(of_format("chimpbase", None)).await;
    let (standard, _) = admin.endpoint(of_format("standard", None)).await;
    let (opened, opened_secret) = admin.endpoint(of_format("standard", Some(true))).await;
    let reveal = async |by: &Admin, id: &str| {
        let request = v1::RevealEndpointSecretRequest { id: id.to_owned() };
        by.endpoints().reveal_endpoint_secret(request).await.map(|answer| answer.into_inner().secrets)
    };
    let values = |secrets: Vec<v1::RevealedSecret>| {
        secrets.into_iter().map(|secret| secret.secret).collect::<Vec<_>>()
    };
    assert_eq!(values(reveal(&admin, &chimpbase).await.unwrap()), [secret]);
    let refused = reveal(&admin, &standard).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "SECRET_NOT_REVEALABLE")
    );

    let rotate = v1::RotateEndpointSecretRequest {
        id: opened.clone(),
        overlap: Some(admin::duration(FOREVER)),
        ..Default::default()
    };
    let rotated = admin.endpoints().rotate_endpoint_secret(rotate).await.unwrap().into_inner().secret;
    assert_eq!(values(reveal(&admin, &opened).await.unwrap()), [rotated, opened_secret]);

    let operator = somebody(&stack, "default", "operator").await;
    assert_eq!(reveal(&operator, &opened).await.unwrap_err().code(), Code::PermissionDenied);
    let stranger = somebody(&stack, "other", "admin").await;
    assert_eq!(reveal(&stranger, &opened).await.unwrap_err().code(), Code::NotFound);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'RevealEndpointSecret' AND outcome = ";
    for (outcome, count) in
        [("OK", 2), ("FAILED_PRECONDITION", 1), ("PERMISSION_DENIED", 1), ("NOT_FOUND", 1)]
    {
        assert_eq!(stack.database.count(&format!("{audited}'{outcome}'")).await, count, "{outcome}");
    }
}

#[tokio::test]
async fn stats_tell_how_an_endpoint_fares() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([500, 500, 500].map(Reply::Status)).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let get = async |by: &Admin, window_s: u64| {
        let window = Some(admin::duration(Duration::from_secs(window_s)));
        let request = v1::GetEndpointStatsRequest { id: endpoint.clone(), window };
        by.endpoints().get_endpoint_stats(request).await.map(|answer| answer.into_inner().stats.unwrap())
    };
    assert_eq!(get(&admin, 3600).await.unwrap(), v1::EndpointStats::default());
    let dead = admin.publish("order.created").await;
    admin.await_delivery(&dead, &endpoint, DeliveryState::Dead).await;
    let failing = eventually(BOUND, async || {
        let stats = get(&admin, 3600).await.unwrap();
        eventually::holds(stats.consecutive_failures == 3, stats)
    })
    .await;
    assert!(failing.failing_since_time.is_some());
    for event in admin.publish_many("order.created", 4).await {
        admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    }
    let stats = eventually(BOUND, async || {
        let stats = get(&admin, 3600).await.unwrap();
        eventually::holds(stats.consecutive_failures == 0, stats)
    })
    .await;
    assert_eq!((stats.delivered_count, stats.failed_count, stats.dead_count), (4, 3, 1));
    assert_eq!((stats.waiting_count, stats.dead_letter_count, stats.truncated), (0, 1, false));
    assert!(stats.last_success_time.is_some() && stats.last_failure_time.is_some());
    let (median, p95) = (stats.median_duration.unwrap(), stats.p95_duration.unwrap());
    assert!((median.seconds, median.nanos) <= (p95.seconds, p95.nanos));
    assert_eq!(violations(&get(&admin, 1).await.unwrap_err()), ["window"]);
    let stranger = somebody(&stack, "other", "viewer").await;
    assert_eq!(get(&stranger, 3600).await.unwrap_err().code(), Code::NotFound);
}
