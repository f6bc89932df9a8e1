//! Carries deliveries: into the lane of their endpoint, out when it is their turn, and to the recorder
//! with what came of it ([`deliver`]). A lane that is full, paused or open-circuited parks at once; one that is
//! merely behind may wait [`park_after`]; a request still out by then is parked with its owner. No
//! endpoint can hold up another.
//!
//! [`park_after`]: bowline_core::bootstrap::Config

mod deliver;
mod ration;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bowline_core::defaults::LANE_CAPACITY;
use bowline_core::delivery::DeliveryKey;
use bowline_core::endpoint::EndpointState;
use bowline_core::id::EndpointId;
use bowline_core::replica::Replica;
use bowline_core::snapshot::Snapshot;
use bowline_core::store::{self, Pool};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::asleep::Asleep;
use crate::attempt::Sender;
use crate::holdings::Holdings;
use crate::job::{Came, Job};
use crate::rate::Rates;
use crate::record::{Entry, Recorder};
use crate::soon::Soon;
use crate::turns::{Limits, Placed, Turn, Turns};
pub(crate) use deliver::without_request;

/// A paused or disabled endpoint's row is looked at again after this, unless enabling makes it due.
const PAUSED_RECHECK: Duration = Duration::from_secs(3600);
const LATE_TICK: Duration = Duration::from_millis(100);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Lanes {
    turns: Mutex<Turns>,
    /// What was taken from chunks, oldest first: looked at once, after `park_after`.
    young: Mutex<VecDeque<(Instant, Weak<Job>)>>,
    /// The deliveries in memory whose rows in the queue are ours, for comparing with what Postgres says.
    queued: Mutex<HashMap<DeliveryKey, Weak<Job>>>,
    pub(crate) tasks: TaskTracker,
    sender: Sender,
    recorder: Recorder,
    snapshot: Arc<Snapshot>,
    replica: Arc<Replica>,
    holdings: Arc<Holdings>,
    asleep: Asleep,
    park_after: Duration,
    /// Nothing waits for longer.
    retention: Duration,
    /// What is due before the next look at the queue.
    pub(crate) soon: Soon,
    rates: Arc<Rates>,
}

pub(crate) struct Parts {
    pub(crate) sender: Sender,
    pub(crate) recorder: Recorder,
    pub(crate) holdings: Arc<Holdings>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) in_flight_max: usize,
    pub(crate) park_after: Duration,
    pub(crate) retention: Duration,
    pub(crate) rates: Arc<Rates>,
}

