//! Certificates of one endpoint: checked when they are saved, used by a client of their own.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};

use crate::secrets::Secret;

/// Of a chain, or of a bundle of authorities.
const CERTIFICATES_MAX: usize = 32;
/// One PEM text.
pub const PEM_BYTES_MAX: usize = 32 * 1024;

/// Why certificates cannot be used; nothing of a key is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("is no PEM with certificates (-----BEGIN CERTIFICATE-----)")]
    NoCertificates,
    #[error("holds a private key as well, which would not be sealed here: leave it out")]
    HoldsKey,
    #[error("holds more than {CERTIFICATES_MAX} certificates")]
    TooMany,
    #[error("holds a certificate that cannot be used as an authority: {0}")]
    Authority(String),
    #[error("is no PEM with one private key (-----BEGIN PRIVATE KEY-----), unencrypted")]
    NoKey,
    #[error("is of a kind that is not supported: use ECDSA P-256 or P-384, Ed25519 or RSA")]
    KeyKind,
    #[error("does not belong to the first certificate")]
    OtherKey,
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    if pem.contains("PRIVATE KEY-----") {
        return Err(CertificateFault::HoldsKey);
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateFault::NoCertificates)?;
    match found.len() {
        0 => Err(CertificateFault::NoCertificates),
        1..=CERTIFICATES_MAX => Ok(found),
        _ => Err(CertificateFault::TooMany),
    }
}

/// Whether each can be trusted to sign certificates of servers.
pub fn check_authorities(pem: &str) -> Result<(), CertificateFault> {
    add_authorities(&mut RootCertStore::empty(), pem)
}

fn add_authorities(store: &mut RootCertStore, pem: &str) -> Result<(), CertificateFault> {
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|fault| CertificateFault::Authority(fault.to_string()))?;
    }
    Ok(())
}

/// Whether these are certificates to show, leaf first.
pub fn check_chain(pem: &str) -> Result<(), CertificateFault> {
    certificates(pem).map(drop)
}

/// Whether the key is that of the chain's first certificate.
pub fn check_key(chain: &str, key: &Secret) -> Result<(), CertificateFault> {
    let chain = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| CertificateFault::NoKey)?;
    let key = ring::sign::any_supported_type(&key).map_err(|_| CertificateFault::KeyKind)?;
    match CertifiedKey::new(chain, key).keys_match() {
        // A kind of key that does not tell its public half.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => Err(CertificateFault::OtherKey),
    }
}

/// The certificates of one endpoint, ready for a client.
#[derive(Debug)]
pub struct Certificates<'a> {
    /// A chain and its key.
    pub client: Option<(&'a str, &'a Secret)>,
    pub authorities: Option<&'a str>,
}

impl Certificates<'_> {
    /// As most endpoints have them.
    pub(super) fn none() -> Self {
        Self { client: None, authorities: None }
    }

    /// What tells their client from others.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let parts = [
            self.client.map(|(chain, _)| chain.as_bytes()),
            self.client.map(|(_, key)| key.expose()),
            self.authorities.map(str::as_bytes),
        ];
        for part in parts {
            let part = part.unwrap_or_default();
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// How to speak TLS with them, `roots` trusted in any case.
    pub(super) fn tls(&self, roots: &Arc<RootCertStore>) -> Result<ClientConfig, CertificateFault> {
        let roots = match self.authorities {
            None => Arc::clone(roots),
            Some(pem) => {
                let mut roots = RootCertStore::clone(roots);
                add_authorities(&mut roots, pem)?;
                Arc::new(roots)
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            // The provider has suites for both versions.
            .unwrap_or_else(|_| unreachable!("ring knows TLS 1.2 and 1.3"))
            .with_root_certificates(roots);
        let mut config = match self.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| CertificateFault::NoKey)?;
                let own = builder.with_client_auth_cert(certificates(chain)?, key);
                own.map_err(|_| CertificateFault::OtherKey)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The same, for connections that serve one request.
pub(super) fn without_http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// The authorities this machine trusts; the built-in list of public ones where it names none, as in an
/// empty container.
pub(super) fn roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!(
            errors = ?found.errors,
            "no CA certificates of the system could be used: using the built-in list of public roots"
        );
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    Arc::new(roots)
}
