//! Reads the streams: a hint that a chunk was committed, with its events inline. Who reads an entry
//! claims the chunk's row first; the entry is acknowledged and deleted right after the claim's commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::crash;
use bowline_core::event::Event;
use bowline_core::id::{ChunkId, ReplicaId};
use bowline_core::store::chunks;
use bowline_core::streams::{AUTOCLAIM_IDLE, Class, StreamEntry, StreamId, Streams};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::claim::Claims;
use crate::match_endpoints::Taken;

const ENTRIES_PER_READ: usize = 32;
const BLOCK: Duration = Duration::from_secs(2);
const REDIS_PAUSE: Duration = Duration::from_millis(250);
/// `bulk` is read while `events` is empty, and once after this many batches of it at the latest.
const EVENTS_BATCHES_PER_BULK: u64 = 8;
/// How often `bulk` looks whether `events` is empty.
const BULK_PATIENCE: Duration = Duration::from_millis(50);

/// Whose turn it is between the two streams of a shard.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    events_batches: AtomicU64,
    /// More may be left of `events` than was read last.
    events_wait: AtomicBool,
    bulk_may_read: Notify,
}

impl Turn {
    fn events_read(&self, found: usize) {
        self.events_wait.store(found == ENTRIES_PER_READ, Ordering::Relaxed);
        let batches = self.events_batches.fetch_add(1, Ordering::Relaxed) + 1;
        if batches.is_multiple_of(EVENTS_BATCHES_PER_BULK) {
            self.bulk_may_read.notify_one();
        }
    }

    async fn bulk(&self) {
        while self.events_wait.load(Ordering::Relaxed) {
            if tokio::time::timeout(BULK_PATIENCE, self.bulk_may_read.notified()).await.is_ok() {
                return;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) streams: Streams,
    pub(crate) stream: StreamId,
    pub(crate) turn: Arc<Turn>,
    pub(crate) claims: Arc<Claims>,
}

impl Consumer {
    /// Reads for ever; Redis being away is no error.
    pub(crate) async fn run(&self) {
        let mut life = self.claims.replica.id();
        let mut reader = self.streams.reader(self.stream, life.to_string());
        loop {
            if !self.claims.replica.may_start() {
                tokio::time::sleep(REDIS_PAUSE).await;
                continue;
            }
            if self.claims.replica.id() != life {
                life = self.claims.replica.id();
                reader.rename(life.to_string());
            }
            if self.stream.class == Class::Bulk {
                self.turn.bulk().await;
            }
            match self.streams.read(&mut reader, ENTRIES_PER_READ, BLOCK).await {
                Ok(entries) => {
                    if self.stream.class == Class::Events {
                        self.turn.events_read(entries.len());
                    }
                    self.claim(entries, life).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a stream can't be read; the outbox is");
                    tokio::time::sleep(REDIS_PAUSE).await;
                }
            }
        }
    }

    /// Takes entries from consumers that did not settle them.
    pub(crate) async fn reclaim(&self) {
        loop {
            tokio::time::sleep(AUTOCLAIM_IDLE / 4).await;
            let life = self.claims.replica.id();
            let mut from: Option<String> = None;
            while let Ok(found) = self
                .streams
                .autoclaim(self.stream, &life.to_string(), from.as_deref(), ENTRIES_PER_READ)
                .await
            {
                self.claim(found.entries, life).await;
                from = found.next;
                if from.is_none() {
                    break;
                }
            }
        }
    }

    async fn claim(&self, entries: Vec<StreamEntry>, life: ReplicaId) {
        let mut entry_ids = Vec::with_capacity(entries.len());
        let mut inline: HashMap<ChunkId, Vec<Event>> = HashMap::new();
        for entry in entries {
            entry_ids.push(entry.id);
            match entry.chunk {
                Ok(chunk) => {
                    let events =
                        chunk.events.into_iter().filter(|event| event.inline).map(|event| event.event);
                    inline.insert(chunk.id, events.collect());
                }
                Err(error) => {
                    tracing::warn!(%error, "a stream entry is no chunk; its outbox row brings the events");
                }
            }
        }
        if entry_ids.is_empty() {
            return;
        }
        let ids: Vec<Uuid> = inline.keys().map(|id| id.0).collect();
        let claimed = match self.claim_rows(&ids, life).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // Not acknowledged: reclaimed later, or found in the outbox.
                tracing::warn!(%error, "chunks of a stream can't be claimed");
                tokio::time::sleep(REDIS_PAUSE).await;
                return;
            }
        };
        crash::point("dispatcher_after_claim_before_ack");
        if let Err(error) = self.streams.settle(self.stream, &entry_ids).await {
            tracing::debug!(%error, "entries stay in the stream; their chunks are claimed");
        }
        let taken = claimed.into_iter().map(|chunk| {
            let events = inline.remove(&chunk.id).unwrap_or_default();
            Taken { chunk, life, events, compare: false }
        });
        self.claims.take_all(taken).await;
    }

    async fn claim_rows(
        &self,
        ids: &[Uuid],
        life: ReplicaId,
    ) -> Result<Vec<chunks::ClaimedChunk>, bowline_core::store::Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let claimed = self.claims.session().await.claim(life, ids).await?;
        self.claims.holdings.take(life, &claimed);
        Ok(claimed)
    }
}
