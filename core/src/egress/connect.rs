//! From a host name to a connection that HTTP can be spoken over: look-up and check, TCP or the forward
//! proxy, TLS. Each step is timed, and fails in words of its own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
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
    #[error("no TLS connection: {0}{hint}", hint = tls_hint(.0))]
    Tls(io::Error),
    #[error("no connection within {} ms: {step} took too long", .after.as_millis())]
    Timeout { step: &'static str, after: Duration },
}

/// What can be done about it, where the error itself does not say.
fn tls_hint(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            " (nobody this machine trusts has signed it: its authority can be named in the endpoint's tls.ca_certificates)"
        }
        Some(rustls::Error::InvalidMessage(_)) => " (what answers does not speak TLS)",
        _ => "",
    }
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
    /// For connections that are not kept: HTTP/2 would keep them.
    pub(super) tls_once: TlsConnector,
    pub(super) open: Arc<OpenConnections>,
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

/// How far the making of a connection has come.
struct Progress {
    timings: Timings,
    step: &'static str,
}

impl Parts {
    async fn connect(&self, uri: &Uri, kept: bool, progress: &mut Progress) -> Result<Io, ConnectError> {
        let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let host = uri.host().ok_or(ConnectError::NoHost)?;
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.addresses(host, progress).await?;
        let began = Instant::now();
        let tcp = self.tcp(&addresses, port, progress).await?;
        progress.timings.connect = Some(began.elapsed());
        if !secure {
            return Ok(Io::Plain(tcp));
        }
        progress.step = "the TLS handshake";
        let began = Instant::now();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|fault| ConnectError::Tls(io::Error::other(fault)))?;
        let tls = if kept { &self.tls } else { &self.tls_once };
        let tls = tls.connect(name, tcp).await.map_err(ConnectError::Tls)?;
        progress.timings.tls = Some(began.elapsed());
        Ok(Io::Tls(Box::new(tls)))
    }

    async fn tcp(
        &self,
        addresses: &[IpAddr],
        port: u16,
        progress: &mut Progress,
    ) -> Result<TcpStream, ConnectError> {
        let Some(proxy) = &self.proxy else {
            progress.step = "TCP";
            return race(addresses, port).await.map_err(ConnectError::Tcp);
        };
        progress.step = "the forward proxy's way to the receiver";
        // So that a proxy that hangs is told from a receiver that does.
        let tunnel = proxy.connect(addresses, port, self.timeout / 2).await;
        self.proxy_health.learn(tunnel.as_ref().map(drop));
        tunnel.map_err(ConnectError::Proxy)
    }

    /// Checked ones, and no others are ever connected to.
    async fn addresses(&self, host: &str, progress: &mut Progress) -> Result<Arc<[IpAddr]>, ConnectError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            self.resolver.check(host, address).map_err(ConnectError::Refused)?;
            return Ok([address].into());
        }
        progress.step = "the look-up of the name";
        let began = Instant::now();
        let found = self.resolver.addresses(host).await;
        progress.timings.dns = Some(began.elapsed());
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
            let began = Instant::now();
            let (place, kept) = parts.open.enter();
            let mut progress = Progress { timings: Timings::default(), step: "the connection" };
            let connected = timeout(parts.timeout, parts.connect(&uri, kept, &mut progress)).await;
            let Progress { timings, step } = progress;
            let timed_out = ConnectError::Timeout { step, after: parts.timeout };
            match connected.unwrap_or(Err(timed_out)) {
                Ok(io) => {
                    Ok(TokioIo::new(Stream { io, kept, birth: Birth::new(timings, began), _place: place }))
                }
                Err(error) => Err(ConnectFault { error, timings }),
            }
        })
    }
}

/// The connections of one guard. There may be more than are kept, where more requests are out, but each of
/// those is closed after its request: many receivers must not mean as many idle connections (invariant 7).
#[derive(Debug)]
pub(super) struct OpenConnections {
    count: AtomicUsize,
    kept_max: usize,
}

impl OpenConnections {
    pub(super) fn new(kept_max: usize) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), kept_max })
    }

    /// Counts one more; and whether it may be used again.
    fn enter(self: &Arc<Self>) -> (Place, bool) {
        // A count: nothing else is ordered by it.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        (Place(Arc::clone(self)), before < self.kept_max)
    }
}

/// Held by each connection.
#[derive(Debug)]
pub(super) struct Place(Arc<OpenConnections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The first address that answers; the next is tried when one fails, or takes its time.
pub(super) async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let addresses = in_turn(addresses);
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

/// The families by turns, beginning with the preferred one (RFC 8305, 4): where one family leads nowhere, the
/// second address tried is of the other.
fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut ordered = Vec::with_capacity(addresses.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    Ok(stream)
}

/// What making a connection took, for the first request over it; those that follow had no such steps. And what TLS
/// said when it ended the connection.
#[derive(Debug, Clone)]
pub(super) struct Birth(Arc<BirthRecord>);

#[derive(Debug)]
struct BirthRecord {
    timings: Timings,
    began: Instant,
    told: AtomicBool,
    tls_fault: OnceLock<rustls::Error>,
}

impl Birth {
    fn new(timings: Timings, began: Instant) -> Self {
        Self(Arc::new(BirthRecord {
            timings,
            began,
            told: AtomicBool::new(false),
            tls_fault: OnceLock::new(),
        }))
    }

    /// Notes an error of TLS; the first one counts.
    pub(super) fn note(&self, error: &io::Error) {
        if let Some(fault) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            self.0.tls_fault.get_or_init(|| fault.clone());
        }
    }

    pub(super) fn tls_fault(&self) -> Option<&rustls::Error> {
        self.0.tls_fault.get()
    }

    /// For a request that began at `since`. A connection that was begun for an earlier one, which then went
    /// another way, cost this one nothing.
    pub(super) fn take(&self, since: Instant) -> Timings {
        // Whoever asks first; nothing else depends on it.
        let first = !self.0.told.swap(true, Ordering::Relaxed);
        if first && self.0.began >= since { self.0.timings } else { Timings::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let given = of(&["2606::1", "2606::2", "2606::3", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(in_turn(&given), of(&["2606::1", "192.0.2.1", "2606::2", "192.0.2.2", "2606::3"]));
        assert_eq!(in_turn(&of(&["192.0.2.1", "2606::1"])), of(&["192.0.2.1", "2606::1"]));
        assert_eq!(in_turn(&[]), Vec::<IpAddr>::new());
    }

    #[test]
    fn what_a_connection_took_is_told_once_and_to_whom_it_was_made_for() {
        let timings = Timings { dns: None, connect: Some(Duration::from_millis(3)), tls: None };
        let began = Instant::now();
        let birth = Birth::new(timings, began);
        assert_eq!(birth.take(began), timings);
        assert_eq!(birth.take(began), Timings::default());
        let later = began + Duration::from_millis(1);
        assert_eq!(Birth::new(timings, began).take(later), Timings::default());
    }

    #[test]
    fn connections_beyond_the_bound_are_not_kept() {
        let open = OpenConnections::new(1);
        let (first, kept) = open.enter();
        assert!(kept);
        assert!(!open.enter().1);
        drop(first);
        assert!(open.enter().1, "its place is free again");
    }
}
