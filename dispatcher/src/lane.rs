//! The lane of one endpoint: a bounded queue with its own concurrency and breaker. Pure: the caller
//! brings the clock, and [`crate::turns`] decides which lane goes next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::defaults::{LANE_CAPACITY, PROMPT_LANE_CAPACITY};
use bowline_core::id::TenantId;

use crate::breaker::{Breaker, Gate};
use crate::job::Job;

/// An endpoint whose requests are out longer than this is slow.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(1);

/// How an endpoint has shown itself. What it shows first is unknown, and counts as slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Prompt,
    Slow,
}

/// What became of a request, as far as its endpoint is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) success: bool,
    pub(crate) promptly: bool,
}

/// What an endpoint with a rate lets go: see [`crate::rate`].
#[derive(Debug, Default)]
pub(crate) struct Ration {
    /// Requests a second over all dispatchers; `None`: any number.
    pub(crate) rate: Option<f64>,
    /// Those that may go now.
    pub(crate) tokens: u32,
    /// Somebody asks for more.
    pub(crate) asked: bool,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) tenant: TenantId,
    pub(crate) concurrency: usize,
    pub(crate) ration: Ration,
    pub(crate) breaker: Breaker,
    config_version: i64,
    /// Requests that are out, and those of them for longer than [`SLOW_AFTER`].
    pub(crate) out: usize,
    pub(crate) stalled: usize,
    /// In a ring of lanes that could go next.
    pub(crate) listed: bool,
    pub(crate) used_at: Instant,
    prompt: bool,
    fresh: VecDeque<Arc<Job>>,
    /// From the queue; half of the lane is theirs while there are some.
    due: VecDeque<Arc<Job>>,
    due_first: bool,
}

impl Lane {
    pub(crate) fn new(tenant: TenantId, now: Instant) -> Self {
        Self {
            tenant,
            concurrency: 1,
            ration: Ration::default(),
            breaker: Breaker::default(),
            config_version: 0,
            out: 0,
            stalled: 0,
            listed: false,
            used_at: now,
            prompt: false,
            fresh: VecDeque::new(),
            due: VecDeque::new(),
            due_first: false,
        }
    }

    /// What the endpoint has shown of itself before it was changed, or enabled again, tells nothing any more.
    pub(crate) fn know(&mut self, config_version: i64) {
        if config_version > self.config_version {
            self.config_version = config_version;
            self.breaker = Breaker::default();
        }
    }

    pub(crate) fn pace(&self) -> Pace {
        if self.prompt && self.stalled == 0 { Pace::Prompt } else { Pace::Slow }
    }

    /// Takes a job; false where there is no room.
    pub(crate) fn push(&mut self, job: &Arc<Job>) -> bool {
        if job.chunk.is_none() {
            self.due.push_back(Arc::clone(job));
            return true;
        }
        let room = match self.pace() {
            Pace::Prompt => PROMPT_LANE_CAPACITY,
            Pace::Slow => LANE_CAPACITY,
        };
        let room = if self.due.is_empty() { room } else { room / 2 };
        let room = self.rated(1.0).map_or(room, |rated| room.min(rated));
        if self.fresh.len() >= room {
            return false;
        }
        self.fresh.push_back(Arc::clone(job));
        true
    }

    /// How many rows of the queue it can take.
    pub(crate) fn room_for_due(&self, now: Instant) -> usize {
        match self.breaker.gate(now) {
            Gate::Open(_) => 0,
            Gate::Probe => usize::from(self.due.is_empty()),
            Gate::Closed => {
                let room = LANE_CAPACITY / 2;
                let room = self.rated(2.0).map_or(room, |rated| room.min(rated));
                room.saturating_sub(self.due.len())
            }
        }
    }

    /// How many requests its rate lets go in so many seconds: more need not wait in memory.
    fn rated(&self, seconds: f64) -> Option<usize> {
        self.ration.rate.map(|rate| (rate * seconds).ceil().max(1.0) as usize)
    }

    /// How many requests could go now if there were tokens for them.
    pub(crate) fn usable(&self, now: Instant) -> usize {
        let free = match self.breaker.gate(now) {
            Gate::Open(_) => 0,
            Gate::Probe => 1_usize.saturating_sub(self.out),
            Gate::Closed => self.concurrency.saturating_sub(self.out),
        };
        free.min(self.fresh.len() + self.due.len())
    }

    /// Whether all it lacks is a token, and nobody asks for one yet.
    pub(crate) fn is_thirsty(&self, now: Instant) -> bool {
        self.ration.rate.is_some() && self.ration.tokens == 0 && !self.ration.asked && self.usable(now) > 0
    }

    /// Forgets what was parked meanwhile.
    pub(crate) fn prune(&mut self) {
        self.fresh.retain(|job| job.is_waiting());
        self.due.retain(|job| job.is_waiting());
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !(self.fresh.is_empty() && self.due.is_empty())
    }

    /// Whether a request may go now, as far as the endpoint itself is concerned.
    pub(crate) fn may_start(&self, now: Instant) -> bool {
        self.has_waiting()
            && self.out < self.concurrency
            && (self.ration.rate.is_none() || self.ration.tokens > 0)
            && !matches!(self.breaker.gate(now), Gate::Open(_))
    }

    /// The next job, taken out of the lane and started.
    pub(crate) fn start(&mut self, now: Instant) -> Option<Arc<Job>> {
        let job = loop {
            let job = self.pop()?;
            if job.start() {
                break job;
            }
        };
        if self.breaker.gate(now) == Gate::Probe {
            self.breaker.start_probe();
        }
        self.out += 1;
        self.ration.tokens = self.ration.tokens.saturating_sub(1);
        Some(job)
    }

    fn pop(&mut self) -> Option<Arc<Job>> {
        self.due_first = !self.due_first;
        let (first, second) =
            if self.due_first { (&mut self.due, &mut self.fresh) } else { (&mut self.fresh, &mut self.due) };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// A request ended; `None`: it says nothing about the receiver.
    pub(crate) fn ended(&mut self, answered: Option<Answered>, now: Instant) {
        self.out -= 1;
        self.used_at = now;
        let Some(answered) = answered else { return self.breaker.learned_nothing() };
        self.prompt = answered.promptly;
        if answered.success {
            self.breaker.succeeded();
        } else {
            self.breaker.failed(now);
        }
    }

    /// Takes out everything that waits.
    pub(crate) fn drain(&mut self) -> Vec<Arc<Job>> {
        self.due.drain(..).chain(self.fresh.drain(..)).filter(|job| job.withdraw()).collect()
    }

    /// Nothing is lost by forgetting it, but how it has shown itself.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.out == 0 && !self.has_waiting() && !self.ration.asked && self.breaker.gate(now) == Gate::Closed
    }
}
