//! Sources as the API shows them.

use bowline_core::defaults;
use bowline_core::preset::{self, Preset};
use bowline_core::secrets::StoredSecret;
use bowline_core::source::Source;
use bowline_proto::v1;

use super::secret::secret_version;
use crate::convert::{duration, struct_of_json, timestamp};
use crate::etag;
use crate::fault::Fault;

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
