//! `[ingest]`: how webhooks come in, and how much of everything a sender may have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::read::Section;
use super::sections::{GIB, KIB, MIB, MINUTE, SECOND, listen};
use crate::defaults::SOURCE_FAILING_AFTER;

/// `[ingest]`
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Inbound HTTP: `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// How senders reach it, without a slash at the end; `receive_url` of a source starts with it, and
    /// schemes that sign the URL need it.
    pub public_url: Option<String>,
    /// The certificate chain and its key as PEM: with both, HTTPS is spoken and nothing else. They are
    /// read again when they change.
    pub tls: Option<TlsFiles>,
    /// Proxies whose `X-Forwarded-For` is believed; of nobody by default.
    pub trusted_proxies: Vec<IpNet>,
    /// Requests between their last byte and their answer: 4,096.
    pub in_flight_max: usize,
    /// Bytes of their bodies: 128 MiB.
    pub in_flight_bytes_max: usize,
    /// What one tenant may have of both, and of bodies that are still arriving: 0.5.
    pub tenant_share: f64,
    /// Open connections: 10,000. Over it the one that has been quiet for the longest is closed.
    pub connections_max: usize,
    /// Requests at a time over one HTTP/2 connection: 128.
    pub streams_per_connection_max: usize,
    /// Headers of a request: 100.
    pub headers_max: usize,
    /// Bytes of them, with the request line: 64 KiB.
    pub header_bytes_max: usize,
    /// For the headers of a request to arrive: 10 s.
    pub header_timeout: Duration,
    /// For its body: 30 s.
    pub body_timeout: Duration,
    /// Slower bodies are refused, after a start of 5 s: 1 KiB a second.
    pub body_bytes_per_s_min: usize,
    /// Bytes of bodies that are still arriving: 64 MiB.
    pub arriving_bytes_max: usize,
    /// From the last byte of the body to the answer: 20 s, then 503.
    pub request_timeout: Duration,
    /// How long a source's requests are all refused before `bowline.source.failing` tells so: 1 min.
    pub source_failing_after: Duration,
    /// Connections that commit: 2. Few writers make large batches.
    pub journal_writers: usize,
    pub batch_events_max: usize,
    pub batch_bytes_max: usize,
}

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl IngestConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            listen: listen(section, (Ipv4Addr::UNSPECIFIED, 8080).into()),
            public_url: public_url(section),
            tls: tls(section),
            trusted_proxies: section.list("trusted_proxies", network),
            in_flight_max: section.count("in_flight_max", 4096, 1..=1_000_000),
            in_flight_bytes_max: section.bytes("in_flight_bytes_max", 128 * MIB, MIB..=64 * GIB),
            tenant_share: section.share("tenant_share", 0.5),
            connections_max: section.count("connections_max", 10_000, 1..=1_000_000),
            streams_per_connection_max: section.count("streams_per_connection_max", 128, 1..=10_000),
            headers_max: section.count("headers_max", 100, 16..=1000),
            header_bytes_max: section.bytes("header_bytes_max", 64 * KIB, 8 * KIB..=MIB),
            header_timeout: section.duration("header_timeout", 10 * SECOND, SECOND..=MINUTE),
            body_timeout: section.duration("body_timeout", 30 * SECOND, SECOND..=10 * MINUTE),
            body_bytes_per_s_min: section.bytes("body_bytes_per_s_min", KIB, 1..=MIB),
            // The largest body that a source may accept must fit.
            arriving_bytes_max: section.bytes("arriving_bytes_max", 64 * MIB, 25 * MIB..=64 * GIB),
            request_timeout: section.duration("request_timeout", 20 * SECOND, SECOND..=10 * MINUTE),
            source_failing_after: section.duration(
                "source_failing_after",
                SOURCE_FAILING_AFTER,
                SECOND..=24 * 60 * MINUTE,
            ),
            journal_writers: section.count("journal_writers", 2, 1..=32),
            batch_events_max: section.count("batch_events_max", 512, 1..=10_000),
            batch_bytes_max: section.bytes("batch_bytes_max", 8 * MIB, 64 * KIB..=GIB),
        }
    }

    /// The public URL, or, where none is set, the address that is listened on.
    pub fn public_url_or(&self, bound: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.public_url.clone().unwrap_or_else(|| match bound.ip() {
            ip if ip.is_unspecified() => format!("{scheme}://localhost:{}", bound.port()),
            _ => format!("{scheme}://{bound}"),
        })
    }
}

fn tls(section: &mut Section<'_>) -> Option<TlsFiles> {
    match (section.text("tls_cert_file"), section.text("tls_key_file")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate: certificate.into(), key: key.into() }),
        (None, None) => None,
        (Some(_), None) => {
            section.fault("tls_key_file", "is missing: tls_cert_file is set");
            None
        }
        (None, Some(_)) => {
            section.fault("tls_cert_file", "is missing: tls_key_file is set");
            None
        }
    }
}

/// A network, or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    text.parse::<IpNet>()
        .map(|network| network.trunc())
        .map_err(|_| "expected a network such as 10.1.0.0/16 or an address".into())
}

fn public_url(section: &mut Section<'_>) -> Option<String> {
    let text = section.text("public_url")?;
    let url = plain_url(text.trim());
    if url.is_none() {
        // Not repeated: it may hold a password.
        section.fault("public_url", "expected http(s)://host[:port][/path] without user, query or fragment");
    }
    url
}

fn plain_url(text: &str) -> Option<String> {
    let url: Url = text.parse().ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}
