//! From when on what will be committed can have its ids.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use crate::store::watching::Look;

/// Looks that are remembered while a transaction is open. What is forgotten makes later looks longer.
const SEEN_MAX: usize = 600;

/// What successive looks say together.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// Known to hold for whatever has not ended.
    low: Option<DateTime<Utc>>,
    /// Next numbers, and the times before them; later than `low`.
    seen: VecDeque<(u64, DateTime<Utc>)>,
}

impl Horizon {
    /// A time before which no transaction from `look.ended_below` on had its number; `None` until that is known.
    pub(super) fn advance(&mut self, look: &Look) -> Option<DateTime<Utc>> {
        self.seen.push_back((look.next, look.low));
        while let Some((next, low)) = self.seen.front().copied()
            && next <= look.ended_below
        {
            self.low = Some(low);
            self.seen.pop_front();
        }
        if self.seen.len() > SEEN_MAX {
            // The oldest would have helped first, and least.
            self.seen.pop_front();
        }
        self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(ended_below: u64, next: u64, second: i64) -> Look {
        let low = DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap();
        Look { ended_below, next, low, high: low }
    }

    fn low(horizon: &mut Horizon, ended_below: u64, next: u64, second: i64) -> Option<i64> {
        let low = horizon.advance(&look(ended_below, next, second));
        low.map(|low| low.timestamp() - 1_700_000_000)
    }

    #[test]
    fn it_follows_what_has_ended() {
        let mut horizon = Horizon::default();
        // 10 is open, since nobody knows when.
        assert_eq!(low(&mut horizon, 10, 12, 0), None);
        assert_eq!(low(&mut horizon, 10, 13, 1), None);
        // It has ended, and so has everything that was open at the first look.
        assert_eq!(low(&mut horizon, 12, 15, 2), Some(0));
        assert_eq!(low(&mut horizon, 15, 15, 3), Some(3));
        // What is open now began after the last look.
        assert_eq!(low(&mut horizon, 15, 18, 60), Some(3));
        assert_eq!(low(&mut horizon, 18, 18, 61), Some(61));
    }

    #[test]
    fn a_transaction_that_never_ends_takes_no_memory() {
        let mut horizon = Horizon::default();
        assert_eq!(low(&mut horizon, 5, 5, 0), Some(0));
        for second in 1..5000 {
            assert_eq!(low(&mut horizon, 5, 5 + second as u64, second), Some(0));
        }
        assert!(horizon.seen.len() <= SEEN_MAX);
        assert_eq!(low(&mut horizon, 5005, 5005, 5000), Some(5000));
    }
}
