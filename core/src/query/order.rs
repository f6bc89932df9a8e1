//! The total order that a list is sorted by.
//!
//! Ascending: null, false, true, numbers, texts (by code point), arrays, then objects (both by their
//! JSON text with sorted names). A payload without the value stands last whatever the order; equal
//! values stand newest first.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::path::Found;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Asc,
    #[default]
    Desc,
}

/// By so much of a text is sorted: a thousand of them are kept.
const TEXT_BYTES_MAX: usize = 4096;

fn begin(mut text: String) -> Box<str> {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text.into()
}

/// A value to sort by.
#[derive(Debug, Clone, PartialEq)]
pub enum SortKey {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    Array(Box<str>),
    Object(Box<str>),
}

impl SortKey {
    pub fn of(found: Found) -> Self {
        match found {
            Found::Number(number) => Self::number(number),
            Found::Value(Value::Null) => Self::Null,
            Found::Value(Value::Bool(flag)) => Self::Bool(flag),
            Found::Value(Value::Number(number)) => Self::number(number.as_f64().unwrap_or_default()),
            Found::Value(Value::String(text)) => Self::Text(begin(text)),
            Found::Value(value @ Value::Array(_)) => Self::Array(begin(value.to_string())),
            Found::Value(value @ Value::Object(_)) => Self::Object(begin(value.to_string())),
        }
    }

    /// Minus zero is zero.
    fn number(number: f64) -> Self {
        Self::Number(if number == 0.0 { 0.0 } else { number })
    }

    /// What it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Array(text) | Self::Object(text) => text.len(),
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
            Self::Array(_) => 4,
            Self::Object(_) => 5,
        }
    }

    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other))
            | (Self::Array(one), Self::Array(other))
            | (Self::Object(one), Self::Object(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Sorts what comes newest first.
pub fn sort<T>(rows: &mut [T], order: Order, key: impl Fn(&T) -> Option<&SortKey>) {
    // Stable: equal ones stay newest first.
    rows.sort_by(|one, other| match (key(one), key(other)) {
        (Some(one), Some(other)) => match order {
            Order::Asc => one.compare(other),
            Order::Desc => other.compare(one),
        },
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(value: &Value) -> SortKey {
        SortKey::of(Found::Value(value.clone()))
    }

    #[test]
    fn mixed_values_have_their_order() {
        let ascending = [
            json!(null),
            json!(false),
            json!(true),
            json!(-5),
            json!(0),
            json!(2),
            json!(10),
            json!(10.5),
            json!(""),
            json!("10"),
            json!("2"),
            json!("Z"),
            json!("a"),
            json!("é"),
            json!([1]),
            json!([]),
            json!({"a": 1}),
            json!({}),
        ];
        let mut rows: Vec<Option<Value>> = ascending.iter().rev().cloned().map(Some).collect();
        rows.insert(3, None);
        let sorted = |order| {
            let mut keyed: Vec<_> = rows.iter().map(|row| (row.clone(), row.as_ref().map(key))).collect();
            sort(&mut keyed, order, |row| row.1.as_ref());
            keyed.into_iter().map(|row| row.0).collect::<Vec<_>>()
        };
        let mut expected: Vec<_> = ascending.iter().cloned().map(Some).collect();
        expected.push(None);
        assert_eq!(sorted(Order::Asc), expected);
        expected[..ascending.len()].reverse();
        assert_eq!(sorted(Order::Desc), expected, "what is missing is last in either order");
    }

    #[test]
    fn equal_values_stay_newest_first() {
        for order in [Order::Asc, Order::Desc] {
            let mut rows: Vec<_> = [1, 0, 1, 0].iter().enumerate().collect();
            let keys = [SortKey::Number(0.0), SortKey::number(1.0)];
            sort(&mut rows, order, |row| keys.get(*row.1));
            let places: Vec<_> = rows.iter().map(|row| row.0).collect();
            assert_eq!(places, if order == Order::Asc { [1, 3, 0, 2] } else { [0, 2, 1, 3] });
        }
        assert_eq!(key(&json!(-0.0)).compare(&key(&json!(0))), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(values in prop::collection::vec(any_key(), 3)) {
            let [a, b, c] = &values[..] else { unreachable!() };
            prop_assert_eq!(a.compare(b), b.compare(a).reverse());
            prop_assert_eq!(a.compare(a), Ordering::Equal);
            if a.compare(b) != Ordering::Greater && b.compare(c) != Ordering::Greater {
                prop_assert_ne!(a.compare(c), Ordering::Greater);
            }
        }
    }

    fn any_key() -> impl Strategy<Value = SortKey> {
        prop_oneof![
            Just(SortKey::Null),
            any::<bool>().prop_map(SortKey::Bool),
            any::<f64>().prop_filter("JSON", |n| !n.is_nan()).prop_map(SortKey::number),
            "[a-b]{0,2}".prop_map(|text| SortKey::Text(text.into())),
            "[a-b]{0,2}".prop_map(|text| SortKey::Array(text.into())),
            "[a-b]{0,2}".prop_map(|text| SortKey::Object(text.into())),
        ]
    }
}
