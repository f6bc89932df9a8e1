//! Whose turn it is when requests are short: the permits for requests out are shared by deficit round
//! robin over tenants and, within each, over endpoints (a request costs one). Pure.
//!
//! A permit is held for as long as the receiver takes, so turns alone are not fair. Therefore:
//!
//! - a tenant may hold at most four times what is free: one that floods always leaves a part;
//! - endpoints that are slow, failing to answer or not known yet share half of the permits at most, a
//!   tenant at most what is free of that half, and where half of it is taken, each endpoint has one
//!   request out. A thousand hanging endpoints so cost a prompt one nothing, its tenant's or another's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::id::{EndpointId, TenantId};

use crate::breaker::Gate;
use crate::job::Job;
use crate::lane::{Answered, Lane, Pace, SLOW_AFTER};

const TENANT_OF_FREE: usize = 4;
/// One grant in so many looks at slow endpoints first, so that they are never starved.
const SLOW_FIRST_EACH: u64 = 4;
/// Requests to slow endpoints that a tenant may have out even when others hold all of that half.
const SLOW_AT_LEAST: usize = 4;
/// How many tenants, and lanes of each, one look passes over.
const LOOK_MAX: usize = 64;
/// How an endpoint has shown itself is remembered this long.
const REMEMBER_IDLE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Turns {
    max: usize,
    slow_out: usize,
    /// By number, which is by age.
    out: BTreeMap<u64, Out>,
    /// Below it, every request that is out has stalled.
    stalled_below: u64,
    lanes: HashMap<EndpointId, Lane>,
    tenants: HashMap<TenantId, Tenant>,
    /// Tenants with lanes that could go next.
    prompt: VecDeque<TenantId>,
    slow: VecDeque<TenantId>,
    /// Requests granted so far; the number of the next one.
    grants: u64,
    closed: bool,
    /// Lanes that lack a token for what they have; whoever holds this hands them on to be rationed.
    thirsty: Vec<EndpointId>,
}

/// What an endpoint allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) concurrency: usize,
    pub(crate) rate: Option<f64>,
    /// Of the endpoint's last change.
    pub(crate) config_version: i64,
}

impl From<usize> for Limits {
    fn from(concurrency: usize) -> Self {
        Self { concurrency, rate: None, config_version: 0 }
    }
}

#[derive(Debug, Default)]
struct Tenant {
    out: usize,
    slow_out: usize,
    prompt: VecDeque<EndpointId>,
    slow: VecDeque<EndpointId>,
    prompt_listed: bool,
    slow_listed: bool,
}

impl Tenant {
    fn ready(&mut self, pace: Pace) -> (&mut VecDeque<EndpointId>, &mut bool) {
        match pace {
            Pace::Prompt => (&mut self.prompt, &mut self.prompt_listed),
            Pace::Slow => (&mut self.slow, &mut self.slow_listed),
        }
    }
}

/// A request that may go out; its number goes to [`Turns::end`].
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) number: u64,
    pub(crate) job: Arc<Job>,
}

#[derive(Debug)]
struct Out {
    endpoint: EndpointId,
    tenant: TenantId,
    since: Instant,
    counted: Pace,
    stalled: bool,
}

/// Where a job went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    InLane,
    /// Not taken; it is due again after this.
    Refused(Duration),
}

