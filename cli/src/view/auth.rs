//! How an endpoint authenticates, without its secrets.

use std::fmt;

use bowline_proto::v1;
use bowline_proto::v1::endpoint_auth::Method;
use serde::Serialize;

/// What its `authorization` header says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "method")]
pub enum AuthView {
    Basic {
        username: String,
    },
    Bearer,
    ClientCredentials {
        token_url: String,
        client_id: String,
        scopes: Vec<String>,
        audience: String,
        secret_in_body: bool,
    },
}

impl AuthView {
    pub(crate) fn of(auth: v1::EndpointAuth) -> Option<Self> {
        Some(match auth.method? {
            Method::Basic(basic) => Self::Basic { username: basic.username },
            Method::Bearer(_) => Self::Bearer,
            Method::ClientCredentials(wanted) => Self::ClientCredentials {
                token_url: wanted.token_url,
                client_id: wanted.client_id,
                scopes: wanted.scopes,
                audience: wanted.audience,
                secret_in_body: wanted.secret_in_body,
            },
        })
    }
}

impl fmt::Display for AuthView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username } => write!(f, "basic ({username})"),
            Self::Bearer => f.write_str("bearer"),
            Self::ClientCredentials { token_url, client_id, .. } => {
                write!(f, "OAuth 2 client credentials ({client_id} at {token_url})")
            }
        }
    }
}

/// Its certificates, PEM.
#[derive(Debug, Serialize)]
pub struct TlsView {
    pub client_certificate: String,
    pub ca_certificates: String,
}

impl From<v1::EndpointTls> for TlsView {
    fn from(tls: v1::EndpointTls) -> Self {
        Self { client_certificate: tls.client_certificate, ca_certificates: tls.ca_certificates }
    }
}

impl fmt::Display for TlsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = (!self.client_certificate.is_empty()).then_some("client certificate");
        let authorities = (!self.ca_certificates.is_empty()).then_some("own authorities");
        f.write_str(&[own, authorities].into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
