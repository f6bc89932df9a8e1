//! Sources and endpoints as they are shown.

use std::collections::BTreeMap;

use bowline_proto::v1;
use serde::Serialize;

use super::auth::{AuthView, TlsView};
use super::policy::{DisableView, RetryView};
use super::{span, time, word};
use crate::output::Row;
use crate::scheme_file;

/// A secret's existence; its value is shown once, by the command that made it.
#[derive(Debug, Serialize)]
pub struct SecretView {
    pub id: String,
    pub name: String,
    pub create_time: String,
    pub expire_time: String,
    /// Of a key pair: the half that receivers verify by.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub public_key: String,
}

impl From<v1::SecretVersion> for SecretView {
    fn from(secret: v1::SecretVersion) -> Self {
        Self {
            create_time: time(secret.create_time.as_ref()),
            expire_time: time(secret.expire_time.as_ref()),
            id: secret.id,
            name: secret.name,
            public_key: secret.public_key,
        }
    }
}

impl SecretView {
    /// In one line: its name and until when it is valid.
    pub(crate) fn line(&self) -> String {
        match self.expire_time.as_str() {
            "" => format!("{} since {}", self.name, self.create_time),
            until => format!("{} since {}, until {until}", self.name, self.create_time),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct SourceView {
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub display_name: String,
    pub labels: BTreeMap<String, String>,
    pub preset: String,
    /// What the preset asks for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Its own, in place of the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<serde_json::Value>,
    pub insecure: bool,
    pub path: String,
    pub receive_url: String,
    pub event_type: String,
    pub channel: String,
    pub event_type_cel: String,
    pub channel_cel: String,
    pub dedup_key: String,
    pub verify: String,
    pub dedup_ttl: String,
    pub body_limit_bytes: i64,
    pub ip_allow_list: Vec<String>,
    /// Events a second; 0 for no limit.
    pub rate: f64,
    /// 0 for the default.
    pub query_window_payloads: i32,
    /// 0 for all; `null` for the preset's.
    pub max_stored_payloads: Option<i32>,
    pub enabled: bool,
    pub secrets: Vec<SecretView>,
    pub create_time: String,
    pub update_time: String,
    pub etag: String,
}

impl From<v1::Source> for SourceView {
    fn from(source: v1::Source) -> Self {
        Self {
            dedup_ttl: span(source.dedup_ttl.as_ref()),
            scheme: source.scheme.as_ref().map(scheme_file::shown),
            enabled: source.enabled.unwrap_or(true),
            secrets: source.secrets.into_iter().map(Into::into).collect(),
            create_time: time(source.create_time.as_ref()),
            update_time: time(source.update_time.as_ref()),
            id: source.id,
            tenant_id: source.tenant_id,
            name: source.name,
            display_name: source.display_name,
            labels: source.labels,
            preset: source.preset,
            parameters: source.parameters,
            insecure: source.insecure,
            path: source.path,
            receive_url: source.receive_url,
            event_type: source.event_type,
            channel: source.channel,
            event_type_cel: source.event_type_cel,
            channel_cel: source.channel_cel,
            dedup_key: source.dedup_key,
            verify: source.verify,
            body_limit_bytes: source.body_limit_bytes,
            ip_allow_list: source.ip_allow_list,
            rate: source.rate,
            query_window_payloads: source.query_window_payloads,
            max_stored_payloads: source.max_stored_payloads,
            etag: source.etag,
        }
    }
}

impl SourceView {
    pub(crate) fn state(&self) -> &'static str {
        match (self.enabled, self.insecure) {
            (false, _) => "disabled",
            (true, true) => "insecure",
            (true, false) => "enabled",
        }
    }
}

impl Row for SourceView {
    const HEADINGS: &'static [&'static str] = &["NAME", "PRESET", "STATE", "ID", "RECEIVE URL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.preset.clone(),
            self.state().to_owned(),
            self.id.clone(),
            self.receive_url.clone(),
        ]
    }
}

