//! The certificates of one endpoint, and the client that uses them.

use std::sync::Arc;

use super::credentials::CredentialError;
use crate::egress::{Certificates, EgressGuard};
use crate::endpoint_auth::EndpointTls;
use crate::secrets::{Purpose, StoredSecret, Vault, name};

#[derive(Debug)]
pub(super) struct ReceiverTls {
    tls: EndpointTls,
    key: Option<Arc<StoredSecret>>,
}

impl ReceiverTls {
    pub(super) fn new(tls: EndpointTls, secrets: &[Arc<StoredSecret>]) -> Self {
        let key = secrets.iter().find(|secret| secret.name == name::CLIENT_KEY).cloned();
        Self { tls, key }
    }

    /// The guard with these certificates; made once, and kept while it is used.
    pub(super) fn guard(&self, guard: &EgressGuard, vault: &Vault) -> Result<EgressGuard, CredentialError> {
        let key = match (&self.tls.client_certificate, &self.key) {
            (None, _) => None,
            (Some(_), None) => return Err(CredentialError::KeyMissing),
            (Some(_), Some(stored)) => Some(vault.open(stored, Purpose::Authenticate)?),
        };
        let certificates = Certificates {
            client: self.tls.client_certificate.as_deref().zip(key.as_deref()),
            authorities: self.tls.ca_certificates.as_deref(),
        };
        Ok(guard.with_certificates(&certificates)?)
    }
}
