//! What a field may hold. Pure: every check adds to [`Violations`], so that a caller learns of all
//! its mistakes at once.

pub(crate) mod audit_filter;
pub(crate) mod auth;
pub(crate) mod binding;
pub(crate) mod endpoint;
pub(crate) mod event_type;
mod expression;
pub(crate) mod filter;
mod format;
pub(crate) mod headers;
pub(crate) mod query;
mod retry;
mod scheme;
pub(crate) mod secret;
pub(crate) mod source;
mod url;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::fault::{Fault, FieldFault};

const DISPLAY_NAME_CHARS_MAX: usize = 200;
const LABELS_MAX: usize = 64;
const LABEL_KEY_MAX: usize = 63;
const LABEL_VALUE_MAX: usize = 255;
const EVENT_TYPE_MAX: usize = 128;
/// As for what a provider names.
const CHANNEL_MAX: usize = 256;
const EVENT_TYPE_PATTERN_MAX: usize = 256;
const REQUEST_ID_MAX: usize = 128;
const SLUG_MAX: usize = 63;
const VIOLATIONS_MAX: usize = 200;
const RATE_PER_S: std::ops::RangeInclusive<f64> = 0.01..=100_000.0;

/// So many a second; `None` for no limit.
pub(crate) fn rate(violations: &mut Violations, field: &str, what: &str, rate: f64) -> Option<f64> {
    if rate == 0.0 {
        return None;
    }
    if !RATE_PER_S.contains(&rate) {
        let (min, max) = (RATE_PER_S.start(), RATE_PER_S.end());
        violations.add(field, format!("must be {min} to {max} {what} a second, or 0 for no limit"));
    }
    Some(rate)
}

/// Bad fields, gathered.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<FieldFault>);

impl Violations {
    pub(crate) fn add(&mut self, field: impl Display, problem: impl Display) {
        // A hostile request must not make the answer larger than itself.
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(FieldFault { field: field.to_string(), problem: problem.to_string() });
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields that something is wrong with.
    #[cfg(test)]
    pub(crate) fn fields(self) -> Vec<String> {
        self.0.into_iter().map(|fault| fault.field).collect()
    }

    /// Nothing was wrong, or everything that was.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        if self.0.is_empty() { Ok(()) } else { Err(Fault::Invalid(self.0)) }
    }
}

/// The fields that a check finds something wrong with.
#[cfg(test)]
pub(crate) fn faults<T>(check: impl FnOnce(&mut Violations) -> T) -> Vec<String> {
    let mut violations = Violations::default();
    check(&mut violations);
    violations.fields()
}

/// A typed id that must be there.
pub(crate) fn id<T>(field: &str, text: &str) -> Result<T, Fault>
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() {
        return Err(Fault::field(field, "is required"));
    }
    text.parse().map_err(|error: T::Err| Fault::field(field, error.to_string()))
}

/// A typed id that may be left out.
pub(crate) fn optional_id<T>(violations: &mut Violations, field: &str, text: &str) -> Option<T>
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() {
        return None;
    }
    text.parse().map_err(|error: T::Err| violations.add(field, error)).ok()
}

/// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`
pub(crate) fn is_slug(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [first, .., last] => {
            bytes.len() <= SLUG_MAX
                && edge(*first)
                && edge(*last)
                && bytes.iter().all(|byte| edge(*byte) || *byte == b'-')
        }
        [only] => edge(*only),
    }
}

pub(crate) fn slug(violations: &mut Violations, field: &str, text: &str) {
    if !is_slug(text) {
        violations.add(
            field,
            "must be 1 to 63 characters of a-z, 0-9 and -, beginning and ending with a letter or digit",
        );
    }
}

/// A name for a resource that was given none: what it is, and the random end of its id.
pub(crate) fn made_name(kind: &str, id: &str) -> String {
    const RANDOM: usize = 10;
    format!("{kind}-{}", &id[id.len().saturating_sub(RANDOM)..])
}

pub(crate) fn display_name(violations: &mut Violations, field: &str, text: &str) {
    if text.chars().count() > DISPLAY_NAME_CHARS_MAX {
        violations.add(field, format!("must be at most {DISPLAY_NAME_CHARS_MAX} characters"));
    }
    no_control(violations, field, text);
}

