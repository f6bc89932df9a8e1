//! Rejections as they are shown.

use bowline_proto::v1;
use serde::Serialize;

use super::{HeaderView, time};
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct RejectionView {
    pub id: String,
    pub source_id: String,
    pub code: String,
    pub message: String,
    pub method: String,
    pub path: String,
    /// Empty in a list.
    pub headers: Vec<HeaderView>,
    /// What is no UTF-8 in it is replaced; empty in a list.
    pub body: String,
    pub body_size_bytes: i64,
    pub remote_address: String,
    pub create_time: String,
    /// What a second verification would need and was not kept.
    pub left_out: String,
    pub event_id: String,
    pub reprocess_time: String,
}

impl From<v1::Rejection> for RejectionView {
    fn from(rejection: v1::Rejection) -> Self {
        Self {
            create_time: time(rejection.create_time.as_ref()),
            reprocess_time: time(rejection.reprocess_time.as_ref()),
            body: String::from_utf8_lossy(&rejection.body).into_owned(),
            headers: rejection.headers.into_iter().map(Into::into).collect(),
            id: rejection.id,
            source_id: rejection.source_id,
            code: rejection.code,
            message: rejection.message,
            method: rejection.method,
            path: rejection.path,
            body_size_bytes: rejection.body_size_bytes,
            remote_address: rejection.remote_address,
            left_out: rejection.left_out,
            event_id: rejection.event_id,
        }
    }
}

impl RejectionView {
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let headers: Vec<String> =
            self.headers.iter().map(|header| format!("{}: {}", header.name, header.value)).collect();
        vec![
            ("id", self.id.clone()),
            ("source", self.source_id.clone()),
            ("refused", self.create_time.clone()),
            ("code", self.code.clone()),
            ("message", self.message.clone()),
            ("request", format!("{} {}", self.method, self.path)),
            ("from", self.remote_address.clone()),
            ("headers", headers.join("; ")),
            ("body", self.body.clone()),
            ("not kept", self.left_out.clone()),
            ("became", self.event_id.clone()),
            ("at", self.reprocess_time.clone()),
        ]
    }
}

impl Row for RejectionView {
    const HEADINGS: &'static [&'static str] = &["REFUSED", "CODE", "MESSAGE", "FROM", "ID", "EVENT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.create_time.clone(),
            self.code.clone(),
            self.message.clone(),
            self.remote_address.clone(),
            self.id.clone(),
            self.event_id.clone(),
        ]
    }
}
