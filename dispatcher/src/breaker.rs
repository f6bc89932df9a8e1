//! The breaker of one endpoint: opens after consecutive failures, lets single probes through with
//! growing pauses, closes at a success. Pure: the caller brings the clock.

use std::time::{Duration, Instant};

use bowline_core::defaults::{BREAKER_FAILURES, BREAKER_PAUSE_MAX, BREAKER_PAUSE_MIN};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Send.
    Closed,
    /// One probe may go.
    Probe,
    /// Nothing goes for this long.
    Open(Duration),
}

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    pause: Duration,
    probing: bool,
}

impl Breaker {
    pub(crate) fn gate(&self, now: Instant) -> Gate {
        match self.open_until {
            None => Gate::Closed,
            Some(until) if now < until => Gate::Open(until - now),
            Some(_) if self.probing => Gate::Open(BREAKER_PAUSE_MIN),
            Some(_) => Gate::Probe,
        }
    }

    /// Marks the probe that [`Gate::Probe`] allowed as out.
    pub(crate) fn start_probe(&mut self) {
        self.probing = true;
    }

    /// A request ended that never asked the receiver. If it was the probe, another may go.
    pub(crate) fn learned_nothing(&mut self) {
        self.probing = false;
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures < BREAKER_FAILURES {
            return;
        }
        // Failures of requests that were out when it opened do not lengthen the pause.
        if self.open_until.is_some() && !self.probing {
            return;
        }
        self.pause =
            if self.pause.is_zero() { BREAKER_PAUSE_MIN } else { (self.pause * 2).min(BREAKER_PAUSE_MAX) };
        self.probing = false;
        self.open_until = Some(now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_probes_with_growing_pauses_and_closes() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..BREAKER_FAILURES - 1 {
            breaker.failed(start);
        }
        assert_eq!(breaker.gate(start), Gate::Closed);
        breaker.failed(start);
        assert_eq!(breaker.gate(start), Gate::Open(BREAKER_PAUSE_MIN));
        // A late failure of an older request changes nothing.
        breaker.failed(start);
        assert_eq!(breaker.gate(start + BREAKER_PAUSE_MIN), Gate::Probe);
        breaker.start_probe();
        assert!(matches!(breaker.gate(start + BREAKER_PAUSE_MIN), Gate::Open(_)));
        // One that was given back unsent proves nothing, and bars nobody.
        breaker.learned_nothing();
        assert_eq!(breaker.gate(start + BREAKER_PAUSE_MIN), Gate::Probe);
        breaker.start_probe();
        breaker.failed(start + BREAKER_PAUSE_MIN);
        assert_eq!(breaker.gate(start + BREAKER_PAUSE_MIN), Gate::Open(BREAKER_PAUSE_MIN * 2));
        for _ in 0..20 {
            breaker.start_probe();
            breaker.failed(start);
        }
        assert_eq!(breaker.gate(start), Gate::Open(BREAKER_PAUSE_MAX));
        breaker.succeeded();
        assert_eq!(breaker.gate(start), Gate::Closed);
    }
}
