//! How an endpoint shows its receiver who is calling, besides signing: credentials in the request, and
//! certificates below it. Everything here may be read; what may not is among the endpoint's secrets, under
//! the names in [`crate::secrets::name`].

use serde::{Deserialize, Serialize};

/// What the `authorization` header of each attempt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EndpointAuth {
    /// RFC 7617; the password is a secret.
    Basic { username: String },
    /// RFC 6750; the token is a secret.
    Bearer,
    /// RFC 6749, 4.4; the client secret is a secret.
    ClientCredentials(ClientCredentials),
}

/// Where tokens come from and what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    pub token_url: String,
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Not in the RFC, asked for by several servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Id and secret go in the body, and not in an `authorization` header (RFC 6749, 2.3.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret_in_body: bool,
}

/// The certificates of an endpoint's connections, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointTls {
    /// Shown to a receiver that asks for one, leaf first; its key is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// Trusted beside those every endpoint trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
}
