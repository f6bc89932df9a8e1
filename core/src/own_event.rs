//! Bowline's own events: what it has to tell about itself, delivered as any other event is, and only to
//! endpoints that name them. `*` does not.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::defaults::SOURCE_FAILING_QUIET;
use crate::delivery::DeliveryKey;
use crate::event::Event;
use crate::id::{EndpointId, EventId, TenantId};
use crate::journal::{DedupKey, NewEvent};
use crate::snapshot::Failing;
use crate::source::Source;

pub const ENDPOINT_DISABLED: &str = "bowline.endpoint.disabled";
/// Written by the statement that ends the count of failures: see [`crate::store::health::succeeded`].
pub const ENDPOINT_RECOVERED: &str = "bowline.endpoint.recovered";
pub const DELIVERY_DEAD: &str = "bowline.delivery.dead";
pub const SOURCE_FAILING: &str = "bowline.source.failing";

/// As the journal takes it. Made now: an id tells when it was made, and what is told may have waited for long.
pub fn new_event(tenant_id: TenantId, event_type: String, body: Bytes, key: DedupKey) -> NewEvent {
    let event = Event {
        id: EventId::new(),
        tenant_id,
        source_id: None,
        event_type,
        channel: None,
        content_type: "application/json".to_owned(),
        headers: Bytes::new(),
        body,
        time: Utc::now(),
    };
    NewEvent { event, generation: 0, key: Some(key) }
}

/// Whichever replica sees it, within [`SOURCE_FAILING_QUIET`] it becomes one event.
pub fn source_failing(source: &Source, failing: Failing, (reason, message): (&str, &str)) -> NewEvent {
    let body = json!({
        "source_id": source.id.to_string(),
        "source_name": source.name,
        "reason": reason,
        "message": message,
        "refused_count": failing.refused_count,
        "failing_since": time(failing.since),
        "time": time(Utc::now()),
    });
    let key = DedupKey {
        scope: source.tenant_id.0,
        // No key that somebody publishes with holds a NUL.
        hash: DedupKey::hash(format!("\0source failing {}", source.id).as_bytes()),
        ttl: SOURCE_FAILING_QUIET,
        fingerprint: None,
    };
    new_event(source.tenant_id, SOURCE_FAILING.to_owned(), body.to_string().into(), key)
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnEvent {
    /// It becomes one event, however often it is handed over.
    pub id: EventId,
    pub tenant_id: TenantId,
    pub event_type: &'static str,
    pub body: Value,
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl OwnEvent {
    fn new(tenant_id: TenantId, event_type: &'static str, body: Value) -> Self {
        Self { id: EventId::new(), tenant_id, event_type, body }
    }

    /// Without its URL, which may hold what only its owner knows.
    pub fn endpoint_disabled(tenant: TenantId, endpoint: EndpointId, name: &str, reason: &str) -> Self {
        let body = json!({
            "endpoint_id": endpoint.to_string(),
            "endpoint_name": name,
            "reason": reason,
            "time": time(Utc::now()),
        });
        Self::new(tenant, ENDPOINT_DISABLED, body)
    }

    pub fn delivery_dead(
        tenant: TenantId,
        key: DeliveryKey,
        event_type: &str,
        (reason, attempts): (&str, i32),
    ) -> Self {
        let body = json!({
            "delivery_id": key.to_string(),
            "event_id": key.event_id.to_string(),
            "event_type": event_type,
            "endpoint_id": key.endpoint_id.to_string(),
            "reason": reason,
            "attempt_count": attempts,
            "time": time(Utc::now()),
        });
        Self::new(tenant, DELIVERY_DEAD, body)
    }
}
