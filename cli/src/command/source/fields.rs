//! What can be said of a source, when it is made and when it is changed.

use std::path::PathBuf;

use bowline_proto::v1;
use clap::{Args, ValueEnum};

use crate::command::{duration, key_value};
use crate::failure::Failure;
use crate::scheme_file;

/// The fields of a source that its caller decides, but for the name.
#[derive(Debug, Args)]
pub(super) struct SourceFields {
    /// How the provider signs: a preset such as standard, github or stripe (`bowline preset list`), or custom for
    /// none; default of a new one: custom with --scheme, --verify or --insecure, else standard
    #[arg(long)]
    preset: Option<String>,
    /// What the preset asks for, such as `webhook_id` for paypal; may be repeated. A change replaces all
    #[arg(long = "parameter", value_parser = key_value, value_name = "NAME=VALUE")]
    parameters: Vec<(String, String)>,
    /// File with a signature scheme of its own, as TOML or JSON (docs/schemes.md)
    #[arg(long, value_name = "FILE")]
    scheme: Option<PathBuf>,
    /// Accept requests without verifying them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    insecure: Option<bool>,
    /// Path on the inbound server, such as /webhooks/stripe; `/in/<id>` works besides
    #[arg(long)]
    path: Option<String>,
    /// One event type for all, in place of the preset's
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    /// One channel for all, in place of the preset's
    #[arg(long)]
    channel: Option<String>,
    /// CEL that names the event's type, in place of the preset's; not beside --event-type
    #[arg(long, value_name = "CEL", help_heading = "Expressions")]
    event_type_cel: Option<String>,
    /// CEL that names the event's channel, in place of the preset's; not beside --channel
    #[arg(long, value_name = "CEL", help_heading = "Expressions")]
    channel_cel: Option<String>,
    /// CEL for what tells one event from another, such as request.json.id: the second one is dropped; default: as the
    /// preset says, and with a scheme of its own nothing is dropped
    #[arg(long, value_name = "CEL", help_heading = "Expressions")]
    dedup_key: Option<String>,
    /// CEL that must be true for a request to be accepted, besides the scheme or alone
    #[arg(long, value_name = "CEL", help_heading = "Expressions")]
    verify: Option<String>,
    /// How long a delivery id is remembered, such as 24h
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    dedup_ttl: Option<prost_types::Duration>,
    /// Largest body accepted; default: the preset's limit
    #[arg(long, value_name = "BYTES")]
    body_limit_bytes: Option<i64>,
    /// A network such as 192.0.2.0/24 whose senders are heard, others are not; may be repeated. A change
    /// replaces all networks
    #[arg(long = "allow-ip", value_name = "NETWORK")]
    ip_allow_list: Vec<String>,
    /// Events a second that are accepted, over all replicas; default: as many as come
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How many of the newest payloads queries see; default: 1000
    #[arg(long, value_name = "N")]
    query_window_payloads: Option<i32>,
    /// How many payloads keep their bodies; older ones go once nothing needs them; 0: no such limit; default:
    /// the preset's
    #[arg(long, value_name = "N")]
    max_stored_payloads: Option<i32>,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// A label; may be repeated. A change replaces all labels
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
}

/// What a change can set back to what it is without being said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Clear {
    Parameters,
    Scheme,
    Path,
    #[value(alias = "event_type")]
    EventType,
    Channel,
    #[value(alias = "event_type_cel")]
    EventTypeCel,
    #[value(alias = "channel_cel")]
    ChannelCel,
    #[value(alias = "dedup_key")]
    DedupKey,
    Verify,
    #[value(alias = "dedup_ttl")]
    DedupTtl,
    #[value(alias = "body_limit_bytes")]
    BodyLimitBytes,
    #[value(alias = "allow_ip")]
    AllowIp,
    Rate,
    #[value(alias = "query_window_payloads")]
    QueryWindowPayloads,
    #[value(alias = "max_stored_payloads")]
    MaxStoredPayloads,
    #[value(alias = "display_name")]
    DisplayName,
    Labels,
}

impl Clear {
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Scheme => "scheme",
            Self::Path => "path",
            Self::EventType => "event_type",
            Self::Channel => "channel",
            Self::EventTypeCel => "event_type_cel",
            Self::ChannelCel => "channel_cel",
            Self::DedupKey => "dedup_key",
            Self::Verify => "verify",
            Self::DedupTtl => "dedup_ttl",
            Self::BodyLimitBytes => "body_limit_bytes",
            Self::AllowIp => "ip_allow_list",
            Self::Rate => "rate",
            Self::QueryWindowPayloads => "query_window_payloads",
            Self::MaxStoredPayloads => "max_stored_payloads",
            Self::DisplayName => "display_name",
            Self::Labels => "labels",
        }
    }
}

impl SourceFields {
    /// What a new source verifies by when no preset is named.
    pub(super) fn preset_or_default(&mut self) {
        let own = self.scheme.is_some() || self.verify.is_some() || self.insecure == Some(true);
        self.preset.get_or_insert_with(|| if own { "custom" } else { "standard" }.to_owned());
    }

    /// Writes what was given into `source`; the names of the fields that were.
    ///
    /// # Errors
    /// When the scheme cannot be read.
    pub(super) fn apply(self, source: &mut v1::Source) -> Result<Vec<&'static str>, Failure> {
        let mut fields = Vec::new();
        macro_rules! take {
            ($($field:ident),*) => {$(
                if let Some(value) = self.$field {
                    source.$field = value;
                    fields.push(stringify!($field));
                }
            )*};
        }
        take!(event_type_cel, channel_cel, dedup_key, verify);
        take!(
            preset,
            insecure,
            path,
            event_type,
            channel,
            body_limit_bytes,
            rate,
            query_window_payloads,
            display_name
        );
        if let Some(path) = &self.scheme {
            source.scheme = Some(scheme_file::read("--scheme", path)?);
            fields.push("scheme");
        }
        if self.max_stored_payloads.is_some() {
            source.max_stored_payloads = self.max_stored_payloads;
            fields.push("max_stored_payloads");
        }
        if self.dedup_ttl.is_some() {
            source.dedup_ttl = self.dedup_ttl;
            fields.push("dedup_ttl");
        }
        if !self.ip_allow_list.is_empty() {
            source.ip_allow_list = self.ip_allow_list;
            fields.push("ip_allow_list");
        }
        if !self.parameters.is_empty() {
            source.parameters = self.parameters.into_iter().collect();
            fields.push("parameters");
        }
        if !self.labels.is_empty() {
            source.labels = self.labels.into_iter().collect();
            fields.push("labels");
        }
        Ok(fields)
    }
}
