//! What an endpoint's policies say: when a failure is tried again, what a status means, when Bowline gives an
//! endpoint up, and whom it tells.

mod exponential;

use std::time::Duration;

use bowline_proto::v1::retry_policy::Backoff;
use bowline_proto::v1::{self, DeadReason, DeliveryState, EndpointState, StatusAction};
use bowline_tests::eventually::holds;
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin, eventually};
use serde_json::Value;

fn with_retry(receiver: &Receiver, retry: v1::RetryPolicy) -> v1::Endpoint {
    v1::Endpoint { url: receiver.url(), retry: Some(retry), ..Default::default() }
}

fn fixed(wait: Duration) -> v1::RetryPolicy {
    let backoff = Backoff::Fixed(v1::FixedBackoff { wait: Some(admin::duration(wait)), jitter: Some(0.0) });
    v1::RetryPolicy { backoff: Some(backoff), ..Default::default() }
}

/// Never, unless a test says otherwise.
fn gives_up_after(failures: u32, endpoint: v1::Endpoint) -> v1::Endpoint {
    let disable = v1::DisablePolicy { after_failures: failures, after: None };
    v1::Endpoint { disable: Some(disable), ..endpoint }
}

#[tokio::test]
async fn a_fixed_wait_below_a_second_is_kept_to() {
    const WAIT: Duration = Duration::from_millis(300);
    const EVENTS: usize = 6;
    let stack = Stack::start().await;
    let admin = stack.admin();
    // Four failures are not enough to open its breaker.
    let script = [500, 500, 500, 500, 200].map(Reply::Status);
    let receiver = Receiver::scripted(script.into_iter().cycle().take(EVENTS * 5)).await;
    let (endpoint, _) = admin.endpoint(with_retry(&receiver, fixed(WAIT))).await;
    assert_eq!(admin.get_endpoint(&endpoint).await.retry.unwrap().max_attempts, 10);
    for _ in 0..EVENTS {
        let event = admin.publish("order.created").await;
        admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    }
    let arrivals = receiver.requests();
    let gaps: Vec<Duration> = arrivals
        .windows(2)
        .filter(|pair| pair[0].id() == pair[1].id())
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    assert_eq!(gaps.len(), EVENTS * 4);
    assert!(gaps.iter().all(|gap| *gap >= WAIT), "{gaps:?}");
    // The machine may be busy; a look once a second would never be this soon.
    assert!(gaps.iter().any(|gap| *gap < Duration::from_millis(850)), "{gaps:?}");
}

#[tokio::test]
async fn a_status_means_what_the_endpoint_says() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(404), Reply::Status(410), Reply::Status(429)]).await;
    let own = |status: &str, action: StatusAction, wait: Option<Duration>| v1::StatusOverride {
        statuses: vec![status.into()],
        action: action.into(),
        wait: wait.map(admin::duration),
    };
    let retry = v1::RetryPolicy {
        overrides: vec![
            own("404", StatusAction::Dead, None),
            own("400-428", StatusAction::Retry, Some(Duration::ZERO)),
            own("4xx", StatusAction::Retry, Some(Duration::ZERO)),
        ],
        ..fixed(Duration::from_secs(3600))
    };
    let (endpoint, _) = admin.endpoint(with_retry(&receiver, retry.clone())).await;
    assert_eq!(admin.get_endpoint(&endpoint).await.retry.unwrap().overrides, retry.overrides);

    let dead = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&dead, &endpoint, DeliveryState::Dead).await;
    assert_eq!((delivery.dead_reason(), delivery.attempts.len()), (DeadReason::NotRetried, 1));
    let filter = v1::DeadLetterFilter { reason: DeadReason::NotRetried.into(), ..Default::default() };
    let request = v1::ListDeadLettersRequest { filter: Some(filter), ..Default::default() };
    let listed = admin.dead_letters().list_dead_letters(request).await.unwrap().into_inner();
    assert_eq!(listed.dead_letters.len(), 1);

    // 410 is a failure like another here, and disables nothing; 429 waits no hour.
    let again = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&again, &endpoint, DeliveryState::Delivered).await;
    let codes: Vec<i32> = delivery.attempts.iter().map(|attempt| attempt.status_code).collect();
    assert_eq!(codes, [410, 429, 200]);
    assert_eq!(admin.get_endpoint(&endpoint).await.state(), EndpointState::Enabled);
}

