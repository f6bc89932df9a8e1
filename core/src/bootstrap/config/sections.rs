//! The sections of the configuration: each key with its unit, default and range. `[ingest]` is in
//! [`super::ingest`].

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use redis::IntoConnectionInfo as _;

use super::read::Section;
use crate::bootstrap::Service;
use crate::egress::{EgressPolicy, ForwardProxy};
use crate::secrets::{Keyring, Secret};

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// `[postgres]`
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:5432/database`; required. May lead through a pooler.
    pub url: Secret,
    /// Past any pooler, for LISTEN and the janitor; without it they poll.
    pub direct_url: Option<Secret>,
    /// Connections of one process for its work: 8, from 2 to 64. Writers of the journal, recorders and claims have
    /// their own besides.
    pub pool_size: usize,
    /// Connections of one process for admin calls: 4, from 1 to 64. Apart from the others, so that no
    /// flood of calls keeps a delivery or a lease waiting.
    pub admin_pool_size: usize,
}

impl PostgresConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let url = section.required_secret("url", "postgres://user:password@host:5432/database");
        let direct_url = section.secret("direct_url");
        for (key, url) in [("url", Some(&url)), ("direct_url", direct_url.as_ref())] {
            let Some(url) = url.filter(|url| !url.is_empty()) else { continue };
            // The parser's own error may repeat the password.
            if url.expose_str().and_then(|text| text.parse::<tokio_postgres::Config>().ok()).is_none() {
                section.fault(key, "is not a Postgres URL: postgres://user:password@host:5432/database");
            }
        }
        Self {
            url,
            direct_url,
            pool_size: section.count("pool_size", 8, 2..=64),
            admin_pool_size: section.count("admin_pool_size", 4, 1..=64),
        }
    }

    /// The URL as text; checked when the configuration was read.
    pub fn url_str(&self) -> &str {
        self.url.expose_str().unwrap_or_default()
    }

    /// `direct_url`, else `url`.
    pub fn direct_url_str(&self) -> &str {
        self.direct_url.as_ref().and_then(Secret::expose_str).unwrap_or_else(|| self.url_str())
    }

    /// Host, port and database, fit for a log.
    pub fn target(&self) -> String {
        let Ok(config) = self.url_str().parse::<tokio_postgres::Config>() else { return String::new() };
        let host = match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
            None => "localhost".into(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        format!("{host}:{port}/{}", config.get_dbname().unwrap_or_default())
    }
}

/// `[redis]`
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://user:password@host:6379/0`; without it chunks are claimed straight from Postgres.
    pub url: Option<Secret>,
    /// Every key starts with it: `bowline`; 1 to 32 characters of a-z, 0-9 and `-`.
    pub prefix: String,
    /// Streams of each kind: 1, up to 64. The same in every process.
    pub shards: usize,
    /// Entries a stream may hold before chunks are left to the outbox: 20,000.
    pub stream_max_entries: usize,
    /// The same for the streams of tenants above their fair rate: 20,000.
    pub bulk_max_entries: usize,
}

impl RedisConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let url = section.secret("url");
        if let Some(url) = &url
            && url.expose_str().and_then(|text| text.into_connection_info().ok()).is_none()
        {
            section.fault("url", "is not a Redis URL: redis://user:password@host:6379/0");
        }
        let prefix = section.parsed("prefix", |text| {
            let fits = (1..=32).contains(&text.len())
                && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            fits.then(|| text.to_owned())
                .ok_or_else(|| "expected 1 to 32 characters of a-z, 0-9 and `-`".into())
        });
        Self {
            url,
            prefix: prefix.unwrap_or_else(|| "bowline".into()),
            shards: section.count("shards", 1, 1..=64),
            stream_max_entries: section.count("stream_max_entries", 20_000, 100..=10_000_000),
            bulk_max_entries: section.count("bulk_max_entries", 20_000, 100..=10_000_000),
        }
    }

    /// The URL as text, where there is one.
    pub fn url_str(&self) -> Option<&str> {
        self.url.as_ref().and_then(Secret::expose_str)
    }
}

/// `[secrets]`
#[derive(Debug, Clone)]
pub struct SecretsConfig {
    /// `id:base64-of-32-bytes`, more of them after commas; the first seals. Required, and checked:
    /// [`Keyring::parse`] accepts it.
    pub keyring: Secret,
}

impl SecretsConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let keyring = section.required_secret("keyring", "`id:` and the base64 of 32 random bytes");
        if !keyring.is_empty()
            && let Err(error) = Keyring::parse(&keyring)
        {
            for fault in error.faults {
                section.fault("keyring", fault);
            }
        }
        Self { keyring }
    }
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// gRPC: `127.0.0.1:8081` for ingest, `127.0.0.1:8091` for the dispatcher.
    pub listen: SocketAddr,
    /// An API key that may do everything, there from the start; at least 24 characters.
    pub bootstrap_key: Option<Secret>,
    /// Reflection without a key: false.
    pub open_reflection: bool,
}

