//! Order through processes that die at every step, and claims whose reply is lost.

use bowline_proto::v1::EndpointOrdering;
use bowline_tests::proxy::{Cut, Proxy};
use bowline_tests::service::Kind;
use bowline_tests::{Provider, stores};

use super::*;

const CRASH_AT: &str = "BOWLINE_CRASH_AT";

#[tokio::test]
async fn a_dispatcher_that_is_killed_changes_no_order() {
    let mut stack = Stack::builder().dispatchers(2).start().await;
    let receiver = Receiver::scripted(failing(3, 200)).await;
    stack.admin().endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let names = ["a", "b", "c", "d"];
    let ingest = vec![stack.admin()];
    let publishing = tokio::spawn(async move { publish_to(&ingest, &names, 40).await });
    receiver.await_count(30, BOUND).await;
    stack.dispatchers[0].kill().await;
    let sent = publishing.await.unwrap();
    stack.await_quiet().await;
    assert_in_order(&receiver, &sent);
    // What was out when it died is recorded nowhere: at most one request a channel.
    let recorded = stack.database.count("SELECT count(*) FROM attempts").await;
    let unrecorded = receiver.count() as i64 - recorded;
    assert!((0..=4).contains(&unrecorded), "{unrecorded}");
}

/// Puts six deliveries into two channels, lets a dispatcher die at `point`, and gives the work to another. How
/// many requests were made.
async fn dispatcher_dies_at(point: &str) -> usize {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let sent = publish_to(&[stack.admin()], &["a", "b"], 3).await;
    let mut doomed = stack.launch(Kind::Dispatcher, &[(CRASH_AT, point)]).unwrap();
    assert!(!doomed.await_end().await.success(), "it dies at {point}");
    assert!(!doomed.log().contains("the configuration has"), "it did not refuse to start:\n{}", doomed.log());
    stack.add_dispatcher(&[]).await;
    stack.await_quiet().await;
    assert_in_order(&receiver, &sent);
    receiver.count()
}

#[tokio::test]
async fn dies_with_channels_claimed_and_nothing_sent() {
    assert_eq!(dispatcher_dies_at("ordered_after_claim").await, 6);
}

#[tokio::test]
async fn dies_between_response_and_record() {
    // One request a channel may have been out.
    let requests = dispatcher_dies_at("dispatcher_after_response_before_record:3").await;
    assert!((7..=8).contains(&requests), "{requests}");
}

#[tokio::test]
async fn dies_between_record_and_the_next() {
    let requests = dispatcher_dies_at("ordered_after_record:2").await;
    assert!((6..=7).contains(&requests), "the other channel's request may have been out: {requests}");
}

#[tokio::test]
async fn dies_before_it_gives_a_channel_back() {
    let requests = dispatcher_dies_at("ordered_before_release").await;
    assert!((6..=7).contains(&requests), "{requests}");
}

#[tokio::test]
async fn dies_while_it_gives_a_channel_back() {
    let requests = dispatcher_dies_at("ordered_before_release_commit").await;
    assert!((6..=7).contains(&requests), "{requests}");
}

#[tokio::test]
async fn ingest_that_dies_after_the_commit_has_the_event_once_in_its_place() {
    let mut stack = Stack::start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(ordered(&receiver, EndpointOrdering::Strict)).await;
    let provider = Provider::create(&stack).await;
    let mut ids = vec![provider.push("first").await.accepted()];
    stack.add_ingest(&[(CRASH_AT, "journal_after_ordered_commit")]).await;
    let mut doomed = stack.ingests.remove(1);
    let at_doomed =
        Provider { url: format!("{}/in/{}", doomed.http_url(), provider.source_id), ..provider.clone() };
    // Whether the answer still made it out is a matter of luck; the event is committed either way.
    let _ = at_doomed.try_push("second").await;
    assert!(!doomed.await_end().await.success());
    let again = provider.push("second").await;
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &serde_json::json!(true)));
    ids.push(again.json()["id"].as_str().unwrap().to_owned());
    ids.push(provider.push("third").await.accepted());
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_takes_one_place() {
    let mut stack = Stack::builder().ingests(0).start().await;
    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    stack.add_ingest(&[("BOWLINE_POSTGRES_URL", &through)]).await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(ordered(&receiver, EndpointOrdering::Strict)).await;
    let provider = Provider::create(&stack).await;
    let mut ids = vec![provider.push("first").await.accepted()];
    proxy.cut_once("INTO channels", Cut::Answer);
    ids.push(provider.push("second").await.accepted());
    proxy.await_cuts(1).await;
    ids.push(provider.push("third").await.accepted());
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn a_claim_or_release_whose_reply_is_lost_is_found_again() {
    // A channel whose row was just being written is claimed by a statement of its own: either is a claim.
    for statement in ["SET owner = $1, holds", "SET owner = NULL, head"] {
        let mut stack = Stack::builder().dispatchers(0).start().await;
        let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
        let through = proxy.in_front_of(&stack.database.url);
        stack.add_dispatcher(&[("BOWLINE_POSTGRES_URL", &through)]).await;
        let receiver = Receiver::start().await;
        stack.admin().endpoint(ordered(&receiver, EndpointOrdering::Strict)).await;
        // Once around, so that every statement is prepared.
        let mut ids = vec![publish(&stack.admin(), "a").await];
        // Whoever still holds the channel would go on with what comes, without a claim.
        at_rest(&stack, &receiver, 1).await;
        proxy.cut_once(statement, Cut::Answer);
        // A claim that was on its way before the rule was set may still find the first of these.
        while proxy.cuts() == 0 && ids.len() < 50 {
            ids.push(publish(&stack.admin(), "b").await);
            receiver.await_count(ids.len(), BOUND).await;
        }
        assert_eq!(proxy.cuts(), 1, "{statement}");
        ids.push(publish(&stack.admin(), "c").await);
        stack.await_quiet().await;
        assert_eq!(arrived(&receiver, &ids), ids, "{statement}");
        assert_eq!(receiver.count(), ids.len(), "{statement}");
    }
}

#[tokio::test]
async fn a_dispatcher_that_was_stopped_past_its_lease_sends_nothing_out_of_turn() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Held(200)]).await;
    admin.endpoint(ordered(&receiver, EndpointOrdering::Strict)).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(publish(&admin, "a").await);
    }
    receiver.await_count(1, BOUND).await;
    stack.dispatchers[0].pause();
    stack.add_dispatcher(&[]).await;
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    // Awake, it has nine more in memory, and another life.
    receiver.release();
    stack.dispatchers[0].resume();
    let last = publish(&admin, "a").await;
    receiver.await_ids(std::slice::from_ref(&last), BOUND).await;
    ids.push(last);
    stack.await_quiet().await;
    assert_eq!(arrived(&receiver, &ids), ids);
    assert_eq!(receiver.count(), 12, "the one that was out, twice");
}
