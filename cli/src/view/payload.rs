//! Payloads as they are shown.

use bowline_proto::v1;
use serde::Serialize;

use super::time;
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct PayloadView {
    pub event_id: String,
    pub receive_time: String,
    pub event_type: String,
    pub content_type: String,
    /// What is no UTF-8 in it is replaced.
    pub body: String,
    pub body_size_bytes: usize,
}

impl From<v1::Payload> for PayloadView {
    fn from(payload: v1::Payload) -> Self {
        Self {
            receive_time: time(payload.receive_time.as_ref()),
            event_id: payload.event_id,
            event_type: payload.event_type,
            content_type: payload.content_type,
            body: String::from_utf8_lossy(&payload.body).into_owned(),
            body_size_bytes: payload.body.len(),
        }
    }
}

impl Row for PayloadView {
    const HEADINGS: &'static [&'static str] = &["RECEIVED", "TYPE", "BYTES", "EVENT", "BODY"];

    fn cells(&self) -> Vec<String> {
        const SHOWN_CHARS: usize = 80;
        let mut body: String = self.body.chars().take(SHOWN_CHARS).collect();
        if self.body.chars().nth(SHOWN_CHARS).is_some() {
            body.push('…');
        }
        vec![
            self.receive_time.clone(),
            self.event_type.clone(),
            self.body_size_bytes.to_string(),
            self.event_id.clone(),
            body,
        ]
    }
}
