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
use bowline_core::store::record::{Batch, OF_TEST, Outcome, Park, Recorded, Release, commit};
use bowline_core::store::{self, Pool, partitions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::health::{Died, Health};
use crate::holdings::Holdings;
use crate::job::{Came, Chunk, Job};
use crate::refused::{refuse, refused};

const BATCH_MAX: usize = 1024;
/// Between the begins of two commits of a recorder: what comes meanwhile is committed together, which costs Postgres
/// a fifth less, and leaves its log to those who wait for it, the senders. Once idle, an outcome is committed at once.
const PERIOD: Duration = Duration::from_millis(10);
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

impl Entry {
    /// Whether something goes on only when it is committed.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Outcome { job, .. } => job.ordered,
            Self::Flush(_) => true,
            Self::Park { .. } | Self::Release { .. } | Self::Settled(_) => false,
        }
    }
}

/// The way to one recorder.
#[derive(Debug)]
struct Lane {
    entries: mpsc::Sender<Entry>,
    /// One of them is awaited.
    awaited: Arc<Notify>,
}

impl Lane {
    /// False if the recorder is gone.
    async fn send(&self, entry: Entry) -> bool {
        let awaited = entry.is_awaited();
        let sent = self.entries.send(entry).await.is_ok();
        if awaited {
            self.awaited.notify_one();
        }
        sent
    }
}

/// The way to the recorders.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    lanes: Arc<Vec<Lane>>,
    hash: RandomState,
}

impl Recorder {
    /// Starts `count` recorders. They end when every sender is gone and all is written.
    /// `records` is for their commits alone.
    pub(crate) fn start(
        records: &Pool,
        pool: &Pool,
        snapshot: &Arc<Snapshot>,
        holdings: &Arc<Holdings>,
        count: usize,
    ) -> Self {
        let mut lanes = Vec::new();
        let health = Arc::new(Health::new(pool.clone(), Arc::clone(snapshot)));
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(8192);
            let awaited = Arc::new(Notify::new());
            lanes.push(Lane { entries: sender, awaited: Arc::clone(&awaited) });
            let writer = Writer {
                pool: records.clone(),
                health: Arc::clone(&health),
                holdings: Arc::clone(holdings),
                awaited,
            };
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
        if !lane.send(entry).await {
            tracing::error!("a recorder is gone: its work will be taken over after this process ends");
        }
    }
}

impl Recorder {
    /// Waits until all that was sent is in Postgres.
    pub(crate) async fn flush(&self) {
        for lane in self.lanes.iter() {
            let (done, written) = oneshot::channel();
            if lane.send(Entry::Flush(done)).await {
                // An error means that the recorder is gone, which it has said itself.
                let _ = written.await;
            }
        }
    }
}

struct Writer {
    pool: Pool,
    health: Arc<Health>,
    holdings: Arc<Holdings>,
    awaited: Arc<Notify>,
}

