//! An operation: bulk work that survives restarts. One live replica at a time works on it, and what it
//! does is committed together with how far it has come, so nothing is done twice.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::delivery::DeadReason;
use crate::id::{EndpointId, EventId, OperationId, SourceId, TenantId};

/// Deliveries queued a second where the caller does not say.
pub const RATE_DEFAULT_PER_SECOND: i32 = 1000;
pub const RATE_MAX_PER_SECOND: i32 = 10_000;
/// An estimate counts no further.
pub const ESTIMATE_MAX: i64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    Pending,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl OperationState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Done, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    /// Dead letters are queued again.
    Redrive(Redrive),
    /// Past events are queued for endpoints.
    Replay(Replay),
}

impl Work {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Redrive(_) => "redrive",
            Self::Replay(_) => "replay",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    pub endpoint_id: Option<EndpointId>,
    pub event_id: Option<EventId>,
    pub event_type: Option<String>,
    pub channel: Option<String>,
    pub reason: Option<DeadReason>,
    pub start: Option<DateTime<Utc>>,
    pub end: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    pub source_id: Option<SourceId>,
    pub event_type: Option<String>,
    pub channel: Option<String>,
    pub start: Option<DateTime<Utc>>,
    pub end: Option<DateTime<Utc>>,
    /// The last event there was; `None`: there was none.
    pub last: Option<EventId>,
    pub endpoint_ids: Vec<EndpointId>,
    pub only_missing: bool,
}

/// The last row that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub event_id: EventId,
    /// `None` where events are what is looked at.
    pub endpoint_id: Option<EndpointId>,
    pub run: i32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub done: i64,
    pub skipped: i64,
    /// Where the next step begins.
    pub after: Option<Position>,
}

/// What was asked, with how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub work: Work,
    /// Deliveries to queue in all; `None`: no bound.
    pub max: Option<i64>,
    pub estimate: i64,
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub id: OperationId,
    pub tenant_id: TenantId,
    pub state: OperationState,
    pub request: Request,
    pub progress: Progress,
    pub rate_per_second: i32,
    pub error: String,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    pub end_time: Option<DateTime<Utc>>,
}

impl Operation {
    /// How many more it may queue.
    pub fn left(&self) -> i64 {
        self.request.max.map_or(i64::MAX, |max| (max - self.progress.done).max(0))
    }
}

/// The next position after a row's.
impl Position {
    pub fn event(event_id: EventId) -> Self {
        Self { event_id, endpoint_id: None, run: 0 }
    }

    pub fn key(self) -> (Uuid, Uuid, i32) {
        (self.event_id.0, self.endpoint_id.map_or(Uuid::max(), |id| id.0), self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let request = Request {
            work: Work::Replay(Replay {
                event_type: Some("a.b".into()),
                start: Some(DateTime::UNIX_EPOCH),
                endpoint_ids: vec![EndpointId::new()],
                only_missing: true,
                ..Replay::default()
            }),
            max: Some(7),
            estimate: 3,
        };
        let stored = serde_json::to_value(&request).unwrap();
        assert_eq!(serde_json::from_value::<Request>(stored).unwrap(), request);
        let work = Work::Redrive(Redrive { reason: Some(DeadReason::Gone), ..Redrive::default() });
        let stored = serde_json::to_value(&work).unwrap();
        assert_eq!(stored["reason"], "gone");
        assert_eq!(serde_json::from_value::<Work>(stored).unwrap(), work);
        assert_eq!(serde_json::from_str::<Progress>("{}").unwrap(), Progress::default());
    }
}
