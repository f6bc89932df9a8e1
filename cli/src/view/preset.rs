//! Presets as they are shown.

use std::collections::BTreeMap;

use bowline_proto::v1;
use serde::Serialize;

use super::{span, word};
use crate::output::Row;
use crate::scheme_file;

#[derive(Debug, Serialize)]
pub struct PresetView {
    pub name: String,
    pub aliases: Vec<String>,
    pub display_name: String,
    pub docs_url: String,
    pub algorithm: String,
    pub signature: Vec<String>,
    /// Empty where timestamps are not checked.
    pub max_age: String,
    pub max_ahead: String,
    pub required_headers: Vec<String>,
    pub content_type: String,
    pub json_required: bool,
    pub event_type: Vec<String>,
    pub channel: Vec<String>,
    pub dedup_key: Vec<String>,
    pub dedup_key_with: Vec<String>,
    pub dedup_required: bool,
    pub body_limit_bytes: i64,
    pub max_stored_payloads: Option<i32>,
    pub handshakes: Vec<HandshakeView>,
    pub parameters: Vec<ParameterView>,
    pub secrets: Vec<NeededView>,
    pub has_example: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
pub struct HandshakeView {
    pub method: String,
    pub when: BTreeMap<String, String>,
    pub when_exists: String,
    pub after_verify: bool,
}

#[derive(Debug, Serialize)]
pub struct ParameterView {
    pub name: String,
    pub description: String,
    pub required: bool,
    pub default: String,
    pub example: String,
}

#[derive(Debug, Serialize)]
pub struct NeededView {
    pub name: String,
    pub description: String,
    /// `given`, `made`, `optional` or `brought`.
    pub need: String,
}

impl From<v1::Preset> for PresetView {
    fn from(preset: v1::Preset) -> Self {
        Self {
            max_age: span(preset.max_age.as_ref()),
            max_ahead: span(preset.max_ahead.as_ref()),
            scheme: preset.scheme.as_ref().map(scheme_file::shown),
            name: preset.name,
            aliases: preset.aliases,
            display_name: preset.display_name,
            docs_url: preset.docs_url,
            algorithm: preset.algorithm,
            signature: preset.signature,
            required_headers: preset.required_headers,
            content_type: preset.content_type,
            json_required: preset.json_required,
            event_type: preset.event_type,
            channel: preset.channel,
            dedup_key: preset.dedup_key,
            dedup_key_with: preset.dedup_key_with,
            dedup_required: preset.dedup_required,
            body_limit_bytes: preset.body_limit_bytes,
            max_stored_payloads: preset.max_stored_payloads,
            handshakes: preset.handshakes.into_iter().map(handshake).collect(),
            parameters: preset.parameters.into_iter().map(parameter).collect(),
            secrets: preset
                .secrets
                .into_iter()
                .map(|secret| NeededView {
                    need: word(secret.need().as_str_name(), "SECRET_NEED_"),
                    name: secret.name,
                    description: secret.description,
                })
                .collect(),
            has_example: preset.has_example,
        }
    }
}

fn handshake(wire: v1::PresetHandshake) -> HandshakeView {
    HandshakeView {
        method: wire.method,
        when: wire.when,
        when_exists: wire.when_exists,
        after_verify: wire.after_verify,
    }
}

fn parameter(wire: v1::PresetParameter) -> ParameterView {
    ParameterView {
        name: wire.name,
        description: wire.description,
        required: wire.required,
        default: wire.default_value,
        example: wire.example,
    }
}

impl PresetView {
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let parameters: Vec<String> = self.parameters.iter().map(ParameterView::line).collect();
        let secrets: Vec<String> = self.secrets.iter().map(NeededView::line).collect();
        let window = match (self.max_age.as_str(), self.max_ahead.as_str()) {
            ("", "") => String::new(),
            (age, "") => format!("{age} old"),
            ("", ahead) => format!("{ahead} ahead"),
            (age, ahead) => format!("{age} old, {ahead} ahead"),
        };
        let needed = if self.dedup_required { " (needed)" } else { "" };
        vec![
            ("name", self.name.clone()),
            ("also known as", self.aliases.join(", ")),
            ("provider", self.display_name.clone()),
            ("page", self.docs_url.clone()),
            ("algorithm", self.algorithm.clone()),
            ("signature in", self.signature.join(", ")),
            ("time window", window),
            ("parameters", parameters.join("; ")),
            ("secrets", secrets.join("; ")),
            ("needed headers", self.required_headers.join(", ")),
            ("content type", self.content_type.clone()),
            ("event type", self.event_type.join(", ")),
            ("channel", self.channel.join(", ")),
            ("dedup key", format!("{}{needed}", self.dedup_key.join(", "))),
            ("with", self.dedup_key_with.join(", ")),
            ("body limit", format!("{} bytes", self.body_limit_bytes)),
            (
                "keeps",
                self.max_stored_payloads.map(|payloads| format!("{payloads} payloads")).unwrap_or_default(),
            ),
            ("handshakes", self.handshakes.iter().map(HandshakeView::line).collect::<Vec<_>>().join("; ")),
            ("scheme", self.scheme.as_ref().map(ToString::to_string).unwrap_or_default()),
        ]
    }
}

impl HandshakeView {
    fn line(&self) -> String {
        let mut conditions: Vec<String> =
            self.when.iter().map(|(place, value)| format!("{place} is {value}")).collect();
        if !self.when_exists.is_empty() {
            conditions.push(format!("{} is there", self.when_exists));
        }
        let signed = if self.after_verify { ", signed" } else { "" };
        format!("{} where {}{signed}", self.method, conditions.join(" and "))
    }
}

impl ParameterView {
    fn line(&self) -> String {
        let more = match (self.required, self.default.as_str()) {
            (true, _) => format!(" (needed, such as {})", self.example),
            (false, "") => String::new(),
            (false, default) => format!(" (default: {default})"),
        };
        format!("{}{more}: {}", self.name, self.description)
    }
}

impl NeededView {
    fn line(&self) -> String {
        let need = match self.need.as_str() {
            "given" => "must be given",
            "made" => "given, or made",
            "brought" => "brought by the provider, or given",
            _ => "may be given",
        };
        if self.description.is_empty() {
            return format!("{}: {need}", self.name);
        }
        format!("{}: {need}; {}", self.name, self.description)
    }
}

impl Row for PresetView {
    const HEADINGS: &'static [&'static str] = &["NAME", "PROVIDER", "ALGORITHM", "PARAMETERS", "SECRETS"];

    fn cells(&self) -> Vec<String> {
        let mark = |needed: bool| if needed { "*" } else { "" };
        let parameters: Vec<String> =
            self.parameters.iter().map(|it| format!("{}{}", it.name, mark(it.required))).collect();
        let secrets: Vec<String> =
            self.secrets.iter().map(|it| format!("{}{}", it.name, mark(it.need == "given"))).collect();
        vec![
            self.name.clone(),
            self.display_name.clone(),
            self.algorithm.clone(),
            parameters.join(", "),
            secrets.join(", "),
        ]
    }
}
