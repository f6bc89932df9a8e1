//! The journal against a real Postgres, without a service around it.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::bootstrap::{Config, Service};
use bowline_core::event::Event;
use bowline_core::id::{DEFAULT_TENANT, EventId, SourceId};
use bowline_core::journal::{Committed, DedupKey, Journal, JournalError, NewEvent};
use bowline_core::snapshot::{Need, Snapshot};
use bowline_core::store;
use bowline_tests::database::Database;
use bowline_tests::proxy::{Cut, Proxy};
use bowline_tests::{admin, stack, stores};
use bytes::Bytes;
use futures_util::future::join_all;
use uuid::Uuid;

/// In the statement that stores events, and in no other.
const STORE: &str = "INSERT INTO dedup_keys";

async fn database() -> Database {
    Database::create(&stores::shared().await.postgres_url).await.unwrap()
}

/// A journal with so many writers, at that Postgres.
async fn journal(database: &Database, url: &str, writers: &str) -> Journal {
    let mut settings = stack::base_settings(database, "redis://127.0.0.1:1/0");
    settings.retain(|(name, _)| name != "BOWLINE_POSTGRES_URL");
    settings.push(("BOWLINE_POSTGRES_URL".to_owned(), url.to_owned()));
    settings.push(("BOWLINE_INGEST_JOURNAL_WRITERS".to_owned(), writers.to_owned()));
    let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into()));
    let config = Config::from_parts(None, settings, Service::Ingest).unwrap();
    Journal::start(&config, None, snapshot(database).await).unwrap()
}

async fn snapshot(database: &Database) -> Arc<Snapshot> {
    Snapshot::load(store::connect(&database.url, 2).unwrap(), Need::Sources).await.unwrap()
}

fn event(event_type: &str) -> NewEvent {
    let event = Event {
        id: EventId::new(),
        tenant_id: DEFAULT_TENANT,
        source_id: None,
        event_type: event_type.to_owned(),
        channel: None,
        content_type: "application/json".to_owned(),
        headers: Bytes::new(),
        body: Bytes::from_static(b"{}"),
        time: chrono::Utc::now(),
    };
    NewEvent { event, generation: 0, key: None }
}

fn keyed(event_type: &str, key: &str) -> NewEvent {
    let key = DedupKey {
        scope: DEFAULT_TENANT.0,
        hash: DedupKey::hash(key.as_bytes()),
        ttl: Duration::from_secs(3600),
        fingerprint: None,
    };
    NewEvent { key: Some(key), ..event(event_type) }
}

async fn commit(journal: &Journal, event: NewEvent) -> Result<Committed, JournalError> {
    let permit = journal.admit(DEFAULT_TENANT)?;
    journal.commit(&permit, event).await
}

/// All of them at once: on one thread they are queued before a writer wakes, so it takes them as one batch.
async fn commit_all(journal: &Journal, events: Vec<NewEvent>) -> Vec<Result<Committed, JournalError>> {
    join_all(events.into_iter().map(|event| commit(journal, event))).await
}

async fn events_stored(database: &Database) -> i64 {
    database.count("SELECT count(*) FROM events").await
}

/// Every stored event is in one chunk of the outbox.
async fn assert_outbox_is_complete(database: &Database) {
    let missing = "SELECT count(*) FROM events e
                    WHERE (SELECT count(*) FROM outbox o WHERE e.id = ANY(o.event_ids)) <> 1";
    assert_eq!(database.count(missing).await, 0, "events without a chunk, or in two");
}

