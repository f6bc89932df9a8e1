//! What the functions give.

use std::borrow::Cow;
use std::rc::Rc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Datelike, SecondsFormat, TimeDelta, Timelike, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::error::Fault;
use super::function::{Function, TimePart, size_of};
use super::operate::{Machine, blob, elements};
use super::value::{Value, duration_text};
use crate::secrets::is_same;

/// Padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

type Made<'a> = Result<Value<'a>, Fault>;

fn owned<'a>(text: String) -> Value<'a> {
    Value::String(Cow::Owned(text))
}

impl Machine<'_> {
    pub(super) fn call<'a>(&self, function: Function, arguments: &[Value<'a>]) -> Made<'a> {
        use Function as F;
        for argument in arguments {
            self.budget.look(blob(argument).map_or(0, <[u8]>::len))?;
        }
        match (function, arguments) {
            (F::Size, [value]) => match size_of(value) {
                Some(size) => Ok(Value::Int(size as i64)),
                None => Err(Fault::Kind(format!("{} has no size", value.kind()))),
            },
            (F::HmacSha256, [key, text]) => {
                let mut mac =
                    Hmac::<Sha256>::new_from_slice(blob(key)?).map_err(|_| Fault::Unreadable("key"))?;
                mac.update(blob(text)?);
                let code = mac.finalize().into_bytes().to_vec();
                Ok(match (key, text) {
                    (Value::Secret(_), _) | (_, Value::Secret(_)) => {
                        Value::Secret(Rc::new(Zeroizing::new(code)))
                    }
                    _ => Value::Bytes(code.into()),
                })
            }
            (F::ConstantTimeEq, [one, other]) => Ok(Value::Bool(is_same(blob(one)?, blob(other)?))),
            (F::Base64Encode | F::Base64Decode | F::HexEncode | F::HexDecode, [value]) => {
                self.encoding(function, value)
            }
            (F::Join, [list, rest @ ..]) => self.join(list, rest.first()),
            (F::TimePart(part), [Value::Timestamp(time)]) => Ok(Value::Int(part_of(*time, part))),
            (_, [Value::String(text), rest @ ..]) if is_of_text(function) => {
                self.of_text(function, text, rest)
            }
            (_, [value]) => self.convert(function, value),
            _ => {
                let kinds: Vec<&str> = arguments.iter().map(Value::kind).collect();
                Err(Fault::Kind(format!("this function does not work on {}", kinds.join(", "))))
            }
        }
    }

    fn encoding<'a>(&self, function: Function, value: &Value<'a>) -> Made<'a> {
        let bytes = blob(value)?;
        self.budget.make(bytes.len() * 2)?;
        let made = match function {
            Function::Base64Encode => BASE64.encode(bytes).into_bytes(),
            Function::HexEncode => hex::encode(bytes).into_bytes(),
            Function::Base64Decode => BASE64.decode(bytes).map_err(|_| Fault::Unreadable("base64"))?,
            _ => hex::decode(bytes).map_err(|_| Fault::Unreadable("hex"))?,
        };
        if matches!(value, Value::Secret(_)) {
            return Ok(Value::Secret(Rc::new(Zeroizing::new(made))));
        }
        Ok(match function {
            Function::Base64Encode | Function::HexEncode => {
                owned(String::from_utf8(made).map_err(|_| Fault::Unreadable("text"))?)
            }
            _ => Value::Bytes(made.into()),
        })
    }

    fn join<'a>(&self, list: &Value<'a>, separator: Option<&Value<'a>>) -> Made<'a> {
        let separator = match separator {
            None => "",
            Some(Value::String(text)) => text,
            Some(other) => return Err(Fault::Kind(format!("{} is no separator", other.kind()))),
        };
        let mut joined = String::new();
        for (at, element) in elements(list)?.enumerate() {
            let Value::String(text) = element else {
                return Err(Fault::Kind("`join` works on a list of strings".into()));
            };
            self.budget.make(text.len() + separator.len())?;
            if at > 0 {
                joined.push_str(separator);
            }
            joined.push_str(&text);
        }
        Ok(owned(joined))
    }

    fn of_text<'a>(&self, function: Function, text: &str, rest: &[Value<'a>]) -> Made<'a> {
        use Function as F;
        let makes = |made: String| {
            self.budget.make(made.len())?;
            Ok(owned(made))
        };
        match (function, rest) {
            (F::Contains, [Value::String(part)]) => Ok(Value::Bool(text.contains(part.as_ref()))),
            (F::StartsWith, [Value::String(part)]) => Ok(Value::Bool(text.starts_with(part.as_ref()))),
            (F::EndsWith, [Value::String(part)]) => Ok(Value::Bool(text.ends_with(part.as_ref()))),
            (F::LowerAscii, []) => makes(text.to_ascii_lowercase()),
            (F::UpperAscii, []) => makes(text.to_ascii_uppercase()),
            (F::Trim, []) => makes(text.trim().to_owned()),
            (F::Split, [Value::String(separator)]) => {
                let mut parts = Vec::new();
                for part in text.split(separator.as_ref()) {
                    self.make_slots(1)?;
                    self.budget.make(part.len())?;
                    parts.push(owned(part.to_owned()));
                }
                Ok(Value::List(Rc::new(parts)))
            }
            (F::Replace, [Value::String(from), Value::String(to)]) => {
                let found = text.matches(from.as_ref()).count();
                self.budget.make(text.len().saturating_add(found.saturating_mul(to.len())))?;
                Ok(owned(text.replace(from.as_ref(), to)))
            }
            (F::Substring, [Value::Int(start)]) => makes(substring(text, *start, None)?),
            (F::Substring, [Value::Int(start), Value::Int(end)]) => {
                makes(substring(text, *start, Some(*end))?)
            }
            _ => Err(Fault::Kind("this function works on strings".into())),
        }
    }

    fn convert<'a>(&self, function: Function, value: &Value<'a>) -> Made<'a> {
        self.copy(value)?;
        match function {
            Function::ToString => self.to_text(value),
            Function::ToInt => to_int(value).map(Value::Int),
            Function::ToUint => to_uint(value).map(Value::Uint),
            Function::ToDouble => to_double(value).map(Value::Double),
            Function::ToBytes => match value {
                Value::String(text) => {
                    self.budget.make(text.len())?;
                    Ok(Value::Bytes(text.as_bytes().to_vec().into()))
                }
                Value::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
                other => Err(no_such("bytes", other)),
            },
            Function::ToBool => match value {
                Value::Bool(truth) => Ok(Value::Bool(*truth)),
                Value::String(text) => text.parse().map(Value::Bool).map_err(|_| Fault::Unreadable("bool")),
                other => Err(no_such("bool", other)),
            },
            Function::ToTimestamp => to_timestamp(value).map(Value::Timestamp),
            Function::ToDuration => match value {
                Value::Duration(duration) => Ok(Value::Duration(*duration)),
                Value::String(text) => to_duration(text).map(Value::Duration),
                other => Err(no_such("duration", other)),
            },
            _ => Err(Fault::Kind(format!("this function does not work on {}", value.kind()))),
        }
    }

    fn to_text<'a>(&self, value: &Value<'a>) -> Made<'a> {
        Ok(match value {
            Value::String(text) => Value::String(text.clone()),
            Value::Bytes(bytes) => {
                self.budget.make(bytes.len())?;
                let text = std::str::from_utf8(bytes).map_err(|_| Fault::Unreadable("UTF-8"))?;
                owned(text.to_owned())
            }
            Value::Bool(truth) => owned(truth.to_string()),
            Value::Int(number) => owned(number.to_string()),
            Value::Uint(number) => owned(number.to_string()),
            Value::Double(number) => owned(number.to_string()),
            Value::Timestamp(time) => owned(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            Value::Duration(duration) => owned(duration_text(*duration)),
            other => return Err(no_such("string", other)),
        })
    }
}

