//! The functions by name, and what each takes and gives.

use super::kind::{Kind, Place};
use super::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    ToString,
    ToInt,
    ToUint,
    ToDouble,
    ToBytes,
    ToBool,
    ToTimestamp,
    ToDuration,
    Header,
    Secret,
    HmacSha256,
    ConstantTimeEq,
    Base64Encode,
    Base64Decode,
    HexEncode,
    HexDecode,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Trim,
    Split,
    Join,
    Replace,
    Substring,
    TimePart(TimePart),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimePart {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// 0 for Sunday.
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// Calls with a namespace in front, such as `base64.encode`.
pub(super) fn namespaced(namespace: &str, name: &str) -> Option<Function> {
    Some(match (namespace, name) {
        ("base64", "encode") => Function::Base64Encode,
        ("base64", "decode") => Function::Base64Decode,
        ("hex", "encode") => Function::HexEncode,
        ("hex", "decode") => Function::HexDecode,
        _ => return None,
    })
}

/// By name and by whether it stands behind a dot.
pub(super) fn find(name: &str, of_value: bool, place: Place) -> Option<Function> {
    use Function as F;
    Some(match (of_value, name) {
        (_, "size") => F::Size,
        (false, "string") => F::ToString,
        (false, "int") => F::ToInt,
        (false, "uint") => F::ToUint,
        (false, "double") => F::ToDouble,
        (false, "bytes") => F::ToBytes,
        (false, "bool") => F::ToBool,
        (false, "timestamp") => F::ToTimestamp,
        (false, "duration") => F::ToDuration,
        (false, "header") if place.has_request() => F::Header,
        (false, "secret") if place == Place::Verify => F::Secret,
        (false, "hmac_sha256") => F::HmacSha256,
        (false, "constant_time_eq") => F::ConstantTimeEq,
        (true, "contains") => F::Contains,
        (true, "startsWith") => F::StartsWith,
        (true, "endsWith") => F::EndsWith,
        (true, "lowerAscii") => F::LowerAscii,
        (true, "upperAscii") => F::UpperAscii,
        (true, "trim") => F::Trim,
        (true, "split") => F::Split,
        (true, "join") => F::Join,
        (true, "replace") => F::Replace,
        (true, "substring") => F::Substring,
        (true, name) => F::TimePart(time_part(name)?),
        _ => return None,
    })
}

fn time_part(name: &str) -> Option<TimePart> {
    Some(match name {
        "getFullYear" => TimePart::FullYear,
        "getMonth" => TimePart::Month,
        "getDate" => TimePart::Date,
        "getDayOfMonth" => TimePart::DayOfMonth,
        "getDayOfWeek" => TimePart::DayOfWeek,
        "getHours" => TimePart::Hours,
        "getMinutes" => TimePart::Minutes,
        "getSeconds" => TimePart::Seconds,
        "getMilliseconds" => TimePart::Milliseconds,
        _ => return None,
    })
}

/// What is known of a call's result by the kinds of its arguments, the value before the dot first.
/// The error says what was expected.
pub(super) fn kind(function: Function, arguments: &[Kind]) -> Result<Kind, &'static str> {
    use Function as F;
    let is = |at: usize, kinds: &[Kind]| {
        arguments.get(at).is_some_and(|kind| *kind == Kind::Dyn || kinds.contains(kind))
    };
    let list = |at: usize| matches!(arguments.get(at), Some(Kind::Dyn | Kind::List(_)));
    let map = |at: usize| matches!(arguments.get(at), Some(Kind::Dyn | Kind::Map(_)));
    let count = arguments.len();
    let text = |at: usize| is(at, &[Kind::String]);
    let blob = |at: usize| is(at, &[Kind::String, Kind::Bytes, Kind::Secret]);
    let number = |at: usize| is(at, &[Kind::Int, Kind::Uint, Kind::Double, Kind::String]);
    let hidden = arguments.contains(&Kind::Secret);
    let secret_or = |kind: Kind| if hidden { Kind::Secret } else { kind };
    let when = |holds: bool, kind: Kind, expected: &'static str| if holds { Ok(kind) } else { Err(expected) };
    match function {
        F::Size => when(
            count == 1 && (is(0, &[Kind::String, Kind::Bytes]) || list(0) || map(0)),
            Kind::Int,
            "a string, bytes, a list or a map",
        ),
        F::ToString => when(
            count == 1
                && is(
                    0,
                    &[
                        Kind::String,
                        Kind::Bytes,
                        Kind::Bool,
                        Kind::Int,
                        Kind::Uint,
                        Kind::Double,
                        Kind::Timestamp,
                        Kind::Duration,
                    ],
                ),
            Kind::String,
            "one value that has a text",
        ),
        F::ToInt => {
            when(count == 1 && (number(0) || is(0, &[Kind::Timestamp])), Kind::Int, "a number or a string")
        }
        F::ToUint => when(count == 1 && number(0), Kind::Uint, "a number or a string"),
        F::ToDouble => when(count == 1 && number(0), Kind::Double, "a number or a string"),
        F::ToBytes => when(count == 1 && is(0, &[Kind::String, Kind::Bytes]), Kind::Bytes, "a string"),
        F::ToBool => when(count == 1 && is(0, &[Kind::String, Kind::Bool]), Kind::Bool, "a string"),
        F::ToTimestamp => when(
            count == 1 && is(0, &[Kind::String, Kind::Int, Kind::Timestamp]),
            Kind::Timestamp,
            "a string",
        ),
        F::ToDuration => {
            when(count == 1 && is(0, &[Kind::String, Kind::Duration]), Kind::Duration, "a string")
        }
        // Null where the header is missing.
        F::Header => when(count == 1 && text(0), Kind::Dyn, "the name of a header, as a string"),
        F::Secret => {
            when(count == 1 && is(0, &[Kind::String]), Kind::Secret, "the name of a secret, as a string")
        }
        F::HmacSha256 => when(count == 2 && blob(0) && blob(1), secret_or(Kind::Bytes), "a key and a text"),
        F::ConstantTimeEq => {
            when(count == 2 && blob(0) && blob(1), Kind::Bool, "two strings, bytes or secrets")
        }
        F::Base64Encode | F::HexEncode => {
            when(count == 1 && blob(0), secret_or(Kind::String), "bytes or a string")
        }
        F::Base64Decode | F::HexDecode => {
            when(count == 1 && is(0, &[Kind::String, Kind::Secret]), secret_or(Kind::Bytes), "a string")
        }
        F::Contains | F::StartsWith | F::EndsWith => {
            when(count == 2 && text(0) && text(1), Kind::Bool, "a string, on a string")
        }
        F::LowerAscii | F::UpperAscii | F::Trim => {
            when(count == 1 && text(0), Kind::String, "nothing, on a string")
        }
        F::Split => when(
            count == 2 && text(0) && text(1),
            Kind::List(Box::new(Kind::String)),
            "a string, on a string",
        ),
        F::Join => when(
            (1..=2).contains(&count)
                && (is(0, &[Kind::List(Box::new(Kind::String)), Kind::List(Box::new(Kind::Dyn))]))
                && (count == 1 || text(1)),
            Kind::String,
            "a string, on a list of strings",
        ),
        F::Replace => {
            when(count == 3 && text(0) && text(1) && text(2), Kind::String, "two strings, on a string")
        }
        F::Substring => when(
            (2..=3).contains(&count) && text(0) && is(1, &[Kind::Int]) && (count == 2 || is(2, &[Kind::Int])),
            Kind::String,
            "a first character and perhaps an end, on a string",
        ),
        F::TimePart(_) => when(count == 1 && is(0, &[Kind::Timestamp]), Kind::Int, "nothing, on a timestamp"),
    }
}

/// Characters of text, bytes, elements or entries.
pub(super) fn size_of(value: &Value<'_>) -> Option<usize> {
    Some(match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::JsonList(list) => list.len(),
        Value::Map(entries) => entries.len(),
        Value::JsonMap(map) => map.len(),
        Value::Headers(headers) => headers.keys_len(),
        _ => return None,
    })
}
