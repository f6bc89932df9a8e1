//! Deliveries, their attempts, and dead letters as they are shown.

use std::fmt;

use bowline_proto::v1;
use serde::Serialize;

use super::{HeaderView, span, time, word};
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct DeliveryView {
    pub id: String,
    pub tenant_id: String,
    pub event_id: String,
    pub endpoint_id: String,
    pub run: i32,
    pub event_type: String,
    pub channel: String,
    pub state: String,
    pub attempt_count: i32,
    pub last_status_code: i32,
    pub last_error_kind: String,
    pub dead_reason: String,
    pub due_time: String,
    pub create_time: String,
    pub update_time: String,
    /// Only for a table; empty where it is not known.
    #[serde(skip)]
    pub endpoint_name: String,
    /// Only from `delivery get`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
}

impl From<v1::Delivery> for DeliveryView {
    fn from(delivery: v1::Delivery) -> Self {
        Self {
            state: word(delivery.state().as_str_name(), "DELIVERY_STATE_"),
            dead_reason: word(delivery.dead_reason().as_str_name(), "DEAD_REASON_"),
            due_time: time(delivery.due_time.as_ref()),
            create_time: time(delivery.create_time.as_ref()),
            update_time: time(delivery.update_time.as_ref()),
            attempts: delivery.attempts.into_iter().map(Into::into).collect(),
            endpoint_name: String::new(),
            id: delivery.id,
            tenant_id: delivery.tenant_id,
            event_id: delivery.event_id,
            endpoint_id: delivery.endpoint_id,
            run: delivery.run,
            event_type: delivery.event_type,
            channel: delivery.channel,
            attempt_count: delivery.attempt_count,
            last_status_code: delivery.last_status_code,
            last_error_kind: delivery.last_error_kind,
        }
    }
}

impl Row for DeliveryView {
    const HEADINGS: &'static [&'static str] =
        &["RECEIVED", "TYPE", "CHANNEL", "ENDPOINT", "STATE", "ATTEMPTS", "LAST", "DUE", "ID"];
    const SPARSE: &'static [&'static str] = &["CHANNEL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.create_time.clone(),
            self.event_type.clone(),
            self.channel.clone(),
            endpoint(&self.endpoint_name, &self.endpoint_id),
            self.state.clone(),
            self.attempt_count.to_string(),
            answer(self.last_status_code, &self.last_error_kind),
            self.due_time.clone(),
            self.id.clone(),
        ]
    }
}

/// What the steps of an attempt took; empty for those there were not.
#[derive(Debug, Serialize)]
pub struct TimingsView {
    pub dns: String,
    pub connect: String,
    pub tls: String,
    pub first_byte: String,
}

impl From<v1::AttemptTimings> for TimingsView {
    fn from(timings: v1::AttemptTimings) -> Self {
        Self {
            dns: span(timings.dns.as_ref()),
            connect: span(timings.connect.as_ref()),
            tls: span(timings.tls.as_ref()),
            first_byte: span(timings.first_byte.as_ref()),
        }
    }
}

impl fmt::Display for TimingsView {
    /// `dns 1ms, connect 2ms, first byte 9ms`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = [
            ("dns", &self.dns),
            ("connect", &self.connect),
            ("tls", &self.tls),
            ("first byte", &self.first_byte),
        ];
        let had = steps.into_iter().filter(|(_, took)| !took.is_empty());
        f.write_str(&had.map(|(step, took)| format!("{step} {took}")).collect::<Vec<_>>().join(", "))
    }
}

#[derive(Debug, Serialize)]
pub struct AttemptView {
    pub id: String,
    pub number: i32,
    pub kind: String,
    pub decision: String,
    pub start_time: String,
    pub duration: String,
    pub timings: TimingsView,
    pub request_url: String,
    pub request_headers: Vec<HeaderView>,
    pub status_code: i32,
    pub response_headers: Vec<HeaderView>,
    /// As text; bytes that are not UTF-8 are replaced.
    pub response_body: String,
    pub error_kind: String,
    pub error_message: String,
}

