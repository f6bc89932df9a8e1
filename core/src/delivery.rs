//! A delivery: one event for one endpoint, in one run. Run 0 is the first; a replay makes a new one.

use std::fmt;
use std::str::FromStr;

use crate::id::{EndpointId, EventId, IdError};

/// Which delivery: written `{event}.{endpoint}.{run}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryKey {
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub run: i32,
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.event_id, self.endpoint_id, self.run)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryKeyError {
    #[error("expected a delivery id of the form evt_….ep_….N")]
    Shape,
    #[error(transparent)]
    Id(#[from] IdError),
}

impl FromStr for DeliveryKey {
    type Err = DeliveryKeyError;

    fn from_str(text: &str) -> Result<Self, DeliveryKeyError> {
        let mut parts = text.split('.');
        let (Some(event), Some(endpoint), Some(run), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(DeliveryKeyError::Shape);
        };
        let run = run.parse::<i32>().ok().filter(|run| *run >= 0).ok_or(DeliveryKeyError::Shape)?;
        Ok(Self { event_id: event.parse()?, endpoint_id: endpoint.parse()?, run })
    }
}

/// What was decided about a delivery by one row of `attempts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    Delivered,
    Retry,
    Dead,
    Cancelled,
    Expired,
    /// Recorded by a replica that no longer owned the delivery: logged, without effect.
    Stale,
}

impl Decision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Stale => "stale",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Delivered, Self::Retry, Self::Dead, Self::Cancelled, Self::Expired, Self::Stale]
            .into_iter()
            .find(|decision| decision.as_str() == text)
    }

    /// Nothing more happens to the delivery by itself.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead | Self::Cancelled | Self::Expired)
    }
}

/// Why a delivery is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    AttemptsExhausted,
    /// The receiver answered 410.
    Gone,
    EgressRefused,
    SecretMissing,
    /// The endpoint's filter fails on the event, so nobody knows whether it is wanted.
    FilterFailed,
    /// The endpoint's transform fails on the event, or the event is too large for one.
    TransformFailed,
    /// The body could not be put into the endpoint's format.
    Unformattable,
    /// The endpoint's retry policy says that such an answer is not tried again.
    NotRetried,
    /// Its chunk was taken over too often: something in it kills dispatchers.
    Poison,
}

impl DeadReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Gone => "gone",
            Self::EgressRefused => "egress_refused",
            Self::SecretMissing => "secret_missing",
            Self::FilterFailed => "filter_failed",
            Self::TransformFailed => "transform_failed",
            Self::Unformattable => "unformattable",
            Self::NotRetried => "not_retried",
            Self::Poison => "poison",
        }
    }
}
