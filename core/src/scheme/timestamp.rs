//! Timestamps: read strictly, judged against the clock, written when signing.

use chrono::{DateTime, SecondsFormat, Utc};

use super::describe::{TimestampSpec, TimestampUnit, Tolerance};
use super::error::VerifyError;

impl TimestampUnit {
    /// What a timestamp of this unit looks like, for error messages.
    pub(super) fn form(self) -> &'static str {
        match self {
            Self::S => "unix seconds in plain digits",
            Self::Ms => "unix milliseconds in plain digits",
            Self::Us => "unix microseconds in plain digits",
            Self::Rfc3339 => "RFC 3339",
            Self::Opaque => "a value",
        }
    }

    /// In this unit: `None` when the text is not canonical. RFC 3339 is counted in seconds.
    pub(super) fn parse(self, text: &str) -> Option<i64> {
        match self {
            Self::S | Self::Ms | Self::Us => parse_digits(text),
            Self::Rfc3339 => Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp()),
            Self::Opaque => Some(0),
        }
    }

    pub(super) fn write(self, time: DateTime<Utc>) -> String {
        match self {
            Self::S | Self::Opaque => time.timestamp().to_string(),
            Self::Ms => time.timestamp_millis().to_string(),
            Self::Us => time.timestamp_micros().to_string(),
            Self::Rfc3339 => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        }
    }

    /// The clock in this unit, rounded down as the sender's was.
    fn clock(self, now: DateTime<Utc>) -> i64 {
        match self {
            Self::S | Self::Rfc3339 | Self::Opaque => now.timestamp(),
            Self::Ms => now.timestamp_millis(),
            Self::Us => now.timestamp_micros(),
        }
    }

    fn per_second(self) -> i64 {
        match self {
            Self::S | Self::Rfc3339 | Self::Opaque => 1,
            Self::Ms => 1_000,
            Self::Us => 1_000_000,
        }
    }
}

impl TimestampSpec {
    /// An age equal to the window passes, on both sides.
    pub(super) fn check_fresh(&self, stamp: i64, now: DateTime<Utc>) -> Result<(), VerifyError> {
        if self.unit == TimestampUnit::Opaque {
            return Ok(());
        }
        if let Some(min_s) = self.min_s.filter(|min_s| stamp / self.unit.per_second() < *min_s) {
            let age_s = now.timestamp().saturating_sub(stamp / self.unit.per_second());
            let window_s = u32::try_from(now.timestamp().saturating_sub(min_s)).unwrap_or(0);
            return Err(VerifyError::TimestampTooOld { age_s, window_s });
        }
        let age = self.unit.clock(now).saturating_sub(stamp);
        let per_second = self.unit.per_second();
        match (self.tolerance_past_s, self.tolerance_future_s) {
            (Tolerance::Seconds(window_s), _) if age > i64::from(window_s) * per_second => {
                Err(VerifyError::TimestampTooOld { age_s: div_up(age, per_second), window_s })
            }
            (_, Tolerance::Seconds(window_s)) if age < -(i64::from(window_s) * per_second) => {
                let ahead_s = div_up(age.saturating_neg(), per_second);
                Err(VerifyError::TimestampInFuture { ahead_s, window_s })
            }
            _ => Ok(()),
        }
    }
}

/// Rounded up, so that an age just over the window does not read as the window itself.
fn div_up(value: i64, by: i64) -> i64 {
    value / by + i64::from(value % by > 0)
}

/// No sign, no zero padding, no fraction, no blanks.
fn parse_digits(text: &str) -> Option<i64> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_text_is_read() {
        for text in ["", "-1", "+1", "01", "00", "1.5", " 1", "1 ", "1e3", "0x1", "٣", "99999999999999999999"]
        {
            assert_eq!(TimestampUnit::S.parse(text), None, "{text:?}");
        }
        assert_eq!(TimestampUnit::S.parse("0"), Some(0));
        assert_eq!(TimestampUnit::Ms.parse("1767311990000"), Some(1_767_311_990_000));
        assert_eq!(TimestampUnit::Rfc3339.parse("2026-01-01T23:59:50Z"), Some(1_767_311_990));
        assert_eq!(TimestampUnit::Rfc3339.parse("2026-01-02T00:59:50.5+01:00"), Some(1_767_311_990));
        assert_eq!(TimestampUnit::Rfc3339.parse("2026-01-01"), None);
    }

    #[test]
    fn the_window_is_inclusive() {
        let spec = |unit| TimestampSpec {
            sources: Vec::new(),
            unit,
            tolerance_past_s: Tolerance::Seconds(300),
            tolerance_future_s: Tolerance::Seconds(60),
            min_s: None,
            signed: true,
        };
        // A sender's second is over only when the next begins.
        let now = DateTime::from_timestamp(1_000, 900_000_000).unwrap();
        let seconds = spec(TimestampUnit::S);
        for (stamp, outcome) in [
            (700, Ok(())),
            (699, Err(VerifyError::TimestampTooOld { age_s: 301, window_s: 300 })),
            (1_060, Ok(())),
            (1_061, Err(VerifyError::TimestampInFuture { ahead_s: 61, window_s: 60 })),
        ] {
            assert_eq!(seconds.check_fresh(stamp, now), outcome, "{stamp}");
        }
        let millis = spec(TimestampUnit::Ms);
        assert_eq!(millis.check_fresh(700_900, now), Ok(()));
        let too_old = VerifyError::TimestampTooOld { age_s: 301, window_s: 300 };
        assert_eq!(millis.check_fresh(700_899, now), Err(too_old));
        assert_eq!(millis.check_fresh(1_060_900, now), Ok(()));
        let mut unlimited = seconds;
        unlimited.tolerance_future_s = Tolerance::Unlimited;
        assert_eq!(unlimited.check_fresh(i64::MAX, now), Ok(()));
    }
}