/// The types and bodies of what arrived, in order.
fn told(receiver: &Receiver) -> Vec<(String, Value)> {
    let told = receiver.requests().into_iter().map(|request| {
        let body = request.json();
        (body["type"].as_str().unwrap_or_default().to_owned(), body["data"].clone())
    });
    told.collect()
}

async fn await_told(receiver: &Receiver, event_type: &str) -> Value {
    eventually(BOUND, async || {
        let told = told(receiver);
        let found = told.iter().find(|(kind, _)| kind == event_type).map(|(_, data)| data.clone());
        found.ok_or(told)
    })
    .await
}

fn listening(receiver: &Receiver, event_types: &[&str]) -> v1::Endpoint {
    v1::Endpoint {
        event_types: event_types.iter().map(|text| (*text).to_owned()).collect(),
        ..admin::endpoint(receiver.url())
    }
}

#[tokio::test]
async fn bowline_tells_those_who_ask_that_an_endpoint_was_disabled_and_works_again() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (failing, asking, all) =
        (Receiver::scripted([Reply::Status(500)]).await, Receiver::start().await, Receiver::start().await);
    let own = ["bowline.endpoint.*", "bowline.delivery.dead"];
    admin.endpoint(listening(&asking, &own)).await;
    admin.endpoint(listening(&all, &["*"])).await;
    let no_second_try = v1::RetryPolicy { max_attempts: 1, ..fixed(Duration::ZERO) };
    let (endpoint, _) = admin.endpoint(gives_up_after(1, with_retry(&failing, no_second_try))).await;
    let event = admin.publish("order.created").await;

    let disabled = await_told(&asking, "bowline.endpoint.disabled").await;
    let shown = admin.get_endpoint(&endpoint).await;
    assert_eq!(
        (shown.state(), disabled["endpoint_id"].as_str()),
        (EndpointState::Disabled, Some(endpoint.as_str()))
    );
    assert_eq!(
        (&disabled["reason"], &disabled["endpoint_name"]),
        (&shown.disabled_reason.into(), &shown.name.into())
    );
    let dead = await_told(&asking, "bowline.delivery.dead").await;
    assert_eq!(dead["delivery_id"], format!("{event}.{endpoint}.0"));
    assert_eq!(
        (&dead["reason"], &dead["event_type"], &dead["attempt_count"]),
        (&"attempts_exhausted".into(), &"order.created".into(), &1.into())
    );

    // A person enables it; the first success is news, the second is not.
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    for _ in 0..2 {
        let event = admin.publish("order.created").await;
        admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
        let recovered = await_told(&asking, "bowline.endpoint.recovered").await;
        assert_eq!(recovered["endpoint_id"], endpoint.as_str());
        assert!(chrono::DateTime::parse_from_rfc3339(recovered["time"].as_str().unwrap()).is_ok());
    }
    stack.await_quiet().await;
    let kinds: Vec<String> = told(&asking).into_iter().map(|(kind, _)| kind).collect();
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    assert_eq!(
        (kinds.len(), count("bowline.endpoint.disabled"), count("bowline.endpoint.recovered")),
        (3, 1, 1)
    );
    assert!(told(&all).iter().all(|(kind, _)| kind == "order.created"), "`*` does not name them");
    assert_eq!(all.count(), 3);
}

#[tokio::test]
async fn what_bowline_has_to_tell_survives_a_crash_and_is_told_once() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (gone, asking) = (Receiver::scripted([Reply::Status(410)]).await, Receiver::start().await);
    admin.endpoint(listening(&asking, &["bowline.endpoint.disabled"])).await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(gone.url())).await;
    admin.publish("order.created").await;
    let settings = [("BOWLINE_CRASH_AT", "dispatcher_after_telling")];
    let mut doomed = stack.launch(Kind::Dispatcher, &settings).unwrap();
    assert!(
        !doomed.await_end().await.success(),
        "it dies with the event in the journal, and still on its list"
    );
    assert_eq!(stack.database.count("SELECT count(*) FROM own_events").await, 1);
    stack.add_dispatcher(&[]).await;
    let told_of = await_told(&asking, "bowline.endpoint.disabled").await;
    assert_eq!(told_of["endpoint_id"], endpoint.as_str());
    eventually(BOUND, async || {
        let left = stack.database.count("SELECT count(*) FROM own_events").await;
        holds(left == 0, left)
    })
    .await;
    stack.await_quiet().await;
    assert_eq!(asking.ids().len(), 1);
    let events = "SELECT count(*) FROM events WHERE event_type = 'bowline.endpoint.disabled'";
    assert_eq!(stack.database.count(events).await, 1);
}

