//! Stored resources as the API shows them.

mod binding;
mod event_type;
mod presets;
mod rejection;

use std::time::Duration;

use bowline_core::defaults;
use bowline_core::delivery::{DeadReason, Decision};
use bowline_core::endpoint::{
    Backoff, Endpoint, EndpointOrdering, EndpointState, RetryPolicy, StatusAction, StatusOverride,
};
use bowline_core::format::{Custom, Value};
use bowline_core::operation::{Operation, OperationState, Work};
use bowline_core::preset::{self, Preset};
use bowline_core::secrets::StoredSecret;
use bowline_core::source::Source;
use bowline_core::store::dead_letters::DeadLetter;
use bowline_core::store::deliveries::{AttemptKind, AttemptRow, DeliveryRow, DeliveryState};
use bowline_core::store::events::EventRow;
use bowline_proto::v1;
use bowline_proto::v1::retry_policy::Backoff as WireBackoff;

pub(crate) use binding::binding;
pub(crate) use event_type::event_type;
pub(crate) use presets::preset;
pub(crate) use rejection::rejection;

use crate::convert::{duration, headers, logged_headers, struct_of_json, timestamp};
use crate::etag;
use crate::fault::Fault;
use crate::validate;

/// The whole source, with what holds where nothing was said; `public_url` without a slash at its end.
pub(crate) fn source(
    source: &Source,
    secrets: &[StoredSecret],
    public_url: &str,
) -> Result<v1::Source, Fault> {
    let shown = stored_source(source, secrets, public_url)?;
    let preset_limit = || preset::find(&source.spec.preset).map(Preset::body_limit_bytes);
    let limit = source.spec.body_limit_bytes.or_else(preset_limit).unwrap_or_default();
    Ok(v1::Source {
        dedup_ttl: Some(duration(source.spec.dedup_ttl.unwrap_or(defaults::DEDUP_TTL))),
        body_limit_bytes: i64::try_from(limit).unwrap_or(i64::MAX),
        ..shown
    })
}

/// As it is stored, to lay a change over: what was left out stays the preset's to decide.
pub(crate) fn stored_source(
    source: &Source,
    secrets: &[StoredSecret],
    public_url: &str,
) -> Result<v1::Source, Fault> {
    let spec = &source.spec;
    let scheme = spec
        .scheme
        .as_ref()
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| Fault::Unreadable(format!("the scheme of source {}: {error}", source.id)))?
        .and_then(struct_of_json);
    Ok(v1::Source {
        id: source.id.to_string(),
        tenant_id: source.tenant_id.to_string(),
        name: source.name.clone(),
        display_name: source.display_name.clone(),
        labels: source.labels.clone(),
        create_time: Some(timestamp(source.create_time)),
        update_time: Some(timestamp(source.update_time)),
        etag: etag::of(source.config_version),
        preset: spec.preset.clone(),
        parameters: spec.parameters.clone(),
        scheme,
        insecure: spec.insecure,
        path: source.path.clone().unwrap_or_default(),
        receive_url: receive_url(source, public_url),
        event_type: spec.event_type.clone().unwrap_or_default(),
        channel: spec.channel.clone().unwrap_or_default(),
        dedup_ttl: spec.dedup_ttl.map(duration),
        body_limit_bytes: spec.body_limit_bytes.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        enabled: Some(source.enabled),
        secrets: secrets.iter().map(secret_version).collect(),
        ip_allow_list: spec.ip_allow_list.iter().map(ToString::to_string).collect(),
        rate: spec.rate_per_s.unwrap_or_default(),
        query_window_payloads: spec.query_window_payloads.map_or(0, |payloads| payloads as i32),
        max_stored_payloads: spec.max_stored_payloads.map(|payloads| payloads as i32),
        dedup_key: spec.dedup_key_cel.clone().unwrap_or_default(),
        verify: spec.verify_cel.clone().unwrap_or_default(),
        event_type_cel: spec.event_type_cel.clone().unwrap_or_default(),
        channel_cel: spec.channel_cel.clone().unwrap_or_default(),
    })
}

