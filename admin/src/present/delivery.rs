//! Events, and what became of them, as the API shows it: deliveries, their attempts, dead letters.

use std::time::Duration;

use bowline_core::delivery::{DeadReason, Decision};
use bowline_core::store::dead_letters::DeadLetter;
use bowline_core::store::deliveries::{AttemptKind, AttemptRow, DeliveryRow, DeliveryState};
use bowline_core::store::events::EventRow;
use bowline_proto::v1;

use crate::convert::{duration, headers, logged_headers, timestamp};

/// Without headers and body where the row has none.
pub(crate) fn event(row: &EventRow) -> v1::Event {
    v1::Event {
        id: row.id.to_string(),
        tenant_id: row.tenant_id.to_string(),
        source_id: row.source_id.map(|id| id.to_string()).unwrap_or_default(),
        event_type: row.event_type.clone(),
        channel: row.channel.clone().unwrap_or_default(),
        content_type: row.content_type.clone(),
        create_time: Some(timestamp(row.time)),
        body_size_bytes: row.body_size_bytes,
        headers: headers(&row.headers),
        body: row.body.clone(),
        test: row.test,
        body_drop_time: row.body_dropped_at.map(timestamp),
        flag: match row.flag.as_deref() {
            Some("unknown_type") => v1::EventFlag::UnknownType,
            _ => v1::EventFlag::Unspecified,
        }
        .into(),
    }
}

pub(crate) fn delivery(row: &DeliveryRow, attempts: &[AttemptRow]) -> v1::Delivery {
    v1::Delivery {
        id: row.key.to_string(),
        tenant_id: row.tenant_id.to_string(),
        event_id: row.key.event_id.to_string(),
        endpoint_id: row.key.endpoint_id.to_string(),
        run: row.key.run,
        event_type: row.event_type.clone().unwrap_or_default(),
        channel: row.channel.clone().unwrap_or_default(),
        state: delivery_state(row.state).into(),
        attempt_count: row.attempt_count,
        last_status_code: row.last_status_code.map_or(0, i32::from),
        last_error_kind: row.last_error_kind.clone().unwrap_or_default(),
        due_time: row.due_at.map(timestamp),
        create_time: Some(timestamp(row.event_time)),
        update_time: row.update_time.map(timestamp),
        dead_reason: row.dead_reason.map_or(v1::DeadReason::Unspecified, dead_reason).into(),
        attempts: attempts.iter().map(attempt).collect(),
        test: row.test,
    }
}

fn delivery_state(state: DeliveryState) -> v1::DeliveryState {
    match state {
        DeliveryState::Pending => v1::DeliveryState::Pending,
        DeliveryState::Waiting => v1::DeliveryState::Waiting,
        DeliveryState::Delivered => v1::DeliveryState::Delivered,
        DeliveryState::Dead => v1::DeliveryState::Dead,
        DeliveryState::Cancelled => v1::DeliveryState::Cancelled,
        DeliveryState::Expired => v1::DeliveryState::Expired,
        DeliveryState::Unmatched => v1::DeliveryState::Unmatched,
    }
}

pub(super) fn dead_reason(reason: DeadReason) -> v1::DeadReason {
    match reason {
        DeadReason::AttemptsExhausted => v1::DeadReason::AttemptsExhausted,
        DeadReason::Gone => v1::DeadReason::Gone,
        DeadReason::EgressRefused => v1::DeadReason::EgressRefused,
        DeadReason::SecretMissing => v1::DeadReason::SecretMissing,
        DeadReason::Unformattable => v1::DeadReason::Unformattable,
        DeadReason::Poison => v1::DeadReason::Poison,
        DeadReason::FilterFailed => v1::DeadReason::FilterFailed,
        DeadReason::TransformFailed => v1::DeadReason::TransformFailed,
        DeadReason::NotRetried => v1::DeadReason::NotRetried,
    }
}

pub(crate) fn attempt(row: &AttemptRow) -> v1::Attempt {
    let kind = match row.kind {
        AttemptKind::Request => v1::AttemptKind::Request,
        AttemptKind::Refused => v1::AttemptKind::Refused,
        AttemptKind::Cancelled => v1::AttemptKind::Cancelled,
        AttemptKind::Expired => v1::AttemptKind::Expired,
    };
    let decision = match row.decision {
        Decision::Delivered => v1::AttemptDecision::Delivered,
        Decision::Retry => v1::AttemptDecision::Retry,
        Decision::Dead => v1::AttemptDecision::Dead,
        Decision::Cancelled => v1::AttemptDecision::Cancelled,
        Decision::Expired => v1::AttemptDecision::Expired,
        Decision::Stale => v1::AttemptDecision::Stale,
    };
    v1::Attempt {
        id: row.id.to_string(),
        // A decision without a request is not the n-th of anything.
        number: if row.kind == AttemptKind::Request { row.number } else { 0 },
        kind: kind.into(),
        decision: decision.into(),
        start_time: Some(timestamp(row.start_time)),
        duration: row.duration.map(duration),
        request_url: row.request_url.clone().unwrap_or_default(),
        request_headers: logged_headers(&row.request_headers),
        status_code: row.status_code.map_or(0, i32::from),
        response_headers: logged_headers(&row.response_headers),
        response_body: row.response_body.clone(),
        error_kind: row.error_kind.clone().unwrap_or_default(),
        error_message: row.error_message.clone().unwrap_or_default(),
        timings: timings(row.timings),
    }
}

fn timings(steps: [Option<Duration>; 4]) -> Option<v1::AttemptTimings> {
    let [dns, connect, tls, first_byte] = steps.map(|step| step.map(duration));
    let any = dns.is_some() || connect.is_some() || tls.is_some() || first_byte.is_some();
    any.then_some(v1::AttemptTimings { dns, connect, tls, first_byte })
}

pub(crate) fn dead_letter(row: &DeadLetter) -> v1::DeadLetter {
    v1::DeadLetter {
        delivery_id: row.key.to_string(),
        tenant_id: row.tenant_id.to_string(),
        event_id: row.key.event_id.to_string(),
        endpoint_id: row.key.endpoint_id.to_string(),
        run: row.key.run,
        event_type: row.event_type.clone().unwrap_or_default(),
        channel: row.channel.clone().unwrap_or_default(),
        reason: row.reason.map_or(v1::DeadReason::Unspecified, dead_reason).into(),
        attempt_count: row.attempt_count,
        last_status_code: row.last_status_code.map_or(0, i32::from),
        last_error_kind: row.last_error_kind.clone().unwrap_or_default(),
        create_time: Some(timestamp(row.time)),
    }
}
