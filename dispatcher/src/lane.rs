//! Lanes: the bounded queue of one endpoint, with its own concurrency and breaker. A lane that is
//! full, paused or open-circuited parks at once; one that is merely behind may wait [`park_after`];
//! a request still out by then is parked with its owner. No endpoint can hold up another.
//!
//! [`park_after`]: bowline_core::bootstrap::Config

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bowline_core::crash;
use bowline_core::defaults::{LANE_CAPACITY, RETENTION};
use bowline_core::delivery::{Decision, DeliveryKey};
use bowline_core::endpoint::EndpointState;
use bowline_core::id::{AttemptId, EndpointId};
use bowline_core::replica::Replica;
use bowline_core::snapshot::{LiveEndpoint, Snapshot};
use bowline_core::store::record::Outcome;
use chrono::Utc;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::attempt::{Attempted, Sender};
use crate::breaker::{Breaker, Gate};
use crate::decide::{Answer, Next, decide};
use crate::job::Job;
use crate::record::{Entry, Recorder};

/// While the lease can't be confirmed, this is how often it is looked at.
const LEASE_POLL: Duration = Duration::from_millis(50);
/// A paused or disabled endpoint's row is looked at again after this, unless enabling makes it due.
const PAUSED_RECHECK: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Lane {
    id: EndpointId,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    fresh: VecDeque<Arc<Job>>,
    /// From the queue; half of the lane is theirs while there are some.
    due: VecDeque<Arc<Job>>,
    workers: usize,
    breaker: Breaker,
    turn: bool,
}

impl Inner {
    fn pop(&mut self) -> Option<Arc<Job>> {
        self.turn = !self.turn;
        let (first, second) =
            if self.turn { (&mut self.due, &mut self.fresh) } else { (&mut self.fresh, &mut self.due) };
        first.pop_front().or_else(|| second.pop_front())
    }

    fn is_idle(&self) -> bool {
        self.workers == 0
            && self.fresh.is_empty()
            && self.due.is_empty()
            && self.breaker.gate(Instant::now()) == Gate::Closed
    }
}

#[derive(Debug)]
pub(crate) struct Lanes {
    map: Mutex<HashMap<EndpointId, Arc<Lane>>>,
    /// What was taken from chunks, oldest first: looked at once, after `park_after`.
    young: Mutex<VecDeque<(Instant, Weak<Job>)>>,
    /// Every delivery in memory, for comparing with what Postgres says is ours.
    held: Mutex<HashMap<DeliveryKey, Weak<Job>>>,
    out: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    sender: Sender,
    recorder: Recorder,
    snapshot: Arc<Snapshot>,
    replica: Arc<Replica>,
    park_after: Duration,
}

pub(crate) struct Parts {
    pub(crate) sender: Sender,
    pub(crate) recorder: Recorder,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) in_flight_max: usize,
    pub(crate) park_after: Duration,
}

