//! What can be said of an endpoint, when it is made and when it is changed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bowline_proto::v1;
use clap::{Args, ValueEnum};

use super::auth::AuthFlags;
use super::retry::{DisableFlags, RetryFlags};
use crate::command::{duration, header, key_value};
use crate::failure::Failure;
use crate::output;
use crate::scheme_file;

/// The fields of an endpoint that its caller decides, but for the name.
#[derive(Debug, Args)]
pub(super) struct EndpointFields {
    /// Where to POST
    #[arg(long)]
    url: Option<String>,
    /// Wire format: standard, chimpbase, rkt, chatbase, connectgain, chatblocks, cloudevents, custom,
    /// raw; default: standard
    #[arg(long)]
    format: Option<String>,
    /// Only events of this type: order.created, order.* or *; may be repeated, a change replaces all; default: all
    #[arg(long = "event-type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Only events with this channel; may be repeated, a change replaces all; default: all
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// CEL: only events for which it is true, such as has(event.data.total) && event.data.total > 100. One that
    /// lacks what the filter reads is no `false`: without the `has()` its delivery becomes a dead letter
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// CEL: a map to send in place of the event's data
    #[arg(long, value_name = "CEL")]
    transform: Option<String>,
    /// Of format custom: file with the scheme that signs, as TOML or JSON (docs/schemes.md)
    #[arg(long, value_name = "FILE", help_heading = "Format custom")]
    custom_scheme: Option<PathBuf>,
    /// Of format custom: a header and what stands there, such as x-event=event_type; may be repeated
    #[arg(long = "custom-header", value_parser = key_value, value_name = "NAME=VALUE", help_heading = "Format custom")]
    custom_headers: Vec<(String, String)>,
    /// A header to send along; may be repeated. A change replaces all headers
    #[arg(long = "header", value_parser = header, value_name = "NAME: VALUE")]
    headers: Vec<(String, String)>,
    /// File with headers to send along, one `NAME: VALUE` a line: for those that are a secret
    #[arg(long, value_name = "PATH")]
    headers_file: Option<PathBuf>,
    #[command(flatten)]
    auth: AuthFlags,
    /// For the whole exchange: 1s to 60s; default: 10s
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    timeout: Option<prost_types::Duration>,
    /// Requests out at once, in each dispatcher; default: 16
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Requests a second, over all dispatchers together; default: as many as come
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Send one delivery at a time, each after the one before it: in each channel, or of all. One that fails holds
    /// up those behind it for as long as it is tried again; default: many at once, as they come
    #[arg(long, value_enum, value_name = "ORDER")]
    ordering: Option<Ordering>,
    /// Whether `bowline reveal` may show its secret; default: only with format chimpbase
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    secret_revealable: Option<bool>,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    disable: DisableFlags,
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// A label; may be repeated. A change replaces all labels
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ordering {
    #[value(alias = "per_channel")]
    PerChannel,
    Strict,
}

/// What a change can set back to what it is without being said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Clear {
    #[value(alias = "event_types")]
    EventTypes,
    Channels,
    Filter,
    Transform,
    Headers,
    Auth,
    Tls,
    Timeout,
    Retry,
    Concurrency,
    Rate,
    Ordering,
    Disable,
    #[value(alias = "display_name")]
    DisplayName,
    Labels,
    #[value(alias = "custom_format")]
    CustomFormat,
    #[value(alias = "secret_revealable")]
    SecretRevealable,
}

impl Clear {
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::EventTypes => "event_types",
            Self::Channels => "channels",
            Self::Filter => "filter",
            Self::Transform => "transform",
            Self::Headers => "headers",
            Self::Auth => "auth",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Ordering => "ordering",
            Self::Disable => "disable",
            Self::DisplayName => "display_name",
            Self::Labels => "labels",
            Self::CustomFormat => "custom_format",
            Self::SecretRevealable => "secret_revealable",
        }
    }
}

impl EndpointFields {
    pub(super) fn has_url(&self) -> bool {
        self.url.is_some()
    }

    pub(super) fn reads_stdin(&self) -> bool {
        self.auth.reads_stdin()
    }

    /// Writes what was given into `endpoint`, policies over those of `current`; the names of the
    /// fields that were.
    ///
    /// # Errors
    /// When the flags of a policy do not go together.
    pub(super) fn apply(
        mut self,
        endpoint: &mut v1::Endpoint,
        current: &v1::Endpoint,
    ) -> Result<Vec<&'static str>, Failure> {
        let mut fields = Vec::new();
        if let Some(path) = self.headers_file.take() {
            self.headers.extend(headers_of(&path)?);
        }
        if self.custom_scheme.is_some() || !self.custom_headers.is_empty() {
            let mut custom = current.custom_format.clone().unwrap_or_default();
            if let Some(path) = &self.custom_scheme {
                custom.scheme = Some(scheme_file::read("--custom-scheme", path)?);
            }
            if !self.custom_headers.is_empty() {
                custom.headers = self.custom_headers.drain(..).collect();
            }
            endpoint.custom_format = Some(custom);
            fields.push("custom_format");
        }
        macro_rules! take {
            ($($field:ident),*) => {$(
                if let Some(value) = self.$field {
                    endpoint.$field = value;
                    fields.push(stringify!($field));
                }
            )*};
        }
        macro_rules! take_all {
            ($($field:ident),*) => {$(
                if !self.$field.is_empty() {
                    endpoint.$field = self.$field.into_iter().collect();
                    fields.push(stringify!($field));
                }
            )*};
        }
        for several in self.event_types.iter().filter(|event_type| event_type.contains(',')) {
            let shown = output::printable(several);
            eprintln!(
                "warning: {shown} is one event type, comma and all: --event-type is given once for each"
            );
        }
        take!(url, format, filter, transform, concurrency, rate, display_name);
        take_all!(event_types, channels, headers, labels);
        if let Some(auth) = self.auth.auth(current.auth.as_ref())? {
            endpoint.auth = Some(auth);
            fields.push("auth");
        }
        if let Some(tls) = self.auth.tls(current.tls.as_ref())? {
            endpoint.tls = Some(tls);
            fields.push("tls");
        }
        if let Some(ordering) = self.ordering {
            let ordering = match ordering {
                Ordering::PerChannel => v1::EndpointOrdering::PerChannel,
                Ordering::Strict => v1::EndpointOrdering::Strict,
            };
            endpoint.ordering = ordering.into();
            fields.push("ordering");
        }
        if self.secret_revealable.is_some() {
            endpoint.secret_revealable = self.secret_revealable;
            fields.push("secret_revealable");
        }
        if self.timeout.is_some() {
            endpoint.timeout = self.timeout;
            fields.push("timeout");
        }
        if let Some(retry) = self.retry.over(current.retry.as_ref())? {
            endpoint.retry = Some(retry);
            fields.push("retry");
        }
        if let Some(disable) = self.disable.over(current.disable.as_ref())? {
            endpoint.disable = Some(disable);
            fields.push("disable");
        }
        Ok(fields)
    }
}

fn headers_of(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    const BYTES_MAX: u64 = 256 * 1024;
    let wrong =
        |problem: String| Failure::Configuration(format!("--headers-file {}: {problem}", path.display()));
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    // The line itself may hold what nobody should see.
    lines
        .map(|(at, line)| header(line).map_err(|problem| wrong(format!("line {}: {problem}", at + 1))))
        .collect()
}
