//! Event types as the API shows them.

use bowline_core::catalog::EventType;
use bowline_proto::v1;

use crate::convert::timestamp;
use crate::etag;

pub(crate) fn event_type(event_type: &EventType) -> v1::EventType {
    v1::EventType {
        id: event_type.id.to_string(),
        tenant_id: event_type.tenant_id.to_string(),
        name: event_type.name.clone(),
        description: event_type.description.clone(),
        labels: event_type.labels.clone(),
        create_time: Some(timestamp(event_type.create_time)),
        update_time: Some(timestamp(event_type.update_time)),
        etag: etag::of(event_type.config_version),
        json_schema: event_type.json_schema.clone().unwrap_or_default(),
    }
}
