//! Makes the fields of a widget of the result of a query. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::format::number_text;
use crate::query::{Content, FieldPath, Found, number};

/// Widget fields by name.
pub type Projection = BTreeMap<String, Field>;

/// Where the value of a field comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Field {
    Literal {
        literal: Value,
    },
    Source {
        source: FieldPath,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<FieldFormat>,
    },
}

/// How a value becomes a text; what cannot is the empty text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldFormat {
    Text,
    Number,
    Integer,
    Percent,
    Datetime,
}

/// The data of the widget; `result` is JSON. `None` where it is not made in time.
pub fn project(projection: &Projection, result: &[u8], time_max: Duration) -> Option<Map<String, Value>> {
    let (content, begun) = (Content::of(result), Instant::now());
    let each = projection
        .iter()
        .map(|(name, field)| (begun.elapsed() < time_max).then(|| (name.clone(), value(field, &content))));
    each.collect()
}

fn value(field: &Field, result: &Content<'_>) -> Value {
    match field {
        Field::Literal { literal } => literal.clone(),
        Field::Source { source, format } => {
            let found = source.first_in(result);
            match format {
                Some(format) => Value::String(found.map(|found| write(*format, found)).unwrap_or_default()),
                None => found.map(plain).unwrap_or_default(),
            }
        }
    }
}

/// JSON has no infinite numbers: they are texts.
fn plain(found: Found) -> Value {
    match found {
        Found::Value(value) => value,
        Found::Number(number) => json_of_number(number),
    }
}

pub(super) fn json_of_number(number: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Value::from(number as i64);
    }
    serde_json::Number::from_f64(number).map_or_else(|| Value::String(text_of_number(number)), Value::Number)
}

/// As JavaScript writes it.
fn text_of_number(number: f64) -> String {
    if number.is_nan() {
        "NaN".into()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        number_text(number)
    }
}

fn write(format: FieldFormat, found: Found) -> String {
    if format == FieldFormat::Text {
        return text(found);
    }
    let number = match &found {
        Found::Number(number) => Some(*number),
        Found::Value(value) => number::of_value(value),
    };
    match (format, found, number) {
        (FieldFormat::Datetime, Found::Value(Value::String(text)), _) => datetime_of_text(&text),
        (_, _, None) => String::new(),
        (FieldFormat::Datetime, Found::Number(number), _) => datetime_of_number(number),
        (FieldFormat::Datetime, ..) => String::new(),
        (FieldFormat::Integer, _, Some(number)) => text_of_number(round(number)),
        (FieldFormat::Percent, _, Some(number)) => {
            // In hundredths of a percent; where those are no integers any more, nothing is rounded.
            let hundredths = round(number * 10_000.0) / 100.0;
            format!("{}%", text_of_number(if hundredths.is_finite() { hundredths } else { number * 100.0 }))
        }
        (FieldFormat::Number | FieldFormat::Text, _, Some(number)) => text_of_number(number),
    }
}

fn text(found: Found) -> String {
    match found {
        Found::Number(number) => text_of_number(number),
        Found::Value(Value::Null) => String::new(),
        Found::Value(Value::String(text)) => text,
        Found::Value(value) => value.to_string(),
    }
}

/// `Math.round`: halves go up. A double this large is whole already.
fn round(number: f64) -> f64 {
    const WHOLE_FROM: f64 = 4_503_599_627_370_496.0;
    if number.abs() >= WHOLE_FROM {
        return number;
    }
    let floor = number.floor();
    let rounded = if number - floor >= 0.5 { floor + 1.0 } else { floor };
    if rounded == 0.0 { 0.0 } else { rounded }
}

fn datetime_of_text(text: &str) -> String {
    DateTime::parse_from_rfc3339(text.trim()).map(|time| rfc3339(time.to_utc())).unwrap_or_default()
}

