//! How much of what waits in channels is in memory.

use std::collections::HashMap;

use bowline_proto::v1::{self, EndpointOrdering};
use bowline_tests::proxy::Proxy;
use bowline_tests::{Receiver, Stack, stores};

use super::{assert_in_order, ordered};

const BODY_BYTES: usize = 900 * 1024;
/// What is loaded with one statement, and a body more.
const LOADED_MAX_BYTES: u64 = 5 * 1024 * 1024;

#[tokio::test]
async fn large_bodies_of_many_channels_are_loaded_in_parts() {
    // The first of each channel are a part by themselves.
    const CHANNELS: usize = 5;
    const EACH: usize = 2;
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint { concurrency: 32, ..ordered(&receiver, EndpointOrdering::PerChannel) };
    stack.admin().endpoint(endpoint).await;
    let body = format!("\"{}\"", "x".repeat(BODY_BYTES));
    let mut sent: HashMap<String, Vec<String>> = HashMap::new();
    // One after the other: each is a chunk of its own, and no chunk is large.
    for n in 0..CHANNELS * EACH {
        let channel = format!("c{}", n % CHANNELS);
        let request = v1::PublishEventRequest {
            event_type: "order.changed".into(),
            channel: channel.clone(),
            body: body.clone().into(),
            ..Default::default()
        };
        let published = stack.admin().events().publish_event(request).await.unwrap().into_inner();
        sent.entry(channel).or_default().push(published.event_id);
    }
    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    stack.add_dispatcher(&[("BOWLINE_POSTGRES_URL", &through)]).await;
    stack.await_quiet().await;
    assert_in_order(&receiver, &sent);
    assert_eq!(receiver.count(), CHANNELS * EACH);
    let most = proxy.answer_bytes_max();
    assert!(most > BODY_BYTES as u64, "{most} bytes: no body came this way");
    assert!(most < LOADED_MAX_BYTES, "{most} bytes at once");
}
