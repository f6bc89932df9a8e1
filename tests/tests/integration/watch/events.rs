//! Events, by one who watches.

use std::collections::{HashMap, HashSet};

use bowline_core::id::{DEFAULT_TENANT, EventId};
use bowline_proto::v1;
use bowline_tests::admin::{Admin, KEY, violations};
use bowline_tests::{BOUND, Stack, database, eventually, http};
use futures_util::future::join_all;
use tonic::Code;
use uuid::Uuid;

use super::{all, begun, ids, message, next, of_type, since, take, types, watch, watch_from};
use crate::by_hand::somebody;

/// As the journal writes one that is no stray, and as anybody else writes one.
const BY_HAND: &str = "
    INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time, stray)
    VALUES ($1, $2, $3, 'application/json', '', '{}', now(), $4)";

#[tokio::test]
async fn every_event_comes_once_and_what_was_acknowledged_first_comes_first() {
    const WRITERS: usize = 6;
    const EVENTS: usize = 40;
    let stack = Stack::builder().ingests(2).dispatchers(1).start().await;
    let admins: Vec<Admin> = stack
        .ingests
        .iter()
        .chain(&stack.dispatchers)
        .map(|service| Admin::new(&service.admin_url(), Some(KEY)))
        .collect();
    let mut streams = Vec::new();
    for admin in &admins {
        streams.push(watch(admin, all()).await);
    }
    let write = async |writer: usize| {
        let mut published = Vec::new();
        for at in 0..EVENTS {
            published.push(admins[(writer + at) % 2].publish(&format!("writer.{writer}")).await);
        }
        published
    };
    let (published, told) = tokio::join!(
        join_all((0..WRITERS).map(write)),
        join_all(streams.iter_mut().map(|stream| take(stream, WRITERS * EVENTS)))
    );
    for told in &told {
        let distinct: HashSet<&str> = ids(told).into_iter().collect();
        assert_eq!(distinct.len(), WRITERS * EVENTS, "some came twice");
        let mut by_writer: HashMap<&str, Vec<&str>> = HashMap::new();
        for (event, _) in told {
            by_writer.entry(&event.event_type).or_default().push(&event.id);
        }
        for (writer, published) in published.iter().enumerate() {
            assert_eq!(&by_writer[format!("writer.{writer}").as_str()], published);
        }
    }
    assert_eq!(ids(&told[0]), ids(&told[2]));
    // And nothing more.
    let last = admins[0].publish("last").await;
    for stream in &mut streams {
        assert_eq!(next(stream).await.0.id, last);
    }
}

#[tokio::test]
async fn what_a_long_transaction_wrote_comes_however_old_its_ids_are() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let mut before = watch(&admin, all()).await;
    admin.publish("earlier").await;
    assert_eq!(next(&mut before).await.0.event_type, "earlier");

    let mut sql = database::connect(&stack.database.url).await.unwrap();
    let held = sql.transaction().await.unwrap();
    let hour_ago = EventId(Uuid::from_u128(EventId::new().0.as_u128() - (3_600_000 << 80)));
    held.execute(BY_HAND, &[&hour_ago.0, &DEFAULT_TENANT.0, &"held.old", &Some(true)]).await.unwrap();
    let mut meanwhile = watch(&admin, all()).await;
    for number in 0..3 {
        admin.publish(&format!("later.{number}")).await;
    }
    held.execute(BY_HAND, &[&EventId::new().0, &DEFAULT_TENANT.0, &"held.new", &None::<bool>]).await.unwrap();
    // Others have ended, and been looked at, since it began.
    let look = "SELECT count(*) FROM events WHERE event_type LIKE 'later.%'";
    assert_eq!(stack.database.count(look).await, 3);
    held.commit().await.unwrap();
    admin.publish("last").await;
    for stream in [&mut before, &mut meanwhile] {
        let mut told = take(stream, 6).await;
        // The one that began meanwhile began with the oldest transaction that was open, anybody's.
        if told.iter().any(|(event, _)| event.event_type == "earlier") {
            told.retain(|(event, _)| event.event_type != "earlier");
            told.push(next(stream).await);
        }
        let mut first = types(&told[..2]);
        first.sort_unstable();
        assert_eq!(first, ["held.new", "held.old"]);
        assert_eq!(types(&told[2..]), ["later.0", "later.1", "later.2", "last"]);
    }
}

