//! HTTPS: both versions of HTTP, and a certificate that is renewed under way.

use std::path::Path;
use std::sync::Arc;

use bowline_tests::{BOUND, Stack, eventually};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Raw, events, open_source};

/// Writes a certificate that was not there before, and its key.
fn renew(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["ingest.test".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.key"), signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), cert.pem()).unwrap();
    cert.der().clone()
}

async fn secure(
    stack: &Stack,
    trusted: &CertificateDer<'static>,
    version: &str,
) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![version.as_bytes().to_vec()];
    let address = stack.ingests[0].http_url();
    let stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
    let name = ServerName::try_from("ingest.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn https_is_spoken_with_a_certificate_that_can_be_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let first = renew(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_TLS_CERT_FILE", &file("tls.crt"))
        .set_ingest("BOWLINE_INGEST_TLS_KEY_FILE", &file("tls.key"))
        .set_ingest("BOWLINE_INGEST_HEADER_TIMEOUT", "1s")
        .start()
        .await;
    let source = open_source(&stack).await;
    let request = |version| {
        let target =
            if version == 2 { format!("https://ingest.test/in/{source}") } else { format!("/in/{source}") };
        let request = ::http::Request::post(target).header("host", "ingest.test");
        request.body(Full::new(Bytes::from("{}"))).unwrap()
    };

    let stream = TokioIo::new(secure(&stack, &first, "http/1.1").await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(sender.send_request(request(1)).await.unwrap().status(), 200);
    let stream = TokioIo::new(secure(&stack, &first, "h2").await.unwrap());
    let (mut old, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(old.send_request(request(2)).await.unwrap().status(), 200);

    // Without TLS, and with a handshake that does not go on, there is nothing.
    for nothing in ["POST / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01"] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(nothing).await;
        assert!(raw.try_answer().await.is_none());
    }

    // Half of a renewal changes nothing; the whole is taken up, and open connections go on.
    let kept = std::fs::read(file("tls.crt")).unwrap();
    std::fs::write(file("tls.crt"), &kept[..kept.len() / 2]).unwrap();
    // At no moment do both stand there whole: they would be taken up.
    let elsewhere = tempfile::tempdir().unwrap();
    renew(elsewhere.path());
    std::fs::copy(elsewhere.path().join("tls.key"), file("tls.key")).unwrap();
    eventually(BOUND, async || {
        let log = stack.logs();
        if log.contains("the new certificate cannot be used") { Ok(()) } else { Err(log) }
    })
    .await;
    secure(&stack, &first, "http/1.1").await.unwrap();
    let second = renew(folder.path());
    eventually(BOUND, async || secure(&stack, &second, "http/1.1").await.map(|_| ())).await;
    assert!(secure(&stack, &first, "http/1.1").await.is_err());
    old.ready().await.unwrap();
    assert_eq!(old.send_request(request(2)).await.unwrap().status(), 200);
    assert_eq!(events(&stack).await, 3);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() {
    let mut stack = Stack::builder().dispatchers(0).ingests(0).start().await;
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    std::fs::write(folder.path().join("tls.crt"), "no certificate").unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let settings =
        [("BOWLINE_INGEST_TLS_CERT_FILE", file("tls.crt")), ("BOWLINE_INGEST_TLS_KEY_FILE", file("tls.key"))];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut service = stack.launch(bowline_tests::service::Kind::Ingest, &settings).unwrap();
    assert!(!service.await_end().await.success());
    assert!(service.log().contains("tls.crt holds no certificate"), "{}", service.log());
}
