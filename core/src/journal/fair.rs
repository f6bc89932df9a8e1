//! Which tenants flood: their chunks go to the bulk streams, behind everybody else's.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::id::TenantId;
use crate::streams::Class;

const WINDOW: Duration = Duration::from_secs(1);
/// Below this there is nothing to be unfair with.
const QUIET_EVENTS_PER_SECOND: f64 = 200.0;
/// How often the mean of the others a tenant may send.
const FAIR_MULTIPLE: f64 = 2.0;
/// Tenants that are watched in one window; more of them count in the total alone.
const TENANTS_MAX: usize = 10_000;

/// Rates of the last second: the current window, and the part of the one before that still counts.
#[derive(Debug)]
pub(super) struct Rates {
    started: Instant,
    current: Window,
    previous: Window,
}

#[derive(Debug, Default)]
struct Window {
    total: u64,
    tenants: HashMap<TenantId, u64>,
}

impl Window {
    fn of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).copied().unwrap_or(0)
    }
}

impl Rates {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, current: Window::default(), previous: Window::default() }
    }

    pub(super) fn count(&mut self, tenant: TenantId, events: u64, now: Instant) {
        self.roll(now);
        self.current.total += events;
        if self.current.tenants.len() < TENANTS_MAX || self.current.tenants.contains_key(&tenant) {
            *self.current.tenants.entry(tenant).or_default() += events;
        }
    }

    /// Where its events go, beside all that has been counted.
    pub(super) fn class_of(&self, tenant: TenantId, now: Instant) -> Class {
        let passed = now.duration_since(self.started).as_secs_f64() / WINDOW.as_secs_f64();
        let rate = |current: u64, previous: u64| current as f64 + previous as f64 * (1.0 - passed).max(0.0);
        let total = rate(self.current.total, self.previous.total);
        let own = rate(self.current.of(tenant), self.previous.of(tenant));
        // The mean of the others, not of all: of two tenants none can have twice the mean of both.
        let others = self.active().saturating_sub(1);
        let floods = others > 0
            && total > QUIET_EVENTS_PER_SECOND
            && own > FAIR_MULTIPLE * (total - own) / others as f64;
        if floods { Class::Bulk } else { Class::Events }
    }

    fn active(&self) -> usize {
        let gone = self.previous.tenants.keys().filter(|tenant| !self.current.tenants.contains_key(tenant));
        self.current.tenants.len() + gone.count()
    }

    fn roll(&mut self, now: Instant) {
        let passed = now.duration_since(self.started);
        if passed < WINDOW {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.previous = if passed < 2 * WINDOW { current } else { Window::default() };
        self.started = if passed < 2 * WINDOW { self.started + WINDOW } else { now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Rates {
        fn classify(&mut self, tenant: TenantId, events: u64, now: Instant) -> Class {
            self.count(tenant, events, now);
            self.class_of(tenant, now)
        }
    }

    #[test]
    fn a_tenant_alone_or_among_equals_is_fair() {
        let now = Instant::now();
        let mut rates = Rates::new(now);
        let tenants = [TenantId::new(), TenantId::new(), TenantId::new()];
        assert_eq!(rates.classify(tenants[0], 100_000, now), Class::Events);
        let mut rates = Rates::new(now);
        for _ in 0..1000 {
            for tenant in tenants {
                rates.classify(tenant, 1, now);
            }
        }
        assert!(tenants.iter().all(|tenant| rates.classify(*tenant, 1, now) == Class::Events));
    }

    #[test]
    fn the_one_that_floods_goes_to_bulk_until_it_calms_down() {
        let now = Instant::now();
        let mut rates = Rates::new(now);
        let (quiet, flooding) = (TenantId::new(), TenantId::new());
        assert_eq!(rates.classify(quiet, 50, now), Class::Events);
        assert_eq!(rates.classify(flooding, 120, now), Class::Events, "little in all");
        assert_eq!(rates.classify(flooding, 500, now), Class::Bulk);
        assert_eq!(rates.classify(quiet, 1, now), Class::Events);
        let half = now + WINDOW * 3 / 2;
        rates.classify(quiet, 10, half);
        assert_eq!(rates.classify(flooding, 1, half), Class::Bulk, "half of the second before counts");
        let later = now + 5 * WINDOW;
        rates.classify(quiet, 10, later);
        assert_eq!(rates.classify(flooding, 10, later), Class::Events);
    }
}