fn datetime_of_number(number: f64) -> String {
    /// The year 5138 in seconds, 1973 in milliseconds.
    const MILLISECONDS_FROM: f64 = 1e11;
    let unix_ms = if number.abs() < MILLISECONDS_FROM { number * 1000.0 } else { number };
    if unix_ms.abs() > 8.64e15 {
        return String::new();
    }
    DateTime::from_timestamp_millis(unix_ms as i64).map(rfc3339).unwrap_or_default()
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(projection: &Projection, result: &[u8]) -> Map<String, Value> {
        project(projection, result, Duration::MAX).unwrap()
    }

    fn written(format: FieldFormat, value: &str) -> String {
        let field = Field::Source { source: FieldPath::parse("v").unwrap(), format: Some(format) };
        let projection = Projection::from([("f".to_owned(), field)]);
        let result = format!("{{\"v\": {value}}}");
        made(&projection, result.as_bytes())["f"].as_str().unwrap().to_owned()
    }

    #[test]
    fn each_format_writes_a_text() {
        use FieldFormat::{Datetime, Integer, Number, Percent, Text};
        for (format, value, text) in [
            (Text, "\"a b\"", "a b"),
            (Text, "1.50", "1.5"),
            (Text, "true", "true"),
            (Text, "null", ""),
            (Text, "[1, {\"a\": 2}]", "[1,{\"a\":2}]"),
            (Number, "0", "0"),
            (Number, "1e21", "1e+21"),
            (Number, "\" 0x10 \"", "16"),
            (Number, "0.1", "0.1"),
            (Number, "\"-Infinity\"", "-Infinity"),
            (Number, "\"abc\"", ""),
            (Number, "{}", ""),
            (Number, "null", ""),
            (Integer, "2.5", "3"),
            (Integer, "-2.5", "-2"),
            (Integer, "-0.4", "0"),
            (Integer, "0.49999999999999994", "0"),
            (Integer, "4503599627370497", "4503599627370497"),
            (Integer, "\"7.6\"", "8"),
            (Percent, "0.256", "25.6%"),
            (Percent, "1", "100%"),
            (Percent, "0.12345", "12.35%"),
            (Percent, "-0.5", "-50%"),
            (Percent, "\"x\"", ""),
            (Datetime, "\"2026-11-21T10:00:00.250+02:00\"", "2026-11-21T08:00:00.250Z"),
            (Datetime, "1700000000", "2023-11-14T22:13:20Z"),
            (Datetime, "1700000000123", "2023-11-14T22:13:20.123Z"),
            (Datetime, "1700000000.5", "2023-11-14T22:13:20.500Z"),
            (Datetime, "\"yesterday\"", ""),
            (Datetime, "1e300", ""),
            (Datetime, "true", ""),
        ] {
            assert_eq!(written(format, value), text, "{format:?} {value}");
        }
    }

    #[test]
    fn literals_missing_values_and_the_whole_result() {
        let projection: Projection = serde_json::from_value(json!({
            "label": {"literal": "Errors (1h)"},
            "whole": {"source": "$"},
            "first": {"source": "$[0].n", "format": "number"},
            "none": {"source": "$[9]"},
            "no_text": {"source": "$[9]", "format": "text"},
            "huge": {"source": "$[1]"},
        }))
        .unwrap();
        let data = made(&projection, br#"[{"n": 5}, 1e400]"#);
        assert_eq!(data["label"], "Errors (1h)");
        assert_eq!(
            (&data["first"], &data["none"], &data["no_text"]),
            (&json!("5"), &json!(null), &json!(""))
        );
        assert_eq!(data["huge"], "Infinity");
        let data = made(&projection, br#"[{"n": 5}]"#);
        assert_eq!(data["whole"], json!([{"n": 5}]));
        let text = serde_json::to_value(&projection).unwrap();
        assert_eq!(serde_json::from_value::<Projection>(text).unwrap(), projection);
    }
    #[test]
    fn it_is_not_made_beyond_its_time() {
        let field = Field::Source { source: FieldPath::parse("$..a").unwrap(), format: None };
        let projection = Projection::from([("f".to_owned(), field)]);
        assert_eq!(project(&projection, b"[]", Duration::ZERO), None);
        assert!(project(&Projection::default(), b"[]", Duration::ZERO).is_some());
    }
}
