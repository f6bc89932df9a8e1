//! Much that is due at once: a few megabytes of it are loaded at a time.

use bowline_proto::v1::{self, EndpointState};
use bowline_tests::eventually::holds;
use bowline_tests::proxy::Proxy;
use bowline_tests::{BOUND, Receiver, Stack, admin, eventually, stores};

const EVENTS: usize = 10;
const BODY_BYTES: usize = 900 * 1024;
/// What is loaded with one statement, and a body more.
const LOADED_MAX_BYTES: u64 = 5 * 1024 * 1024;

#[tokio::test]
async fn large_deliveries_that_are_due_at_once_are_loaded_in_parts() {
    let mut stack = Stack::builder().start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    // No attempt fails for want of time.
    let endpoint = v1::Endpoint { timeout: Some(admin::duration(BOUND)), ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(endpoint).await;
    admin.set_state(&id, EndpointState::Paused).await;
    let body = bytes::Bytes::from(format!("\"{}\"", "x".repeat(BODY_BYTES)));
    let mut ids = Vec::new();
    for _ in 0..EVENTS {
        let request = v1::PublishEventRequest {
            event_type: "order.created".into(),
            body: body.clone(),
            ..Default::default()
        };
        ids.push(admin.events().publish_event(request).await.unwrap().into_inner().event_id);
    }
    eventually(BOUND, async || {
        let unsettled = stack.database.count("SELECT count(*) FROM outbox").await;
        let waiting = stack.database.count("SELECT count(*) FROM queue").await;
        holds(unsettled == 0 && waiting == EVENTS as i64, (unsettled, waiting))
    })
    .await;
    stack.dispatchers.remove(0).terminate(BOUND).await;
    admin.set_state(&id, EndpointState::Enabled).await;
    stack.database.sql().execute("UPDATE queue SET due_at = now()", &[]).await.unwrap();

    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    stack.add_dispatcher(&[("BOWLINE_POSTGRES_URL", &through)]).await;
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    let most = proxy.answer_bytes_max();
    assert!(most > BODY_BYTES as u64, "{most} bytes: no body came this way");
    assert!(most < LOADED_MAX_BYTES, "{most} bytes at once");
}
