//! Events as they are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_proto::v1;
use serde::Serialize;

use super::time;
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct HeaderView {
    pub name: String,
    pub value: String,
}

impl From<v1::Header> for HeaderView {
    fn from(header: v1::Header) -> Self {
        Self { name: header.name, value: header.value }
    }
}

#[derive(Debug, Serialize)]
pub struct EventView {
    pub id: String,
    pub tenant_id: String,
    /// Empty for a published event.
    pub source_id: String,
    pub event_type: String,
    pub channel: String,
    pub content_type: String,
    pub body_size_bytes: i64,
    pub create_time: String,
    /// Why nobody got it: `unknown_type`, `unmatched`; empty where somebody did, or will.
    pub flag: String,
    /// When its body went before its time; empty where it is there.
    pub body_drop_time: String,
    /// As received. Only from `event get`, and `event watch --body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<HeaderView>>,
    /// Likewise, where the body is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Likewise, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl EventView {
    /// With headers and body.
    pub(crate) fn whole(mut event: v1::Event) -> Self {
        let headers = std::mem::take(&mut event.headers).into_iter().map(Into::into).collect();
        let (body, body_base64) = match std::str::from_utf8(&event.body) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(STANDARD.encode(&event.body))),
        };
        Self { headers: Some(headers), body, body_base64, ..event.into() }
    }
}

impl From<v1::Event> for EventView {
    fn from(event: v1::Event) -> Self {
        Self {
            flag: super::word(event.flag().as_str_name(), "EVENT_FLAG_"),
            body_drop_time: time(event.body_drop_time.as_ref()),
            create_time: time(event.create_time.as_ref()),
            id: event.id,
            tenant_id: event.tenant_id,
            source_id: event.source_id,
            event_type: event.event_type,
            channel: event.channel,
            content_type: event.content_type,
            body_size_bytes: event.body_size_bytes,
            headers: None,
            body: None,
            body_base64: None,
        }
    }
}

impl Row for EventView {
    const HEADINGS: &'static [&'static str] =
        &["RECEIVED", "TYPE", "CHANNEL", "BYTES", "ID", "SOURCE", "FLAG"];
    const SPARSE: &'static [&'static str] = &["FLAG"];

    fn cells(&self) -> Vec<String> {
        let source = if self.source_id.is_empty() { "(published)" } else { &self.source_id };
        vec![
            self.create_time.clone(),
            self.event_type.clone(),
            self.channel.clone(),
            self.body_size_bytes.to_string(),
            self.id.clone(),
            source.to_owned(),
            self.flag.clone(),
        ]
    }
}

/// What a watch tells.
#[derive(Debug, Serialize)]
pub struct EventTold {
    pub event: EventView,
}

impl Row for EventTold {
    const HEADINGS: &'static [&'static str] = EventView::HEADINGS;

    fn cells(&self) -> Vec<String> {
        self.event.cells()
    }
}
