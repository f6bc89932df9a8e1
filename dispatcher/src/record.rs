//! Writes what became of deliveries, in group commits. Park and outcome of one delivery pass through
//! one recorder, in order. What can't be committed now is kept and tried again: unrecorded work is
//! never acknowledged.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_core::delivery::{Decision, DeliveryKey};
use bowline_core::id::{ChunkId, EndpointId, ReplicaId};
use bowline_core::snapshot::Snapshot;
use bowline_core::store::record::{Batch, OF_TEST, Outcome, Park, Release, commit};
use bowline_core::store::{self, Pool, partitions};
use tokio::sync::{mpsc, oneshot};

use crate::health::{Died, Health};
use crate::job::{Came, Chunk, Job};

const BATCH_MAX: usize = 1024;
/// A delivery whose outcome Postgres refuses is tried again after this.
const REFUSED_WAIT: Duration = Duration::from_secs(3600);
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Something to be written about a delivery or a chunk.
#[derive(Debug)]
pub(crate) enum Entry {
    Outcome {
        job: Arc<Job>,
        outcome: Box<Outcome>,
        disable: bool,
    },
    /// To the queue, without a decision. `keep`: its request is out, the row stays ours.
    Park {
        job: Arc<Job>,
        keep: bool,
        due_in: Duration,
    },
    /// A row of the queue goes back unused.
    Release {
        key: DeliveryKey,
        life: ReplicaId,
        due_in: Duration,
    },
    /// A chunk of which nothing matches, or whose deliveries are all in Postgres already.
    Settled(Arc<Chunk>),
    /// Answered when all that came before it is in Postgres.
    Flush(oneshot::Sender<()>),
}

/// The way to the recorders.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    lanes: Arc<Vec<mpsc::Sender<Entry>>>,
    hash: RandomState,
}

impl Recorder {
    /// Starts `count` recorders. They end when every sender is gone and all is written.
    pub(crate) fn start(pool: &Pool, snapshot: &Arc<Snapshot>, count: usize) -> Self {
        let mut lanes = Vec::new();
        let health = Arc::new(Health::new(pool.clone(), Arc::clone(snapshot)));
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(8192);
            lanes.push(sender);
            let writer = Writer { pool: pool.clone(), health: Arc::clone(&health) };
            tokio::spawn(writer.run(receiver));
        }
        Self { lanes: Arc::new(lanes), hash: RandomState::new() }
    }

    pub(crate) async fn send(&self, entry: Entry) {
        let of_job = |job: &Job| match &job.chunk {
            Some(chunk) => self.hash.hash_one(chunk.id),
            None => self.hash.hash_one(job.key),
        };
        let hash = match &entry {
            Entry::Outcome { job, .. } | Entry::Park { job, .. } => of_job(job),
            Entry::Release { key, .. } => self.hash.hash_one(key),
            Entry::Settled(chunk) => self.hash.hash_one(chunk.id),
            Entry::Flush(_) => 0,
        };
        let lane = &self.lanes[hash as usize % self.lanes.len()];
        if lane.send(entry).await.is_err() {
            tracing::error!("a recorder is gone: its work will be taken over after this process ends");
        }
    }
}

impl Recorder {
    /// Waits until all that was sent is in Postgres.
    pub(crate) async fn flush(&self) {
        for lane in self.lanes.iter() {
            let (done, written) = oneshot::channel();
            if lane.send(Entry::Flush(done)).await.is_ok() {
                // An error means that the recorder is gone, which it has said itself.
                let _ = written.await;
            }
        }
    }
}

struct Writer {
    pool: Pool,
    health: Arc<Health>,
}

/// What has to follow the commit.
#[derive(Default)]
struct After {
    chunks: Vec<Arc<Chunk>>,
    disable: Vec<EndpointId>,
    /// They say nothing about their endpoints: tests, and what was decided without a request.
    silent: HashSet<DeliveryKey>,
    /// Their channels' holders wait for what was committed.
    ordered: Vec<Arc<Job>>,
    died: Vec<Died>,
    flushed: Vec<oneshot::Sender<()>>,
}

impl Writer {
    async fn run(self, mut entries: mpsc::Receiver<Entry>) {
        let mut gathered = Vec::with_capacity(BATCH_MAX);
        while entries.recv_many(&mut gathered, BATCH_MAX).await > 0 {
            let (batch, after) = fold(gathered.drain(..));
            let mut decisions = self.commit(batch).await;
            tell_holders(&after.ordered, &decisions);
            if !after.died.is_empty() {
                let dead = |one: &Died| decisions.contains(&(one.key, Decision::Dead));
                self.health.tell_of_the_dead(after.died.into_iter().filter(dead).collect()).await;
            }
            decisions.retain(|(key, _)| !after.silent.contains(key));
            for chunk in &after.chunks {
                chunk.settled.notify_waiters();
                chunk.settled.notify_one();
            }
            self.health.count(&decisions, &after.disable).await;
            for done in after.flushed {
                // Nobody waits any more: nothing to tell.
                let _ = done.send(());
            }
        }
    }