fn receive_url(source: &Source, public_url: &str) -> String {
    let base = public_url.trim_end_matches('/');
    match &source.path {
        Some(path) => format!("{base}{path}"),
        None => format!("{base}/in/{}", source.id),
    }
}

fn secret_version(secret: &StoredSecret) -> v1::SecretVersion {
    v1::SecretVersion {
        id: secret.id.to_string(),
        name: secret.name.clone(),
        create_time: Some(timestamp(secret.create_time)),
        expire_time: secret.expires_at.map(timestamp),
        public_key: secret
            .public_key
            .and_then(|key| public_key_scheme()?.write_public_key(&key))
            .unwrap_or_default(),
    }
}

/// Public keys are written as Standard Webhooks writes them, whichever format signs.
fn public_key_scheme() -> Option<&'static bowline_core::scheme::CompiledScheme> {
    preset::find("standard").and_then(Preset::scheme)
}

/// `public_url` is that of the inbound server.
pub(crate) fn endpoint(endpoint: &Endpoint, secrets: &[StoredSecret], public_url: &str) -> v1::Endpoint {
    let spec = &endpoint.spec;
    let has_public_key = secrets.iter().any(|secret| secret.public_key.is_some());
    let jwks_url = format!("{}/endpoints/{}/jwks.json", public_url.trim_end_matches('/'), endpoint.id);
    v1::Endpoint {
        id: endpoint.id.to_string(),
        tenant_id: endpoint.tenant_id.to_string(),
        name: endpoint.name.clone(),
        display_name: endpoint.display_name.clone(),
        labels: endpoint.labels.clone(),
        create_time: Some(timestamp(endpoint.create_time)),
        update_time: Some(timestamp(endpoint.update_time)),
        etag: etag::of(endpoint.config_version),
        url: spec.url.clone(),
        event_types: spec.event_types.clone(),
        channels: spec.channels.clone(),
        format: spec.format.clone(),
        headers: validate::headers::shown(spec),
        auth: spec.auth.as_deref().map(validate::auth::shown),
        tls: spec.tls.as_deref().map(validate::auth::shown_tls),
        timeout: Some(duration(spec.timeout)),
        retry: Some(retry(&spec.retry)),
        concurrency: spec.concurrency,
        rate: spec.rate_per_s.unwrap_or_default(),
        disable: Some(v1::DisablePolicy {
            after_failures: spec.disable.after_failures,
            after: Some(duration(spec.disable.after)),
        }),
        ordering: endpoint_ordering(spec.ordering).into(),
        secret_revealable: Some(spec.secret_revealable),
        state: endpoint_state(endpoint.state).into(),
        disabled_reason: endpoint.disabled_reason.clone(),
        secrets: secrets.iter().map(secret_version).collect(),
        filter: spec.filter.clone().unwrap_or_default(),
        transform: spec.transform.clone().unwrap_or_default(),
        custom_format: spec.custom.as_ref().map(custom_format),
        jwks_url: if has_public_key { jwks_url } else { String::new() },
    }
}

fn custom_format(custom: &Custom) -> v1::CustomFormat {
    // Both are plain data.
    let scheme = serde_json::to_value(&custom.scheme).ok().and_then(struct_of_json);
    let word = |value: &Value| serde_json::to_value(value).ok()?.as_str().map(str::to_owned);
    let header = |(name, value): (&String, &Value)| (name.clone(), word(value).unwrap_or_default());
    v1::CustomFormat { scheme, headers: custom.headers.iter().map(header).collect() }
}

fn endpoint_ordering(ordering: EndpointOrdering) -> v1::EndpointOrdering {
    match ordering {
        EndpointOrdering::None => v1::EndpointOrdering::Unspecified,
        EndpointOrdering::PerChannel => v1::EndpointOrdering::PerChannel,
        EndpointOrdering::Strict => v1::EndpointOrdering::Strict,
    }
}

fn endpoint_state(state: EndpointState) -> v1::EndpointState {
    match state {
        EndpointState::Enabled => v1::EndpointState::Enabled,
        EndpointState::Paused => v1::EndpointState::Paused,
        EndpointState::Disabled => v1::EndpointState::Disabled,
    }
}