impl Turns {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            slow_out: 0,
            out: BTreeMap::new(),
            stalled_below: 0,
            lanes: HashMap::new(),
            tenants: HashMap::new(),
            prompt: VecDeque::new(),
            slow: VecDeque::new(),
            grants: 0,
            closed: false,
            thirsty: Vec::new(),
        }
    }

    fn slow_max(&self) -> usize {
        self.max.div_ceil(2)
    }

    /// Puts a job into its endpoint's lane.
    pub(crate) fn place(&mut self, job: &Arc<Job>, limits: impl Into<Limits>, now: Instant) -> Placed {
        let limits = limits.into();
        if self.closed {
            return Placed::Refused(Duration::ZERO);
        }
        let id = job.key.endpoint_id;
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(job.tenant_id, now));
        lane.concurrency = limits.concurrency.max(1);
        lane.ration.rate = limits.rate;
        lane.know(limits.config_version);
        if let Gate::Open(left) = lane.breaker.gate(now) {
            return Placed::Refused(left);
        }
        if !lane.push(job) {
            return Placed::Refused(Duration::ZERO);
        }
        self.list(id, now);
        Placed::InLane
    }

    /// Puts a lane where it will be found, if it could go.
    fn list(&mut self, id: EndpointId, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.is_thirsty(now) {
            lane.ration.asked = true;
            self.thirsty.push(id);
        }
        if lane.listed || !lane.may_start(now) {
            return;
        }
        lane.listed = true;
        let (tenant_id, pace) = (lane.tenant, lane.pace());
        let (ready, listed) = self.tenants.entry(tenant_id).or_default().ready(pace);
        ready.push_back(id);
        if !std::mem::replace(listed, true) {
            self.ring(pace).push_back(tenant_id);
        }
    }

    fn ring(&mut self, pace: Pace) -> &mut VecDeque<TenantId> {
        match pace {
            Pace::Prompt => &mut self.prompt,
            Pace::Slow => &mut self.slow,
        }
    }

    /// The next request that may go out.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Turn> {
        let order = if self.grants % SLOW_FIRST_EACH == SLOW_FIRST_EACH - 1 {
            [Pace::Slow, Pace::Prompt]
        } else {
            [Pace::Prompt, Pace::Slow]
        };
        order.into_iter().find_map(|pace| self.next_of(pace, now))
    }

    fn next_of(&mut self, pace: Pace, now: Instant) -> Option<Turn> {
        let looks = self.ring(pace).len().min(LOOK_MAX);
        for _ in 0..looks {
            if self.out.len() >= self.max {
                return None;
            }
            let tenant_id = self.ring(pace).pop_front()?;
            let found =
                if self.tenant_may(tenant_id, pace) { self.lane_of(tenant_id, pace, now) } else { None };
            let (ready, listed) = self.tenants.entry(tenant_id).or_default().ready(pace);
            *listed = !ready.is_empty();
            if *listed {
                self.ring(pace).push_back(tenant_id);
            }
            if let Some((id, job)) = found {
                return Some(self.count(id, job, pace, now));
            }
        }
        None
    }

    fn tenant_may(&self, id: TenantId, pace: Pace) -> bool {
        let Some(tenant) = self.tenants.get(&id) else { return false };
        let free = self.max - self.out.len();
        let slow_free = self.slow_max().saturating_sub(self.slow_out).max(SLOW_AT_LEAST);
        tenant.out < free * TENANT_OF_FREE && (pace == Pace::Prompt || tenant.slow_out < slow_free)
    }

    /// The next job of a tenant's lanes of that pace.
    fn lane_of(&mut self, tenant: TenantId, pace: Pace, now: Instant) -> Option<(EndpointId, Arc<Job>)> {
        let crowded = pace == Pace::Slow && self.slow_out * 2 >= self.slow_max();
        let looks = self.tenants.get_mut(&tenant)?.ready(pace).0.len().min(LOOK_MAX);
        for _ in 0..looks {
            let id = self.tenants.get_mut(&tenant)?.ready(pace).0.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.listed = false;
            if lane.pace() != pace {
                self.list(id, now);
                continue;
            }
            // It is listed again when its own request ends.
            if !lane.may_start(now) || (crowded && lane.out > 0) {
                continue;
            }
            if let Some(job) = lane.start(now) {
                self.list(id, now);
                return Some((id, job));
            }
        }
        None
    }

    fn count(&mut self, endpoint: EndpointId, job: Arc<Job>, pace: Pace, now: Instant) -> Turn {
        let tenant_id = job.tenant_id;
        let slow = usize::from(pace == Pace::Slow);
        self.slow_out += slow;
        let tenant = self.tenants.entry(tenant_id).or_default();
        tenant.out += 1;
        tenant.slow_out += slow;
        let number = self.grants;
        self.grants += 1;
        let out = Out { endpoint, tenant: tenant_id, since: now, counted: pace, stalled: false };
        self.out.insert(number, out);
        Turn { number, job }
    }

    /// Requests that are out for longer than a prompt endpoint takes count as slow from now on, and
    /// their endpoints with them.
    pub(crate) fn stall(&mut self, now: Instant) {
        for (number, out) in self.out.range_mut(self.stalled_below..) {
            if now.duration_since(out.since) < SLOW_AFTER {
                return;
            }
            self.stalled_below = number + 1;
            out.stalled = true;
            if let Some(lane) = self.lanes.get_mut(&out.endpoint) {
                lane.stalled += 1;
            }
            if out.counted == Pace::Prompt {
                out.counted = Pace::Slow;
                self.slow_out += 1;
                self.tenants.entry(out.tenant).or_default().slow_out += 1;
            }
        }
    }

    /// A request ended. Gives the jobs that can't go on because the breaker opened, and how long it
    /// stays open.
    pub(crate) fn end(
        &mut self,
        number: u64,
        answered: Option<Answered>,
        now: Instant,
    ) -> (Vec<Arc<Job>>, Duration) {
        let nothing = (Vec::new(), Duration::ZERO);
        let Some(out) = self.out.remove(&number) else { return nothing };
        let slow = usize::from(out.counted == Pace::Slow);
        self.slow_out -= slow;
        if let Some(tenant) = self.tenants.get_mut(&out.tenant) {
            tenant.out -= 1;
            tenant.slow_out -= slow;
        }
        let Some(lane) = self.lanes.get_mut(&out.endpoint) else { return nothing };
        lane.stalled -= usize::from(out.stalled);
        lane.ended(answered, now);
        let refused = match lane.breaker.gate(now) {
            Gate::Open(left) => (lane.drain(), left),
            Gate::Closed | Gate::Probe => nothing,
        };
        if lane.is_idle(now) && lane.pace() == Pace::Slow {
            self.lanes.remove(&out.endpoint);
        }
        self.list(out.endpoint, now);
        self.forget_tenant(out.tenant);
        refused
    }

    fn forget_tenant(&mut self, id: TenantId) {
        let idle = |tenant: &Tenant| tenant.out == 0 && !tenant.prompt_listed && !tenant.slow_listed;
        if self.tenants.get(&id).is_some_and(idle) {
            self.tenants.remove(&id);
        }
    }

    /// Lanes for which somebody has to ask for tokens now, until [`Self::wants`] says none.
    pub(crate) fn thirsty(&mut self) -> Vec<EndpointId> {
        std::mem::take(&mut self.thirsty)
    }

    /// How many tokens a rationed lane could use now; `None` ends its rationing.
    pub(crate) fn wants(&mut self, id: EndpointId, rate: Option<f64>, now: Instant) -> Option<(f64, usize)> {
        let closed = self.closed;
        let lane = self.lanes.get_mut(&id)?;
        lane.ration.rate = rate;
        let usable = lane.usable(now);
        if let Some(rate) = rate.filter(|_| usable > 0 && lane.ration.tokens == 0 && !closed) {
            return Some((rate, usable));
        }
        lane.ration.asked = false;
        self.list(id, now);
        None
    }

    /// Tokens for a rationed lane.
    pub(crate) fn grant(&mut self, id: EndpointId, tokens: u32, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.ration.tokens += tokens;
        self.list(id, now);
    }

    /// How many rows of the queue the lane of an endpoint, last changed by `config_version`, can take.
    pub(crate) fn room_for_due(
        &mut self,
        id: EndpointId,
        config_version: i64,
        now: Instant,
    ) -> Option<usize> {
        let lane = self.lanes.get_mut(&id)?;
        lane.know(config_version);
        Some(lane.room_for_due(now))
    }

    /// Forgets jobs of these endpoints that were parked.
    pub(crate) fn prune(&mut self, endpoints: impl IntoIterator<Item = EndpointId>) {
        for id in endpoints {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.prune();
            }
        }
    }

    /// Forgets lanes that nothing has used for long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.lanes.retain(|_, lane| {
            lane.listed || !lane.is_idle(now) || now.duration_since(lane.used_at) < REMEMBER_IDLE
        });
    }

    /// Takes nothing any more; gives everything that waits.
    pub(crate) fn close(&mut self) -> Vec<Arc<Job>> {
        self.closed = true;
        self.lanes.values_mut().flat_map(Lane::drain).collect()
    }
}

#[cfg(test)]
mod tests;