fn is_of_text(function: Function) -> bool {
    use Function as F;
    matches!(
        function,
        F::Contains
            | F::StartsWith
            | F::EndsWith
            | F::LowerAscii
            | F::UpperAscii
            | F::Trim
            | F::Split
            | F::Replace
            | F::Substring
    )
}

fn no_such(function: &str, value: &Value<'_>) -> Fault {
    Fault::Kind(format!("`{function}` does not work on {}", value.kind()))
}

/// Counts characters; an end before the start, or beyond the text, is out of bounds.
fn substring(text: &str, start: i64, end: Option<i64>) -> Result<String, Fault> {
    let start = usize::try_from(start).map_err(|_| Fault::OutOfBounds)?;
    let length = text.chars().count();
    let end = match end {
        Some(end) => usize::try_from(end).map_err(|_| Fault::OutOfBounds)?,
        None => length,
    };
    if start > end || end > length {
        return Err(Fault::OutOfBounds);
    }
    Ok(text.chars().skip(start).take(end - start).collect())
}

fn to_int(value: &Value<'_>) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Uint(number) => i64::try_from(*number).map_err(|_| Fault::Overflow),
        // 2^63 itself is the first that does not fit.
        Value::Double(number) if (-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(number) => {
            Ok(*number as i64)
        }
        Value::Double(_) => Err(Fault::Overflow),
        Value::String(text) => text.parse().map_err(|_| Fault::Unreadable("int")),
        Value::Timestamp(time) => Ok(time.timestamp()),
        other => Err(no_such("int", other)),
    }
}

