//! TLS of the inbound server: a certificate that is renewed while connections go on.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline_core::bootstrap::config::ingest::TlsFiles;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
const FILE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: String },
    #[error("{path} holds no certificate as PEM: {error}")]
    NoCertificate { path: String, error: pem::Error },
    #[error("{path} holds no certificate as PEM")]
    Empty { path: String },
    #[error("{path} holds no private key as PEM: {error}")]
    NoKey { path: String, error: pem::Error },
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// What connections are secured with.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
}

impl Tls {
    pub(crate) async fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let texts = read(&files).await?;
        let current = ArcSwap::from_pointee(Loaded::of(&files, &texts)?);
        Ok(Arc::new(Self { files, current }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.load().config).into()
    }

    /// Takes up what the files say, whenever they change, until `stop`. Files that cannot be used change
    /// nothing: they may be half written.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) -> Result<(), Infallible> {
        let mut refused = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_PERIOD) => {}
            }
            let looked = match read(&self.files).await {
                Ok(texts) if fingerprint(&texts) == self.current.load().fingerprint => Ok(None),
                Ok(texts) => Loaded::of(&self.files, &texts).map(Some),
                Err(error) => Err(error),
            };
            match looked {
                Ok(None) => refused = None,
                Ok(Some(loaded)) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate was renewed");
                    self.current.store(Arc::new(loaded));
                    refused = None;
                }
                Err(error) => {
                    let text = error.to_string();
                    if refused.as_ref() != Some(&text) {
                        tracing::error!(%error, "the new certificate cannot be used: the old one stays");
                        refused = Some(text);
                    }
                }
            }
        }
    }
}

impl Loaded {
    fn of(files: &TlsFiles, texts: &[Vec<u8>; 2]) -> Result<Self, TlsError> {
        let path = files.certificate.display().to_string();
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&texts[0])
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::NoCertificate { path: path.clone(), error })?;
        if chain.is_empty() {
            return Err(TlsError::Empty { path });
        }
        let key = PrivateKeyDer::from_pem_slice(&texts[1])
            .map_err(|error| TlsError::NoKey { path: files.key.display().to_string(), error })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint: fingerprint(texts) })
    }
}

async fn read(files: &TlsFiles) -> Result<[Vec<u8>; 2], TlsError> {
    Ok([read_file(&files.certificate).await?, read_file(&files.key).await?])
}

async fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    let shown = || path.display().to_string();
    let text = tokio::fs::read(path).await.map_err(|error| TlsError::Unreadable { path: shown(), error })?;
    if text.len() > FILE_BYTES_MAX { Err(TlsError::TooLarge { path: shown() }) } else { Ok(text) }
}

fn fingerprint(texts: &[Vec<u8>; 2]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
