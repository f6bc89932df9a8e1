//! A format as it is written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scheme::Scheme;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub name: String,
    pub display_name: String,
    /// The preset whose scheme signs it, so that this preset verifies it. Where endpoints bring their own, it
    /// stands in.
    pub scheme: String,
    /// Each endpoint says how it is signed and which headers it has ([`Custom`]).
    #[serde(default)]
    pub own_scheme: bool,
    /// What a header cannot hold is written as `%XX`, as `CloudEvents` does.
    #[serde(default)]
    pub percent_headers: bool,
    /// Without a secret it is sent unsigned.
    #[serde(default)]
    pub secret_optional: bool,
    /// Headers of its own, apart from those of the scheme.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// A JSON object around the event's data; members in the order given.
    Envelope {
        members: Vec<Member>,
        #[serde(default)]
        json: JsonStyle,
    },
    /// The event's bytes as they are.
    Event {
        /// The headers it came with go along, as far as they may.
        #[serde(default)]
        original_headers: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub name: String,
    pub value: Value,
}

/// What an endpoint of format `custom` says for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    pub scheme: Scheme,
    /// Headers beside those of the scheme.
    #[serde(default)]
    pub headers: BTreeMap<String, Value>,
}

/// How JSON data stands in an envelope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonStyle {
    /// The stored bytes.
    #[default]
    Verbatim,
    /// As `JSON.stringify(JSON.parse(data))` writes it, so that a receiver who does just that gets
    /// the bytes that were signed. Integers beyond 2^53 keep their digits.
    Javascript,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    EventType,
    EventId,
    /// Null in a body and left out of the headers where the event has none.
    Channel,
    /// A UUID, new for each attempt.
    AttemptId,
    /// The event's time: RFC 3339 with milliseconds, `Z`.
    EventTimeMs,
    /// The event's time: RFC 3339 with seconds, `Z`.
    EventTimeS,
    /// The moment of signing: RFC 3339 with seconds, `Z`; for headers.
    SignTimeS,
    /// Where it came from: `/sources/src_...`, or `/tenants/ten_...` where an app published it.
    EventSource,
    /// `1.0`
    CloudeventsVersion,
    /// The event's body: JSON as JSON, other UTF-8 as a string, the rest as `{"base64": "…"}`.
    Data,
}
