//! From a claimed chunk to deliveries: matches each event to endpoints by a configuration no older
//! than the event's commit, leaving out endpoints made after it (invariant 11).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::delivery::{DeadReason, Decision, DeliveryKey};
use bowline_core::event::Event;
use bowline_core::id::{EndpointId, EventId, ReplicaId, TenantId};
use bowline_core::snapshot::{LiveEndpoint, Snapshot};
use bowline_core::store::chunks::{self, ClaimedChunk};
use bowline_core::store::{self, Pool, channels, event_types, queue};

use crate::job::{Age, Chunk, HeldEvent, Job, Load, NewJob};
use crate::lanes::{Lanes, without_request};
use crate::ordered::Wake;
use crate::record::{Entry, Recorder};
use crate::select;
use crate::share::Shared;

/// More matches of one event than this go to the queue by INSERT.
const FAN_OUT_IN_MEMORY: usize = 256;
const ENQUEUE_ROWS: usize = 1000;
/// From this many takeovers on a chunk is processed alone.
const SUSPECT_TAKEOVERS: i32 = 3;
/// From this many on its events are poison: something in them kills dispatchers.
const POISON_TAKEOVERS: i32 = 6;
/// How long a delivery waits for room in memory before it is parked in Postgres.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) pool: Pool,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) recorder: Recorder,
    /// Bounds the deliveries in memory.
    pub(crate) deliveries: Arc<Shared>,
    /// Bounds their bodies, in bytes.
    pub(crate) bodies: Arc<Shared>,
    /// For what waits in channels from now on.
    pub(crate) wake: Arc<Wake>,
}

/// A chunk on its way into the lanes.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) chunk: ClaimedChunk,
    pub(crate) life: ReplicaId,
    /// What the stream entry carried; the rest is read from Postgres.
    pub(crate) events: Vec<Event>,
    /// Not from a first stream read: compare with what Postgres knows before anything is sent.
    pub(crate) compare: bool,
}

impl Matcher {
    /// Puts every delivery of a chunk that is ours into its lane or the queue. Returns false where Postgres says that it
    /// is not ours: then nothing of it is to be done.
    pub(crate) async fn dispatch(&self, mut taken: Taken) -> Result<bool, store::Error> {
        self.snapshot.catch_up(taken.chunk.config_version).await?;
        self.complete(&mut taken).await?;
        let mut settled = if taken.compare || taken.chunk.takeovers > 0 {
            let client = self.pool.get().await?;
            chunks::settled(&client, &taken.chunk.event_ids).await?
        } else {
            HashSet::new()
        };
        if !taken.chunk.ordered.is_empty() {
            self.wake.now();
            settled.extend(taken.chunk.ordered.iter().copied());
        }
        let unknown = self.flag_unknown(&taken.events).await?;
        let mut near = Vec::new();
        for event in taken.events.iter().filter(|event| !unknown.contains(&event.id)) {
            let (matches, ordered) = self.matches(event, taken.chunk.config_version, &settled).await;
            if !ordered.is_empty() && !self.append(&taken, event, &ordered).await? {
                return Ok(false);
            }
            if matches.len() <= FAN_OUT_IN_MEMORY {
                near.extend(matches);
            } else if !self.enqueue(&taken, event, &matches).await? {
                return Ok(false);
            }
        }
        let chunk = Arc::new(Chunk::new(taken.chunk.id, taken.life, near.len()));
        if near.is_empty() {
            self.recorder.send(Entry::Settled(chunk)).await;
        } else {
            self.submit(taken, &chunk, near).await;
        }
        Ok(true)
    }

    /// Those from a source whose type their tenant's strict catalog does not have. They are delivered to nobody, and
    /// say so before they are settled. Most tenants have no catalog, and most chunks none of these.
    async fn flag_unknown(&self, events: &[Event]) -> Result<Vec<EventId>, store::Error> {
        let is_unknown = |event: &&Event| {
            event.source_id.is_some()
                && self
                    .snapshot
                    .catalog(event.tenant_id)
                    .is_some_and(|catalog| catalog.lacks(&event.event_type))
        };
        let unknown: Vec<EventId> = events.iter().filter(is_unknown).map(|event| event.id).collect();
        if !unknown.is_empty() {
            let client = self.pool.get().await?;
            event_types::flag_unknown(&client, &unknown).await?;
        }
        Ok(unknown)
    }

    /// Reads what the stream entry did not carry. An event that is gone everywhere has no deliveries.
    async fn complete(&self, taken: &mut Taken) -> Result<(), store::Error> {
        let have: HashSet<EventId> = taken.events.iter().map(|event| event.id).collect();
        // The row says what was committed; an entry may carry more.
        let listed: HashSet<EventId> = taken.chunk.event_ids.iter().copied().collect();
        taken.events.retain(|event| listed.contains(&event.id));
        let missing: Vec<EventId> =
            taken.chunk.event_ids.iter().copied().filter(|id| !have.contains(id)).collect();
        if !missing.is_empty() {
            let client = self.pool.get().await?;
            taken.events.extend(chunks::load(&client, &missing).await?);
        }
        Ok(())
    }