#[tokio::test]
async fn what_lies_behind_a_time_comes_as_it_was_committed() {
    const ORDER: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
    let stack = Stack::start().await;
    let admin = stack.admin();
    let there = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let sql = database::connect(&stack.database.url).await.unwrap();
    let written = async |event_type: &str, hours_ago: u128| {
        let id = EventId(Uuid::from_u128(EventId::new().0.as_u128() - ((hours_ago * 3_600_000) << 80)));
        sql.execute(BY_HAND, &[&id.0, &DEFAULT_TENANT.0, &event_type, &Some(true)]).await.unwrap();
    };
    admin.publish("first").await;
    written("second", 1).await;
    // Received before the time that is asked for.
    written("before", 5).await;
    admin.publish("third").await;
    written("fourth", 2).await;
    admin.publish("fifth").await;
    // Whatever else is open at the same server: what is not behind the time then comes as any news.
    eventually(BOUND, async || {
        let open = "SELECT count(*) FROM events WHERE tx >= pg_snapshot_xmin(pg_current_snapshot())";
        let open = stack.database.count(open).await;
        eventually::holds(open == 0, open)
    })
    .await;

    let request = v1::WatchEventsRequest { start_time: since(4 * 3600), ..all() };
    let (mut past, beginning) = begun(&admin, request).await;
    let told = take(&mut past, ORDER.len()).await;
    assert_eq!(types(&told), ORDER);
    let cursors = [&beginning].into_iter().chain(told.iter().map(|(_, cursor)| cursor));
    let last = admin.publish("last").await;
    assert_eq!(next(&mut past).await.0.id, last);
    for (at, cursor) in cursors.enumerate() {
        let rest = take(&mut watch_from(&there, cursor).await, ORDER.len() - at + 1).await;
        assert_eq!(types(&rest), [&ORDER[at..], &["last"]].concat(), "after {at}");
    }
}

#[tokio::test]
async fn a_cursor_goes_on_at_another_replica_of_the_other_service() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let there = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let (mut stream, beginning) = begun(&admin, all()).await;
    // Several in one transaction, so that cursors stand within it.
    let events = (0..8).map(|_| v1::PublishEventRequest {
        event_type: "batch".into(),
        body: b"{}".as_slice().into(),
        ..Default::default()
    });
    let request = v1::PublishEventBatchRequest { events: events.collect(), ..Default::default() };
    admin.events().publish_event_batch(request).await.unwrap();
    for _ in 0..4 {
        admin.publish("single").await;
    }
    let told = take(&mut stream, 12).await;
    drop(stream);
    admin.publish("after").await;

    let whole = take(&mut watch_from(&there, &beginning).await, 13).await;
    assert_eq!(ids(&whole[..12]), ids(&told));
    for (at, (_, cursor)) in told.iter().enumerate() {
        let rest = take(&mut watch_from(&there, cursor).await, 12 - at).await;
        assert_eq!(ids(&rest), ids(&whole[at + 1..]), "after {at}");
    }
}

