//! Values, borrowed from the scope where they stand there already.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::HeaderMap;
use zeroize::Zeroizing;

use super::budget::Budget;
use super::error::Fault;
use crate::json::Json;

type Entries<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Timestamp(DateTime<Utc>),
    Duration(TimeDelta),
    List(Rc<Vec<Value<'a>>>),
    /// In the order it was written; no key is there twice.
    Map(Rc<Entries<'a>>),
    JsonList(&'a [Json]),
    JsonMap(&'a BTreeMap<String, Json>),
    Headers(&'a HeaderMap),
    Secret(Rc<Zeroizing<Vec<u8>>>),
}

/// The kind alone: a value may be a secret.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl<'a> Value<'a> {
    pub(super) fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Int(number) => Self::Int(*number),
            Json::Uint(number) => Self::Uint(*number),
            Json::Double(number) => Self::Double(*number),
            Json::Text(text) => Self::String(Cow::Borrowed(text)),
            Json::Array(list) => Self::JsonList(list),
            Json::Object(map) => Self::JsonMap(map),
            Json::Altered(json, alteration) => {
                alteration.notice();
                Self::of_json(json)
            }
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Uint(_) => "a uint",
            Self::Double(_) => "a double",
            Self::String(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "a timestamp",
            Self::Duration(_) => "a duration",
            Self::List(_) | Self::JsonList(_) => "a list",
            Self::Map(_) | Self::JsonMap(_) | Self::Headers(_) => "a map",
            Self::Secret(_) => "a secret",
        }
    }

    /// As JSON holds it: bytes as base64, times as RFC 3339.
    pub(super) fn to_json(&self, budget: &Budget) -> Result<serde_json::Value, Fault> {
        budget.make(16)?;
        Ok(match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(bool) => (*bool).into(),
            Self::Int(number) => (*number).into(),
            Self::Uint(number) => (*number).into(),
            Self::Double(number) => serde_json::Number::from_f64(*number)
                .map(serde_json::Value::Number)
                .ok_or_else(|| Fault::Result("JSON has no infinite number and no NaN".into()))?,
            Self::String(text) => {
                budget.make(text.len())?;
                text.clone().into_owned().into()
            }
            Self::Bytes(bytes) => {
                budget.make(bytes.len() / 3 * 4)?;
                STANDARD.encode(bytes).into()
            }
            Self::Timestamp(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into(),
            Self::Duration(duration) => duration_text(*duration).into(),
            Self::List(list) => {
                list.iter().map(|value| value.to_json(budget)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Self::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, value) in entries.iter() {
                    budget.make(key.len())?;
                    map.insert(key.clone().into_owned(), value.to_json(budget)?);
                }
                map.into()
            }
            Self::JsonList(list) => list
                .iter()
                .map(|value| Value::of_json(value).to_json(budget))
                .collect::<Result<Vec<_>, _>>()?
                .into(),
            Self::JsonMap(entries) => {
                let mut map = serde_json::Map::new();
                for (key, value) in *entries {
                    budget.make(key.len())?;
                    map.insert(key.clone(), Value::of_json(value).to_json(budget)?);
                }
                map.into()
            }
            Self::Headers(_) | Self::Secret(_) => {
                return Err(Fault::Result(format!("{} cannot stand in a body", self.kind())));
            }
        })
    }
}

/// Seconds with an `s`, as CEL and protobuf's JSON write it.
pub(super) fn duration_text(duration: TimeDelta) -> String {
    let seconds = duration.num_milliseconds() as f64 / 1000.0;
    format!("{seconds}s")
}