    /// Commits until it is done; a batch that Postgres refuses is halved until what it refuses stands
    /// alone (invariant 12). Chunks are settled after all of the rest.
    async fn commit(&self, batch: Batch) -> Vec<(DeliveryKey, Decision)> {
        let mut open = vec![batch];
        let mut unrecorded = HashSet::new();
        let mut written = Vec::new();
        let mut pause = RETRY_PAUSE;
        while let Some(mut batch) = open.pop() {
            batch.settled.retain(|(chunk, _)| !unrecorded.contains(chunk));
            match self.try_commit(&batch).await {
                Ok(decisions) => {
                    written.extend(decisions);
                    pause = RETRY_PAUSE;
                }
                Err(error) if error.is_missing_partition() && self.make_partitions(&batch).await => {
                    open.push(batch);
                }
                // An earlier commit has happened after all.
                Err(error) if error.is_repeated_row() && !batch.repeated => {
                    batch.repeated = true;
                    open.push(batch);
                }
                Err(error) if refused(&error) => {
                    let (parts, stays) = refuse(batch, &error);
                    unrecorded.extend(stays);
                    open.extend(parts);
                }
                Err(error) => {
                    tracing::warn!(%error, "outcomes wait to be recorded");
                    batch.repeated = true;
                    open.push(batch);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
        written
    }

    async fn try_commit(&self, batch: &Batch) -> Result<Vec<(DeliveryKey, Decision)>, store::Error> {
        let client = self.pool.get().await?;
        commit(&client, batch).await
    }

    /// Makes the partitions of what is to be logged; false where that is not what is missing.
    async fn make_partitions(&self, batch: &Batch) -> bool {
        let days: BTreeSet<_> =
            batch.outcomes.iter().filter_map(|outcome| partitions::day_of(outcome.key.event_id.0)).collect();
        for day in &days {
            let made = async { partitions::ensure(&*self.pool.get().await?, *day, 1).await };
            if let Err(error) = made.await {
                tracing::error!(%error, %day, "a partition is missing and cannot be made");
                return false;
            }
        }
        !days.is_empty()
    }
}

/// Not for want of Postgres, but because of what is in the batch.
fn refused(error: &store::Error) -> bool {
    error.code().is_some_and(|code| matches!(&code.code()[..2], "22" | "23"))
}

/// What to commit instead of a refused batch, last first: its halves, or, for what stands alone, what
/// is left of it. With it the chunk that can't be settled, if there is one.
fn refuse(mut batch: Batch, error: &store::Error) -> (Vec<Batch>, Option<ChunkId>) {
    let of = |repeated| Batch { repeated, ..Batch::default() };
    let mut parts = Vec::new();
    if !batch.settled.is_empty() {
        parts.push(Batch { settled: std::mem::take(&mut batch.settled), ..of(batch.repeated) });
    }
    if batch.outcomes.len() + batch.parks.len() + batch.releases.len() > 1 {
        let mut second = of(batch.repeated);
        second.outcomes = batch.outcomes.split_off(batch.outcomes.len() / 2);
        second.parks = batch.parks.split_off(batch.parks.len().div_ceil(2));
        second.releases = batch.releases.split_off(batch.releases.len() / 2);
        if batch.outcomes.len() + batch.parks.len() + batch.releases.len() == 0 {
            // One outcome and one release: they part ways.
            std::mem::swap(&mut batch.releases, &mut second.releases);
        }
        parts.extend([second, batch]);
        return (parts, None);
    }
    metrics::counter!("bowline_dispatcher_refused_records_total").increment(1);
    if let Some(outcome) = batch.outcomes.pop() {
        tracing::error!(%error, event_id = %outcome.key.event_id, endpoint_id = %outcome.key.endpoint_id,
            "Postgres refuses to record an attempt");
        let rest = of(batch.repeated);
        parts.push(if is_bare(&outcome) { put_off(&outcome, rest) } else { bare(&outcome, rest) });
        return (parts, None);
    }
    tracing::error!(%error, "Postgres refuses to put a delivery off: its chunk waits for the next owner");
    (parts, batch.parks.pop().map(|park| park.chunk))
}

fn is_bare(outcome: &Outcome) -> bool {
    outcome.request_headers.is_none() && outcome.response_body.is_none() && outcome.url.is_none()
}

/// The decision without what came from outside.
fn bare(outcome: &Outcome, mut batch: Batch) -> Batch {
    batch.outcomes.push(Outcome {
        url: None,
        request_headers: None,
        response_headers: None,
        response_body: None,
        error_message: Some("details of this attempt could not be stored".to_owned()),
        ..outcome.clone()
    });
    batch
}

/// Not even the decision can be stored: the delivery waits, so that it is neither lost nor sent again
/// and again.
fn put_off(outcome: &Outcome, mut batch: Batch) -> Batch {
    let (key, life, due_in_ms) = (outcome.key, outcome.life, millis(REFUSED_WAIT));
    match outcome.chunk {
        Some(chunk) => {
            batch.parks.push(Park { key, tenant_id: outcome.tenant_id, chunk, life, keep: false, due_in_ms });
        }
        None => batch.releases.push(Release { key, life, due_in_ms }),
    }
    batch
}

fn millis(duration: Duration) -> i64 {
    duration.min(store::queue::WAIT_MAX).as_millis() as i64
}

fn tell_holders(ordered: &[Arc<Job>], decisions: &[(DeliveryKey, Decision)]) {
    if ordered.is_empty() {
        return;
    }
    bowline_core::crash::point("ordered_after_record");
    let decided: HashMap<DeliveryKey, Decision> = decisions.iter().copied().collect();
    for job in ordered {
        job.tell_holder(decided.get(&job.key).map_or(Came::Unrecorded, |decision| Came::Decided(*decision)));
    }
}

/// Makes one batch of what has gathered. A delivery that was parked and decided in the same batch was
/// never parked.
fn fold(entries: impl Iterator<Item = Entry>) -> (Batch, After) {
    let mut batch = Batch::default();
    let mut after = After::default();
    let mut parks: HashMap<DeliveryKey, (Arc<Job>, Park)> = HashMap::new();
    let settle = |job: &Job, batch: &mut Batch, after: &mut After| {
        if let Some(chunk) = &job.chunk
            && !job.queued.swap(true, Ordering::AcqRel)
            && chunk.settle_one()
        {
            batch.settled.push((chunk.id, chunk.life));
            after.chunks.push(Arc::clone(chunk));
        }
    };
    for entry in entries {
        match entry {
            Entry::Outcome { job, mut outcome, disable } => {
                job.decided.store(true, Ordering::Release);
                let parked_now = parks.remove(&job.key).is_some();
                if job.queued.load(Ordering::Acquire) && !parked_now {
                    outcome.chunk = None;
                }
                settle(&job, &mut batch, &mut after);
                if job.test || outcome.kind != "request" {
                    after.silent.insert(job.key);
                }
                if let Some(reason) = outcome.dead_reason.filter(|reason| *reason != OF_TEST) {
                    let (key, tenant_id, attempt) = (job.key, job.tenant_id, outcome.attempt);
                    after.died.push(Died { key, tenant_id, reason, attempt });
                }
                if disable {
                    after.disable.push(job.key.endpoint_id);
                }
                batch.outcomes.push(*outcome);
                if job.ordered {
                    after.ordered.push(job);
                }
            }
            Entry::Park { job, keep, due_in } => {
                let Some(chunk) = &job.chunk else { continue };
                if job.decided.load(Ordering::Acquire) {
                    continue;
                }
                if job.queued.load(Ordering::Acquire) {
                    // Parked while its request was out, and now given back unsent.
                    if !keep {
                        let due_in_ms = millis(due_in);
                        match parks.get_mut(&job.key) {
                            Some((_, park)) => (park.keep, park.due_in_ms) = (false, due_in_ms),
                            None => batch.releases.push(Release { key: job.key, life: job.life, due_in_ms }),
                        }
                    }
                    continue;
                }
                let park = Park {
                    key: job.key,
                    tenant_id: job.tenant_id,
                    chunk: chunk.id,
                    life: job.life,
                    keep,
                    due_in_ms: millis(due_in),
                };
                settle(&job, &mut batch, &mut after);
                parks.insert(job.key, (job, park));
            }
            Entry::Release { key, life, due_in } => {
                batch.releases.push(Release { key, life, due_in_ms: millis(due_in) });
            }
            Entry::Flush(done) => after.flushed.push(done),
            Entry::Settled(chunk) => {
                batch.settled.push((chunk.id, chunk.life));
                after.chunks.push(chunk);
            }
        }
    }
    batch.parks = parks.into_values().map(|(_, park)| park).collect();
    metrics::counter!("bowline_dispatcher_parked_total").increment(batch.parks.len() as u64);
    (batch, after)
}