/// Postgres stores no NUL in text, and no other control character helps anybody who reads it.
fn no_control(violations: &mut Violations, field: &str, text: &str) {
    if text.chars().any(char::is_control) {
        violations.add(field, "must not hold control characters");
    }
}

pub(crate) fn labels(violations: &mut Violations, field: &str, labels: &BTreeMap<String, String>) {
    if labels.len() > LABELS_MAX {
        violations.add(field, format!("must hold at most {LABELS_MAX} labels"));
    }
    for (key, value) in labels {
        let at = format!("{field}[{}]", excerpt(key));
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_./-".contains(&byte);
        if key.is_empty() || key.len() > LABEL_KEY_MAX || !key.bytes().all(known) {
            violations.add(
                &at,
                format!("a key must be 1 to {LABEL_KEY_MAX} characters of a-z, 0-9, `_`, `.`, `/` and `-`"),
            );
        }
        if value.len() > LABEL_VALUE_MAX {
            violations.add(&at, format!("a value must be at most {LABEL_VALUE_MAX} bytes"));
        }
        no_control(violations, &at, value);
    }
}

/// The name of a type as Bowline's own sources and callers give it.
pub(crate) fn event_type(violations: &mut Violations, field: &str, text: &str) {
    if !is_dotted(text) {
        violations.add(
            field,
            format!(
                "must be dotted parts of letters, digits, `_` and `-`, such as order.created; at most \
                 {EVENT_TYPE_MAX} characters"
            ),
        );
    } else if text.starts_with("bowline.") {
        violations.add(field, "must not start with `bowline.`: those are Bowline's own");
    }
}

/// `order.created`, `order.*` or `*`. Providers name types as they like (`orders/create`), and what a source takes for
/// a type may have a comma as well: a list in one pattern is for the clients to tell apart.
pub(crate) fn event_type_pattern(violations: &mut Violations, field: &str, text: &str) {
    let name = match text.strip_suffix('*') {
        Some("") => return,
        Some(prefix) => prefix.strip_suffix('.'),
        None => Some(text),
    };
    let fits = |name: &str| {
        !name.is_empty()
            && name.len() <= EVENT_TYPE_PATTERN_MAX
            && !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '*')
    };
    if !name.is_some_and(fits) {
        violations.add(
            field,
            format!(
                "must be a type such as order.created, a prefix such as order.*, or *; at most \
                 {EVENT_TYPE_PATTERN_MAX} bytes"
            ),
        );
    }
}

fn is_dotted(text: &str) -> bool {
    text.len() <= EVENT_TYPE_MAX
        && text.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        })
}

pub(crate) fn channel(violations: &mut Violations, field: &str, text: &str) {
    if text.is_empty() || text.len() > CHANNEL_MAX {
        violations.add(field, format!("must be 1 to {CHANNEL_MAX} bytes"));
    }
    no_control(violations, field, text);
}

pub(crate) fn request_id(violations: &mut Violations, text: &str) {
    if text.len() > REQUEST_ID_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        violations.add("request_id", format!("must be at most {REQUEST_ID_MAX} visible ASCII characters"));
    }
}

/// What is allowed for a duration, and its text.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
    pub(crate) text: &'static str,
}

/// A duration from the wire within its range.
pub(crate) fn duration(
    violations: &mut Violations,
    field: &str,
    value: &prost_types::Duration,
    range: Range,
) -> Option<Duration> {
    // Nanoseconds beyond a second, or of the other sign, would be taken for what they come to.
    let well_formed = (0..1_000_000_000).contains(&value.nanos);
    let duration = Duration::try_from(*value)
        .ok()
        .filter(|duration| well_formed && (range.min..=range.max).contains(duration));
    if duration.is_none() {
        violations.add(field, format!("must be {}", range.text));
    }
    duration
}

