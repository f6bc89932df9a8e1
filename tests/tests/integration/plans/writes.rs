//! What is written in groups: events as they come in, and what became of deliveries.

use std::time::Duration;

use bowline_core::delivery::{Decision, DeliveryKey};
use bowline_core::event::Event;
use bowline_core::id::{AttemptId, ChunkId, DEFAULT_TENANT, EventId, SourceId};
use bowline_core::journal::DedupKey;
use bowline_core::store::journal::{self, Connection};
use bowline_core::store::record::{self, Batch, Outcome, Park, Release};
use bowline_core::store::{self, chunks, queue};
use bowline_core::streams::Class;
use bytes::Bytes;

use super::{BUSY_ENDPOINT, DAYS, LIVE, ROUNDS, SMALL_ENDPOINT, SMALL_TENANT, Site, id_of};

pub(super) async fn journal(site: &mut Site, connection: &Connection) {
    site.tap.take();
    let orders = journal::Orders { version: i64::MAX, places: Vec::new() };
    for round in 0..ROUNDS {
        let made: Vec<_> = (0..256).map(|number| (new_event(number), key(round, number))).collect();
        let chunk = ChunkId::new();
        let mut rows: Vec<_> = made
            .iter()
            .map(|(event, key)| journal::Row {
                event,
                generation: 1,
                key: Some(key),
                chunk,
                shard: 0,
                class: Class::Events,
            })
            .collect();
        rows.sort_by_key(|row| (row.key.unwrap().scope, row.key.unwrap().hash));
        // A chunk holds 64 at most.
        for (number, row) in rows.iter_mut().enumerate() {
            row.chunk = ChunkId(id_of(8, round * 4 + number as u128 / 64));
        }
        let written = connection.insert(&rows, &orders, false).await.unwrap().unwrap();
        assert_eq!(written.iter().filter(|row| row.inserted).count(), 128, "half of the keys are taken");
        site.check("store events", 2000, 1);
        let keys: Vec<_> = made.iter().map(|(_, key)| key).collect();
        assert_eq!(connection.holders(&keys).await.unwrap().len(), 256);
        site.check("who holds the keys", 1000, 0);
    }
}

fn new_event(number: u128) -> Event {
    Event {
        id: EventId::new(),
        tenant_id: DEFAULT_TENANT,
        source_id: Some(SourceId(id_of(3, number % 250))),
        event_type: "order.created".to_owned(),
        channel: None,
        content_type: "application/json".to_owned(),
        headers: Bytes::new(),
        body: Bytes::from_static(b"{}"),
        time: chrono::Utc::now(),
    }
}

/// Every other one is in the database already.
fn key(round: u128, number: u128) -> DedupKey {
    let taken = 2 + 25 * (round * 128 + number / 2);
    let (scope, text) = match number % 2 {
        0 => (taken % 500, taken.to_string()),
        _ => (number, format!("fresh-{round}-{number}")),
    };
    let hash = DedupKey::hash(text.as_bytes());
    DedupKey { scope: id_of(3, scope), hash, ttl: Duration::from_secs(3600), fingerprint: None }
}

/// What a dispatcher does that has next to nothing to do, until its sessions have settled for their plans.
pub(super) async fn idle(connection: &Connection, records: &store::Connection) {
    let orders = journal::Orders { version: i64::MAX, places: Vec::new() };
    for _ in 0..ROUNDS {
        let (event, chunk) = (new_event(0), ChunkId::new());
        let row =
            journal::Row { event: &event, generation: 1, key: None, chunk, shard: 0, class: Class::Events };
        connection.insert(&[row], &orders, false).await.unwrap().unwrap();
        let key = DeliveryKey { event_id: event.id, endpoint_id: SMALL_ENDPOINT, run: 0 };
        let one = Batch {
            outcomes: vec![outcome(key, Decision::Delivered, Some(chunk))],
            settled: vec![(chunk, LIVE)],
            ..Batch::default()
        };
        record::commit(records, &one).await.unwrap();
    }
}

pub(super) async fn record(site: &mut Site, records: &store::Connection) {
    let client = site.pool.get().await.unwrap();
    let mut chunks = chunks::owned(&client, LIVE).await.unwrap().into_iter();
    for round in 0..ROUNDS {
        let claimed = queue::claim_due(&client, LIVE, &[BUSY_ENDPOINT], &[1024]).await.unwrap();
        assert_eq!(claimed.len(), 1024);
        site.tap.take();
        let (held, rest) = claimed.split_at(924);
        let mut batch = Batch { repeated: round % 2 == 1, ..Batch::default() };
        for (number, delivery) in held.iter().enumerate() {
            let decision = [Decision::Delivered, Decision::Retry, Decision::Dead][number % 3];
            batch.outcomes.push(outcome(delivery.key, decision, None));
        }
        for delivery in rest {
            batch.releases.push(Release { key: delivery.key, life: LIVE, due_in_ms: 1000 });
        }
        for chunk in chunks.by_ref().take(20) {
            let keys = chunk.event_ids.iter().map(|event| DeliveryKey {
                event_id: *event,
                endpoint_id: SMALL_ENDPOINT,
                run: 1,
            });
            for (number, key) in keys.enumerate() {
                if number % 2 == 0 {
                    batch.outcomes.push(outcome(key, Decision::Delivered, Some(chunk.id)));
                } else {
                    batch.parks.push(Park {
                        key,
                        tenant_id: SMALL_TENANT,
                        chunk: chunk.id,
                        life: LIVE,
                        keep: false,
                        due_in_ms: 0,
                    });
                }
            }
            batch.settled.push((chunk.id, LIVE));
        }
        let effects = record::commit(records, &batch).await.unwrap();
        assert_eq!((effects.decisions.len(), effects.lost.len()), (batch.outcomes.len(), 0));
        assert_eq!(batch.settled.len(), 20, "there are chunks for each round");
        site.check("record a full batch", 10_000, DAYS as usize);
        let one =
            Batch { outcomes: vec![outcome(held[0].key, Decision::Delivered, None)], ..Batch::default() };
        record::commit(records, &one).await.unwrap();
        site.check("record a single outcome", 100, 1);
    }
}

fn outcome(key: DeliveryKey, decision: Decision, chunk: Option<ChunkId>) -> Outcome {
    Outcome {
        key,
        attempt_id: AttemptId::new(),
        tenant_id: DEFAULT_TENANT,
        attempt: 2,
        kind: "request",
        decision,
        started_at: chrono::Utc::now(),
        duration_us: Some(1000),
        url: None,
        request_headers: None,
        status: Some(200),
        response_headers: None,
        response_body: None,
        error_kind: None,
        error_message: None,
        chunk,
        life: LIVE,
        due_in_ms: 1000,
        dead_reason: None,
        timings: [None; 4],
    }
}
