//! Ordered endpoints: in each channel one delivery at a time, each after the one before it was decided.

mod changes;
mod crashes;
mod memory;
mod queue;

use std::collections::HashMap;
use std::time::Duration;

use bowline_proto::v1::{self, DeliveryState, EndpointOrdering};
use bowline_tests::admin::{self, Admin};
use bowline_tests::{BOUND, Cli, Receiver, Reply, Stack, eventually};

/// An endpoint with that order, which tries again at once and often.
fn ordered(receiver: &Receiver, ordering: EndpointOrdering) -> v1::Endpoint {
    v1::Endpoint { ordering: ordering.into(), ..admin::with_waits(receiver.url(), &[Duration::ZERO; 30]) }
}

/// As [`ordered`], but a failure waits for an hour.
fn patient(receiver: &Receiver, ordering: EndpointOrdering) -> v1::Endpoint {
    let waits = [Duration::from_secs(3600)];
    v1::Endpoint { ordering: ordering.into(), ..admin::with_waits(receiver.url(), &waits) }
}

/// As [`ordered`], but the first failure is the last.
fn mortal(receiver: &Receiver, ordering: EndpointOrdering) -> v1::Endpoint {
    let retry = v1::RetryPolicy { max_attempts: 1, ..Default::default() };
    v1::Endpoint { retry: Some(retry), ..ordered(receiver, ordering) }
}

/// Publishes to a channel; the event's id.
async fn publish(admin: &Admin, channel: &str) -> String {
    let request = v1::PublishEventRequest {
        event_type: "order.changed".into(),
        channel: channel.into(),
        body: br#"{"n":1}"#.as_slice().into(),
        ..Default::default()
    };
    admin.events().publish_event(request).await.unwrap().into_inner().event_id
}

/// Publishes to each channel `count` events, each after the one before was accepted, at several replicas by
/// turns; the channels at once. The ids of each channel, in order.
async fn publish_to(admins: &[Admin], channels: &[&str], count: usize) -> HashMap<String, Vec<String>> {
    let one = |channel: String| async move {
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(publish(&admins[n % admins.len()], &channel).await);
        }
        (channel, ids)
    };
    futures_util::future::join_all(channels.iter().map(|name| one((*name).to_owned())))
        .await
        .into_iter()
        .collect()
}

/// What arrived of these ids, in the order of arrival; what arrived several times in a row, once.
fn arrived(receiver: &Receiver, ids: &[String]) -> Vec<String> {
    let all = receiver.requests().into_iter().map(|request| request.id().to_owned());
    let mut ours: Vec<String> = all.filter(|id| ids.contains(id)).collect();
    ours.dedup();
    ours
}

#[track_caller]
fn assert_in_order(receiver: &Receiver, channels: &HashMap<String, Vec<String>>) {
    for (channel, ids) in channels {
        assert_eq!(arrived(receiver, ids), *ids, "channel `{channel}`");
    }
}

/// Two failures, a success, a failure, and so on: no more than four in a row, or its breaker would open.
fn failing(seed: u32, count: usize) -> Vec<Reply> {
    let mut state = seed;
    let mut in_a_row = 0;
    let mut reply = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let fails = state >> 16 & 7 < 3 && in_a_row < 2;
        in_a_row = if fails { in_a_row + 1 } else { 0 };
        Reply::Status(if fails { 500 } else { 200 })
    };
    (0..count).map(|_| reply()).collect()
}

fn admins(stack: &Stack) -> Vec<Admin> {
    let services = stack.ingests.iter().chain(&stack.dispatchers);
    services.map(|service| Admin::new(&service.admin_url(), Some(admin::KEY))).collect()
}

#[tokio::test]
async fn each_channel_keeps_its_order_at_a_receiver_that_fails_now_and_then() {
    let stack = Stack::builder().ingests(2).dispatchers(2).start().await;
    let receiver = Receiver::scripted(failing(7, 400)).await;
    let (endpoint, _) = stack.admin().endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let sent = publish_to(&admins(&stack), &["", "a", "b", "c", "d"], 25).await;
    stack.await_quiet().await;
    assert_in_order(&receiver, &sent);
    let first = &sent["a"][0];
    let delivery = stack.admin().delivery(first, &endpoint).await.unwrap();
    assert_eq!(delivery.state(), DeliveryState::Delivered);
    assert_eq!(receiver.ids().len(), 125);
    // Each failure has its row: none was sent without being recorded.
    let attempts = stack.database.count("SELECT count(*) FROM attempts WHERE decision <> 'stale'").await;
    assert_eq!(attempts, receiver.count() as i64);
}

