//! A source: where inbound webhooks come in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::id::{SourceId, TenantId};
use crate::preset;
use crate::scheme::Scheme;

/// A source as it is stored; its secrets are apart, in [`crate::secrets`].
#[derive(Debug, Clone)]
pub struct Source {
    pub id: SourceId,
    pub tenant_id: TenantId,
    /// A slug, unique per tenant.
    pub name: String,
    pub display_name: String,
    pub labels: BTreeMap<String, String>,
    /// Unique in the deployment; `/in/{id}` works besides.
    pub path: Option<String>,
    pub spec: SourceSpec,
    pub enabled: bool,
    /// Raised whenever what was verified before must be verified again.
    pub generation: i64,
    pub config_version: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
}

/// How a source verifies, names and deduplicates. What is `None` is the preset's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Name of the preset; `custom` stands for none.
    pub preset: String,
    /// What the preset asks of each of its sources, such as an id or the name of a header.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Accept unverified requests; must be said out loud.
    #[serde(default)]
    pub insecure: bool,
    /// A constant event type in place of the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// A constant channel in place of the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The type, the channel and the deduplication key by CEL, in place of the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type_cel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_cel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_key_cel: Option<String>,
    /// Must hold besides the scheme, or alone where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_cel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup_ttl: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit_bytes: Option<u64>,
    /// Where senders may be; empty: anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_allow_list: Vec<IpNet>,
    /// Events a second that all replicas together accept; none: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// How many of the newest payloads queries see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_window_payloads: Option<u32>,
    /// How many payloads keep their bodies; 0: all of them, whatever the preset says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_stored_payloads: Option<u32>,
}

impl SourceSpec {
    /// Whether its senders may be there.
    pub fn hears(&self, sender: IpAddr) -> bool {
        let list = &self.ip_allow_list;
        list.is_empty() || list.iter().any(|network| network.contains(&sender))
    }

    /// The bodies kept, where there is a limit: the source's own or its preset's.
    pub fn max_stored_payloads(&self) -> Option<u32> {
        self.max_stored_payloads
            .or_else(|| preset::find(&self.preset)?.max_stored_payloads())
            .filter(|limit| *limit > 0)
    }
}
