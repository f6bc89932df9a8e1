//! Claims work straight from Postgres: chunks that nobody took or whose owner died, and deliveries
//! that are due. This is the truth behind the streams' hints (invariant 2).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::{ChunkId, EndpointId, EventId, ReplicaId};
use bowline_core::replica::Replica;
use bowline_core::store::chunks::{self, ClaimedChunk};
use bowline_core::store::{self, Pool, queue, replicas};
use bowline_core::streams::Streams;
use futures_util::StreamExt as _;
use tokio::time::Instant;
use uuid::Uuid;

use crate::bodies::Part;
use crate::confirm::Session;
use crate::holdings::Holdings;
use crate::job::{Age, Job, NewJob};
use crate::lanes::Lanes;
use crate::match_endpoints::{Matcher, Taken};
use crate::record::{Entry, Recorder};
use crate::share::Shared;

/// A chunk that no stream reader took for this long is claimed from the outbox.
const UNOWNED_FOR: Duration = Duration::from_secs(5);
const CHUNKS_PER_SCAN: i64 = 64;
/// How many chunks are on their way into the lanes at a time.
const TAKEN_AT_A_TIME: usize = 16;
const SCAN: Duration = Duration::from_millis(500);
/// While Redis is away the outbox is the only way.
const SCAN_WITHOUT_REDIS: Duration = Duration::from_millis(20);
const DUE_SCAN: Duration = Duration::from_secs(1);
/// For what this dispatcher knows to be due sooner.
const DUE_SCAN_MIN: Duration = Duration::from_millis(50);
const DUE_SCAN_REST: u32 = 10;
const DUE_ENDPOINTS: i64 = 10_000;
const DUE_ROWS_PER_CLAIM: usize = 2048;
/// Bodies that are gone for now (their partition is being moved) are asked for again after this.
const BODY_MISSING_RETRY: Duration = Duration::from_secs(60);
/// A tenant whose deliveries fill its part of the memory gets the rest after this.
const NO_ROOM_RETRY: Duration = Duration::from_secs(1);
const RECONCILE: Duration = Duration::from_secs(5);

/// Owned in Postgres and unknown in memory at the last look.
#[derive(Debug, Default)]
struct Suspects {
    chunks: HashSet<ChunkId>,
    deliveries: HashSet<DeliveryKey>,
}

#[derive(Debug)]
pub(crate) struct Claims {
    pub(crate) pool: Pool,
    pub(crate) replica: Arc<Replica>,
    pub(crate) matcher: Matcher,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) recorder: Recorder,
    pub(crate) streams: Option<Streams>,
    pub(crate) deliveries: Arc<Shared>,
    /// Chunks on their way or in the lanes, to be compared with what Postgres says is ours.
    pub(crate) holdings: Arc<Holdings>,
    pub(crate) session: Session,
}

impl Claims {
    fn redis_is_away(&self) -> bool {
        self.streams.as_ref().is_none_or(Streams::is_away)
    }