#[derive(Debug, Serialize)]
pub struct EndpointView {
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub display_name: String,
    pub labels: BTreeMap<String, String>,
    pub url: String,
    pub event_types: Vec<String>,
    pub channels: Vec<String>,
    pub filter: String,
    pub transform: String,
    pub format: String,
    pub headers: BTreeMap<String, String>,
    pub auth: Option<AuthView>,
    pub tls: Option<TlsView>,
    pub timeout: String,
    pub retry: Option<RetryView>,
    pub concurrency: u32,
    /// A second; 0: no limit.
    pub rate: f64,
    /// `per_channel` or `strict`; empty: none.
    pub ordering: String,
    pub disable: Option<DisableView>,
    pub state: String,
    pub disabled_reason: String,
    pub custom_format: Option<CustomFormatView>,
    pub secret_revealable: bool,
    pub secrets: Vec<SecretView>,
    pub jwks_url: String,
    pub create_time: String,
    pub update_time: String,
    pub etag: String,
}

#[derive(Debug, Serialize)]
pub struct CustomFormatView {
    pub scheme: Option<serde_json::Value>,
    pub headers: BTreeMap<String, String>,
}

impl From<v1::Endpoint> for EndpointView {
    fn from(endpoint: v1::Endpoint) -> Self {
        Self {
            timeout: span(endpoint.timeout.as_ref()),
            ordering: word(endpoint.ordering().as_str_name(), "ENDPOINT_ORDERING_"),
            state: word(endpoint.state().as_str_name(), "ENDPOINT_STATE_"),
            secrets: endpoint.secrets.into_iter().map(Into::into).collect(),
            create_time: time(endpoint.create_time.as_ref()),
            update_time: time(endpoint.update_time.as_ref()),
            auth: endpoint.auth.and_then(AuthView::of),
            tls: endpoint.tls.map(Into::into),
            retry: endpoint.retry.map(Into::into),
            disable: endpoint.disable.map(Into::into),
            custom_format: endpoint.custom_format.map(|custom| CustomFormatView {
                scheme: custom.scheme.as_ref().map(scheme_file::shown),
                headers: custom.headers,
            }),
            secret_revealable: endpoint.secret_revealable.unwrap_or_default(),
            jwks_url: endpoint.jwks_url,
            id: endpoint.id,
            tenant_id: endpoint.tenant_id,
            name: endpoint.name,
            display_name: endpoint.display_name,
            labels: endpoint.labels,
            url: endpoint.url,
            event_types: endpoint.event_types,
            channels: endpoint.channels,
            filter: endpoint.filter,
            transform: endpoint.transform,
            format: endpoint.format,
            headers: endpoint.headers,
            concurrency: endpoint.concurrency,
            rate: endpoint.rate,
            disabled_reason: endpoint.disabled_reason,
            etag: endpoint.etag,
        }
    }
}

impl EndpointView {
    pub(crate) fn types(&self) -> String {
        if self.event_types.is_empty() { "*".to_owned() } else { self.event_types.join(", ") }
    }

    pub(crate) fn rate_line(&self) -> String {
        if self.rate == 0.0 { String::new() } else { format!("{} a second", self.rate) }
    }

    /// Nothing is sent to it just now.
    pub(crate) fn is_asleep(&self) -> bool {
        ["disabled", "paused"].contains(&self.state.as_str())
    }

    /// `disabled (10 consecutive attempts failed)`; a person who disabled it gave no reason.
    pub(crate) fn state_and_why(&self) -> String {
        match self.disabled_reason.as_str() {
            "" => self.state.clone(),
            reason => format!("{} ({reason})", self.state),
        }
    }
}

impl Row for EndpointView {
    const HEADINGS: &'static [&'static str] = &["NAME", "FORMAT", "STATE", "EVENT TYPES", "ID", "URL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.format.clone(),
            self.state_and_why(),
            self.types(),
            self.id.clone(),
            self.url.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_apart_from_one_another() {
        let event_types = ["push", "issues"].map(ToOwned::to_owned).to_vec();
        let endpoint = v1::Endpoint { event_types, ..v1::Endpoint::default() };
        assert_eq!(EndpointView::from(endpoint).types(), "push, issues");
    }
}
