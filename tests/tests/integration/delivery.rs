//! Attempts, decisions, dead letters: what a status means.

use std::time::Duration;

use bowline_proto::v1::{self, AttemptDecision, DeadReason, DeliveryState};
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin};
use tonic::Code;

const FOREVER: Duration = Duration::from_secs(3600);
/// Of a request that has no end: it arrives before, on a busy machine too.
const SHORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn two_failures_then_the_third_attempt_arrives() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([500, 502].map(Reply::Status)).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;

    let delivery = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    assert_eq!(receiver.count(), 3);
    assert_eq!(delivery.attempt_count, 3);
    let told: Vec<_> = delivery
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.status_code, attempt.decision()))
        .collect();
    let retry = AttemptDecision::Retry;
    assert_eq!(told, [(1, 500, retry), (2, 502, retry), (3, 200, AttemptDecision::Delivered)]);
    let last = &delivery.attempts[2];
    assert_eq!(last.response_body, "ok");
    assert_eq!(last.request_url, receiver.url());
    let sent = last.request_headers.iter().find(|header| header.name == "webhook-id");
    assert_eq!(sent.map(|header| header.value.as_str()), Some(event.as_str()));
    stack.await_quiet().await;
}

#[tokio::test]
async fn what_always_fails_is_a_dead_letter_and_arrives_by_redrive_once_mended() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
    assert_eq!((dead.dead_reason(), dead.attempt_count), (DeadReason::AttemptsExhausted, 3));
    assert_eq!(receiver.count(), 3);

    let filter = v1::DeadLetterFilter { endpoint_id: endpoint.clone(), ..Default::default() };
    let list = v1::ListDeadLettersRequest { filter: Some(filter.clone()), ..Default::default() };
    let letters = admin.dead_letters().list_dead_letters(list).await.unwrap().into_inner().dead_letters;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].delivery_id.as_str(), letters[0].last_status_code), (dead.id.as_str(), 500));

    receiver.answer(Reply::Status(200));
    let redrive = |dry_run| v1::RedriveDeadLettersRequest {
        filter: Some(filter.clone()),
        dry_run,
        ..Default::default()
    };
    let counted = admin.dead_letters().redrive_dead_letters(redrive(true)).await.unwrap().into_inner();
    assert_eq!((counted.count, receiver.count()), (1, 3), "a dry run sends nothing");
    let done = admin.dead_letters().redrive_dead_letters(redrive(false)).await.unwrap().into_inner();
    assert_eq!(done.count, 1);
    let mended = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    assert_eq!(mended.attempt_count, 4);
    let again = admin.dead_letters().redrive_dead_letters(redrive(false)).await.unwrap().into_inner();
    assert_eq!(again.count, 0, "there is nothing left to redrive");
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 4);
}

#[tokio::test]
async fn a_redriven_delivery_has_its_whole_budget_again() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
    let by_id = v1::RedriveDeadLettersRequest { delivery_ids: vec![dead.id.clone()], ..Default::default() };
    admin.dead_letters().redrive_dead_letters(by_id.clone()).await.unwrap();
    receiver.await_count(6, BOUND).await;
    let dead_again = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
    assert_eq!(dead_again.attempt_count, 6);

    let unknown = v1::RedriveDeadLettersRequest {
        delivery_ids: vec![dead.id.replace(".0", ".7")],
        ..Default::default()
    };
    let refused = admin.dead_letters().redrive_dead_letters(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn gone_disables_the_endpoint_and_ends_the_delivery() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(410)]).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
    assert_eq!((dead.dead_reason(), dead.attempt_count), (DeadReason::Gone, 1));
    bowline_tests::eventually(BOUND, async || {
        let seen = admin.get_endpoint(&endpoint).await;
        bowline_tests::eventually::holds(seen.state() == v1::EndpointState::Disabled, seen)
    })
    .await;
    let reason = admin.get_endpoint(&endpoint).await.disabled_reason;
    assert!(!reason.is_empty(), "it says why");

    // Later events wait until a person enables it.
    let later = admin.publish("order.created").await;
    admin.await_delivery(&later, &endpoint, DeliveryState::Waiting).await;
    assert_eq!(receiver.count(), 1);
    admin.set_state(&endpoint, v1::EndpointState::Enabled).await;
    receiver.await_ids(&[later], BOUND).await;
}

#[tokio::test]
async fn a_retry_comes_no_earlier_than_asked() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let wait = |code| Reply::With(code, "retry-after", "2".to_owned());
    let receiver = Receiver::scripted([wait(503), wait(429)]).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let requests = receiver.await_count(3, BOUND).await;
    for pair in requests.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(2), "{:?}", pair[1].at - pair[0].at);
    }
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
}

#[tokio::test]
async fn an_explicit_schedule_is_kept() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([500, 500].map(Reply::Status)).await;
    let waits = [Duration::from_secs(1), Duration::from_secs(2)];
    admin.endpoint(admin::with_waits(receiver.url(), &waits)).await;
    admin.publish("order.created").await;
    let requests = receiver.await_count(3, BOUND).await;
    for (pair, wait) in requests.windows(2).zip(waits) {
        assert!(pair[1].at - pair[0].at >= wait, "{:?}", pair[1].at - pair[0].at);
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let elsewhere = Receiver::start().await;
    let receiver = Receiver::scripted([Reply::With(302, "location", elsewhere.url())]).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    assert_eq!(delivery.attempts[0].status_code, 302);
    assert_eq!((receiver.count(), elsewhere.count()), (2, 0));
}

