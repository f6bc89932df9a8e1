//! The rate of an endpoint, which all dispatchers keep to together.

use std::time::{Duration, Instant};

use bowline_proto::v1::{self, AttemptDecision, DeliveryState};
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Cli, Receiver, Stack, admin, eventually};

const RATE: f64 = 30.0;
const WINDOW: Duration = Duration::from_secs(10);
/// Three windows full of them.
const EVENTS: usize = 900;

fn rated(receiver: &Receiver, rate: f64) -> v1::Endpoint {
    v1::Endpoint { rate, ..admin::endpoint(receiver.url()) }
}

/// The busiest ten seconds from the given arrival on, as a share of the rate: a machine that is busy
/// itself sends late, and never early.
fn busiest(receiver: &Receiver, first: usize) -> f64 {
    let mut arrivals: Vec<Instant> = receiver.requests().iter().map(|request| request.at).collect();
    arrivals.sort_unstable();
    let arrivals = arrivals.get(first..).unwrap_or_default();
    let within = |from: &Instant| arrivals.iter().filter(|at| *at >= from && **at - *from < WINDOW).count();
    arrivals.iter().map(within).max().unwrap_or_default() as f64 / (RATE * WINDOW.as_secs_f64())
}

/// Within a tenth of the rate, no ten seconds above.
async fn keeps_to_rate(receiver: &Receiver, first: usize) {
    let share = || {
        let share = busiest(receiver, first);
        if share >= 0.9 { Ok(share) } else { Err(share) }
    };
    let share = eventually(6 * WINDOW, async || share()).await;
    assert!(share <= 1.1, "{share} of the rate");
}

#[tokio::test]
async fn several_dispatchers_keep_to_one_rate_and_it_uses_up_no_attempt() {
    let stack = Stack::builder().dispatchers(3).start().await;
    let admin = stack.admin();
    let (slow, free) = (Receiver::start().await, Receiver::start().await);
    let (endpoint, _) = admin.endpoint(rated(&slow, RATE)).await;
    let (unlimited, _) = admin.endpoint(admin::endpoint(free.url())).await;
    let events = admin.publish_many("order.created", EVENTS).await;
    // Another endpoint of the same tenant has them all long before.
    free.await_count(EVENTS, BOUND).await;
    assert!(slow.count() < EVENTS, "the one is as fast as the other");
    assert!(admin.get_endpoint(&unlimited).await.rate.abs() < f64::EPSILON);

    keeps_to_rate(&slow, 0).await;
    let without = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint { id: endpoint.clone(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["rate".into()] }),
    };
    admin.endpoints().update_endpoint(without).await.unwrap();
    stack.await_quiet().await;
    slow.await_ids(&events, BOUND).await;
    assert_eq!(slow.count(), EVENTS, "each once");
    for event in [&events[0], &events[EVENTS - 1]] {
        let delivery = admin.delivery(event, &endpoint).await.unwrap();
        assert_eq!((delivery.state(), delivery.attempts.len()), (DeliveryState::Delivered, 1));
        assert_eq!(
            (delivery.attempts[0].number, delivery.attempts[0].decision()),
            (1, AttemptDecision::Delivered)
        );
    }
}

#[tokio::test]
async fn without_redis_each_dispatcher_has_its_part() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    for _ in 0..2 {
        stack.add(Kind::Dispatcher, &[("BOWLINE_REDIS_URL", "")]).await.unwrap();
    }
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    admin.endpoint(rated(&receiver, RATE)).await;
    admin.publish_many("order.created", 1500).await;
    // They count each other two seconds after the first use of a rate, or later on a busy machine; until then each
    // takes the rate for its own.
    keeps_to_rate(&receiver, 300).await;
}

#[tokio::test]
async fn a_rate_is_set_changed_and_taken_away() {
    let stack = Stack::start().await;
    let receiver = Receiver::start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let made = cli.json(&["endpoint", "create", "slow", "--url", &receiver.url(), "--rate", "0.5"]).await;
    assert_eq!(made["endpoint"]["rate"], 0.5);
    let admin = stack.admin();
    admin.publish_many("order.created", 20).await;
    receiver.await_count(1, BOUND).await;
    let changed = cli.json(&["endpoint", "update", "slow", "--clear", "rate"]).await;
    assert_eq!(changed["rate"], 0.0);
    let began = Instant::now();
    receiver.await_count(20, BOUND).await;
    assert!(began.elapsed() < Duration::from_secs(30), "at half a request a second it would be 38 s");
    let refused = rated(&receiver, -1.0);
    let request = v1::CreateEndpointRequest { endpoint: Some(refused), ..Default::default() };
    let refused = admin.endpoints().create_endpoint(request).await.unwrap_err();
    assert_eq!(admin::violations(&refused), ["endpoint.rate"]);
}