#[tokio::test]
async fn large_bodies_are_compressed_the_faster_way() {
    let database = database().await;
    let journal = journal(&database, &database.url, "1").await;
    let mut event = event("order.created");
    event.event.body = Bytes::from(r#"{"price":1}"#.repeat(1000));
    commit(&journal, event).await.unwrap();
    let sql = "SELECT pg_column_compression(body) FROM events";
    let found: String = database.sql().query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(found, "lz4");
}

#[tokio::test]
async fn the_same_key_twice_in_a_batch_is_one_event() {
    let database = database().await;
    let journal = journal(&database, &database.url, "1").await;
    let events: Vec<_> = (0..10).map(|_| keyed("order.created", "same")).collect();
    let first = events[0].event.id;
    let committed: Vec<_> = commit_all(&journal, events).await.into_iter().map(Result::unwrap).collect();
    assert!(committed.iter().all(|committed| committed.id == first), "{committed:?}");
    assert_eq!(committed.iter().filter(|committed| !committed.duplicate).count(), 1);
    assert_eq!(events_stored(&database).await, 1);
    assert_outbox_is_complete(&database).await;
}

#[tokio::test]
async fn where_the_first_of_a_key_cannot_be_stored_the_next_stands_in() {
    let database = database().await;
    let journal = journal(&database, &database.url, "1").await;
    let events =
        vec![keyed("poison\0", "same"), keyed("order.created", "same"), keyed("order.created", "same")];
    let second = events[1].event.id;
    let answers = commit_all(&journal, events).await;
    assert!(matches!(answers[0], Err(JournalError::Poison { .. })), "{answers:?}");
    assert_eq!(answers[1], Ok(Committed { id: second, duplicate: false }));
    assert_eq!(answers[2], Ok(Committed { id: second, duplicate: true }));
    assert_eq!(events_stored(&database).await, 1);
}

#[tokio::test]
async fn writers_with_opposite_key_orders_do_not_lock_each_other_out() {
    let database = database().await;
    // Two processes, several writers each.
    let journals =
        [journal(&database, &database.url, "2").await, journal(&database, &database.url, "2").await];
    for round in 0..10 {
        let batch = || (0..60).map(|key| keyed("order.created", &format!("{round}-{key}")));
        let (up, down): (Vec<_>, Vec<_>) = (batch().collect(), batch().rev().collect());
        let (up, down) = tokio::join!(commit_all(&journals[0], up), commit_all(&journals[1], down));
        let (up, down): (Vec<_>, Vec<_>) = (
            up.into_iter().map(Result::unwrap).collect(),
            down.into_iter().rev().map(Result::unwrap).collect(),
        );
        for (key, (up, down)) in up.iter().zip(&down).enumerate() {
            assert_eq!(up.id, down.id, "round {round}, key {key}");
            assert_ne!(up.duplicate, down.duplicate, "round {round}, key {key}");
        }
    }
    assert_eq!(events_stored(&database).await, 600);
    assert_outbox_is_complete(&database).await;
}

#[tokio::test]
async fn a_poison_row_fails_alone() {
    let database = database().await;
    let journal = journal(&database, &database.url, "1").await;
    let mut events: Vec<_> = (0..50).map(|number| keyed("order.created", &number.to_string())).collect();
    events[17] = event("nul\0byte");
    events[40] = keyed("nul\0byte", "forty");
    let answers = commit_all(&journal, events).await;
    for (number, answer) in answers.iter().enumerate() {
        match (number, answer) {
            (17 | 40, Err(JournalError::Poison { message })) => assert!(!message.is_empty()),
            (17 | 40, other) => panic!("{number}: {other:?}"),
            (_, Ok(committed)) => assert!(!committed.duplicate),
            (_, other) => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(events_stored(&database).await, 48);
    assert_outbox_is_complete(&database).await;
    // The poison took no key with it.
    commit(&journal, keyed("order.created", "forty")).await.unwrap();
}

/// A connection that ends while a commit is on its way.
async fn cut_during_commit(cut: Cut) {
    let database = database().await;
    let proxy = Proxy::start(stores::address(&database.url).unwrap()).await;
    let journal = journal(&database, &proxy.in_front_of(&database.url), "1").await;
    commit(&journal, event("order.created")).await.unwrap();

    proxy.cut_once(STORE, cut);
    let events: Vec<_> = (0..10).map(|number| keyed("order.created", &number.to_string())).collect();
    let ids: Vec<_> = events.iter().map(|event| event.event.id).collect();
    let answers = commit_all(&journal, events).await;
    proxy.await_cuts(1).await;
    for (id, answer) in ids.into_iter().zip(answers) {
        assert_eq!(answer, Ok(Committed { id, duplicate: false }), "its own key is not another's");
    }
    assert_eq!(events_stored(&database).await, 11);
    assert_outbox_is_complete(&database).await;
    assert!(commit(&journal, keyed("order.created", "3")).await.unwrap().duplicate);
}

#[tokio::test]
async fn a_connection_cut_during_commit_is_a_success_once() {
    cut_during_commit(Cut::Answer).await;
}

#[tokio::test]
async fn a_connection_cut_before_commit_is_a_success_once() {
    cut_during_commit(Cut::Before).await;
}

#[tokio::test]
async fn an_expired_key_is_taken_over() {
    let database = database().await;
    let journal = journal(&database, &database.url, "1").await;
    let first = commit(&journal, keyed("order.created", "one")).await.unwrap();
    assert_eq!(
        commit(&journal, keyed("order.created", "one")).await.unwrap(),
        Committed { duplicate: true, ..first }
    );
    let expire = "UPDATE dedup_keys SET expires_at = now() - interval '1 second'";
    database.sql().execute(expire, &[]).await.unwrap();
    let second = commit(&journal, keyed("order.created", "one")).await.unwrap();
    assert!(!second.duplicate && second.id != first.id);
    assert_eq!(commit(&journal, keyed("order.created", "one")).await.unwrap().id, second.id);
}

#[tokio::test]
async fn a_missing_partition_is_made() {
    let database = database().await;
    let journal = journal(&database, &database.url, "2").await;
    let partitions = "SELECT inhrelid::regclass::text FROM pg_inherits
                       WHERE inhparent IN ('events'::regclass, 'attempts'::regclass)
                         AND inhrelid::regclass::text LIKE ANY (ARRAY['events%', 'attempts%'])";
    for row in database.sql().query(partitions, &[]).await.unwrap() {
        let name: String = row.get(0);
        // The parents have partitioned indexes, which inherit too: tables only.
        database.sql().batch_execute(&format!("DROP TABLE {name}")).await.unwrap();
    }
    let answers = commit_all(&journal, (0..20).map(|_| event("order.created")).collect()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(events_stored(&database).await, 20);
}

#[tokio::test]
async fn a_request_verified_against_an_older_source_comes_back() {
    let stack = bowline_tests::Stack::builder().dispatchers(0).start().await;
    let source: SourceId = stack.admin().source("github", "bowline-test-secret").await.parse().unwrap();
    let journal = journal(&stack.database, &stack.database.url, "1").await;
    let row = stack.database.sql().query_one("SELECT generation FROM sources", &[]).await.unwrap();
    let generation: i64 = row.get(0);
    let from_source = |generation| {
        let mut new = event("push");
        new.event.source_id = Some(source);
        NewEvent { generation, ..new }
    };
    let batch = vec![from_source(generation), from_source(generation - 1), event("order.created")];
    let answers = commit_all(&journal, batch).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert_eq!(answers[1], Err(JournalError::Stale));
    let delete = bowline_proto::v1::DeleteSourceRequest { id: source.to_string(), ..Default::default() };
    admin::Admin::new(&stack.ingests[0].admin_url(), Some(admin::KEY))
        .sources()
        .delete_source(delete)
        .await
        .unwrap();
    assert_eq!(commit(&journal, from_source(generation)).await, Err(JournalError::Stale));
}

#[tokio::test]
async fn the_same_key_for_another_event_is_told_apart() {
    let database = database().await;
    let journal = journal(&database, &database.url, "1").await;
    let with_print = |print: u8| {
        let mut new = keyed("order.created", "one");
        new.key = new.key.map(|key| DedupKey { fingerprint: Some([print; 32]), ..key });
        new
    };
    // In one batch and over two.
    let answers = commit_all(&journal, vec![with_print(1), with_print(1), with_print(2)]).await;
    assert!(matches!(&answers[0], Ok(Committed { duplicate: false, .. })), "{answers:?}");
    assert!(matches!(&answers[1], Ok(Committed { duplicate: true, .. })), "{answers:?}");
    assert_eq!(answers[2], Err(JournalError::KeyReused));
    assert_eq!(commit(&journal, with_print(2)).await, Err(JournalError::KeyReused));
    assert!(commit(&journal, with_print(1)).await.unwrap().duplicate);
}

#[tokio::test]
async fn over_the_limit_in_flight_requests_are_shed_at_once() {
    let database = database().await;
    let mut settings = stack::base_settings(&database, "redis://127.0.0.1:1/0");
    settings.push(("BOWLINE_INGEST_IN_FLIGHT_MAX".to_owned(), "10".to_owned()));
    let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into()));
    let config = Config::from_parts(None, settings, Service::Ingest).unwrap();
    let journal = Journal::start(&config, None, snapshot(&database).await).unwrap();
    let permits: Vec<_> = (0..10).map_while(|_| journal.admit(DEFAULT_TENANT).ok()).collect();
    assert_eq!(permits.len(), 5, "half of it is one tenant's share");
    assert!(matches!(journal.admit(DEFAULT_TENANT), Err(JournalError::Overloaded { .. })));
    let other = bowline_core::id::TenantId(Uuid::from_u128(77));
    let room = journal.admit(other).expect("another tenant finds room");
    assert!(room.grow(1 << 30).is_err(), "and no more than there is");
    drop(permits);
    journal.admit(DEFAULT_TENANT).expect("room again");
}
