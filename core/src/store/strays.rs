//! How the rows of a span of transactions are found without an index of `tx`.
//!
//! An id of an event begins with the time of its making, by the clock of whoever made it, and is minted before
//! the transaction that writes it begins, by nobody knows how much: a row can become visible long after rows
//! with greater ids, and an attempt is made days after its event. So each statement that writes to `events` or
//! `attempts` compares the event's id with the database's clock, read after the transaction has its number: a
//! row is a *stray* unless its id is of a time from [`BEHIND`] before to [`AHEAD`] after. Strays are in an index
//! by `tx`; the others, nearly all of them, cost nothing.
//!
//! Let `c` be what that clock said, for a row that is no stray, of transaction `t`. Then
//!
//! - `t` had its number before `c`. If the next number to be given was looked up after the time `low`, and is not
//!   above `t`, then `t` got its number after that: `c >= low`, and the id is not before `low - BEHIND`. (`xmax` of
//!   a snapshot would not do: it follows the last transaction that ended, and later ones may have begun.)
//! - `c` was read before `t` ended. If the `xmin` of a snapshot, taken before the time `high`, is above `t`, then
//!   `t` had ended by then: `c <= high`, and the id is before `high + AHEAD`.
//!
//! So whoever keeps `low` and `high` with a span of transactions knows between which ids its rows are, and finds
//! the strays by their index: nothing is missed, however long a transaction was open, a process was stopped, or
//! however wrong the clock of a replica is. What is trusted is one clock, that of the database; that it may have
//! stepped back by [`STEP`] meanwhile is allowed for.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::events::{IdRange, first_id_at};

/// How much older than its commit an id may be. More of it makes fewer strays, and each look of a watch longer.
pub const BEHIND: Duration = Duration::from_secs(2);
/// How far ahead of the database's clock that of a replica may be.
pub const AHEAD: Duration = Duration::from_secs(1);
/// What the database's clock may be put back by.
pub const STEP: Duration = Duration::from_secs(1);

/// For a statement that writes: the bounds of ids that are no strays. It must come to be read by the row that
/// is written, not before: the number of the transaction comes first, then the clock.
pub(super) fn clock() -> String {
    format!(
        "clock AS MATERIALIZED (
    SELECT first_id_at(at - interval '{} milliseconds') AS first, first_id_at(at + interval '{} milliseconds') AS last
      FROM (SELECT CASE WHEN pg_current_xact_id() IS NOT NULL THEN clock_timestamp() END AS at) AS read
)",
        BEHIND.as_millis(),
        AHEAD.as_millis()
    )
}

/// The value of the column `stray`, beside [`clock`]: null for what is none.
pub(super) fn is_stray(event_id: &str) -> String {
    format!(
        "CASE WHEN {event_id} < (SELECT first FROM clock) OR {event_id} >= (SELECT last FROM clock) THEN true END"
    )
}

/// Where the rows are that are no strays, of transactions that had no number at `low` and had ended at `high`.
pub fn ids_between(low: DateTime<Utc>, high: DateTime<Utc>) -> IdRange {
    let first = low - BEHIND - STEP;
    let last = high + AHEAD + STEP;
    IdRange {
        from: first_id_at(first.timestamp_millis()),
        // The millisecond of `last` is cut off below.
        until: first_id_at(last.timestamp_millis() + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_span_holds_what_was_written_in_it_and_is_no_stray() {
        let at = |ms: i64| DateTime::from_timestamp_millis(1_700_000_000_000 + ms).unwrap();
        let id = |ms: i64| Uuid::from_u128(first_id_at(1_700_000_000_000 + ms).as_u128() | (0x7 << 76) | 5);
        let ids = ids_between(at(0), at(200));
        let holds = |id: Uuid| ids.from <= id && id < ids.until;
        // The clock said 0 to 200 when they were written, or 1000 less.
        assert!([-3000, -1000, 0, 100, 200, 1200, 2200].map(id).into_iter().all(holds));
        assert!(![-3001, 2201].map(id).into_iter().any(holds));
    }
}
