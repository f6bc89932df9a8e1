//! Between the wire's types and Rust's.

use std::time::Duration;

use bowline_core::format::is_credential;
use bowline_core::headers::decode_headers;
use bowline_proto::v1;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

pub(crate) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    // Below 10^9, or 2 * 10^9 in a leap second, which the wire does not know.
    let nanos = time.timestamp_subsec_nanos().min(999_999_999);
    prost_types::Timestamp { seconds: time.timestamp(), nanos: nanos as i32 }
}

pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos() as i32,
    }
}

/// Headers as they are stored, for people to read.
pub(crate) fn headers(stored: &[u8]) -> Vec<v1::Header> {
    decode_headers(stored)
        .map(|(name, value)| match std::str::from_utf8(value) {
            Ok(text) => {
                v1::Header { name: name.to_ascii_lowercase(), value: text.into(), raw_value: Bytes::new() }
            }
            Err(_) => v1::Header {
                name: name.to_ascii_lowercase(),
                value: String::from_utf8_lossy(value).into_owned(),
                raw_value: Bytes::copy_from_slice(value),
            },
        })
        .collect()
}

/// Those of an attempt. What is logged holds no credential; a row from before that was so may.
pub(crate) fn logged_headers(stored: &[u8]) -> Vec<v1::Header> {
    let is_credential = |name: &str| name.parse().is_ok_and(|name| is_credential(&name));
    let redact = |header: v1::Header| {
        if !is_credential(&header.name) {
            return header;
        }
        v1::Header { value: "(redacted)".into(), raw_value: Bytes::new(), ..header }
    };
    headers(stored).into_iter().map(redact).collect()
}

/// `None` where a number is none that JSON has.
pub(crate) fn json_of_struct(value: &prost_types::Struct) -> Option<Value> {
    let mut map = Map::new();
    for (key, value) in &value.fields {
        map.insert(key.clone(), json_of_value(value)?);
    }
    Some(Value::Object(map))
}

pub(crate) fn json_of_value(value: &prost_types::Value) -> Option<Value> {
    Some(match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) => Value::Number(json_number(*number)?),
        Some(Kind::StructValue(fields)) => json_of_struct(fields)?,
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.iter().map(json_of_value).collect::<Option<_>>()?)
        }
    })
}

/// The wire has only doubles: whole ones were meant as integers.
fn json_number(number: f64) -> Option<Number> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        Some(Number::from(number as i64))
    } else {
        Number::from_f64(number)
    }
}

/// `None` where the JSON is no object.
pub(crate) fn struct_of_json(value: Value) -> Option<prost_types::Struct> {
    match value {
        Value::Object(map) => Some(prost_types::Struct {
            fields: map.into_iter().map(|(key, value)| (key, value_of_json(value))).collect(),
        }),
        _ => None,
    }
}

pub(crate) fn value_of_json(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(value_of_json).collect(),
        }),
        Value::Object(map) => Kind::StructValue(prost_types::Struct {
            fields: map.into_iter().map(|(key, value)| (key, value_of_json(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_survives_the_wire() {
        let value = json!({"a": 300, "b": [true, null, "x"], "c": {"d": 0.5, "e": -1}});
        assert_eq!(json_of_struct(&struct_of_json(value.clone()).unwrap()), Some(value));
        assert_eq!(struct_of_json(json!([1])), None);
        let infinite = prost_types::Value { kind: Some(Kind::NumberValue(f64::INFINITY)) };
        assert_eq!(json_of_struct(&prost_types::Struct { fields: [("a".into(), infinite)].into() }), None);
    }

    #[test]
    fn header_values_that_are_no_text_keep_their_bytes() {
        let shown = headers(b"X-A: 1\nx-b: \xff\n");
        assert_eq!(
            (shown[0].name.as_str(), shown[0].value.as_str(), shown[0].raw_value.len()),
            ("x-a", "1", 0)
        );
        assert_eq!((shown[1].value.as_str(), &shown[1].raw_value[..]), ("\u{fffd}", &b"\xff"[..]));
    }
}
