//! Processes that die at a chosen point, and claims whose reply is lost: each is asked what the
//! invariants say.

use bowline_proto::v1::{self, DeliveryState};
use bowline_tests::proxy::{Cut, Proxy};
use bowline_tests::service::Kind;
use bowline_tests::{Provider, Receiver, Stack, admin, stores};

const CRASH_AT: &str = "BOWLINE_CRASH_AT";
/// In every statement that claims chunks.
const CLAIM: &str = "UPDATE outbox";
/// Only in the claim of a chunk that was read from a stream: that one always has something to claim.
const CLAIM_FROM_STREAM: &str = "takeovers = o.takeovers + (o.owner IS NOT NULL)";
const RECORD: &str = "INSERT INTO attempts";

#[tokio::test]
async fn ingest_dies_between_commit_and_stream() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let provider = Provider::create(&stack).await;
    stack.add_ingest(&[(CRASH_AT, "journal_after_commit_before_xadd")]).await;
    let mut doomed = stack.ingests.remove(1);
    let at_doomed =
        Provider { url: format!("{}/in/{}", doomed.http_url(), provider.source_id), ..provider.clone() };
    // Whether the answer still made it out is a matter of luck; the event is committed either way.
    let answer = at_doomed.try_push("one").await;
    assert!(!doomed.await_end().await.success());

    // The provider that got none tries again, and is told that it was there before.
    let again = provider.push("one").await;
    let id = again.json()["id"].as_str().unwrap().to_owned();
    assert_eq!((again.status, &again.json()["duplicate"]), (200, &serde_json::json!(true)));
    if let Ok(answer) = answer {
        assert_eq!(answer.accepted(), id);
    }
    admin.await_delivery(&id, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!(receiver.ids(), [id]);
    assert_eq!(receiver.count(), 1);
}

/// Publishes one event, lets a dispatcher die at `point`, and gives the work to another. How often
/// the event arrived.
async fn dispatcher_dies_at(point: &str) -> usize {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let mut doomed = stack.launch(Kind::Dispatcher, &[(CRASH_AT, point)]).unwrap();
    assert!(!doomed.await_end().await.success(), "it dies at {point}");
    assert!(!doomed.log().contains("the configuration has"), "it did not refuse to start:\n{}", doomed.log());

    stack.add_dispatcher(&[]).await;
    let delivery = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!(delivery.attempts.len(), 1, "one attempt is recorded: {:?}", delivery.attempts);
    assert_eq!(receiver.ids(), [event]);
    receiver.count()
}

#[tokio::test]
async fn dispatcher_dies_between_claim_and_xack() {
    // Where it reads the stream late, its look at the outbox has found the chunk before, and the request may have been out.
    let arrived = dispatcher_dies_at("dispatcher_after_claim_before_ack").await;
    assert!((1..=2).contains(&arrived), "{arrived}");
}

#[tokio::test]
async fn dispatcher_dies_between_claim_and_attempt() {
    assert_eq!(dispatcher_dies_at("dispatcher_after_claim_before_attempt").await, 1);
}

#[tokio::test]
async fn dispatcher_dies_between_response_and_record() {
    // The request was out when the process died: the only case that repeats it.
    assert_eq!(dispatcher_dies_at("dispatcher_after_response_before_record").await, 2);
}

/// A dispatcher that reaches Postgres through the proxy.
async fn behind_proxy(stack: &mut Stack) -> Proxy {
    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    stack.add_dispatcher(&[("BOWLINE_POSTGRES_URL", &through)]).await;
    proxy
}

async fn a_lost_reply(statement: &str, cut: Cut, sql_is: &str) {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let proxy = behind_proxy(&mut stack).await;
    // Once around, so that every statement is prepared.
    let warm = admin.publish("order.created").await;
    admin.await_delivery(&warm, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;

    proxy.cut_once(statement, cut);
    let event = admin.publish("order.created").await;
    proxy.await_cuts(1).await;
    let delivery = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!(delivery.attempts.len(), 1, "{sql_is}: {:?}", delivery.attempts);
    assert_eq!(receiver.count(), 2, "{sql_is}: nothing is sent twice");
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_is_found_again() {
    a_lost_reply(CLAIM, Cut::Answer, "claimed, and nobody knows").await;
}

#[tokio::test]
async fn a_claim_that_never_arrived_is_made_again() {
    a_lost_reply(CLAIM_FROM_STREAM, Cut::Before, "not claimed").await;
}

#[tokio::test]
async fn a_record_whose_reply_is_lost_changes_nothing_twice() {
    a_lost_reply(RECORD, Cut::Answer, "recorded, and nobody knows").await;
}

#[tokio::test]
async fn a_channel_goes_on_after_a_record_whose_reply_is_lost() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let strict =
        v1::Endpoint { ordering: v1::EndpointOrdering::Strict.into(), ..admin::endpoint(receiver.url()) };
    let (endpoint, _) = admin.endpoint(strict).await;
    let proxy = behind_proxy(&mut stack).await;
    let mut sent = vec![admin.publish("order.created").await];
    admin.await_delivery(&sent[0], &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;

    proxy.cut_once(RECORD, Cut::Answer);
    sent.push(admin.publish("order.created").await);
    proxy.await_cuts(1).await;
    sent.push(admin.publish("order.created").await);
    admin.await_delivery(&sent[2], &endpoint, DeliveryState::Delivered).await;
    stack.await_quiet().await;
    assert_eq!(receiver.ids(), sent, "in order, each once");
}

#[tokio::test]
async fn a_record_that_never_arrived_is_made_again() {
    a_lost_reply(RECORD, Cut::Before, "not recorded").await;
}