fn retry(policy: &RetryPolicy) -> v1::RetryPolicy {
    let backoff = match &policy.backoff {
        Backoff::Schedule { waits, jitter } => WireBackoff::Schedule(v1::ScheduleBackoff {
            waits: waits.iter().copied().map(duration).collect(),
            jitter: Some(*jitter),
        }),
        Backoff::Exponential { initial, factor, max } => WireBackoff::Exponential(v1::ExponentialBackoff {
            initial: Some(duration(*initial)),
            factor: *factor,
            max: Some(duration(*max)),
        }),
        Backoff::Fixed { wait, jitter } => {
            WireBackoff::Fixed(v1::FixedBackoff { wait: Some(duration(*wait)), jitter: Some(*jitter) })
        }
    };
    v1::RetryPolicy {
        max_attempts: policy.max_attempts,
        backoff: Some(backoff),
        max_age: policy.max_age.map(duration),
        overrides: policy.overrides.iter().map(status_override).collect(),
    }
}

fn status_override(own: &StatusOverride) -> v1::StatusOverride {
    let span = |(first, last): &(u16, u16)| match (first, last) {
        (first, last) if first == last => first.to_string(),
        (first, last) if first % 100 == 0 && *last == first + 99 => format!("{}xx", first / 100),
        (first, last) => format!("{first}-{last}"),
    };
    let (action, wait) = match own.then {
        StatusAction::Retry { wait } => (v1::StatusAction::Retry, wait),
        StatusAction::Dead => (v1::StatusAction::Dead, None),
    };
    let statuses = own.statuses.iter().map(span).collect();
    v1::StatusOverride { statuses, action: action.into(), wait: wait.map(duration) }
}

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

fn dead_reason(reason: DeadReason) -> v1::DeadReason {
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

fn attempt(row: &AttemptRow) -> v1::Attempt {
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

pub(crate) fn operation(operation: &Operation) -> v1::Operation {
    let state = match operation.state {
        OperationState::Pending => v1::OperationState::Pending,
        OperationState::Running => v1::OperationState::Running,
        OperationState::Done => v1::OperationState::Done,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::Cancelled => v1::OperationState::Cancelled,
    };
    v1::Operation {
        id: operation.id.to_string(),
        tenant_id: operation.tenant_id.to_string(),
        state: state.into(),
        rate_per_second: operation.rate_per_second,
        max_count: operation.request.max.unwrap_or_default(),
        estimated_count: operation.request.estimate,
        done_count: operation.progress.done,
        skipped_count: operation.progress.skipped,
        error: operation.error.clone(),
        create_time: Some(timestamp(operation.create_time)),
        update_time: Some(timestamp(operation.update_time)),
        end_time: operation.end_time.map(timestamp),
        work: Some(work(&operation.request.work)),
    }
}

fn work(work: &Work) -> v1::operation::Work {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match work {
        Work::Redrive(redrive) => v1::operation::Work::Redrive(v1::RedriveWork {
            endpoint_id: redrive.endpoint_id.map(|id| id.to_string()).unwrap_or_default(),
            event_id: redrive.event_id.map(|id| id.to_string()).unwrap_or_default(),
            event_type: text(&redrive.event_type),
            channel: text(&redrive.channel),
            reason: redrive.reason.map_or(v1::DeadReason::Unspecified, dead_reason).into(),
            start_time: redrive.start.map(timestamp),
            end_time: redrive.end.map(timestamp),
        }),
        Work::Replay(replay) => v1::operation::Work::Replay(v1::ReplayWork {
            source_id: replay.source_id.map(|id| id.to_string()).unwrap_or_default(),
            event_type: text(&replay.event_type),
            channel: text(&replay.channel),
            start_time: replay.start.map(timestamp),
            end_time: replay.end.map(timestamp),
            endpoint_ids: replay.endpoint_ids.iter().map(ToString::to_string).collect(),
            only_missing: replay.only_missing,
        }),
    }
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
