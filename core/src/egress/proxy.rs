//! A forward proxy (HTTP CONNECT, RFC 9110, 9.3.6), where the deployment lets nothing out otherwise.
//!
//! What is asked of it is an address that was looked up and checked here, never a name: the proxy's own
//! look-up could lead elsewhere. What it does wrong itself is told apart from what the receiver does.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::basic;
use super::connect::race;

/// After it failed for all, it is left alone so long.
const AWAY_PAUSE: Duration = Duration::from_secs(3);
/// Of the proxy's answer to CONNECT.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Addresses of one receiver that the proxy is asked for.
const ADDRESSES_MAX: usize = 3;

/// Where the proxy is, and what it wants to see. Its URL comes from the configuration of the process.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwardProxy {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardProxy({}:{})", self.host, self.port)
    }
}

/// Why a connection through the proxy was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// The proxy's own fault, or ours towards it: says nothing of any receiver.
    #[error("the forward proxy cannot be reached: {0}")]
    Away(io::Error),
    #[error("the forward proxy broke off: {0}")]
    Broken(io::Error),
    #[error("the forward proxy answered {0} to CONNECT{hint}", hint = hint(*.0))]
    Refused(u16),
    #[error("the forward proxy does not speak HTTP")]
    NoHttp,
    /// It is there, and says that the receiver is not.
    #[error("the forward proxy could not connect to the receiver ({0})")]
    Receiver(u16),
}

fn hint(status: u16) -> &'static str {
    match status {
        407 => " (its user name or password, in egress.proxy_url, is wrong or missing)",
        403 => " (its rules do not allow this address or port)",
        405 | 501 => " (it is no proxy for CONNECT: see egress.proxy_url)",
        _ => "",
    }
}

impl ProxyError {
    /// Whether no other request would fare better. One that breaks off, or answers what is no HTTP, may do so for
    /// this receiver alone: if it was for all, each endpoint's breaker would learn it.
    pub(super) fn is_of_all(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Refused(405 | 407 | 501))
    }

    /// Whether it is there and does what a proxy does, though not for this receiver.
    fn shows_that_it_works(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Receiver(_)) && !self.is_of_all()
    }
}

/// Until when a proxy that fails for all is left alone; `None` while it does not. Shared by all clients of
/// a guard.
#[derive(Debug, Default)]
pub(super) struct ProxyHealth(Mutex<Option<Instant>>);

impl ProxyHealth {
    /// For how long nothing should be tried, so that an outage of the proxy does not fill the log.
    pub(super) fn pause(&self) -> Option<Duration> {
        let until = (*self.0.lock())?;
        left(until)
    }

    /// The same, for one that goes when there is no pause: until the proxy has been seen to work, the next
    /// one waits for another.
    pub(super) fn turn(&self) -> Option<Duration> {
        let mut until = self.0.lock();
        let pause = left((*until)?);
        if pause.is_none() {
            *until = Some(Instant::now() + AWAY_PAUSE);
        }
        pause
    }

    pub(super) fn learn(&self, outcome: Result<(), &ProxyError>) {
        let until = match outcome {
            Err(error) if error.is_of_all() => Some(Instant::now() + AWAY_PAUSE),
            Err(error) if !error.shows_that_it_works() => return,
            Ok(()) | Err(_) => None,
        };
        let before = std::mem::replace(&mut *self.0.lock(), until);
        match outcome {
            Err(error) if until.is_some() && before.is_none() => {
                tracing::warn!(%error, "nothing can be sent: deliveries wait");
            }
            _ if until.is_none() && before.is_some() => tracing::info!("the forward proxy works again"),
            _ => {}
        }
    }
}

fn left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|pause| !pause.is_zero())
}

impl ForwardProxy {
    /// `http://[user:password@]host[:port]`; the fault says what is expected, and nothing of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected http://[user:password@]host:port".to_owned();
        let url = Url::parse(text).map_err(|_| expected())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(expected)?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !plain {
            return Err(expected());
        }
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let authorization = (!url.username().is_empty() || url.password().is_some()).then(|| {
            basic(&format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default())))
        });
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(80), authorization })
    }

    /// A tunnel to the first of the addresses that the proxy reaches.
    pub(super) async fn connect(
        &self,
        addresses: &[IpAddr],
        port: u16,
        reach_within: Duration,
    ) -> Result<TcpStream, ProxyError> {
        let mut last = ProxyError::Receiver(502);
        for address in addresses.iter().take(ADDRESSES_MAX) {
            match self.tunnel(SocketAddr::new(*address, port), reach_within).await {
                Err(error @ ProxyError::Receiver(_)) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    /// Named by whoever runs this process: it may well be private.
    async fn reach(&self) -> io::Result<TcpStream> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let own: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        race(&own, self.port).await
    }

    async fn tunnel(&self, to: SocketAddr, reach_within: Duration) -> Result<TcpStream, ProxyError> {
        let reached = timeout(reach_within, self.reach()).await;
        let reached = reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut stream = reached.map_err(ProxyError::Away)?;
        let mut head = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            head.extend_from_slice(b"proxy-authorization: ");
            head.extend_from_slice(authorization.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await.map_err(ProxyError::Broken)?;
        match answer(&mut stream).await? {
            200..=299 => Ok(stream),
            status @ (502..=504) => Err(ProxyError::Receiver(status)),
            status => Err(ProxyError::Refused(status)),
        }
    }
}

/// The status of the answer. Its head is read to the end and no further: what follows is the receiver's.
async fn answer(stream: &mut TcpStream) -> Result<u16, ProxyError> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(ProxyError::NoHttp);
        }
        head.push(stream.read_u8().await.map_err(ProxyError::Broken)?);
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or(ProxyError::NoHttp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_pause_one_is_let_through() {
        let health = ProxyHealth::default();
        assert_eq!((health.pause(), health.turn()), (None, None));
        health.learn(Err(&ProxyError::Refused(403)));
        assert_eq!(health.pause(), None, "another receiver may be allowed");
        health.learn(Err(&ProxyError::Refused(407)));
        assert!(health.pause().is_some() && health.turn().is_some());
        *health.0.lock() = Some(Instant::now());
        assert_eq!((health.pause(), health.turn()), (None, None));
        assert!(health.turn().is_some(), "one is on its way");
        health.learn(Ok(()));
        assert_eq!((health.pause(), health.turn()), (None, None));
    }

    #[test]
    fn urls_of_proxies() {
        let proxy = ForwardProxy::parse("http://bowline:p%40ss@proxy.internal:3128").unwrap();
        assert_eq!(format!("{proxy:?}"), "ForwardProxy(proxy.internal:3128)");
        assert_eq!(proxy.authorization.unwrap(), "Basic Ym93bGluZTpwQHNz");
        let proxy = ForwardProxy::parse("http://[::1]").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port, proxy.authorization), ("::1", 80, None));
        for bad in ["", "proxy:3128", "https://proxy:3128", "socks5://proxy", "http://proxy/path", "http://"]
        {
            let fault = ForwardProxy::parse(bad).unwrap_err();
            assert_eq!(fault, "expected http://[user:password@]host:port", "{bad}");
        }
    }
}
