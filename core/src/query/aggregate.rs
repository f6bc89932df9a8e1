//! Folds the numbers of the payloads of a span of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::number;
use super::path::{FieldPath, Seen};

/// How far back an aggregate looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    #[serde(rename = "15m")]
    QuarterHour,
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "24h")]
    Day,
    #[serde(rename = "7d")]
    Week,
}

impl Span {
    pub const ALL: [Self; 4] = [Self::QuarterHour, Self::Hour, Self::Day, Self::Week];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    pub fn length(self) -> Duration {
        const MINUTE: u64 = 60;
        Duration::from_secs(match self {
            Self::QuarterHour => 15 * MINUTE,
            Self::Hour => 60 * MINUTE,
            Self::Day => 24 * 60 * MINUTE,
            Self::Week => 7 * 24 * 60 * MINUTE,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Sum,
    Count,
    Avg,
    Min,
    Max,
}

impl Op {
    pub const ALL: [Self; 5] = [Self::Sum, Self::Count, Self::Avg, Self::Min, Self::Max];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

/// What to fold; without a field payloads are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    pub window: Span,
    pub op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldPath>,
}

/// `value` of nothing is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregated {
    pub value: f64,
    /// Values folded, or payloads where there is no field.
    pub count: u64,
}

/// The numbers that a field has in one payload: most often one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Numbers {
    #[default]
    None,
    One(f64),
    Many(Box<[f64]>),
}

impl Numbers {
    /// Null, missing values and what is no number are passed over.
    pub(super) fn of(path: &FieldPath, body: &[u8]) -> Self {
        let mut numbers = Vec::new();
        path.each(body, |seen| {
            numbers.extend(match seen {
                Seen::Number(number) => Some(number),
                Seen::Value(value) => number::of_value(value),
            });
        });
        match numbers[..] {
            [] => Self::None,
            [one] => Self::One(one),
            _ => Self::Many(numbers.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[f64] {
        match self {
            Self::None => &[],
            Self::One(number) => std::slice::from_ref(number),
            Self::Many(numbers) => numbers,
        }
    }
}

/// Folds from the oldest on.
pub(super) fn fold(op: Op, numbers: impl Iterator<Item = f64>) -> Aggregated {
    let (mut count, mut sum, mut min, mut max) = (0u64, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for number in numbers {
        count += 1;
        sum += number;
        min = min.min(number);
        max = max.max(number);
    }
    let value = match op {
        _ if count == 0 => 0.0,
        Op::Sum => sum,
        Op::Count => count as f64,
        Op::Avg => sum / count as f64,
        Op::Min => min,
        Op::Max => max,
    };
    Aggregated { value, count }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "the folds are exact, to the last bit")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(op: Op, numbers: &[f64]) -> f64 {
        fold(op, numbers.iter().copied()).value
    }

    #[test]
    fn each_op_folds_what_there_is() {
        let numbers = [3.0, -1.0, 4.0];
        let values: Vec<f64> = Op::ALL.iter().map(|op| value(*op, &numbers)).collect();
        assert_eq!(values, [6.0, 3.0, 2.0, -1.0, 4.0]);
        for op in Op::ALL {
            assert_eq!(fold(op, [].into_iter()), Aggregated { value: 0.0, count: 0 }, "{op:?} of nothing");
        }
        assert_eq!(value(Op::Sum, &[0.1, 0.2]), 0.1 + 0.2);
        assert_eq!(value(Op::Avg, &[1.0, f64::INFINITY]), f64::INFINITY);
        assert!(value(Op::Sum, &[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn numbers_of_a_body() {
        let numbers = |path: &str, body: &str| {
            Numbers::of(&FieldPath::parse(path).unwrap(), body.as_bytes()).as_slice().to_vec()
        };
        assert_eq!(numbers("a", r#"{"a": " 12 "}"#), [12.0]);
        assert_eq!(numbers("a", r#"{"a": 1e400}"#), [f64::INFINITY]);
        assert_eq!(numbers("$.a[*]", r#"{"a": [1, "2", null, {}, true, ""]}"#), [1.0, 2.0, 1.0, 0.0]);
        for nothing in [r#"{"a": null}"#, r#"{"b": 1}"#, r#"{"a": {}}"#, r#"{"a": "x"}"#, "a=1", ""] {
            assert_eq!(numbers("a", nothing), [0.0; 0], "{nothing}");
        }
    }

    #[test]
    fn spans_are_what_they_are_called() {
        let spans: Vec<_> = Span::ALL.map(|span| (span.as_str(), span.length().as_secs())).into();
        assert_eq!(spans, [("15m", 900), ("1h", 3600), ("24h", 86_400), ("7d", 604_800)]);
        for span in Span::ALL {
            assert_eq!(serde_json::to_value(span).unwrap(), span.as_str());
        }
        for op in Op::ALL {
            assert_eq!(serde_json::to_value(op).unwrap(), op.as_str());
        }
    }

    proptest! {
        #[test]
        fn avg_is_between_min_and_max(numbers in prop::collection::vec(-1e9..1e9f64, 1..50)) {
            let [sum, count, avg, min, max] = Op::ALL.map(|op| value(op, &numbers));
            prop_assert_eq!(count, numbers.len() as f64);
            prop_assert_eq!(avg, sum / count);
            prop_assert!(min - 1e-3 <= avg && avg <= max + 1e-3);
        }
    }
}
