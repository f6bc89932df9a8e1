//! Where a watch stands in its log, and as what its cursor says it.

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::{AttemptId, EventId};
use bowline_core::store::deliveries::AttemptKey;
use bowline_core::store::watching::{Part, Span};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::page::Position;

/// The year 3000: whatever a cursor claims, one can add to it.
const TIME_MAX_US: i64 = 32_503_680_000_000_000;

/// The key of a row, of fixed length.
pub(crate) trait Key: Position + Copy + Ord + Send + Sync + 'static {
    const BYTES: usize;
}

impl Key for EventId {
    const BYTES: usize = 16;
}

impl Position for EventId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Uuid::read(bytes).map(Self)
    }
}

impl Key for AttemptKey {
    const BYTES: usize = 52;
}

impl Position for AttemptKey {
    fn write(&self, out: &mut Vec<u8>) {
        self.delivery.write(out);
        self.attempt_id.0.write(out);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (delivery, attempt) = bytes.split_at_checked(Self::BYTES - 16)?;
        Some(Self { delivery: DeliveryKey::read(delivery)?, attempt_id: AttemptId(Uuid::read(attempt)?) })
    }
}

/// Everything that transactions below `from` wrote is known, and of `from` itself the rows up to `skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<K> {
    pub(super) from: u64,
    pub(super) skip: Option<K>,
    /// As [`Span::low`].
    pub(super) low: DateTime<Utc>,
    pub(super) backlog: Option<Backlog<K>>,
}

/// What lies from `Place::from` up to `until`, where that is a time or has more rows than are held at a time; the
/// place follows when all are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog<K> {
    pub(super) until: u64,
    /// As [`Span::high`].
    pub(super) high: DateTime<Utc>,
    /// As [`Span::low`], for what is from `until` on.
    pub(super) next_low: DateTime<Utc>,
    pub(super) stage: Stage<K>,
}

/// How far a backlog is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage<K> {
    /// All of it at once, sorted by transaction and key, after these. Only where it fits.
    Sorted(Option<(u64, K)>),
    /// Part by part, in an order that needs no sorting.
    Part(Part<K>),
}

impl<K> Backlog<K> {
    /// Nothing of it is known.
    pub(super) fn in_parts(self) -> Self {
        Self { stage: Stage::Part(Part::Strays(None)), ..self }
    }
}

impl<K: Key> Place<K> {
    /// After everything up to there.
    pub(super) fn at(from: u64, low: DateTime<Utc>) -> Self {
        Self { from, skip: None, low, backlog: None }
    }

    /// After this row.
    pub(super) fn after(&self, tx: u64, key: K) -> Self {
        match self.backlog {
            None => Self { from: tx, skip: Some(key), ..*self },
            Some(backlog) => {
                let stage = match backlog.stage {
                    Stage::Sorted(_) => Stage::Sorted(Some((tx, key))),
                    Stage::Part(Part::Strays(_)) => Stage::Part(Part::Strays(Some((tx, key)))),
                    Stage::Part(Part::Others(_)) => Stage::Part(Part::Others(Some(key))),
                };
                Self { backlog: Some(Backlog { stage, ..backlog }), ..*self }
            }
        }
    }

    /// After all that is left of this stage of the backlog.
    pub(super) fn after_stage(&self) -> Self {
        match self.backlog {
            Some(backlog) if matches!(backlog.stage, Stage::Part(Part::Strays(_))) => {
                Self { backlog: Some(Backlog { stage: Stage::Part(Part::Others(None)), ..backlog }), ..*self }
            }
            Some(backlog) => Self::at(backlog.until, backlog.next_low),
            None => *self,
        }
    }

    /// No transaction from there on is needed to say where it is.
    pub(super) fn end(&self) -> u64 {
        self.backlog.map_or(self.from, |backlog| backlog.until)
    }

    /// What is known of the transactions from `from` on, as [`Reading::known`](bowline_core::store::watching::Reading).
    pub(super) fn known(&self) -> Option<(u64, K)> {
        match self.backlog.map(|backlog| backlog.stage) {
            Some(Stage::Sorted(Some(last))) => Some(last),
            _ => self.skip.map(|key| (self.from, key)),
        }
    }

    pub(super) fn span(&self, until: u64, high: DateTime<Utc>) -> Span {
        Span { from: self.from, until, low: self.low, high }
    }
}

impl<K: Key> Position for Place<K> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.from.to_be_bytes());
        write_time(out, self.low);
        write_key(out, self.skip);
        let Some(backlog) = self.backlog else { return };
        out.extend_from_slice(&backlog.until.to_be_bytes());
        write_time(out, backlog.high);
        write_time(out, backlog.next_low);
        match backlog.stage {
            Stage::Part(Part::Strays(last)) => {
                out.push(0);
                write_last(out, last);
            }
            Stage::Part(Part::Others(last)) => {
                out.push(1);
                write_key(out, last);
            }
            Stage::Sorted(last) => {
                out.push(2);
                write_last(out, last);
            }
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let place = Self {
            from: read_u64(&mut rest)?,
            low: read_time(&mut rest)?,
            skip: read_key(&mut rest)?,
            backlog: None,
        };
        if rest.is_empty() {
            return Some(place);
        }
        let (until, high, next_low) = (read_u64(&mut rest)?, read_time(&mut rest)?, read_time(&mut rest)?);
        let stage = match rest.split_off_first()? {
            0 => Stage::Part(Part::Strays(read_last(&mut rest)?)),
            1 => Stage::Part(Part::Others(read_key(&mut rest)?)),
            2 => Stage::Sorted(read_last(&mut rest)?),
            _ => return None,
        };
        rest.is_empty().then_some(Self { backlog: Some(Backlog { until, high, next_low, stage }), ..place })
    }
}

