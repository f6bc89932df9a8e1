//! A tenant: whose data it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a tenant has of its own; what is not set is as for the deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantSettings {
    /// How long its events are kept, where that is shorter than for the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// Event types that its catalog does not have are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_event_catalog: bool,
}