#[tokio::test]
async fn what_never_finishes_is_a_timeout() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let mut there = Vec::new();
    for reply in [Reply::Hang, Reply::HangAfterHead, Reply::Trickle] {
        let receiver = Receiver::start().await;
        receiver.answer(reply.clone());
        let endpoint = v1::Endpoint {
            timeout: Some(admin::duration(SHORT)),
            ..admin::with_waits(receiver.url(), &[Duration::ZERO])
        };
        let (endpoint, _) = admin.endpoint(endpoint).await;
        there.push((reply, receiver, endpoint));
    }
    let event = admin.publish("order.created").await;
    for (reply, receiver, endpoint) in there {
        let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
        assert_eq!(dead.last_error_kind, "timeout", "{reply:?}");
        assert_eq!(receiver.count(), 2, "{reply:?}");
    }
}

#[tokio::test]
async fn a_closed_connection_and_a_closed_port_are_retried() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::CloseMidResponse]).await;
    let (cut, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    // Any other port may be somebody's by then.
    let nobody = "http://127.0.0.1:1/hook";
    let (closed, _) = admin.endpoint(admin::with_waits(nobody, &[Duration::ZERO])).await;
    let event = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&event, &cut, DeliveryState::Delivered).await;
    assert_eq!(delivery.attempts[0].decision(), AttemptDecision::Retry);
    let dead = admin.await_delivery(&event, &closed, DeliveryState::Dead).await;
    assert_eq!((dead.last_error_kind.as_str(), dead.attempt_count), ("connect", 2));
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_capture() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::EndlessBody);
    let (endpoint, _) = admin.endpoint(admin::with_waits(receiver.url(), &[FOREVER])).await;
    let event = admin.publish("order.created").await;
    let delivery = admin.await_attempts(&event, &endpoint, 1).await;
    assert_eq!(delivery.attempts[0].response_body.len(), 16 * 1024);
}

#[tokio::test]
async fn an_endpoint_that_hangs_or_fails_costs_its_neighbour_nothing() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (hanging, failing, healthy) =
        (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    hanging.answer(Reply::Hang);
    failing.answer(Reply::Status(500));
    for receiver in [&hanging, &failing] {
        let slow = v1::Endpoint {
            timeout: Some(admin::duration(Duration::from_secs(60))),
            ..admin::with_waits(receiver.url(), &[FOREVER])
        };
        admin.endpoint(slow).await;
    }
    admin.endpoint(admin::endpoint(healthy.url())).await;
    let ids = admin.publish_many("order.created", 300).await;
    // Well before the first of the hanging requests can have ended.
    let requests = healthy.await_ids(&ids, Duration::from_secs(40)).await;
    assert_eq!(requests.len(), ids.len(), "each once");
    assert!(hanging.count() <= 16, "its concurrency bounds it: {}", hanging.count());
}

#[tokio::test]
async fn too_many_failures_disable_an_endpoint() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let endpoint = v1::Endpoint {
        disable: Some(v1::DisablePolicy { after_failures: 3, ..Default::default() }),
        ..admin::with_waits(receiver.url(), &[Duration::ZERO; 9])
    };
    let (endpoint, _) = admin.endpoint(endpoint).await;
    let event = admin.publish("order.created").await;
    bowline_tests::eventually(BOUND, async || {
        let seen = admin.get_endpoint(&endpoint).await;
        bowline_tests::eventually::holds(seen.state() == v1::EndpointState::Disabled, seen)
    })
    .await;
    // No request begins any more, and none is out.
    stack.await_configuration().await;
    bowline_tests::eventually(BOUND, async || {
        let idle = stack.database.count("SELECT count(*) FROM queue WHERE owner IS NULL").await;
        bowline_tests::eventually::holds(idle == 1, idle)
    })
    .await;
    receiver.answer(Reply::Status(200));
    admin.await_delivery(&event, &endpoint, DeliveryState::Waiting).await;
    admin.set_state(&endpoint, v1::EndpointState::Enabled).await;
    admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
}

#[tokio::test]
async fn a_waiting_delivery_shows_when_it_is_due() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500)]).await;
    let (endpoint, _) = admin.endpoint(admin::with_waits(receiver.url(), &[FOREVER])).await;
    let event = admin.publish("order.created").await;
    let waiting = admin.await_attempts(&event, &endpoint, 1).await;
    assert_eq!(waiting.state(), DeliveryState::Waiting);
    let due_s = waiting.due_time.expect("a due time").seconds;
    let from_now_s = due_s - chrono::Utc::now().timestamp();
    assert!((3000..=3600).contains(&from_now_s), "{from_now_s}");
    assert_eq!((waiting.attempt_count, waiting.last_status_code), (1, 500));
}