/// To the microsecond, as the database gives them.
fn write_time(out: &mut Vec<u8>, time: DateTime<Utc>) {
    out.extend_from_slice(&time.timestamp_micros().clamp(0, TIME_MAX_US).to_be_bytes());
}

fn read_time(rest: &mut &[u8]) -> Option<DateTime<Utc>> {
    let micros = i64::try_from(read_u64(rest)?).ok().filter(|micros| *micros <= TIME_MAX_US)?;
    DateTime::from_timestamp_micros(micros)
}

fn read_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}

fn write_last<K: Key>(out: &mut Vec<u8>, last: Option<(u64, K)>) {
    out.extend_from_slice(&last.map_or(0, |(tx, _)| tx).to_be_bytes());
    write_key(out, last.map(|(_, key)| key));
}

#[allow(clippy::option_option, reason = "the outer one is for bytes that are none")]
fn read_last<K: Key>(rest: &mut &[u8]) -> Option<Option<(u64, K)>> {
    let tx = read_u64(rest)?;
    Some(read_key(rest)?.map(|key| (tx, key)))
}

fn write_key<K: Key>(out: &mut Vec<u8>, key: Option<K>) {
    out.push(u8::from(key.is_some()));
    if let Some(key) = key {
        key.write(out);
    }
}

#[allow(clippy::option_option, reason = "the outer one is for bytes that are no key")]
fn read_key<K: Key>(rest: &mut &[u8]) -> Option<Option<K>> {
    match rest.split_off_first()? {
        0 => Some(None),
        1 => {
            let (key, after) = rest.split_at_checked(K::BYTES)?;
            *rest = after;
            K::read(key).map(Some)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::id::EndpointId;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 123_456_000).unwrap()
    }

    fn everywhere<K: Key>(key: K) -> Vec<Place<K>> {
        let plain = Place::at(7, at(0));
        let stage = |stage| Place {
            backlog: Some(Backlog { until: u64::MAX, high: at(2), next_low: at(1), stage }),
            ..plain
        };
        let part = |part| stage(Stage::Part(part));
        let within = Place { skip: Some(key), ..part(Part::Others(Some(key))) };
        vec![
            plain,
            plain.after(8, key),
            part(Part::Strays(None)),
            part(Part::Strays(None)).after(9, key),
            part(Part::Strays(None)).after_stage(),
            part(Part::Others(None)).after(9, key),
            Place { skip: Some(key), ..part(Part::Strays(Some((9, key)))) },
            stage(Stage::Sorted(None)),
            stage(Stage::Sorted(None)).after(9, key),
            within,
        ]
    }

    fn come_back<K: Key + std::fmt::Debug>(key: K) {
        for place in everywhere(key) {
            let mut bytes = Vec::new();
            place.write(&mut bytes);
            assert_eq!(Place::read(&bytes), Some(place));
            for cut in 0..bytes.len() {
                let read = Place::<K>::read(&bytes[..cut]);
                // A backlog cut off as a whole is a place as well: what a token holds is not cut.
                assert!(read.is_none_or(|read| read.backlog.is_none()), "{cut} of {place:?}");
            }
            bytes.push(0);
            assert_eq!(Place::<K>::read(&bytes), None);
            // As a token, with what it is bound to.
            assert!((bytes.len() + 17).div_ceil(3) * 4 <= 256, "{}", bytes.len());
        }
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        come_back(EventId::new());
        let delivery = DeliveryKey { event_id: EventId::new(), endpoint_id: EndpointId::new(), run: 3 };
        come_back(AttemptKey { delivery, attempt_id: AttemptId::new() });
    }

    #[test]
    fn after_a_backlog_comes_what_was_committed_since() {
        let key = EventId::new();
        let sorted = Backlog { until: 90, high: at(2), next_low: at(1), stage: Stage::Sorted(None) };
        let place = Place { backlog: Some(sorted.in_parts()), ..Place::at(7, at(0)) };
        let others = place.after(8, key).after_stage();
        assert_eq!(others.backlog.unwrap().stage, Stage::Part(Part::Others(None)));
        assert_eq!(others.after(50, key).after_stage(), Place::at(90, at(1)));

        let place = Place { backlog: Some(sorted), ..Place::at(0, at(0)) }.after(8, key);
        assert_eq!((place.known(), place.from), (Some((8, key)), 0), "still from a time");
        assert_eq!(place.after_stage(), Place::at(90, at(1)));
    }
}
