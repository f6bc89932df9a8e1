//! How many requests to a source verification has refused since it accepted one last, as one replica sees it. It
//! is counted while requests are answered: without a lock, and with nothing to keep but three numbers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::defaults::{SOURCE_FAILING_QUIET, SOURCE_FAILING_REFUSALS};

/// The run of refusals of a source; a change of the source begins it anew.
#[derive(Debug, Default)]
pub struct Refused {
    count: AtomicU64,
    /// Of the first of them; 0 while there is none.
    since_ms: AtomicI64,
    /// Nothing is told before then.
    quiet_until_ms: AtomicI64,
}

/// A source that fails, and should be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    pub refused_count: u64,
    pub since: DateTime<Utc>,
}

impl Refused {
    /// A request was accepted.
    pub fn end(&self) {
        // Healthy sources write nothing that the other threads would have to fetch.
        if self.count.load(Ordering::Relaxed) != 0 {
            self.count.store(0, Ordering::Relaxed);
            self.since_ms.store(0, Ordering::Relaxed);
        }
    }

    /// One more was refused. Says so where they are enough, have lasted for `lasting`, and nothing was said lately.
    pub fn add(&self, now: DateTime<Utc>, lasting: Duration) -> Option<Failing> {
        let now_ms = now.timestamp_millis();
        let refused_count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let begun = self.since_ms.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        let since_ms = match begun {
            Ok(_) => now_ms,
            Err(since_ms) => since_ms,
        };
        if refused_count < SOURCE_FAILING_REFUSALS || now_ms - since_ms < millis(lasting) {
            return None;
        }
        let quiet_until_ms = self.quiet_until_ms.load(Ordering::Relaxed);
        if now_ms < quiet_until_ms {
            return None;
        }
        // One of those that come at the same time.
        let next_ms = now_ms + millis(SOURCE_FAILING_QUIET);
        self.quiet_until_ms
            .compare_exchange(quiet_until_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed)
            .ok()?;
        Some(Failing { refused_count, since: DateTime::from_timestamp_millis(since_ms)? })
    }

    /// It could not be told: the next refusal after `at` may try again.
    pub fn quiet_until(&self, at: DateTime<Utc>) {
        self.quiet_until_ms.store(at.timestamp_millis(), Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const LASTING: Duration = Duration::from_secs(60);

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    /// Refusals at these seconds; at which of them it was told.
    fn told(refused: &Refused, seconds: impl IntoIterator<Item = i64>) -> Vec<i64> {
        seconds.into_iter().filter(|second| refused.add(at(*second), LASTING).is_some()).collect()
    }

    #[test]
    fn it_takes_many_and_a_while() {
        assert_eq!(told(&Refused::default(), [0; 1000]), [0; 0], "many at once");
        assert_eq!(told(&Refused::default(), (0..9).map(|n| n * 60)), [0; 0], "few over a long time");
        assert_eq!(told(&Refused::default(), (0..10).map(|n| n * 60)), [540]);
        assert_eq!(told(&Refused::default(), 0..100), [60]);
        let refused = Refused::default();
        assert_eq!(told(&refused, 0..60), [0; 0]);
        assert_eq!(refused.add(at(60), LASTING), Some(Failing { refused_count: 61, since: at(0) }));
    }

    #[test]
    fn an_accepted_request_ends_it() {
        let refused = Refused::default();
        for n in 0..20 {
            assert_eq!(told(&refused, (0..9).map(|k| n * 100 + k * 10)), [0; 0]);
            refused.end();
        }
        assert_eq!(told(&refused, (0..20).map(|n| 3000 + n * 10)), [3090], "counted from the first after it");
    }

    #[test]
    fn while_it_lasts_it_is_told_once_an_hour() {
        let refused = Refused::default();
        assert_eq!(told(&refused, 0..7300), [60, 3660, 7260]);
        refused.end();
        assert_eq!(told(&refused, 7300..10_000), [0; 0], "another run within the hour");
        // What could not be told is tried again.
        let refused = Refused::default();
        assert_eq!(told(&refused, 0..100), [60]);
        refused.quiet_until(at(60) + TimeDelta::seconds(10));
        assert_eq!(told(&refused, 61..100), [70]);
    }

    #[test]
    fn of_many_threads_one_tells() {
        let refused = Refused::default();
        told(&refused, 0..60);
        let told: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| refused.add(at(60), LASTING).is_some()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(told, 1);
    }
}