fn to_uint(value: &Value<'_>) -> Result<u64, Fault> {
    match value {
        Value::Uint(number) => Ok(*number),
        Value::Int(number) => u64::try_from(*number).map_err(|_| Fault::Overflow),
        Value::Double(number) if (0.0..1.844_674_407_370_955e19).contains(number) => Ok(*number as u64),
        Value::Double(_) => Err(Fault::Overflow),
        Value::String(text) => text.parse().map_err(|_| Fault::Unreadable("uint")),
        other => Err(no_such("uint", other)),
    }
}

fn to_double(value: &Value<'_>) -> Result<f64, Fault> {
    match value {
        Value::Double(number) => Ok(*number),
        Value::Int(number) => Ok(*number as f64),
        Value::Uint(number) => Ok(*number as f64),
        Value::String(text) => text.parse().map_err(|_| Fault::Unreadable("double")),
        other => Err(no_such("double", other)),
    }
}

fn to_timestamp(value: &Value<'_>) -> Result<DateTime<Utc>, Fault> {
    match value {
        Value::Timestamp(time) => Ok(*time),
        Value::Int(seconds) => DateTime::from_timestamp(*seconds, 0).ok_or(Fault::Overflow),
        Value::String(text) => DateTime::parse_from_rfc3339(text)
            .map(|time| time.with_timezone(&Utc))
            .map_err(|_| Fault::Unreadable("time of RFC 3339")),
        other => Err(no_such("timestamp", other)),
    }
}

/// `1h30m`, `1.5s`, `-20ms`: numbers with the units `h`, `m`, `s`, `ms`, `us` and `ns`.
fn to_duration(text: &str) -> Result<TimeDelta, Fault> {
    let unreadable = || Fault::Unreadable("duration such as `1h30m` or `1.5s`");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() || rest.len() > 64 {
        return Err(unreadable());
    }
    let mut nanoseconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(unreadable)?;
        let number: f64 = rest[..digits].parse().map_err(|_| unreadable())?;
        rest = &rest[digits..];
        let units = [("ms", 1e6), ("us", 1e3), ("ns", 1.0), ("h", 3.6e12), ("m", 6e10), ("s", 1e9)];
        let (unit, factor) = units.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(unreadable)?;
        nanoseconds += number * factor;
        rest = &rest[unit.len()..];
    }
    if !(0.0..9.2e18).contains(&nanoseconds) {
        return Err(Fault::Overflow);
    }
    let duration = TimeDelta::nanoseconds(nanoseconds as i64);
    Ok(if negative { -duration } else { duration })
}

fn part_of(time: DateTime<Utc>, part: TimePart) -> i64 {
    match part {
        TimePart::FullYear => i64::from(time.year()),
        TimePart::Month => i64::from(time.month0()),
        TimePart::Date => i64::from(time.day()),
        TimePart::DayOfMonth => i64::from(time.day0()),
        TimePart::DayOfWeek => i64::from(time.weekday().num_days_from_sunday()),
        TimePart::Hours => i64::from(time.hour()),
        TimePart::Minutes => i64::from(time.minute()),
        TimePart::Seconds => i64::from(time.second()),
        TimePart::Milliseconds => i64::from(time.timestamp_subsec_millis()),
    }
}
