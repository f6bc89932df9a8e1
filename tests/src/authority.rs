//! An authority of the test's own, which signs certificates of servers and of clients.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Nobody else trusts it.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// # Panics
    /// When no certificate can be made.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate of its own"))
    }

    /// What others must trust.
    pub fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// For a client of this name.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn client(&self, name: &str) -> Signed {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    /// A server on 127.0.0.1; with `clients` it talks only to those that this authority signed.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn server(&self, clients: Option<&Self>) -> TlsAcceptor {
        self.acceptor(["127.0.0.1", "localhost"], |_| {}, clients)
    }

    /// One whose certificate is of another name.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn server_elsewhere(&self) -> TlsAcceptor {
        self.acceptor(["elsewhere.test", "www.elsewhere.test"], |_| {}, None)
    }

    /// One whose certificate was good until the first day of 2020.
    ///
    /// # Panics
    /// When no certificate can be made.
    pub fn expired_server(&self) -> TlsAcceptor {
        let long_ago = |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        };
        self.acceptor(["127.0.0.1", "localhost"], long_ago, None)
    }

    fn acceptor(
        &self,
        names: [&str; 2],
        change: impl FnOnce(&mut CertificateParams),
        clients: Option<&Self>,
    ) -> TlsAcceptor {
        let mut params =
            CertificateParams::new(names.map(str::to_owned)).expect("names that a certificate may have");
        change(&mut params);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions of ring");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.as_ref().der().clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let config = builder.with_single_cert(vec![certificate], key).expect("a certificate with its key");
        TlsAcceptor::from(Arc::new(config))
    }
}