#[tokio::test]
async fn what_is_dead_without_a_request_says_nothing_of_its_endpoint() {
    // One recorder: the second is counted after the first.
    let stack = Stack::builder().set_dispatcher("BOWLINE_DISPATCHER_RECORDERS", "1").start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let plain = admin::endpoint(receiver.url());
    let filtering = v1::Endpoint { filter: "event.data.none == 1".into(), ..plain.clone() };
    let shaping = v1::Endpoint { transform: "{'a': event.data.none}".into(), ..plain };
    let mut endpoints = Vec::new();
    for (endpoint, reason) in [(filtering, DeadReason::FilterFailed), (shaping, DeadReason::TransformFailed)]
    {
        endpoints.push((admin.endpoint(gives_up_after(1, endpoint)).await.0, reason));
    }
    for _ in 0..3 {
        let event = admin.publish("order.created").await;
        for (endpoint, reason) in &endpoints {
            let delivery = admin.await_delivery(&event, endpoint, DeliveryState::Dead).await;
            assert_eq!(delivery.dead_reason(), *reason);
        }
    }
    for (endpoint, _) in &endpoints {
        assert_eq!(admin.get_endpoint(endpoint).await.state(), EndpointState::Enabled);
    }
    assert_eq!(stack.database.count("SELECT count(*) FROM endpoint_health").await, 0);
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn the_success_of_a_test_does_not_keep_a_failing_endpoint() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500), Reply::Status(200), Reply::Status(500)]).await;
    let hours = with_retry(&receiver, fixed(Duration::from_secs(3600)));
    let (endpoint, _) = admin.endpoint(gives_up_after(2, hours)).await;
    let first = admin.publish("order.created").await;
    admin.await_delivery(&first, &endpoint, DeliveryState::Waiting).await;
    eventually(BOUND, async || {
        let counted = stack.database.count("SELECT count(*) FROM endpoint_health WHERE failures = 1").await;
        holds(counted == 1, counted)
    })
    .await;
    let test = v1::SendEndpointTestRequest { id: endpoint.clone(), ..Default::default() };
    admin.endpoints().send_endpoint_test(test).await.unwrap();
    assert_eq!(receiver.count(), 2);
    admin.publish("order.created").await;
    eventually(BOUND, async || {
        let shown = admin.get_endpoint(&endpoint).await;
        holds(shown.state() == EndpointState::Disabled, shown)
    })
    .await;
}

#[tokio::test]
async fn a_first_attempt_that_was_put_off_is_as_old_as_its_event() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (resting, failing) = (Receiver::start().await, Receiver::scripted([Reply::Status(500)]).await);
    let hour = [Duration::from_secs(3600)];
    let (parked, _) = admin.endpoint(admin::with_waits(resting.url(), &hour)).await;
    admin.set_state(&parked, EndpointState::Paused).await;
    let (retried, _) = admin.endpoint(admin::with_waits(failing.url(), &hour)).await;
    let event = admin.publish("order.created").await;
    // Only now does anybody take it up.
    let of_age = "SELECT count(*) FROM events WHERE create_time < now() - interval '1 s'";
    eventually(BOUND, async || holds(stack.database.count(of_age).await == 1, "not yet")).await;
    stack.add_dispatcher(&[]).await;
    for endpoint in [&parked, &retried] {
        admin.await_delivery(&event, endpoint, DeliveryState::Waiting).await;
    }
    let began_with_it = "SELECT count(*) FROM queue AS q JOIN events AS e ON e.id = q.event_id
                          WHERE q.budget_from BETWEEN e.create_time - interval '100 ms'
                                                  AND e.create_time + interval '100 ms'";
    assert_eq!(stack.database.count(began_with_it).await, 2);

    // A person's retry begins anew. Before the first attempt it would only hasten that.
    admin.await_attempts(&event, &retried, 1).await;
    let id = admin.delivery(&event, &retried).await.unwrap().id;
    admin.deliveries().retry_delivery(v1::RetryDeliveryRequest { id }).await.unwrap();
    let delivered = admin.await_delivery(&event, &retried, DeliveryState::Delivered).await;
    assert_eq!(delivered.attempt_count, 2);
}
