//! Carries deliveries: into the lane of their endpoint, out when it is their turn, and to the recorder
//! with what came of it. A lane that is full, paused or open-circuited parks at once; one that is
//! merely behind may wait [`park_after`]; a request still out by then is parked with its owner. No
//! endpoint can hold up another.
//!
//! [`park_after`]: bowline_core::bootstrap::Config

mod ration;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bowline_core::crash;
use bowline_core::defaults::LANE_CAPACITY;
use bowline_core::delivery::{DeadReason, Decision, DeliveryKey};
use bowline_core::endpoint::EndpointState;
use bowline_core::id::{AttemptId, EndpointId};
use bowline_core::replica::Replica;
use bowline_core::snapshot::{LiveEndpoint, Snapshot};
use bowline_core::store::record::{OF_TEST, Outcome};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::attempt::{Attempted, Sender};
use crate::decide::{Answer, Next, decide};
use crate::holdings::Holdings;
use crate::job::{Age, Came, Job};
use crate::lane::{Answered, SLOW_AFTER};
use crate::rate::Rates;
use crate::record::{Entry, Recorder};
use crate::select::{Wanted, wanted};
use crate::soon::Soon;
use crate::turns::{Limits, Placed, Turn, Turns};

/// While the lease can't be confirmed, this is how often it is looked at.
const LEASE_POLL: Duration = Duration::from_millis(50);
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
            snapshot: parts.snapshot,
            replica: parts.replica,
            holdings: Arc::default(),
            park_after: parts.park_after,
            retention: parts.retention,
            soon: Soon::default(),
            rates: parts.rates,
        })
    }

    /// The chunks that are ours: what came from another one is not sent.
    pub(crate) fn holdings(&self) -> &Arc<Holdings> {
        &self.holdings
    }

    /// How many due rows the lane of an endpoint can take now; 0 while it is paused or open.
    pub(crate) fn room_for_due(&self, id: EndpointId) -> usize {
        // Those of a deleted endpoint are taken to be cancelled.
        let enabled = |live: Arc<LiveEndpoint>| live.endpoint.state == EndpointState::Enabled;
        if !self.snapshot.endpoint(id).is_none_or(enabled) || self.sender.guard.proxy_pause().is_some() {
            return 0;
        }
        self.turns.lock().room_for_due(id, Instant::now()).unwrap_or(LANE_CAPACITY / 2)
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
        let entry = if job.queued.load(Ordering::Acquire) {
            Entry::Release { key: job.key, life: job.life, due_in }
        } else {
            Entry::Park { job, keep: false, due_in }
        };
        self.recorder.send(entry).await;
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

    /// Waits while the lease or the claims can't be confirmed; `None` once the job is not ours any more. The
    /// time is from before the last look: what a process sends that is stopped after it began before.
    async fn may_send(&self, job: &Job) -> Option<DateTime<Utc>> {
        loop {
            let now = Utc::now();
            if !self.replica.is_current(job.life) {
                return None;
            }
            if self.replica.may_start() {
                let ours = job.chunk.as_ref().is_none_or(|chunk| self.holdings.holds(chunk.id));
                return ours.then_some(now);
            }
            tokio::time::sleep(LEASE_POLL).await;
        }
    }

    /// One attempt, recorded; gives what it says about the receiver.
    async fn deliver(&self, job: Arc<Job>) -> Option<Answered> {
        // Otherwise another replica has it, or will: nothing to record.
        let begun_at = self.may_send(&job).await?;
        let Some(live) = self.snapshot.endpoint(job.key.endpoint_id) else {
            self.decide_unsent(job, "cancelled", Decision::Cancelled, "the endpoint was deleted").await;
            return None;
        };
        if live.endpoint.state != EndpointState::Enabled {
            self.give_back(job, PAUSED_RECHECK).await;
            return None;
        }
        if let Some(pause) = self.sender.guard.proxy_turn() {
            self.give_back(job, pause).await;
            return None;
        }
        let Some(held) = job.event() else {
            self.give_back(job, Duration::ZERO).await;
            return None;
        };
        let age = match job.age {
            Age::OfEvent => (Utc::now() - held.event.time).to_std().unwrap_or_default(),
            Age::OfBudget { waited, at } => waited + at.elapsed(),
        };
        if age > live.endpoint.spec.retry.max_age.unwrap_or(self.retention).min(self.retention) {
            let why = "older than the retry policy allows";
            self.decide_unsent(job, "expired", Decision::Expired, why).await;
            return None;
        }
        match wanted(&live, &held.event) {
            Wanted::Yes => {}
            Wanted::No => {
                let why = "the endpoint's filter does not select this event";
                self.decide_unsent(job, "cancelled", Decision::Cancelled, why).await;
                return None;
            }
            Wanted::Unknown(why) => {
                let mut outcome = without_request(&job, "refused", Decision::Dead, &why);
                outcome.dead_reason = Some(DeadReason::FilterFailed.as_str());
                let outcome = Box::new(outcome);
                self.recorder.send(Entry::Outcome { job, outcome, disable: false }).await;
                return None;
            }
        }
        crash::point("dispatcher_after_claim_before_attempt");
        let attempted = self.sender.attempt(&job, &held.event, &live, begun_at).await;
        drop(held);
        job.unload();
        crash::point("dispatcher_after_response_before_record");
        self.conclude(job, &live, attempted).await
    }

    /// Sends a test past pause, breaker and lane. What it shows of the receiver counts for nothing.
    pub(crate) async fn test(&self, job: Arc<Job>) {
        self.remember_queued(&job);
        let Some(begun_at) = self.may_send(&job).await else { return };
        let Some(live) = self.snapshot.endpoint(job.key.endpoint_id) else {
            return self
                .decide_unsent(job, "cancelled", Decision::Cancelled, "the endpoint was deleted")
                .await;
        };
        let Some(held) = job.event() else {
            return self.give_back(job, Duration::ZERO).await;
        };
        crash::point("dispatcher_after_claim_of_test");
        let attempted = self.sender.attempt(&job, &held.event, &live, begun_at).await;
        self.conclude(job, &live, attempted).await;
    }

    async fn decide_unsent(&self, job: Arc<Job>, kind: &'static str, decision: Decision, why: &str) {
        let outcome = Box::new(without_request(&job, kind, decision, why));
        self.recorder.send(Entry::Outcome { job, outcome, disable: false }).await;
    }

    async fn conclude(&self, job: Arc<Job>, live: &LiveEndpoint, attempted: Attempted) -> Option<Answered> {
        let next = decide(attempted.answer, job.used + 1, &live.endpoint.spec.retry, rand::random());
        // What was not sent says nothing about the receiver. But that a proxy refuses this one will not
        // change for its other deliveries: they need not all ask.
        let sent = attempted.answer.is_of_receiver();
        let answered = (sent || attempted.answer == Answer::ProxyRefused).then(|| Answered {
            success: matches!(next, Next::Done),
            promptly: attempted.duration < SLOW_AFTER,
        });
        let (decision, due_in, dead_reason, disable) = match next {
            Next::Retry { .. } | Next::Dead { .. } if job.test => {
                (Decision::Dead, Duration::ZERO, Some(OF_TEST), false)
            }
            Next::Done => (Decision::Delivered, Duration::ZERO, None, false),
            Next::Retry { after } => {
                self.soon.due_in(after);
                (Decision::Retry, after, None, false)
            }
            Next::Dead { reason, disable } => {
                (Decision::Dead, Duration::ZERO, Some(reason.as_str()), disable)
            }
        };
        report(&job, &attempted, decision);
        let timings = attempted.steps();
        let outcome = Outcome {
            key: job.key,
            attempt_id: attempted.id,
            tenant_id: job.tenant_id,
            attempt: job.attempt as i32 + i32::from(!attempted.answer.is_of_proxy()),
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
            timings,
        };
        self.recorder.send(Entry::Outcome { job, outcome: Box::new(outcome), disable }).await;
        answered
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

fn report(job: &Job, attempted: &Attempted, decision: Decision) {
    tracing::debug!(
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
        timings: [None; 4],
    }
}
