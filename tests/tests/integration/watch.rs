//! Whoever watches a log sees all that is committed, once: over real sockets, at either service.

mod backlog;
mod deliveries;
mod events;
mod keys;
mod limits;
mod unread;

use std::fmt::Debug;

use bowline_proto::v1;
use bowline_tests::BOUND;
use bowline_tests::admin::Admin;
use prost_types::Timestamp;
use tonic::{Status, Streaming};

/// What a watch has told, heartbeats left out: each with the cursor it came with.
type Told<T> = Vec<(T, String)>;

fn since(ago_s: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: chrono::Utc::now().timestamp() - ago_s, nanos: 0 })
}

fn all() -> v1::WatchEventsRequest {
    v1::WatchEventsRequest::default()
}

fn of_type(event_type: &str) -> Option<v1::EventFilter> {
    Some(v1::EventFilter { event_type: event_type.to_owned(), ..Default::default() })
}

/// A watch, and the cursor it begins with.
async fn begun(
    admin: &Admin,
    request: v1::WatchEventsRequest,
) -> (Streaming<v1::WatchEventsResponse>, String) {
    let mut stream = admin.events().watch_events(request).await.unwrap().into_inner();
    let first = message(&mut stream).await.unwrap();
    assert_eq!(first.event, None, "the first message says where it begins");
    (stream, first.cursor)
}

async fn watch(admin: &Admin, request: v1::WatchEventsRequest) -> Streaming<v1::WatchEventsResponse> {
    begun(admin, request).await.0
}

async fn watch_from(admin: &Admin, cursor: &str) -> Streaming<v1::WatchEventsResponse> {
    watch(admin, v1::WatchEventsRequest { cursor: cursor.to_owned(), ..all() }).await
}

/// The next message, or how the stream ended.
async fn message<M: Debug>(stream: &mut Streaming<M>) -> Result<M, Status> {
    let next = tokio::time::timeout(BOUND, stream.message()).await.expect("a message in time");
    next.map(|message| message.expect("no end without a status"))
}

async fn next(stream: &mut Streaming<v1::WatchEventsResponse>) -> (v1::Event, String) {
    loop {
        let message = message(stream).await.unwrap();
        if let Some(event) = message.event {
            return (event, message.cursor);
        }
    }
}

async fn take(stream: &mut Streaming<v1::WatchEventsResponse>, count: usize) -> Told<v1::Event> {
    let mut told = Vec::new();
    while told.len() < count {
        told.push(next(stream).await);
    }
    told
}

fn ids(told: &[(v1::Event, String)]) -> Vec<&str> {
    told.iter().map(|(event, _)| event.id.as_str()).collect()
}

fn types(told: &[(v1::Event, String)]) -> Vec<&str> {
    told.iter().map(|(event, _)| event.event_type.as_str()).collect()
}
