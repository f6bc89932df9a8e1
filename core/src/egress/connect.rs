//! From a host name to a connection that HTTP can be spoken over: look-up and check, TCP or the forward
//! proxy, TLS. Each step is timed, and fails in words of its own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::policy::EgressError;
use super::proxy::{ForwardProxy, ProxyError, ProxyHealth};
use super::resolve::{GuardedResolver, LookupError, ResolveError};
use super::stream::{Io, Stream};

const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// A second address is tried beside the first one after this (RFC 8305).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// What the steps to a connection took; `None`: there was no such step, or it was not reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    pub dns: Option<Duration>,
    /// TCP, and the proxy where there is one.
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Refused(EgressError),
    #[error("{0}")]
    Resolve(ResolveError),
    #[error("the URL has no host")]
    NoHost,
    #[error("no connection: {0}")]
    Tcp(io::Error),
    #[error("{0}")]
    Proxy(ProxyError),
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
    #[error("no connection within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// With what it took until then.
#[derive(Debug)]
pub(super) struct ConnectFault {
    pub(super) error: ConnectError,
    pub(super) timings: Timings,
}

impl fmt::Display for ConnectFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ConnectFault {}

/// Makes connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Connector(Arc<Parts>);

pub(super) struct Parts {
    pub(super) resolver: Arc<GuardedResolver>,
    pub(super) tls: TlsConnector,
    pub(super) proxy: Option<ForwardProxy>,
    pub(super) proxy_health: Arc<ProxyHealth>,
    /// For all steps together.
    pub(super) timeout: Duration,
}

impl Connector {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Parts {
    async fn connect(&self, uri: &Uri, timings: &mut Timings) -> Result<Io, ConnectError> {
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.addresses(host, timings).await?;
        let began = Instant::now();
        let tcp = match &self.proxy {
            None => race(&addresses, port).await.map_err(ConnectError::Tcp)?,
            Some(proxy) => {
                // So that a proxy that hangs is told from a receiver that does.
                let tunnel = proxy.connect(&addresses, port, self.timeout / 2).await;
                self.proxy_health.learn(tunnel.as_ref().map(drop));
                tunnel.map_err(ConnectError::Proxy)?
            }
        };
        timings.connect = Some(began.elapsed());
        if !secure {
            return Ok(Io::Plain(tcp));
        }
        let began = Instant::now();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|fault| ConnectError::Tls(io::Error::other(fault)))?;
        let tls = self.tls.connect(name, tcp).await.map_err(ConnectError::Tls)?;
        timings.tls = Some(began.elapsed());
        Ok(Io::Tls(Box::new(tls)))
    }

    /// Checked ones, and no others are ever connected to.
    async fn addresses(&self, host: &str, timings: &mut Timings) -> Result<Arc<[IpAddr]>, ConnectError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok([address].into());
        }
        let began = Instant::now();
        let found = self.resolver.addresses(host).await;
        timings.dns = Some(began.elapsed());
        found.map_err(|error| match error {
            LookupError::Refused(refusal) => ConnectError::Refused(refusal),
            LookupError::Resolve(error) => ConnectError::Resolve(error),
        })
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectFault;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            let mut timings = Timings::default();
            let connected = timeout(parts.timeout, parts.connect(&uri, &mut timings)).await;
            let connected = connected.unwrap_or(Err(ConnectError::Timeout(parts.timeout)));
            match connected {
                Ok(io) => Ok(TokioIo::new(Stream { io, birth: Birth::new(timings) })),
                Err(error) => Err(ConnectFault { error, timings }),
            }
        })
    }
}

/// The first address that answers; the next is tried when one fails, or takes its time.
pub(super) async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut left = addresses.iter().map(|address| SocketAddr::new(*address, port));
    let mut dials = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    loop {
        if let Some(address) = left.next() {
            dials.push(dial(address));
        } else if dials.is_empty() {
            return Err(last);
        }
        tokio::select! {
            ended = dials.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => {}
            },
            () = sleep(NEXT_ADDRESS_AFTER), if left.len() > 0 => {}
        }
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    Ok(stream)
}

/// What making a connection took, for the first request over it; those that follow had no such steps.
#[derive(Debug, Clone)]
pub(super) struct Birth(Arc<(Timings, AtomicBool)>);

impl Birth {
    fn new(timings: Timings) -> Self {
        Self(Arc::new((timings, AtomicBool::new(false))))
    }

    pub(super) fn take(&self) -> Timings {
        // Whoever asks first; nothing else depends on it.
        if self.0.1.swap(true, Ordering::Relaxed) { Timings::default() } else { self.0.0 }
    }
}
