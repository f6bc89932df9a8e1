//! Bowline's own events: what it has to tell about itself, delivered as any other event is, and only to
//! endpoints that name them. `*` does not.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::delivery::DeliveryKey;
use crate::id::{EndpointId, EventId, TenantId};

pub const ENDPOINT_DISABLED: &str = "bowline.endpoint.disabled";
/// Written by the statement that ends the count of failures: see [`crate::store::health::succeeded`].
pub const ENDPOINT_RECOVERED: &str = "bowline.endpoint.recovered";
pub const DELIVERY_DEAD: &str = "bowline.delivery.dead";

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
