//! What this dispatcher put off for less than the time between two looks at the queue: so that a wait of
//! 200 ms takes 200 ms. A hint; the regular look finds everything.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Moments are rounded up to this, so that many make few looks.
const STEP_MS: u64 = 50;
/// Until an outcome is committed.
const COMMIT_TAKES: Duration = Duration::from_millis(20);
/// Nothing further away is kept: at most a second's worth of steps.
pub(crate) const HORIZON: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Soon {
    steps: Mutex<Steps>,
    earlier: Notify,
}

impl Default for Soon {
    fn default() -> Self {
        let steps = Steps { start: Instant::now(), due: BTreeSet::new() };
        Self { steps: Mutex::new(steps), earlier: Notify::new() }
    }
}

impl Soon {
    /// Something is due after this time.
    pub(crate) fn due_in(&self, wait: Duration) {
        if wait < HORIZON && self.steps.lock().add(Instant::now() + wait + COMMIT_TAKES) {
            self.earlier.notify_one();
        }
    }

    /// Until something is due, not before `earliest` nor after `latest`.
    pub(crate) async fn wait(&self, earliest: Instant, latest: Instant) {
        loop {
            let until = self.steps.lock().next(earliest, latest);
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = self.earlier.notified() => {}
            }
        }
        self.steps.lock().pass(Instant::now());
    }
}

/// Moments since the start, in steps.
#[derive(Debug)]
struct Steps {
    start: Instant,
    due: BTreeSet<u64>,
}

impl Steps {
    /// Returns whether it is the first now.
    fn add(&mut self, at: Instant) -> bool {
        let step = (at.duration_since(self.start).as_millis() as u64).div_ceil(STEP_MS);
        let is_first = self.due.first().is_none_or(|first| step < *first);
        self.due.insert(step);
        is_first
    }

    fn next(&self, earliest: Instant, latest: Instant) -> Instant {
        let at = |step: &u64| self.start + Duration::from_millis(step * STEP_MS);
        self.due.first().map_or(latest, at).clamp(earliest.min(latest), latest)
    }

    fn pass(&mut self, now: Instant) {
        let passed = now.duration_since(self.start).as_millis() as u64 / STEP_MS;
        self.due.retain(|step| *step > passed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_kept_to_and_nothing_is_looked_for_too_often() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut steps = Steps { start, due: BTreeSet::new() };
        assert_eq!(steps.next(at(50), at(1000)), at(1000), "nothing is near");
        assert!(steps.add(at(720)) && steps.add(at(201)) && !steps.add(at(202)) && !steps.add(at(900)));
        assert_eq!(steps.next(at(50), at(1000)), at(250), "rounded up");
        steps.pass(at(260));
        assert_eq!(steps.next(at(310), at(1260)), at(750));
        assert_eq!(steps.next(at(800), at(1800)), at(800), "not earlier than wanted");
        steps.pass(at(900));
        assert_eq!(steps.next(at(950), at(1900)), at(1900));
        assert!(steps.due.is_empty(), "what has passed is forgotten");
    }
}
