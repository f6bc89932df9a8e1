//! Watches that nobody reads: they cost little, keep up nobody who does, and end.

use bowline_core::id::BindingId;
use bowline_proto::v1;
use bowline_tests::admin::{Admin, KEY, reason};
use bowline_tests::service::Service;
use bowline_tests::{BOUND, Stack};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};

use super::limits::memory_kib;
use super::{all, message, of_type, since, take, watch};

const EVENTS: usize = 6;
const BODY_BYTES: usize = 900 * 1024;

/// To a service, with room for so many bytes of each answer.
async fn channel(service: &Service, window: u32) -> Channel {
    let peer = Endpoint::from_shared(service.admin_url()).unwrap().timeout(BOUND);
    peer.initial_stream_window_size(window).connect().await.unwrap()
}

fn with_key<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
    request
}

async fn publish_large(admin: &Admin, event_type: &str) {
    let request = v1::PublishEventRequest {
        event_type: event_type.into(),
        content_type: "text/plain".into(),
        body: vec![b'x'; BODY_BYTES].into(),
        ..Default::default()
    };
    admin.events().publish_event(request).await.unwrap();
}

/// A binding with nearly as much data as there may be.
async fn large_binding(stack: &Stack) -> String {
    let admin = stack.admin();
    let source = admin.source_like(v1::Source { insecure: true, ..Default::default() }, "").await;
    let binding = v1::Binding {
        source_id: source.id,
        query: Some(v1::BindingQuery { query: Some(v1::binding_query::Query::Latest(v1::LatestQuery {})) }),
        projection: Some(v1::Projection::default()),
        widget: Some(v1::Widget { template: "metric".into(), data: None }),
        ..Default::default()
    };
    let request = v1::CreateBindingRequest { binding: Some(binding), ..Default::default() };
    let id = admin.bindings().create_binding(request).await.unwrap().into_inner().binding.unwrap().id;
    let data = format!("{{\"text\": \"{}\"}}", "x".repeat(1_000_000));
    let write = "UPDATE binding_results SET data = $2, revision = revision + 1 WHERE binding_id = $1";
    let key = id.parse::<BindingId>().unwrap().0;
    assert_eq!(stack.database.sql().execute(write, &[&key, &data.as_bytes()]).await.unwrap(), 1);
    id
}

async fn events_unread(
    channel: &Channel,
    request: v1::WatchEventsRequest,
) -> Streaming<v1::WatchEventsResponse> {
    let mut client = v1::event_service_client::EventServiceClient::new(channel.clone());
    client.watch_events(with_key(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_nobody_reads_takes_little_and_keeps_nobody_up() {
    const OF_EVENTS: usize = 60;
    const OF_BINDINGS: usize = 180;
    let stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    // What is published here goes through no memory of the other.
    let admin = stack.admin();
    for _ in 0..EVENTS {
        publish_large(&admin, "large").await;
    }
    let binding = large_binding(&stack).await;
    let request = || v1::WatchEventsRequest { include_body: true, start_time: since(3600), ..all() };
    let there = Admin::new(&stack.ingests[1].admin_url(), Some(KEY));
    // Once, for what one takes.
    take(&mut watch(&there, request()).await, EVENTS).await;
    let before = memory_kib(&stack.ingests[1]);

    let (mut events, mut bindings) = (Vec::new(), Vec::new());
    for window in [0, 1024] {
        let channel = channel(&stack.ingests[1], window).await;
        for _ in 0..OF_EVENTS / 2 {
            events.push(events_unread(&channel, request()).await);
        }
        for _ in 0..OF_BINDINGS / 2 {
            let mut client = v1::binding_service_client::BindingServiceClient::new(channel.clone());
            let request = v1::WatchBindingRequest { id: binding.clone(), ..Default::default() };
            bindings.push(client.watch_binding(with_key(request)).await.unwrap().into_inner());
        }
    }
    // Who came last has had all of it: the others have had the time.
    let mut reader = watch(&there, request()).await;
    let told = take(&mut reader, EVENTS).await;
    assert!(told.iter().all(|(event, _)| event.body.len() == BODY_BYTES));
    let request = v1::WatchBindingRequest { id: binding, ..Default::default() };
    let mut shown = there.bindings().watch_binding(request).await.unwrap().into_inner();
    assert!(message(&mut shown).await.unwrap().binding.unwrap().widget.unwrap().data.is_some());
    // All of it for all of them would be more than 200 MiB.
    let grown = memory_kib(&stack.ingests[1]) - before;
    assert!(grown < 60 * 1024, "{grown} KiB");
    drop((events, bindings));
}

#[tokio::test]
async fn who_takes_nothing_is_ended_and_who_waits_is_not() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let idle = v1::WatchEventsRequest { filter: of_type("idle"), ..all() };
    let mut idle = watch(&admin, idle).await;
    let channel = channel(&stack.ingests[0], 16 * 1024).await;
    let of = |event_type| v1::WatchEventsRequest { include_body: true, filter: of_type(event_type), ..all() };
    let mut large = events_unread(&channel, of("large")).await;
    let mut small = events_unread(&channel, of("small")).await;
    for unread in [&mut large, &mut small] {
        message(unread).await.unwrap();
    }
    publish_large(&admin, "large").await;
    admin.publish_many("small", 400).await;
    // Three heartbeats: 45 s.
    for _ in 0..3 {
        assert_eq!(message(&mut idle).await.unwrap().event, None);
    }
    // In the middle of a message there is only a reset.
    let ended = message(&mut large).await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted, "{ended}");
    let mut told = 0;
    let ended = loop {
        match message(&mut small).await {
            Ok(_) => told += 1,
            Err(ended) => break ended,
        }
    };
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::ResourceExhausted, "OVERLOADED"), "{ended}");
    assert!((1..400).contains(&told), "{told}");
    let published = admin.publish("idle").await;
    assert_eq!(take(&mut idle, 1).await[0].0.id, published);
}