impl From<v1::Attempt> for AttemptView {
    fn from(attempt: v1::Attempt) -> Self {
        Self {
            kind: word(attempt.kind().as_str_name(), "ATTEMPT_KIND_"),
            decision: word(attempt.decision().as_str_name(), "ATTEMPT_DECISION_"),
            start_time: time(attempt.start_time.as_ref()),
            duration: span(attempt.duration.as_ref()),
            timings: attempt.timings.unwrap_or_default().into(),
            request_headers: attempt.request_headers.into_iter().map(Into::into).collect(),
            response_headers: attempt.response_headers.into_iter().map(Into::into).collect(),
            response_body: String::from_utf8_lossy(&attempt.response_body).into_owned(),
            id: attempt.id,
            number: attempt.number,
            request_url: attempt.request_url,
            status_code: attempt.status_code,
            error_kind: attempt.error_kind,
            error_message: attempt.error_message,
        }
    }
}

impl Row for AttemptView {
    const HEADINGS: &'static [&'static str] =
        &["NO", "STARTED", "KIND", "DECISION", "ANSWER", "TOOK", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            self.start_time.clone(),
            self.kind.clone(),
            self.decision.clone(),
            answer(self.status_code, &self.error_kind),
            self.duration.clone(),
            self.error_message.clone(),
        ]
    }
}

/// What a watch tells: what was recorded, and where its delivery stands now.
#[derive(Debug, Serialize)]
pub struct DeliveryTold {
    pub delivery: DeliveryView,
    pub attempt: AttemptView,
}

impl Row for DeliveryTold {
    const HEADINGS: &'static [&'static str] =
        &["STARTED", "TYPE", "NO", "DECISION", "ANSWER", "TOOK", "DELIVERY"];

    fn cells(&self) -> Vec<String> {
        let attempt = &self.attempt;
        vec![
            attempt.start_time.clone(),
            self.delivery.event_type.clone(),
            attempt.number.to_string(),
            attempt.decision.clone(),
            answer(attempt.status_code, &attempt.error_kind),
            attempt.duration.clone(),
            self.delivery.id.clone(),
        ]
    }
}

#[derive(Debug, Serialize)]
pub struct DeadLetterView {
    pub delivery_id: String,
    pub tenant_id: String,
    pub event_id: String,
    pub endpoint_id: String,
    pub run: i32,
    pub event_type: String,
    pub channel: String,
    pub reason: String,
    pub attempt_count: i32,
    pub last_status_code: i32,
    pub last_error_kind: String,
    pub create_time: String,
    /// Only for a table; empty where it is not known.
    #[serde(skip)]
    pub endpoint_name: String,
}

impl From<v1::DeadLetter> for DeadLetterView {
    fn from(letter: v1::DeadLetter) -> Self {
        Self {
            reason: word(letter.reason().as_str_name(), "DEAD_REASON_"),
            create_time: time(letter.create_time.as_ref()),
            endpoint_name: String::new(),
            delivery_id: letter.delivery_id,
            tenant_id: letter.tenant_id,
            event_id: letter.event_id,
            endpoint_id: letter.endpoint_id,
            run: letter.run,
            event_type: letter.event_type,
            channel: letter.channel,
            attempt_count: letter.attempt_count,
            last_status_code: letter.last_status_code,
            last_error_kind: letter.last_error_kind,
        }
    }
}

impl Row for DeadLetterView {
    const HEADINGS: &'static [&'static str] =
        &["DIED", "TYPE", "CHANNEL", "ENDPOINT", "REASON", "ATTEMPTS", "LAST", "DELIVERY"];
    const SPARSE: &'static [&'static str] = &["CHANNEL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.create_time.clone(),
            self.event_type.clone(),
            self.channel.clone(),
            endpoint(&self.endpoint_name, &self.endpoint_id),
            self.reason.clone(),
            self.attempt_count.to_string(),
            answer(self.last_status_code, &self.last_error_kind),
            self.delivery_id.clone(),
        ]
    }
}

/// By its name where that is known, else by its id.
fn endpoint(name: &str, id: &str) -> String {
    if name.is_empty() { id } else { name }.to_owned()
}

/// The latest answer in one cell: its status, or why there was none.
fn answer(status_code: i32, error_kind: &str) -> String {
    if status_code != 0 { status_code.to_string() } else { error_kind.to_owned() }
}