    /// Those that are sent as they come, and those that were ordered only after the event's commit.
    async fn matches(
        &self,
        event: &Event,
        config_version: i64,
        settled: &HashSet<(EventId, EndpointId)>,
    ) -> (Vec<(EventId, EndpointId)>, Vec<(EventId, EndpointId)>) {
        let found: Vec<_> = self
            .snapshot
            .endpoints_of(event.tenant_id)
            .matching(&event.event_type, event.channel.as_deref())
            .filter(|live| live.endpoint.created_version <= config_version)
            .filter(|live| !settled.contains(&(event.id, live.endpoint.id)))
            .cloned()
            .collect();
        let wanted = select::leave_out_unwanted(found, event).await;
        let (ordered, free): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|live| !live.endpoint.spec.ordering.is_none());
        let pairs = |found: Vec<&Arc<LiveEndpoint>>| {
            found.into_iter().map(|live| (event.id, live.endpoint.id)).collect()
        };
        (pairs(free), pairs(ordered))
    }

    /// To the tails of their channels. Returns false if the chunk is no longer ours.
    async fn append(
        &self,
        taken: &Taken,
        event: &Event,
        ordered: &[(EventId, EndpointId)],
    ) -> Result<bool, store::Error> {
        let mut client = self.pool.get().await?;
        let (life, chunk) = (taken.life, taken.chunk.id);
        let ours = channels::append(&mut client, life, chunk, event.tenant_id, ordered).await?;
        self.wake.now();
        Ok(ours)
    }

    /// Returns false if the chunk is no longer ours.
    async fn enqueue(
        &self,
        taken: &Taken,
        event: &Event,
        matches: &[(EventId, EndpointId)],
    ) -> Result<bool, store::Error> {
        let client = self.pool.get().await?;
        for rows in matches.chunks(ENQUEUE_ROWS) {
            if !queue::enqueue(&client, taken.life, taken.chunk.id, event.tenant_id, rows).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn submit(&self, taken: Taken, chunk: &Arc<Chunk>, pairs: Vec<(EventId, EndpointId)>) {
        let mut by_event: Vec<(EventId, Vec<EndpointId>)> = Vec::new();
        for (event, endpoint) in pairs {
            match by_event.last_mut() {
                Some((last, endpoints)) if *last == event => endpoints.push(endpoint),
                _ => by_event.push((event, vec![endpoint])),
            }
        }
        let mut events: Vec<Event> = taken.events;
        for (event_id, endpoints) in by_event {
            let Some(at) = events.iter().position(|event| event.id == event_id) else { continue };
            let event = events.swap_remove(at);
            let tenant_id = event.tenant_id;
            let held = self.hold(event, PATIENCE).await;
            for endpoint_id in endpoints {
                let job = Job::new(NewJob {
                    key: DeliveryKey { event_id, endpoint_id, run: 0 },
                    tenant_id,
                    load: self.load(tenant_id, held.as_ref(), PATIENCE).await,
                    chunk: Some(Arc::clone(chunk)),
                    life: taken.life,
                    attempt: 0,
                    used: 0,
                    age: Age::OfEvent,
                    test: false,
                });
                if taken.chunk.takeovers >= POISON_TAKEOVERS {
                    let mut outcome = without_request(
                        &job,
                        "refused",
                        Decision::Dead,
                        "its chunk outlived six dispatchers",
                    );
                    outcome.dead_reason = Some(DeadReason::Poison.as_str());
                    self.recorder
                        .send(Entry::Outcome { job, outcome: Box::new(outcome), disable: false })
                        .await;
                } else if job.event().is_some() {
                    self.lanes.submit(job).await;
                } else {
                    self.lanes.give_back(job, Duration::ZERO).await;
                }
            }
        }
        if taken.chunk.takeovers >= SUSPECT_TAKEOVERS {
            chunk.settled.notified().await;
        }
    }

    /// Counts an event's body against the bound; `None`: its tenant has no room for it.
    pub(crate) async fn hold(&self, event: Event, patience: Duration) -> Option<Arc<HeldEvent>> {
        let size = event.body.len() + event.headers.len();
        let bytes = self.bodies.take(event.tenant_id, size, patience).await?;
        Some(Arc::new(HeldEvent { event, _bytes: bytes }))
    }

    /// Counts a delivery against the bound on references.
    pub(crate) async fn load(
        &self,
        tenant: TenantId,
        event: Option<&Arc<HeldEvent>>,
        patience: Duration,
    ) -> Option<Load> {
        let event = Arc::clone(event?);
        let reference = self.deliveries.take(tenant, 1, patience).await?;
        Some(Load { event, _reference: reference })
    }
}
