//! Event types as they are shown.

use std::collections::BTreeMap;

use bowline_proto::v1;
use serde::Serialize;
use serde_json::Value;

use super::time;
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct EventTypeView {
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub description: String,
    pub labels: BTreeMap<String, String>,
    /// Null where any payload fits.
    pub json_schema: Value,
    pub create_time: String,
    pub update_time: String,
    pub etag: String,
}

impl From<v1::EventType> for EventTypeView {
    fn from(event_type: v1::EventType) -> Self {
        Self {
            json_schema: serde_json::from_str(&event_type.json_schema).unwrap_or_default(),
            create_time: time(event_type.create_time.as_ref()),
            update_time: time(event_type.update_time.as_ref()),
            id: event_type.id,
            tenant_id: event_type.tenant_id,
            name: event_type.name,
            description: event_type.description,
            labels: event_type.labels,
            etag: event_type.etag,
        }
    }
}

impl EventTypeView {
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            ("name", self.name.clone()),
            ("id", self.id.clone()),
            ("description", self.description.clone()),
            ("labels", labels.join(", ")),
            ("schema", if self.json_schema.is_null() { String::new() } else { self.json_schema.to_string() }),
            ("created", self.create_time.clone()),
            ("updated", self.update_time.clone()),
            ("etag", self.etag.clone()),
        ]
    }
}

impl Row for EventTypeView {
    const HEADINGS: &'static [&'static str] = &["NAME", "SCHEMA", "DESCRIPTION", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            if self.json_schema.is_null() { "no".to_owned() } else { "yes".to_owned() },
            self.description.clone(),
            self.id.clone(),
        ]
    }
}