impl Lanes {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            turns: Mutex::new(Turns::new(parts.in_flight_max)),
            young: Mutex::default(),
            queued: Mutex::default(),
            tasks: TaskTracker::new(),
            sender: parts.sender,
            recorder: parts.recorder,
            asleep: Asleep::new(Arc::clone(&parts.snapshot)),
            snapshot: parts.snapshot,
            replica: parts.replica,
            holdings: parts.holdings,
            park_after: parts.park_after,
            retention: parts.retention,
            soon: Soon::default(),
            rates: parts.rates,
        })
    }

    /// Makes due what was put off for endpoints that are enabled by now; follows the configuration for ever.
    pub(crate) async fn wake_the_asleep(&self, pool: &Pool) -> Result<(), store::Error> {
        self.asleep.wake(pool, &self.recorder).await
    }

    /// The chunks that are ours: what came from another one is not sent.
    pub(crate) fn holdings(&self) -> &Arc<Holdings> {
        &self.holdings
    }

    /// How many due rows the lane of an endpoint can take now; 0 while it is paused or open.
    pub(crate) fn room_for_due(&self, id: EndpointId) -> usize {
        let live = self.snapshot.endpoint(id);
        // Those of a deleted endpoint are taken to be cancelled.
        let enabled = live.as_ref().is_none_or(|live| live.endpoint.state == EndpointState::Enabled);
        if !enabled || self.sender.guard.proxy_pause().is_some() {
            return 0;
        }
        let version = live.map_or(0, |live| live.endpoint.config_version);
        self.turns.lock().room_for_due(id, version, Instant::now()).unwrap_or(LANE_CAPACITY / 2)
    }

    /// The deliveries in memory whose rows in the queue are ours.
    pub(crate) fn queued(&self) -> HashSet<DeliveryKey> {
        let mut queued = self.queued.lock();
        queued.retain(|_, job| job.strong_count() > 0);
        queued.keys().copied().collect()
    }

    fn remember_queued(&self, job: &Arc<Job>) {
        self.queued.lock().insert(job.key, Arc::downgrade(job));
    }

    /// Takes a delivery: into its lane, or to the queue where the lane can't have it.
    pub(crate) async fn submit(self: &Arc<Self>, job: Arc<Job>) {
        if job.chunk.is_none() && !job.ordered {
            self.remember_queued(&job);
        }
        match self.place(&job) {
            Placed::InLane => {}
            Placed::Refused(due_in) => self.give_back(job, due_in).await,
        }
    }

    fn place(self: &Arc<Self>, job: &Arc<Job>) -> Placed {
        let live = self.snapshot.endpoint(job.key.endpoint_id);
        let limits = live.as_ref().map_or(Limits::from(1), |live| Limits {
            concurrency: live.endpoint.spec.concurrency as usize,
            rate: live.endpoint.spec.rate_per_s,
            config_version: live.endpoint.config_version,
        });
        if live.is_some_and(|live| live.endpoint.state != EndpointState::Enabled) {
            return Placed::Refused(PAUSED_RECHECK);
        }
        if let Some(pause) = self.sender.guard.proxy_pause() {
            return Placed::Refused(pause);
        }
        let now = Instant::now();
        let mut turns = self.turns.lock();
        let placed = turns.place(job, limits, now);
        if placed == Placed::InLane {
            if job.chunk.is_some() {
                self.young.lock().push_back((now, Arc::downgrade(job)));
            }
            let next = turns.next(now);
            let thirsty = turns.thirsty();
            drop(turns);
            self.start(next);
            self.ration(thirsty);
        }
        placed
    }

    fn start(self: &Arc<Self>, turns: impl IntoIterator<Item = Turn>) {
        for turn in turns {
            self.tasks.spawn(Arc::clone(self).carry(turn));
        }
    }

    /// To the queue, without using up an attempt (invariant 10).
    pub(crate) async fn give_back(&self, job: Arc<Job>, due_in: Duration) {
        job.withdraw();
        if job.ordered {
            return job.tell_holder(Came::Unsent(due_in));
        }
        let id = job.key.endpoint_id;
        let entry = if job.queued.load(Ordering::Acquire) {
            Entry::Release { key: job.key, life: job.life, due_in }
        } else {
            Entry::Park { job, keep: false, due_in }
        };
        self.recorder.send(entry).await;
        if due_in == PAUSED_RECHECK {
            self.asleep.add(id);
        }
    }

    /// Sends what has its turn, and goes on while there is a next one.
    async fn carry(self: Arc<Self>, turn: Turn) {
        let mut next = Some(turn);
        while let Some(turn) = next.take() {
            let answered = self.deliver(turn.job).await;
            let now = Instant::now();
            let ((refused, left), mut ready, thirsty) = {
                let mut turns = self.turns.lock();
                let refused = turns.end(turn.number, answered, now);
                let ready = std::iter::from_fn(|| turns.next(now)).collect::<Vec<Turn>>();
                (refused, ready, turns.thirsty())
            };
            self.ration(thirsty);
            next = ready.pop();
            self.start(ready);
            for job in refused {
                self.give_back(job, left).await;
            }
        }
    }

    /// Parks what was taken from chunks and is not settled after `park_after`.
    pub(crate) async fn park_the_late(&self) {
        let mut tick = tokio::time::interval(LATE_TICK);
        let mut swept = Instant::now();
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.turns.lock().stall(now);
            self.park_those_of_before(now).await;
            if now.duration_since(swept) >= SWEEP_EVERY {
                swept = now;
                self.turns.lock().sweep(now);
            }
        }
    }

    async fn park_those_of_before(&self, now: Instant) {
        let late: Vec<Weak<Job>> = {
            let mut young = self.young.lock();
            let ripe = young.partition_point(|(since, _)| now.duration_since(*since) >= self.park_after);
            young.drain(..ripe).map(|(_, job)| job).collect()
        };
        let mut behind = HashSet::new();
        for job in late.into_iter().filter_map(|job| job.upgrade()) {
            if job.withdraw() {
                behind.insert(job.key.endpoint_id);
                self.recorder.send(Entry::Park { job, keep: false, due_in: Duration::ZERO }).await;
            } else if !job.decided.load(Ordering::Acquire) {
                self.remember_queued(&job);
                self.recorder.send(Entry::Park { job, keep: true, due_in: Duration::ZERO }).await;
            }
        }
        if !behind.is_empty() {
            self.turns.lock().prune(behind);
        }
    }

    /// Gives everything back that waits, and what comes still, for a shutdown.
    pub(crate) async fn close(&self) {
        let waiting = self.turns.lock().close();
        for job in waiting {
            self.give_back(job, Duration::ZERO).await;
        }
    }
}