/// What has to follow the commit.
#[derive(Default)]
struct After {
    /// Those of which nothing is left.
    chunks: Vec<Arc<Chunk>>,
    /// Those of which something is written.
    touched: HashMap<ChunkId, Arc<Chunk>>,
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
        let mut next = Instant::now();
        while entries.recv_many(&mut gathered, BATCH_MAX).await > 0 {
            self.gather(&mut entries, &mut gathered, next).await;
            next = Instant::now() + PERIOD;
            let (batch, after) = fold(gathered.drain(..));
            let Recorded { mut decisions, lost } = self.commit(batch).await;
            self.lose(lost.iter().filter_map(|id| after.touched.get(id)));
            // First, or the next of a channel would go out to one that is gone.
            self.health.disable_gone(&after.disable).await;
            tell_holders(&after.ordered, &decisions);
            if !after.died.is_empty() {
                let dead = |one: &Died| decisions.contains(&(one.key, Decision::Dead));
                self.health.tell_of_the_dead(after.died.into_iter().filter(dead).collect()).await;
            }
            decisions.retain(|(key, _)| !after.silent.contains(key));
            for chunk in &after.chunks {
                chunk.tell_settled();
            }
            self.health.count(&decisions).await;
            for done in after.flushed {
                // Nobody waits any more: nothing to tell.
                let _ = done.send(());
            }
        }
    }

    /// More of what comes until `next`, unless somebody waits for what is there.
    async fn gather(&self, entries: &mut mpsc::Receiver<Entry>, gathered: &mut Vec<Entry>, next: Instant) {
        if !gathered.iter().any(Entry::is_awaited) && gathered.len() < BATCH_MAX {
            tokio::select! {
                () = tokio::time::sleep_until(next) => (),
                () = self.awaited.notified() => (),
            }
        }
        while gathered.len() < BATCH_MAX
            && let Ok(entry) = entries.try_recv()
        {
            gathered.push(entry);
        }
    }

    /// What is not ours is not in memory either, and not sent any more: whoever claims it next begins anew. A claim
    /// waits for no disk; Postgres may have forgotten it, and [`confirm`](crate::confirm) may claim it again after
    /// this was recorded and before the next.
    fn lose<'a>(&self, chunks: impl Iterator<Item = &'a Arc<Chunk>>) {
        for chunk in chunks {
            chunk.lose();
            self.holdings.forget(chunk.id);
            chunk.tell_settled();
        }
    }

    /// Commits until it is done; a batch that Postgres refuses is halved until what it refuses stands
    /// alone (invariant 12). Chunks are settled after all of the rest, unless some of it was not recorded.
    async fn commit(&self, batch: Batch) -> Recorded {
        let mut open = vec![batch];
        let mut unsettled = HashSet::new();
        let mut written = Recorded::default();
        let mut pause = RETRY_PAUSE;
        while let Some(mut batch) = open.pop() {
            batch.settled.retain(|(chunk, _)| !unsettled.contains(chunk));
            match self.try_commit(&batch).await {
                Ok(mut recorded) => {
                    if batch.repeated {
                        recorded.lost.extend(stale_chunks(&batch, &recorded));
                    }
                    unsettled.extend(recorded.lost.iter().copied());
                    written.lost.append(&mut recorded.lost);
                    written.decisions.append(&mut recorded.decisions);
                    pause = RETRY_PAUSE;
                }
                Err(error) if error.is_missing_partition() && self.make_partitions(&batch).await => {
                    open.push(batch);
                }
                // An earlier commit has happened after all.
                Err(error) if error.is_repeated_row() && !batch.repeated => open.extend(again(batch)),
                Err(error) if refused(&error) => {
                    let (parts, stays) = refuse(batch, &error);
                    unsettled.extend(stays);
                    open.extend(parts);
                }
                Err(error) => {
                    tracing::warn!(%error, "outcomes wait to be recorded");
                    open.extend(again(batch));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
        written
    }

    async fn try_commit(&self, batch: &Batch) -> Result<Recorded, store::Error> {
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

/// A batch that may have been committed, last first: what it settles waits until it is known how it went, because the
/// chunk may have been claimed since, by this life too.
fn again(mut batch: Batch) -> Vec<Batch> {
    let settled = std::mem::take(&mut batch.settled);
    batch.repeated = true;
    let mut parts = Vec::new();
    if !settled.is_empty() {
        parts.push(Batch { settled, repeated: true, ..Batch::default() });
    }
    parts.push(batch);
    parts
}

/// The chunks of which an outcome was void when it was written, by an earlier commit perhaps.
fn stale_chunks(batch: &Batch, recorded: &Recorded) -> Vec<ChunkId> {
    let stale: HashSet<DeliveryKey> = recorded
        .decisions
        .iter()
        .filter(|(_, decision)| *decision == Decision::Stale)
        .map(|(key, _)| *key)
        .collect();
    batch
        .outcomes
        .iter()
        .filter(|outcome| stale.contains(&outcome.key))
        .filter_map(|outcome| outcome.chunk)
        .collect()
}

pub(crate) fn millis(duration: Duration) -> i64 {
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
        let Some(chunk) = &job.chunk else { return };
        if job.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        after.touched.entry(chunk.id).or_insert_with(|| Arc::clone(chunk));
        if chunk.settle_one() {
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
                // What is lost begins anew elsewhere, and is not to wait here as well.
                if job.decided.load(Ordering::Acquire) || chunk.is_lost() {
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
                after.touched.insert(chunk.id, Arc::clone(&chunk));
                batch.settled.push((chunk.id, chunk.life));
                after.chunks.push(chunk);
            }
        }
    }
    batch.parks = parks.into_values().map(|(_, park)| park).collect();
    metrics::counter!("bowline_dispatcher_parked_total").increment(batch.parks.len() as u64);
    (batch, after)
}