    /// Hands a claimed and remembered chunk on.
    async fn take(&self, mut taken: Taken) {
        let (id, life) = (taken.chunk.id, taken.life);
        let mut pause = Duration::from_millis(100);
        loop {
            let chunk = taken.chunk.clone();
            let error = match self.matcher.dispatch(taken).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::warn!(chunk = %id, "a claimed chunk is not ours any more: it is let go");
                    self.holdings.forget(id);
                    return;
                }
                Err(error) => error,
            };
            if !self.replica.is_current(life) {
                tracing::warn!(%error, chunk = %id, "a chunk is left to its next owner");
                self.holdings.forget(id);
                return;
            }
            tracing::warn!(%error, chunk = %id, "a claimed chunk waits");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
            // What was put into the queue before the fault is found by comparing.
            taken = Taken { chunk, life, events: Vec::new(), compare: true };
        }
    }

    /// Chunks that nobody took, and those of the dead.
    pub(crate) async fn chunks_from_outbox(self: Arc<Self>) -> Result<(), store::Error> {
        loop {
            let away = self.redis_is_away();
            let found = if self.replica.may_start() { self.scan_outbox(away).await? } else { 0 };
            if found < CHUNKS_PER_SCAN as usize {
                tokio::time::sleep(if away { SCAN_WITHOUT_REDIS } else { SCAN }).await;
            }
        }
    }

    async fn scan_outbox(&self, away: bool) -> Result<usize, store::Error> {
        let life = self.replica.id();
        let unowned_for = if away { Duration::ZERO } else { UNOWNED_FOR };
        let claimed = {
            let client = self.pool.get().await?;
            let mut claimed = Vec::new();
            for class in [0, 1] {
                claimed
                    .extend(chunks::claim_unowned(&client, life, class, unowned_for, CHUNKS_PER_SCAN).await?);
            }
            claimed.extend(chunks::claim_orphaned(&client, life, CHUNKS_PER_SCAN).await?);
            self.holdings.take(life, &claimed);
            claimed
        };
        let found = claimed.len();
        self.take_from_postgres(claimed, life).await;
        Ok(found)
    }

    async fn take_from_postgres(&self, claimed: Vec<ClaimedChunk>, life: ReplicaId) {
        let taken = claimed.into_iter().map(|chunk| Taken { chunk, life, events: Vec::new(), compare: true });
        self.take_all(taken).await;
    }

    /// Hands on several chunks; one that has to wait holds up none but the end of the call.
    pub(crate) async fn take_all(&self, taken: impl IntoIterator<Item = Taken>) {
        futures_util::stream::iter(taken)
            .for_each_concurrent(TAKEN_AT_A_TIME, |taken| self.take(taken))
            .await;
    }

    /// Buries those whose lease ran out, frees what they held in the queue, and looks for claims of
    /// ours whose answer was lost.
    pub(crate) async fn keep_order(self: Arc<Self>) -> Result<(), store::Error> {
        let mut reconciled = Instant::now();
        let mut suspects = Suspects::default();
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let client = self.pool.get().await?;
            if self.replica.stood_for_a_lease() {
                for dead in replicas::bury(&client).await? {
                    tracing::warn!(replica = %dead, "a replica's lease ran out: its work is taken over");
                }
            }
            if !self.replica.may_start() {
                continue;
            }
            while queue::free_orphaned(&client).await? > 0 {}
            if reconciled.elapsed() >= RECONCILE {
                reconciled = Instant::now();
                for absent in replicas::bury_absent(&client).await? {
                    tracing::warn!(replica = %absent, "what a replica owned that nobody knows is taken over");
                }
                self.reconcile(&client, &mut suspects).await?;
            }
        }
    }

    /// What Postgres says is ours and memory lacks at two looks in a row was claimed without our
    /// hearing of it.
    async fn reconcile(
        &self,
        client: &store::Connection,
        suspects: &mut Suspects,
    ) -> Result<(), store::Error> {
        let life = self.replica.id();
        // What is claimed from here on is not in the answer, and not done with.
        let known = self.holdings.all();
        let owned = chunks::owned(client, life).await?;
        let owned_ids: HashSet<ChunkId> = owned.iter().map(|chunk| chunk.id).collect();
        let unknown: Vec<ClaimedChunk> =
            owned.into_iter().filter(|chunk| !self.holdings.holds(chunk.id)).collect();
        self.holdings.forget_those(known.into_keys().filter(|id| !owned_ids.contains(id)));
        let (lost, fresh): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|chunk| suspects.chunks.contains(&chunk.id));
        suspects.chunks = fresh.into_iter().map(|chunk| chunk.id).collect();
        self.holdings.take(life, &lost);
        self.take_from_postgres(lost, life).await;
        let owned = queue::owned(client, life).await?;
        let known = self.lanes.queued();
        let unknown: HashSet<DeliveryKey> = owned.into_iter().filter(|key| !known.contains(key)).collect();
        let lost: Vec<DeliveryKey> = unknown.intersection(&suspects.deliveries).copied().collect();
        queue::free(client, life, &lost).await?;
        suspects.deliveries = unknown;
        Ok(())
    }

    /// Deliveries that are due, a fair share of each endpoint's lane.
    pub(crate) async fn due_deliveries(self: Arc<Self>) -> Result<(), store::Error> {
        let mut after = Uuid::nil();
        loop {
            let began = Instant::now();
            let mut full = false;
            if self.replica.may_start() {
                let client = self.pool.get().await?;
                let endpoints = queue::endpoints_with_due_work(&client, after, DUE_ENDPOINTS).await?;
                after = match endpoints.last() {
                    Some(last) if endpoints.len() as i64 == DUE_ENDPOINTS => last.0,
                    _ => Uuid::nil(),
                };
                full = self.claim_due(&client, &endpoints).await?;
            }
            let now = Instant::now();
            if full {
                tokio::time::sleep(SCAN_WITHOUT_REDIS).await;
            } else {
                // A look that takes long is not made more often for what is due soon.
                let rest = DUE_SCAN_MIN.max((now - began) * DUE_SCAN_REST);
                self.lanes.soon.wait(now + rest, now + DUE_SCAN).await;
            }
        }
    }

    /// Returns whether an endpoint had more than was taken.
    async fn claim_due(
        &self,
        client: &store::Connection,
        endpoints: &[EndpointId],
    ) -> Result<bool, store::Error> {
        let room = self.deliveries.free().min(DUE_ROWS_PER_CLAIM);
        if endpoints.is_empty() || room == 0 {
            return Ok(false);
        }
        let share = (room / endpoints.len()).max(1);
        let (ids, limits): (Vec<EndpointId>, Vec<i64>) = endpoints
            .iter()
            .map(|id| (*id, self.lanes.room_for_due(*id).min(share) as i64))
            .filter(|(_, most)| *most > 0)
            .take(room)
            .unzip();
        let life = self.replica.id();
        let at = std::time::Instant::now();
        let claimed = queue::claim_due(client, life, &ids, &limits).await?;
        // An endpoint made a moment ago, for which another replica has queued: not one that was deleted.
        if claimed.iter().any(|row| self.matcher.snapshot.endpoint(row.key.endpoint_id).is_none()) {
            self.matcher.snapshot.refresh().await?;
        }
        let full = claimed.len() as i64 >= limits.iter().sum::<i64>() && !claimed.is_empty();
        let mut rest = claimed.as_slice();
        while !rest.is_empty() {
            let taken = self.take_due(client, life, rest, at).await?;
            rest = &rest[taken.rows..];
            if taken.no_room {
                // What is loaded now would only be thrown away.
                for row in rest {
                    self.recorder.send(Entry::Release { key: row.key, life, due_in: NO_ROOM_RETRY }).await;
                }
                break;
            }
        }
        Ok(full)
    }

    /// Loads the events of claimed rows, as many as are loaded at a time, and hands those to the lanes.
    async fn take_due(
        &self,
        client: &store::Connection,
        life: ReplicaId,
        rows: &[queue::ClaimedDelivery],
        at: std::time::Instant,
    ) -> Result<DueTaken, store::Error> {
        let mut seen = HashSet::new();
        let event_ids: Vec<EventId> =
            rows.iter().map(|row| row.key.event_id).filter(|id| seen.insert(*id)).collect();
        let part = Part::load(&self.matcher, client, &event_ids).await?;
        let later: HashSet<&EventId> = event_ids[part.looked_at..].iter().collect();
        let now = rows.iter().position(|row| later.contains(&row.key.event_id)).unwrap_or(rows.len());
        let mut taken = DueTaken { rows: now, no_room: false };
        for row in &rows[..now] {
            let release = |due_in| Entry::Release { key: row.key, life, due_in };
            let Some(held) = part.events.get(&row.key.event_id) else {
                self.recorder.send(release(BODY_MISSING_RETRY)).await;
                continue;
            };
            let Some(load) = self.matcher.load(row.tenant_id, held.as_ref(), Duration::ZERO).await else {
                taken.no_room = true;
                self.recorder.send(release(NO_ROOM_RETRY)).await;
                continue;
            };
            let job = Job::new(NewJob {
                key: row.key,
                tenant_id: row.tenant_id,
                load: Some(load),
                chunk: None,
                life,
                attempt: row.attempt as u32,
                used: row.used as u32,
                age: Age::OfBudget { waited: row.waited, at },
                test: false,
            });
            self.lanes.submit(job).await;
        }
        Ok(taken)
    }
}

/// How far claimed rows were handed on.
struct DueTaken {
    /// So many, from the first on.
    rows: usize,
    /// An event, or a delivery, was one too many.
    no_room: bool,
}
