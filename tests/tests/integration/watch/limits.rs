//! What a watch may take, and how it ends.

use bowline_proto::v1;
use bowline_tests::admin::{Admin, KEY, reason};
use bowline_tests::eventually::holds;
use bowline_tests::service::Service;
use bowline_tests::{BOUND, Stack, eventually};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use tonic::Code;

use super::{all, begun, ids, message, take, watch, watch_from};

const TENANT_MAX: usize = 64;

#[tokio::test]
async fn a_tenant_has_so_many_watches_and_one_more_when_one_ends() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let mut streams = Vec::new();
    for _ in 0..TENANT_MAX {
        streams.push(watch(&admin, all()).await);
    }
    let refused = admin.events().watch_events(all()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    // The other log has its own.
    admin.deliveries().watch_deliveries(v1::WatchDeliveriesRequest::default()).await.unwrap();
    // All of them see what happens.
    let published = admin.publish("seen.by.all").await;
    for told in join_all(streams.iter_mut().map(|stream| take(stream, 1))).await {
        assert_eq!(ids(&told), [&published]);
    }
    streams.pop();
    eventually(BOUND, async || admin.events().watch_events(all()).await.map(|_| ())).await;
}

#[tokio::test]
async fn a_replica_that_stops_says_so_and_its_watchers_go_on_elsewhere() {
    let mut stack = Stack::start().await;
    let admin = stack.admin();
    let there = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let (mut stream, beginning) = begun(&there, all()).await;
    let first = admin.publish("first").await;
    let told = take(&mut stream, 1).await;
    assert_eq!(ids(&told), [&first]);
    let request = v1::WatchDeliveriesRequest::default();
    let mut deliveries = there.deliveries().watch_deliveries(request).await.unwrap().into_inner();
    message(&mut deliveries).await.unwrap();

    stack.dispatchers[0].signal(Signal::SIGTERM);
    let ended = message(&mut stream).await.unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "REPLICA_STOPPING"));
    let ended = message(&mut deliveries).await.unwrap_err();
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "REPLICA_STOPPING"));
    stack.dispatchers[0].finish(BOUND).await;
    let second = admin.publish("second").await;
    assert_eq!(ids(&take(&mut watch_from(&admin, &told[0].1).await, 1).await), [&second]);
    assert_eq!(ids(&take(&mut watch_from(&admin, &beginning).await, 2).await), [&first, &second]);
}

#[tokio::test]
async fn a_cursor_of_what_is_gone_has_expired() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (mut stream, beginning) = begun(&admin, all()).await;
    admin.publish("one").await;
    take(&mut stream, 1).await;
    let expired = async || {
        let request = v1::WatchEventsRequest { cursor: beginning.clone(), ..all() };
        match admin.events().watch_events(request).await {
            Ok(_) => Err("it goes on".to_owned()),
            Err(refused) => holds(
                (refused.code(), reason(&refused)) == (Code::OutOfRange, "CURSOR_EXPIRED".into()),
                refused,
            )
            .map_err(|status| status.to_string()),
        }
    };
    // The tenant keeps its events for a second.
    let settings = |settings: &str| format!("UPDATE tenants SET settings = '{settings}'");
    let short = settings("{\"retention\": {\"secs\": 1, \"nanos\": 0}}");
    stack.database.sql().batch_execute(&short).await.unwrap();
    eventually(BOUND, async || expired().await).await;
    stack.database.sql().batch_execute(&settings("{}")).await.unwrap();
    take(&mut watch_from(&admin, &beginning).await, 1).await;

    // The days up to today are taken away; tomorrow's partition is there.
    let days = "SELECT relname::text FROM pg_class AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid
                 WHERE i.inhparent = 'events'::regclass AND relname <= 'events_p' || $1";
    let today = (chrono::Utc::now() + chrono::TimeDelta::minutes(1)).format("%Y%m%d").to_string();
    let days = stack.database.sql().query(days, &[&today]).await.unwrap();
    assert!(days.len() >= 2);
    for day in days {
        let drop = format!("DROP TABLE {}", day.get::<_, String>(0));
        stack.database.sql().batch_execute(&drop).await.unwrap();
    }
    expired().await.unwrap();
    // A new watch begins all the same.
    watch(&admin, all()).await;
}

pub(super) fn memory_kib(service: &Service) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn who_reads_slowly_is_sent_no_more_than_there_is_room_for() {
    const WATCHERS: usize = 12;
    const BATCHES: usize = 6;
    const EVENTS: usize = 40;
    let stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    // What is published here goes through no memory of the other.
    let admin = stack.admin();
    let request = || v1::WatchEventsRequest { include_body: true, ..all() };
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        // Each with a connection of its own: the window of a shared one would hold up all.
        let there = Admin::new(&stack.ingests[1].admin_url(), Some(KEY));
        streams.push(watch(&there, request()).await);
    }
    let before = memory_kib(&stack.ingests[1]);
    let event = v1::PublishEventRequest {
        event_type: "large".into(),
        content_type: "text/plain".into(),
        body: vec![b'x'; 90 * 1024].into(),
        ..Default::default()
    };
    for _ in 0..BATCHES {
        let request =
            v1::PublishEventBatchRequest { events: vec![event.clone(); EVENTS], ..Default::default() };
        admin.events().publish_event_batch(request).await.unwrap();
    }
    // One who reads has had all of it: the others have had the time.
    let there = Admin::new(&stack.ingests[1].admin_url(), Some(KEY));
    let late = v1::WatchEventsRequest { start_time: super::since(3600), ..request() };
    let all_of_it = take(&mut watch(&there, late).await, BATCHES * EVENTS).await;
    // All of it for all of them would be 250 MiB.
    let grown = memory_kib(&stack.ingests[1]) - before;
    assert!(grown < 100 * 1024, "{grown} KiB");
    let mut expected = ids(&all_of_it);
    expected.sort_unstable();
    // All at once: who takes nothing for half a minute is ended.
    for told in join_all(streams.iter_mut().map(|stream| take(stream, BATCHES * EVENTS))).await {
        let mut seen = ids(&told);
        seen.sort_unstable();
        assert_eq!(seen, expected);
        assert!(told.iter().all(|(event, _)| event.body.len() == 90 * 1024));
    }
}
