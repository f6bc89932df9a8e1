//! An event: one payload, kept as the exact bytes that came.

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::id::{EventId, SourceId, TenantId};

/// How the types of Bowline's own events begin. Nothing from outside can make one, and they go only to
/// endpoints that name them, never through `*`.
pub const OWN_EVENTS: &str = "bowline.";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub tenant_id: TenantId,
    /// `None` for an event published by an app.
    pub source_id: Option<SourceId>,
    /// A dotted name such as `order.created`.
    pub event_type: String,
    pub channel: Option<String>,
    /// The `Content-Type` it came with.
    pub content_type: String,
    /// The other inbound headers, capped; see [`crate::headers`].
    pub headers: Bytes,
    pub body: Bytes,
    pub time: DateTime<Utc>,
}