/// A point in time from the wire.
pub(crate) fn timestamp(
    violations: &mut Violations,
    field: &str,
    value: Option<&prost_types::Timestamp>,
) -> Option<DateTime<Utc>> {
    let value = value?;
    let time =
        u32::try_from(value.nanos).ok().and_then(|nanos| DateTime::from_timestamp(value.seconds, nanos));
    // Ids hold milliseconds since 1970 in 48 bits.
    let time = time.filter(|time| (0..1 << 48).contains(&time.timestamp_millis()));
    if time.is_none() {
        violations.add(field, "must be a time from 1970 on");
    }
    time
}

/// The beginning of a text from outside, fit to be shown.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(check: impl FnOnce(&mut Violations)) -> usize {
        faults(check).len()
    }

    #[test]
    fn slugs() {
        let longest = "a".repeat(63);
        for good in ["a", "7", "a-b", "a--b", "stripe-live-1", &longest] {
            assert!(is_slug(good), "{good}");
        }
        for bad in ["", "-", "-a", "a-", "A", "a_b", "a b", "ä", "a.b", &"a".repeat(64)] {
            assert!(!is_slug(bad), "{bad}");
        }
    }

    #[test]
    fn made_names_are_slugs() {
        let id = bowline_core::id::SourceId::new().to_string();
        assert!(is_slug(&made_name("standard", &id)));
    }

    #[test]
    fn label_limits() {
        let check = |key: &str, value: &str| {
            count(|v| labels(v, "labels", &[(key.to_string(), value.to_string())].into()))
        };
        assert_eq!(check("team/owner.name_1-x", "Anna & Bob ✓"), 0);
        assert_eq!((check("", "v"), check("Team", "v"), check(&"k".repeat(64), "v")), (1, 1, 1));
        assert_eq!(
            (check("k", &"v".repeat(255)), check("k", &"v".repeat(256)), check("k", "a\0b")),
            (0, 1, 1)
        );
        let many: BTreeMap<_, _> = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
        assert_eq!(count(|v| labels(v, "labels", &many)), 1);
    }

    #[test]
    fn event_types() {
        for good in ["push", "order.created", "a-b_c.D.9", &"a".repeat(128)] {
            assert_eq!(count(|v| event_type(v, "t", good)), 0, "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a.*", "*", "bowline.x", "é", &"a".repeat(129)] {
            assert_eq!(count(|v| event_type(v, "t", bad)), 1, "{bad}");
        }
    }

    #[test]
    fn event_type_patterns() {
        for good in [
            "*",
            "order.*",
            "order.created",
            "orders/create",
            "a,b",
            "bowline.delivery.dead",
            "a.b.*",
            "a..*",
        ] {
            assert_eq!(count(|v| event_type_pattern(v, "t", good)), 0, "{good}");
        }
        for bad in ["", "**", "*.a", "order*", "a.*.b", ".*", "a b.*", "a\0"] {
            assert_eq!(count(|v| event_type_pattern(v, "t", bad)), 1, "{bad}");
        }
    }

    #[test]
    fn durations_and_times() {
        let range = Range { min: Duration::from_secs(1), max: Duration::from_secs(60), text: "1 to 60 s" };
        let check = |seconds, nanos| {
            duration(&mut Violations::default(), "d", &prost_types::Duration { seconds, nanos }, range)
        };
        assert_eq!(check(1, 0), Some(Duration::from_secs(1)));
        assert_eq!(check(59, 999_999_999), Some(Duration::new(59, 999_999_999)));
        assert_eq!((check(0, 999_999_999), check(60, 1), check(-5, 0)), (None, None, None));
        let at = |seconds, nanos| {
            timestamp(&mut Violations::default(), "t", Some(&prost_types::Timestamp { seconds, nanos }))
        };
        assert_eq!(at(0, 0), Some(DateTime::UNIX_EPOCH));
        assert_eq!((at(-1, 0), at(0, -1), at(i64::MAX, 0), at(1 << 60, 0)), (None, None, None, None));
    }

    #[test]
    fn answers_stay_small() {
        assert_eq!(count(|v| (0..10_000).for_each(|n| v.add(n, "bad"))), VIOLATIONS_MAX);
        assert_eq!(excerpt("a\nb"), "a\\nb");
        assert_eq!(excerpt(&"x".repeat(100)).chars().count(), 65);
    }
}
