//! Endpoints as the API shows them.

use bowline_core::endpoint::{
    Backoff, Endpoint, EndpointOrdering, EndpointState, RetryPolicy, StatusAction, StatusOverride,
};
use bowline_core::format::{Custom, Value};
use bowline_core::secrets::StoredSecret;
use bowline_proto::v1;
use bowline_proto::v1::retry_policy::Backoff as WireBackoff;

use super::secret::secret_version;
use crate::convert::{duration, struct_of_json, timestamp};
use crate::etag;
use crate::validate;

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
