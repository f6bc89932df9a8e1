//! What is known of a value before there is one.

use std::fmt;

/// Where an expression stands, which says what it may look at and what it must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The name of an event or its channel, of a request: text, or null for none.
    Name,
    /// A deduplication key, of a request: text or bytes, or null for none.
    DedupKey,
    /// Whether a request is genuine, with secrets.
    Verify,
    /// Whether an endpoint wants an event.
    Filter,
    /// The body of a delivery.
    Transform,
}

impl Place {
    /// Whether it may look at what a body holds otherwise than it was sent ([`crate::json::Json::Altered`]).
    ///
    /// Not a deduplication key, also not by a hash of it: of two events whose keys differ only there, the second
    /// would be taken for the first and lost. A refusal is heard of. Nor a verification: what is compared with a
    /// secret is what was sent. A name may be that of others, too, and a filter or a transform has what can be had.
    pub(super) fn takes_alterations(self) -> bool {
        match self {
            Self::DedupKey | Self::Verify => false,
            Self::Name | Self::Filter | Self::Transform => true,
        }
    }

    /// The variables with their fields.
    pub(super) fn variables(self) -> &'static [(&'static str, &'static [(&'static str, Field)])] {
        const REQUEST: (&str, &[(&str, Field)]) = (
            "request",
            &[
                ("method", Field::RequestMethod),
                ("path", Field::RequestPath),
                ("query", Field::RequestQuery),
                ("headers", Field::RequestHeaders),
                ("body", Field::RequestBody),
                ("json", Field::RequestJson),
            ],
        );
        const EVENT: (&str, &[(&str, Field)]) = (
            "event",
            &[
                ("id", Field::EventId),
                ("type", Field::EventType),
                ("channel", Field::EventChannel),
                ("source", Field::EventSource),
                ("timestamp", Field::EventTimestamp),
                ("data", Field::EventData),
            ],
        );
        const DELIVERY: (&str, &[(&str, Field)]) =
            ("delivery", &[("id", Field::DeliveryId), ("attempt", Field::DeliveryAttempt)]);
        match self {
            Self::Name | Self::DedupKey | Self::Verify => &[REQUEST],
            Self::Filter => &[EVENT],
            Self::Transform => &[EVENT, DELIVERY],
        }
    }

    pub(super) fn has_request(self) -> bool {
        matches!(self, Self::Name | Self::DedupKey | Self::Verify)
    }

    /// Whether a value of this kind may come out; what is only known later is checked then.
    pub(super) fn accepts(self, kind: &Kind) -> bool {
        match self {
            Self::Name => matches!(kind, Kind::Dyn | Kind::String | Kind::Null),
            Self::DedupKey => matches!(kind, Kind::Dyn | Kind::String | Kind::Bytes | Kind::Int | Kind::Null),
            Self::Verify | Self::Filter => matches!(kind, Kind::Bool),
            Self::Transform => matches!(kind, Kind::Dyn | Kind::Map(_)),
        }
    }

    pub(super) fn wants(self) -> &'static str {
        match self {
            Self::Name => "text, or null for none",
            Self::DedupKey => "text, bytes or an int, or null for none",
            Self::Verify | Self::Filter => "a bool: compare, as in `x == true`",
            Self::Transform => "a map",
        }
    }
}

/// A field of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    RequestMethod,
    RequestPath,
    RequestQuery,
    RequestHeaders,
    RequestBody,
    RequestJson,
    EventId,
    EventType,
    EventChannel,
    EventSource,
    EventTimestamp,
    EventData,
    DeliveryId,
    DeliveryAttempt,
}

impl Field {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::RequestMethod | Self::RequestPath | Self::EventId | Self::EventType | Self::DeliveryId => {
                Kind::String
            }
            Self::RequestQuery | Self::RequestHeaders => Kind::Map(Box::new(Kind::String)),
            Self::RequestBody => Kind::Bytes,
            // A channel and a source may be null.
            Self::RequestJson | Self::EventData | Self::EventChannel | Self::EventSource => Kind::Dyn,
            Self::EventTimestamp => Kind::Timestamp,
            Self::DeliveryAttempt => Kind::Int,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Known when there is a value.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// Text or bytes that only `constant_time_eq` may compare.
    Secret,
    List(Box<Kind>),
    /// Keys are text.
    Map(Box<Kind>),
}

impl Kind {
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether the two can be equal at all.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret, _) | (_, Self::Secret) => false,
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (one, other) if one.is_number() && other.is_number() => true,
            (Self::List(one), Self::List(other)) | (Self::Map(one), Self::Map(other)) => one.equals(other),
            (one, other) => one == other,
        }
    }

    /// What a value is that is one or the other; `None` where a secret would become something else.
    pub(super) fn or(self, other: Self) -> Option<Self> {
        match (self, other) {
            (one, other) if one == other => Some(one),
            (Self::Secret, Self::String | Self::Bytes) | (Self::String | Self::Bytes, Self::Secret) => {
                Some(Self::Secret)
            }
            (one, other) => (!one.holds_secret() && !other.holds_secret()).then_some(Self::Dyn),
        }
    }

    pub(super) fn holds_secret(&self) -> bool {
        match self {
            Self::Secret => true,
            Self::List(inner) | Self::Map(inner) => inner.holds_secret(),
            _ => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dyn => "a value of unknown type",
            Self::Null => "null",
            Self::Bool => "a bool",
            Self::Int => "an int",
            Self::Uint => "a uint",
            Self::Double => "a double",
            Self::String => "a string",
            Self::Bytes => "bytes",
            Self::Timestamp => "a timestamp",
            Self::Duration => "a duration",
            Self::Secret => "a secret",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        })
    }
}