#[tokio::test]
async fn a_strict_endpoint_is_one_channel_and_others_go_on_as_they_come() {
    let stack = Stack::builder().ingests(2).dispatchers(2).start().await;
    let (receiver, other) = (Receiver::scripted(failing(11, 100)).await, Receiver::start().await);
    stack.admin().endpoint(ordered(&receiver, EndpointOrdering::Strict)).await;
    stack.admin().endpoint(admin::endpoint(other.url())).await;
    let (admins, mut ids) = (admins(&stack), Vec::new());
    for n in 0..60 {
        ids.push(publish(&admins[n % admins.len()], ["", "a", "b"][n % 3]).await);
    }
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    assert_eq!((other.count(), other.ids().len()), (60, 60), "each once");
}

#[tokio::test]
async fn one_busy_channel_does_not_starve_the_others() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint { concurrency: 1, ..ordered(&receiver, EndpointOrdering::PerChannel) };
    stack.admin().endpoint(endpoint).await;
    let admins = admins(&stack);
    let busy: Vec<String> =
        futures_util::future::join_all((0..400).map(|_| publish(&admins[0], "busy"))).await;
    let few = publish_to(&admins, &["a", "b", "c", "d", "e"], 2).await;
    stack.add_dispatcher(&[]).await;
    stack.await_quiet().await;
    assert_in_order(&receiver, &few);
    let requests = receiver.requests();
    let last = requests.iter().rposition(|request| !busy.contains(&request.id().to_owned())).unwrap();
    assert_eq!(requests.len(), 410);
    assert!(last < 300, "the others wait behind {last} of the busy one");
}

#[tokio::test]
async fn many_channels_go_on_as_others_are_given_back() {
    // Two are in hand at a time: were the next ones found only by the look that is made each second, these would take
    // longer than anything is waited for.
    const CHANNELS: usize = 200;
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint { concurrency: 1, ..ordered(&receiver, EndpointOrdering::PerChannel) };
    stack.admin().endpoint(endpoint).await;
    let names: Vec<String> = (0..CHANNELS).map(|n| format!("channel-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sent = publish_to(&admins(&stack), &names, 1).await;
    let due = "SELECT count(*) FROM channels WHERE owner IS NULL AND due_at <= now()";
    assert_eq!(stack.database.count(due).await, CHANNELS as i64);
    stack.add_dispatcher(&[]).await;
    receiver.await_count(CHANNELS, BOUND).await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), CHANNELS, "each once");
    assert_in_order(&receiver, &sent);
}

#[tokio::test]
async fn an_emptied_redis_changes_no_order() {
    let mut stack = Stack::builder().dispatchers(0).own_redis().start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let admin = vec![stack.admin()];
    let mut sent = publish_to(&admin, &["a", "b"], 20).await;
    empty_redis(&stack).await;
    stack.add_dispatcher(&[]).await;
    for (channel, ids) in publish_to(&admin, &["a", "b"], 10).await {
        sent.get_mut(&channel).unwrap().extend(ids);
    }
    empty_redis(&stack).await;
    for (channel, ids) in publish_to(&admin, &["a", "b"], 10).await {
        sent.get_mut(&channel).unwrap().extend(ids);
    }
    stack.await_quiet().await;
    assert_in_order(&receiver, &sent);
    assert_eq!(receiver.count(), 80, "each once");
}

async fn empty_redis(stack: &Stack) {
    let client = redis::Client::open(stack.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn an_order_is_asked_for_shown_and_taken_back() {
    let stack = Stack::start().await;
    let receiver = Receiver::start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let made =
        cli.json(&["endpoint", "create", "shop", "--url", &receiver.url(), "--ordering", "strict"]).await;
    assert_eq!(made["endpoint"]["ordering"], "strict");
    let changed = cli.json(&["endpoint", "update", "shop", "--ordering", "per-channel"]).await;
    assert_eq!(changed["ordering"], "per_channel");
    let shown = cli.ok(&["endpoint", "get", "shop"]).await.text();
    assert!(
        shown.lines().any(|line| line.starts_with("ordering") && line.ends_with("per_channel")),
        "{shown}"
    );
    let changed = cli.json(&["endpoint", "update", "shop", "--clear", "ordering"]).await;
    assert_eq!(changed["ordering"], "");
    let refused = v1::Endpoint { ordering: 9, ..admin::endpoint(receiver.url()) };
    let request = v1::CreateEndpointRequest { endpoint: Some(refused), ..Default::default() };
    let refused = stack.admin().endpoints().create_endpoint(request).await.unwrap_err();
    assert_eq!(admin::violations(&refused), ["endpoint.ordering"]);
}

/// How many requests have arrived, once nobody holds a channel: then nothing more comes by itself.
async fn at_rest(stack: &Stack, receiver: &Receiver, count: usize) {
    receiver.await_count(count, BOUND).await;
    eventually(BOUND, async || {
        let busy = "SELECT count(*) FROM channels WHERE owner IS NOT NULL OR due_at <= now()";
        let busy =
            stack.database.count(busy).await + stack.database.count("SELECT count(*) FROM outbox").await;
        eventually::holds(busy == 0, busy)
    })
    .await;
    assert_eq!(receiver.count(), count);
}