#[tokio::test]
async fn a_watch_is_of_its_filter_and_its_tenant() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let theirs = somebody(&stack, "own", "viewer").await;
    let source = v1::Source { insecure: true, ..Default::default() };
    let source_id = admin.source_like(source, "").await.id;
    let filtered = |filter: v1::EventFilter| v1::WatchEventsRequest { filter: Some(filter), ..all() };
    let of_source = v1::EventFilter { source_id: source_id.clone(), ..Default::default() };
    let of_channel = v1::EventFilter { channel: "eu".into(), ..Default::default() };
    let mut by_type = watch(&admin, v1::WatchEventsRequest { filter: of_type("order.paid"), ..all() }).await;
    let mut by_source = watch(&admin, filtered(of_source)).await;
    let mut by_channel = watch(&admin, filtered(of_channel)).await;
    let mut of_tenant = watch(&theirs, all()).await;

    for (event_type, channel) in
        [("order.created", "eu"), ("order.paid", "us"), ("order.paid", "eu"), ("order.created", "")]
    {
        let request = v1::PublishEventRequest {
            event_type: event_type.into(),
            channel: channel.into(),
            body: b"{\"n\": 1}".as_slice().into(),
            ..Default::default()
        };
        admin.events().publish_event(request).await.unwrap();
    }
    let headers = vec![("x-mark".to_owned(), "seen".to_owned())];
    http::post(&stack.inbound(&source_id), &headers, "{\"n\": 2}".to_owned()).await.unwrap().accepted();
    let publisher = somebody(&stack, "own", "publisher").await;
    let own = publisher.publish("own.one").await;

    let channels = |told: &[(v1::Event, String)]| {
        told.iter().map(|(event, _)| (event.event_type.clone(), event.channel.clone())).collect::<Vec<_>>()
    };
    let told = take(&mut by_type, 2).await;
    let pair = |event_type: &str, channel: &str| (event_type.to_owned(), channel.to_owned());
    assert_eq!(channels(&told), [pair("order.paid", "us"), pair("order.paid", "eu")]);
    let cursor = told[0].1.clone();
    let told = take(&mut by_channel, 2).await;
    assert_eq!(channels(&told), [pair("order.created", "eu"), pair("order.paid", "eu")]);
    let (event, _) = next(&mut by_source).await;
    assert_eq!((&event.source_id, &event.body[..], event.headers.len()), (&source_id, &b""[..], 0));
    assert_eq!(event.body_size_bytes, 8);
    // Of all those only the last is of the other tenant.
    let (event, cursor_of_tenant) = next(&mut of_tenant).await;
    assert_eq!(event.id, own);

    // With bodies, from the beginning.
    let request = v1::WatchEventsRequest { start_time: since(3600), include_body: true, ..all() };
    let told = take(&mut watch(&admin, request).await, 5).await;
    assert!(told.iter().all(|(event, _)| event.id != own && event.body.starts_with(b"{\"n\": ")));
    let marked = |event: &v1::Event| event.headers.iter().any(|header| header.name == "x-mark");
    assert!(told.iter().all(|(event, _)| marked(event) != event.source_id.is_empty()));

    // Cursors are of their filter and tenant, and of this method.
    let refused = async |admin: &Admin, request: v1::WatchEventsRequest| {
        let refused = admin.events().watch_events(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        violations(&refused)
    };
    let from = |cursor: &str| v1::WatchEventsRequest { cursor: cursor.to_owned(), ..all() };
    for (admin, request) in [
        (&admin, from(&cursor)),
        (&admin, v1::WatchEventsRequest { filter: of_type("order.created"), ..from(&cursor) }),
        (&admin, from(&cursor_of_tenant)),
        (&admin, from("x")),
        (&admin, from(&"A".repeat(10_000))),
        (&theirs, from(&told[0].1)),
    ] {
        assert_eq!(refused(admin, request).await, ["cursor"]);
    }
    let request = v1::WatchDeliveriesRequest { cursor: told[0].1.clone(), ..Default::default() };
    let status = admin.deliveries().watch_deliveries(request).await.unwrap_err();
    assert_eq!(violations(&status), ["cursor"]);
    let times = v1::EventFilter { start_time: since(10), end_time: since(5), ..Default::default() };
    assert_eq!(refused(&admin, filtered(times)).await, ["filter.start_time", "filter.end_time"]);
    let bad = v1::WatchEventsRequest {
        start_time: since(chrono::Utc::now().timestamp() + 5),
        filter: Some(v1::EventFilter { source_id: "x".into(), ..Default::default() }),
        ..all()
    };
    assert_eq!(refused(&admin, bad).await, ["filter.source_id", "start_time"]);

    let nobody = v1::WatchEventsRequest { tenant_id: "ten_01h2xcejqtf2nbrexx3vqjhp41".into(), ..all() };
    for admin in [&admin, &theirs] {
        assert_eq!(admin.events().watch_events(nobody.clone()).await.unwrap_err().code(), Code::NotFound);
    }
    let denied = publisher.events().watch_events(all()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let denied = publisher.deliveries().watch_deliveries(v1::WatchDeliveriesRequest::default()).await;
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_quiet_watch_says_how_far_it_is() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (mut stream, beginning) =
        begun(&admin, v1::WatchEventsRequest { filter: of_type("wanted"), ..all() }).await;
    admin.publish("other").await;
    let heartbeat = message(&mut stream).await.unwrap();
    assert_eq!(heartbeat.event, None);
    assert_ne!(heartbeat.cursor, beginning, "time has passed, and transactions");
    let wanted = admin.publish("wanted").await;
    for cursor in [heartbeat.cursor, beginning] {
        let request = v1::WatchEventsRequest { filter: of_type("wanted"), cursor, ..all() };
        assert_eq!(next(&mut watch(&admin, request).await).await.0.id, wanted);
    }
}