impl Lanes {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            map: Mutex::default(),
            young: Mutex::default(),
            held: Mutex::default(),
            out: Arc::new(Semaphore::new(parts.in_flight_max)),
            tasks: TaskTracker::new(),
            sender: parts.sender,
            recorder: parts.recorder,
            snapshot: parts.snapshot,
            replica: parts.replica,
            park_after: parts.park_after,
        })
    }

    fn lane(&self, id: EndpointId) -> Arc<Lane> {
        let mut map = self.map.lock();
        Arc::clone(map.entry(id).or_insert_with(|| Arc::new(Lane { id, inner: Mutex::default() })))
    }

    /// How many due rows the lane of an endpoint can take now; 0 while it is paused or open.
    pub(crate) fn room_for_due(&self, id: EndpointId) -> usize {
        let Some(live) = self.snapshot.endpoint(id) else {
            // Deleted: its rows are taken to be cancelled.
            return LANE_CAPACITY / 2;
        };
        if live.endpoint.state != EndpointState::Enabled {
            return 0;
        }
        let lane = self.lane(id);
        let inner = lane.inner.lock();
        match inner.breaker.gate(Instant::now()) {
            Gate::Open(_) => 0,
            Gate::Probe => usize::from(inner.due.is_empty()),
            Gate::Closed => (LANE_CAPACITY / 2).saturating_sub(inner.due.len()),
        }
    }

    /// The deliveries in memory.
    pub(crate) fn held(&self) -> HashSet<DeliveryKey> {
        let mut held = self.held.lock();
        held.retain(|_, job| job.strong_count() > 0);
        held.keys().copied().collect()
    }

    /// Takes a delivery: into its lane, or to the queue where the lane can't have it.
    pub(crate) async fn submit(self: &Arc<Self>, job: Arc<Job>) {
        self.held.lock().insert(job.key, Arc::downgrade(&job));
        match self.place(&job) {
            Placed::InLane => {}
            Placed::Refused(due_in) => self.give_back(job, due_in).await,
        }
    }

    fn place(self: &Arc<Self>, job: &Arc<Job>) -> Placed {
        let id = job.key.endpoint_id;
        let live = self.snapshot.endpoint(id);
        let concurrency = live.as_ref().map_or(1, |live| live.endpoint.spec.concurrency.max(1) as usize);
        if live.is_some_and(|live| live.endpoint.state != EndpointState::Enabled) {
            return Placed::Refused(PAUSED_RECHECK);
        }
        let lane = self.lane(id);
        let mut inner = lane.inner.lock();
        if let Gate::Open(left) = inner.breaker.gate(Instant::now()) {
            return Placed::Refused(left);
        }
        if job.chunk.is_some() {
            let room = if inner.due.is_empty() { LANE_CAPACITY } else { LANE_CAPACITY / 2 };
            if inner.fresh.len() >= room {
                inner.fresh.retain(|job| job.is_waiting());
            }
            if inner.fresh.len() >= room {
                return Placed::Refused(Duration::ZERO);
            }
            inner.fresh.push_back(Arc::clone(job));
            self.young.lock().push_back((Instant::now(), Arc::downgrade(job)));
        } else {
            inner.due.push_back(Arc::clone(job));
        }
        if inner.workers < concurrency {
            inner.workers += 1;
            self.tasks.spawn(Arc::clone(self).work(Arc::clone(&lane)));
        }
        Placed::InLane
    }

    /// To the queue, without using up an attempt (invariant 10).
    async fn give_back(&self, job: Arc<Job>, due_in: Duration) {
        let entry = if job.chunk.is_some() {
            Entry::Park { job, keep: false, due_in }
        } else {
            Entry::Release { key: job.key, life: job.life, due_in }
        };
        self.recorder.send(entry).await;
    }

    /// One of the lane's concurrent senders: lives while there is something to send.
    async fn work(self: Arc<Self>, lane: Arc<Lane>) {
        loop {
            let (job, gate) = {
                let mut inner = lane.inner.lock();
                let gate = inner.breaker.gate(Instant::now());
                let Some(job) = inner.pop() else {
                    inner.workers -= 1;
                    break;
                };
                if gate == Gate::Probe && job.is_waiting() {
                    inner.breaker.start_probe();
                }
                (job, gate)
            };
            if !job.start() {
                continue;
            }
            if let Gate::Open(left) = gate {
                self.give_back(job, left).await;
                continue;
            }
            // The semaphore is never closed.
            let Ok(_permit) = Arc::clone(&self.out).acquire_owned().await else { return };
            if !self.may_send(&job).await {
                // Another replica has it, or will: nothing to record.
                continue;
            }
            self.deliver(&lane, job).await;
        }
        let mut map = self.map.lock();
        if lane.inner.lock().is_idle() {
            map.remove(&lane.id);
        }
    }

    /// Waits while the lease can't be confirmed; false once the life that claimed the job is over.
    async fn may_send(&self, job: &Job) -> bool {
        loop {
            if !self.replica.is_current(job.life) {
                return false;
            }
            if self.replica.may_start() {
                return true;
            }
            tokio::time::sleep(LEASE_POLL).await;
        }
    }

    async fn deliver(&self, lane: &Lane, job: Arc<Job>) {
        let Some(live) = self.snapshot.endpoint(job.key.endpoint_id) else {
            let outcome = without_request(&job, "cancelled", Decision::Cancelled, "the endpoint was deleted");
            return self
                .recorder
                .send(Entry::Outcome { job, outcome: Box::new(outcome), disable: false })
                .await;
        };
        if live.endpoint.state != EndpointState::Enabled {
            return self.give_back_out(job, PAUSED_RECHECK).await;
        }
        let age = (Utc::now() - job.event.event.time).to_std().unwrap_or_default();
        if age > live.endpoint.spec.retry.max_age.unwrap_or(RETENTION) {
            let outcome =
                without_request(&job, "expired", Decision::Expired, "older than the retry policy allows");
            return self
                .recorder
                .send(Entry::Outcome { job, outcome: Box::new(outcome), disable: false })
                .await;
        }
        crash::point("dispatcher_after_claim_before_attempt");
        let attempted = self.sender.attempt(&job, &live).await;
        crash::point("dispatcher_after_response_before_record");
        self.conclude(lane, job, &live, attempted).await;
    }

    /// As [`Self::give_back`], for a job that was already taken out of its lane.
    async fn give_back_out(&self, job: Arc<Job>, due_in: Duration) {
        if job.queued.load(std::sync::atomic::Ordering::Acquire) {
            let entry = Entry::Release { key: job.key, life: job.life, due_in };
            self.recorder.send(entry).await;
        } else {
            self.recorder.send(Entry::Park { job, keep: false, due_in }).await;
        }
    }

    async fn conclude(&self, lane: &Lane, job: Arc<Job>, live: &LiveEndpoint, attempted: Attempted) {
        let next = decide(attempted.answer, job.used + 1, &live.endpoint.spec.retry, rand::random());
        {
            let mut inner = lane.inner.lock();
            match (next, attempted.answer) {
                (Next::Done, _) => inner.breaker.succeeded(),
                // Refused before it was sent: says nothing about the receiver.
                (_, Answer::Impossible(_)) => {}
                _ => inner.breaker.failed(Instant::now()),
            }
        }
        let (decision, due_in, dead_reason, disable) = match next {
            Next::Done => (Decision::Delivered, Duration::ZERO, None, false),
            Next::Retry { after } => (Decision::Retry, after, None, false),
            Next::Dead { reason, disable } => {
                (Decision::Dead, Duration::ZERO, Some(reason.as_str()), disable)
            }
        };
        tracing::info!(
            event_id = %job.key.event_id,
            endpoint_id = %job.key.endpoint_id,
            attempt = job.attempt + 1,
            status = attempted.status,
            error = attempted.error_kind,
            decision = decision.as_str(),
            duration_ms = attempted.duration.as_millis() as u64,
            "attempt"
        );
        metrics::counter!("bowline_dispatcher_attempts_total", "decision" => decision.as_str()).increment(1);
        metrics::histogram!("bowline_dispatcher_attempt_duration_seconds")
            .record(attempted.duration.as_secs_f64());
        let sent = attempted.request_headers.is_some() && !matches!(attempted.answer, Answer::Impossible(_));
        let outcome = Outcome {
            key: job.key,
            attempt_id: attempted.id,
            tenant_id: job.tenant_id,
            attempt: job.attempt as i32 + 1,
            kind: if sent { "request" } else { "refused" },
            decision,
            started_at: attempted.started_at,
            duration_us: Some(attempted.duration.as_micros() as i64),
            url: Some(attempted.url),
            request_headers: attempted.request_headers,
            status: attempted.status.map(|status| status as i16),
            response_headers: attempted.response_headers,
            response_body: attempted.response_body,
            error_kind: attempted.error_kind,
            // Postgres' text can't hold NUL.
            error_message: attempted.error_message.map(|message| message.replace('\0', "")),
            chunk: job.chunk.as_ref().map(|chunk| chunk.id),
            life: job.life,
            due_in_ms: due_in.as_millis() as i64,
            dead_reason,
        };
        self.recorder.send(Entry::Outcome { job, outcome: Box::new(outcome), disable }).await;
    }

    /// Parks what was taken from chunks and is not settled after `park_after`.
    pub(crate) async fn park_the_late(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            let late: Vec<Weak<Job>> = {
                let mut young = self.young.lock();
                let ripe = young.partition_point(|(since, _)| since.elapsed() >= self.park_after);
                young.drain(..ripe).map(|(_, job)| job).collect()
            };
            for job in late.into_iter().filter_map(|job| job.upgrade()) {
                if job.withdraw() {
                    self.recorder.send(Entry::Park { job, keep: false, due_in: Duration::ZERO }).await;
                } else if !job.decided.load(std::sync::atomic::Ordering::Acquire) {
                    self.recorder.send(Entry::Park { job, keep: true, due_in: Duration::ZERO }).await;
                }
            }
        }
    }

    /// Gives everything back that waits, for a shutdown.
    pub(crate) async fn empty(&self) {
        let lanes: Vec<Arc<Lane>> = self.map.lock().values().cloned().collect();
        for lane in lanes {
            loop {
                let Some(job) = lane.inner.lock().pop() else { break };
                if job.withdraw() {
                    self.give_back(job, Duration::ZERO).await;
                }
            }
        }
    }
}

enum Placed {
    InLane,
    Refused(Duration),
}

/// A decision that needed no request.
pub(crate) fn without_request(job: &Job, kind: &'static str, decision: Decision, why: &str) -> Outcome {
    Outcome {
        key: job.key,
        attempt_id: AttemptId::new(),
        tenant_id: job.tenant_id,
        attempt: job.attempt as i32,
        kind,
        decision,
        started_at: Utc::now(),
        duration_us: None,
        url: None,
        request_headers: None,
        status: None,
        response_headers: None,
        response_body: None,
        error_kind: Some(kind),
        error_message: Some(why.to_owned()),
        chunk: job.chunk.as_ref().map(|chunk| chunk.id),
        life: job.life,
        due_in_ms: 0,
        dead_reason: None,
    }
}
