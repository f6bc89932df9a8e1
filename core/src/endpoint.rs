//! An endpoint: where outbound webhooks go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::defaults;
use crate::endpoint_auth::{EndpointAuth, EndpointTls};
use crate::event::OWN_EVENTS;
use crate::format::Custom;
use crate::id::{EndpointId, TenantId};

/// An endpoint as it is stored; its signing secrets are apart, in [`crate::secrets`].
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub id: EndpointId,
    pub tenant_id: TenantId,
    /// A slug, unique per tenant.
    pub name: String,
    pub display_name: String,
    pub labels: BTreeMap<String, String>,
    pub spec: EndpointSpec,
    pub state: EndpointState,
    /// Why Bowline disabled it; empty otherwise.
    pub disabled_reason: String,
    pub config_version: i64,
    /// The configuration version that brought it: older events do not go to it (invariant 11).
    pub created_version: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    Enabled,
    /// Set by a person: nothing is sent, the backlog is kept.
    Paused,
    /// Set by a person, by 410, or after too many failures: as paused.
    Disabled,
}

impl EndpointState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "enabled" => Some(Self::Enabled),
            "paused" => Some(Self::Paused),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }
}

/// In which order its deliveries are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointOrdering {
    /// As they come, many at once.
    #[default]
    None,
    /// One at a time in each channel, in the order of their commits.
    PerChannel,
    /// All its deliveries are one channel.
    Strict,
}

impl EndpointOrdering {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// In which of the endpoint's channels an event has its place. Events without a channel share one.
    pub fn place(self, channel: Option<&str>) -> Option<&str> {
        match self {
            Self::None => None,
            Self::PerChannel => Some(channel.unwrap_or_default()),
            Self::Strict => Some(""),
        }
    }
}

/// What an endpoint wants and how it wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    pub url: String,
    /// `order.created`, `order.*` or `*`; empty means all.
    #[serde(default)]
    pub event_types: Vec<String>,
    /// Only events with one of these channels; empty means all, also those without.
    #[serde(default)]
    pub channels: Vec<String>,
    /// CEL: only events for which it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// CEL: the map that stands in place of the event's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<String>,
    /// Name of the outbound format.
    pub format: String,
    /// Scheme and headers of its own, for the format `custom` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
    /// Sent along with every attempt.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Sent along too; their values are sealed, as [`crate::secrets::name::of_header`] calls them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sealed_headers: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Box<EndpointAuth>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<EndpointTls>>,
    pub timeout: Duration,
    pub retry: RetryPolicy,
    pub concurrency: u32,
    /// Requests a second, over all dispatchers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    pub disable: DisablePolicy,
    #[serde(default, skip_serializing_if = "EndpointOrdering::is_none")]
    pub ordering: EndpointOrdering,
    /// Its secret may be shown again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret_revealable: bool,
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    pub backoff: Backoff,
    /// Older than this, a waiting delivery expires; `None`: the retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// The first that names a status says what it means.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<StatusOverride>,
}

/// What some statuses mean at one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusOverride {
    /// First and last of each span.
    pub statuses: Vec<(u16, u16)>,
    pub then: StatusAction,
}

impl StatusOverride {
    pub fn names(&self, status: u16) -> bool {
        self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusAction {
    /// After this wait, or the one of the backoff.
    Retry {
        wait: Option<Duration>,
    },
    Dead,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Backoff {
    /// The wait after the n-th failure is the n-th entry (the last one repeats), shifted by
    /// up to `jitter` of itself.
    Schedule { waits: Vec<Duration>, jitter: f64 },
    /// Full jitter: uniform in `[0, min(max, initial * factor^(n-1))]`.
    Exponential { initial: Duration, factor: f64, max: Duration },
    /// The same wait each time, shifted by up to `jitter` of itself.
    Fixed { wait: Duration, jitter: f64 },
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: defaults::RETRY_SCHEDULE.len() as u32 + 1,
            backoff: Backoff::Schedule {
                waits: defaults::RETRY_SCHEDULE.to_vec(),
                jitter: defaults::RETRY_JITTER,
            },
            max_age: None,
            overrides: Vec::new(),
        }
    }
}

/// When Bowline disables an endpoint by itself: both must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisablePolicy {
    /// Consecutive failed attempts; 0 means never.
    pub after_failures: u32,
    /// For how long it has been failing.
    pub after: Duration,
}

impl Default for DisablePolicy {
    fn default() -> Self {
        Self { after_failures: defaults::DISABLE_AFTER_FAILURES, after: defaults::DISABLE_AFTER }
    }
}

impl EndpointSpec {
    /// An endpoint with every default.
    pub fn new(url: impl Into<String>, format: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            event_types: Vec::new(),
            channels: Vec::new(),
            filter: None,
            transform: None,
            format: format.into(),
            custom: None,
            headers: BTreeMap::new(),
            sealed_headers: BTreeSet::new(),
            auth: None,
            tls: None,
            timeout: defaults::ATTEMPT_TIMEOUT,
            retry: RetryPolicy::default(),
            concurrency: defaults::ENDPOINT_CONCURRENCY,
            rate_per_s: None,
            disable: DisablePolicy::default(),
            ordering: EndpointOrdering::None,
            secret_revealable: false,
        }
    }

    /// Whether an event of this type and channel is for it; its filter is not asked. The same as
    /// [`TenantEndpoints::matching`](crate::snapshot::TenantEndpoints::matching) says of many endpoints at once.
    pub fn wants(&self, event_type: &str, channel: Option<&str>) -> bool {
        // Bowline's own are asked for by name.
        let by_default = !event_type.starts_with(OWN_EVENTS);
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some("") => by_default,
            Some(prefix) if prefix.ends_with('.') => event_type.starts_with(prefix),
            _ => pattern == event_type,
        };
        let typed = if self.event_types.is_empty() { by_default } else { self.event_types.iter().any(named) };
        typed && self.wants_channel(channel)
    }

    pub(crate) fn wants_channel(&self, channel: Option<&str>) -> bool {
        self.channels.is_empty()
            || channel.is_some_and(|channel| self.channels.iter().any(|wanted| wanted == channel))
    }
}