impl AdminConfig {
    pub(super) fn read(section: &mut Section<'_>, service: Service) -> Self {
        const KEY_CHARS_MIN: usize = 24;
        const KEY_CHARS_MAX: usize = 256;
        let bootstrap_key = section.secret("bootstrap_key");
        if let Some(key) = &bootstrap_key {
            if !(KEY_CHARS_MIN..=KEY_CHARS_MAX).contains(&key.len()) {
                section.fault(
                    "bootstrap_key",
                    format_args!(
                        "has {} characters; {KEY_CHARS_MIN} to {KEY_CHARS_MAX} are needed",
                        key.len()
                    ),
                );
            }
            // It travels in a header.
            if !key.expose().iter().all(u8::is_ascii_graphic) {
                section.fault("bootstrap_key", "holds blanks or characters outside of ASCII");
            }
        }
        let port = match service {
            Service::Ingest => 8081,
            Service::Dispatcher => 8091,
        };
        Self {
            listen: listen(section, (Ipv4Addr::LOCALHOST, port).into()),
            bootstrap_key,
            open_reflection: section.bool("open_reflection", false),
        }
    }
}

/// `[ops]`
#[derive(Debug, Clone)]
pub struct OpsConfig {
    /// `/healthz`, `/readyz`, `/metrics`: `127.0.0.1:8082` for ingest, `127.0.0.1:8092` for the dispatcher.
    pub listen: SocketAddr,
}

impl OpsConfig {
    pub(super) fn read(section: &mut Section<'_>, service: Service) -> Self {
        let port = match service {
            Service::Ingest => 8082,
            Service::Dispatcher => 8092,
        };
        Self { listen: listen(section, (Ipv4Addr::LOCALHOST, port).into()) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `text` or `json`: text.
    pub format: LogFormat,
    /// Directives such as `info,bowline_core=debug`: `info`.
    pub filter: String,
}

impl LogConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let format = section.parsed("format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected text or json".into()),
        });
        let filter = section.parsed("filter", |text| {
            tracing_subscriber::EnvFilter::try_new(text)
                .map(|_| text.to_owned())
                .map_err(|_| "expected directives such as info or info,bowline_core=debug".into())
        });
        Self { format: format.unwrap_or(LogFormat::Text), filter: filter.unwrap_or_else(|| "info".into()) }
    }
}

/// `[egress]`: `allow_cidrs`, `allow_http`, `allow_ports`; nothing is open by default. `proxy_url` is the
/// forward proxy; it may hold a password.
pub(super) fn read_egress(section: &mut Section<'_>) -> EgressPolicy {
    let proxy = section.secret("proxy_url").and_then(|url| {
        let read = ForwardProxy::parse(url.expose_str().unwrap_or_default().trim());
        read.inspect_err(|expected| section.fault("proxy_url", expected)).ok()
    });
    EgressPolicy {
        proxy,
        allow_cidrs: section.list("allow_cidrs", |text| {
            let net: IpNet = text.parse().map_err(|_| "expected a network such as 10.1.0.0/16".to_owned())?;
            if net.prefix_len() == 0 {
                return Err("opens every address there is: name the networks that are meant".into());
            }
            Ok(net.trunc())
        }),
        allow_http: section.bool("allow_http", false),
        allow_ports: section.list("allow_ports", |text| {
            text.parse().ok().filter(|port| *port != 0).ok_or_else(|| "expected a port, 1 to 65535".into())
        }),
    }
}

/// `[dispatcher]`
#[derive(Debug, Clone)]
pub struct DispatcherConfig {
    /// How long a shutdown waits for requests that are out: 65 s, never less than the longest timeout.
    pub drain_timeout: Duration,
    /// References to deliveries in memory: 16,384.
    pub deliveries_max: usize,
    /// Bytes of event bodies in memory: 256 MiB.
    pub bytes_max: usize,
    /// Requests out at a time: 2,048.
    pub in_flight_max: usize,
    /// Connections that record outcomes: 2.
    pub recorders: usize,
    /// How long a claimed delivery may wait in memory before it is parked in Postgres: 1 s.
    pub park_after: Duration,
}

impl DispatcherConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            drain_timeout: section.duration("drain_timeout", 65 * SECOND, SECOND..=60 * MINUTE),
            deliveries_max: section.count("deliveries_max", 16_384, 64..=10_000_000),
            bytes_max: section.bytes("bytes_max", 256 * MIB, MIB..=64 * GIB),
            in_flight_max: section.count("in_flight_max", 2048, 1..=1_000_000),
            recorders: section.count("recorders", 2, 1..=32),
            park_after: section.duration("park_after", SECOND, SECOND / 20..=MINUTE),
        }
    }
}

pub(super) fn listen(section: &mut Section<'_>, default: SocketAddr) -> SocketAddr {
    let read = section.parsed("listen", |text| {
        text.parse().map_err(|_| {
            "expected address:port such as 127.0.0.1:8080 or [::]:8080 (port 0: any free one)".into()
        })
    });
    read.unwrap_or(default)
}
