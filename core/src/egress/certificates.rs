//! Certificates of one endpoint: checked when they are saved, used by a client of their own.

use reqwest::{Certificate, Identity};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};

use super::EgressBuildError;
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
    let mut store = RootCertStore::empty();
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

    pub(super) fn put_in(
        &self,
        mut builder: reqwest::ClientBuilder,
    ) -> Result<reqwest::ClientBuilder, EgressBuildError> {
        if let Some((chain, key)) = self.client {
            let mut pem = zeroize::Zeroizing::new(Vec::with_capacity(chain.len() + key.len() + 1));
            pem.extend_from_slice(chain.as_bytes());
            pem.push(b'\n');
            pem.extend_from_slice(key.expose());
            builder = builder.identity(Identity::from_pem(&pem)?);
        }
        Ok(builder)
    }

    pub(super) fn authorities(&self) -> Result<Vec<Certificate>, EgressBuildError> {
        let bundle = self.authorities.map(|pem| Certificate::from_pem_bundle(pem.as_bytes()));
        Ok(bundle.transpose()?.unwrap_or_default())
    }
}
