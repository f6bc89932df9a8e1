//! The only door through which a request leaves (invariant: nothing is ever sent without it).
//!
//! A person who may name a URL must not thereby reach what only this machine can reach: its own
//! ports, the private network, the cloud's metadata service. The way of a request:
//!
//! 1. [`EgressGuard::check_url`] judges what the URL itself says: scheme, credentials, port, and the
//!    host when it is an address in any spelling. It runs on every request, since an address in the
//!    URL is never resolved.
//! 2. [`resolve`] looks the name up and refuses when *any* of its addresses is refused: a name that
//!    answers with a public and a private address would otherwise be a coin toss.
//! 3. The connection goes to the checked addresses and no others: the name is not looked up twice,
//!    so nothing can change between check and use.
//! 4. Redirects are never followed, no proxy is taken from the environment, no cookie is kept. Where the
//!    configuration names a forward [`proxy`], it is asked for the checked address.
//!
//! [`address`] holds the table of what is refused; [`policy`] what the configuration opens again;
//! [`connect`] makes connections, [`exchange`] is a request and its response, [`send`] tells the failures
//! apart, [`certificates`] are those an endpoint has for itself.

pub mod address;
mod basic;
mod certificates;
mod connect;
mod exchange;
pub mod policy;
mod proxy;
pub mod resolve;
pub mod send;
mod stream;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::sync::Cache;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

pub use address::AddressClass;
pub(crate) use basic::basic;
pub use certificates::{
    CertificateFault, Certificates, PEM_BYTES_MAX, check_authorities, check_chain, check_key,
};
pub use connect::Timings;
pub use exchange::{EgressRequest, EgressResponse};
pub use policy::{EgressError, EgressPolicy};
pub use proxy::ForwardProxy;
pub use send::{EgressSendError, SendErrorKind};

use connect::{Birth, Connector, OpenConnections, Parts};
use proxy::ProxyHealth;
use resolve::{GuardedResolver, Lookup};

/// Idle connections kept per host, and for how long.
const IDLE_PER_HOST_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections to all hosts, beyond which those that are made are closed after one request.
const KEPT_MAX: usize = 4096;
/// An HTTP/2 connection that answers no ping is given up before requests pile up on it.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a receiver's response headers may take. Over HTTP/1 they are a hundred at most.
const RESPONSE_HEADERS_BYTES_MAX: u32 = 64 * 1024;
/// What a receiver may send ahead of our reading, HTTP/2: of one response, and of all on a connection.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// How often a request goes again that a receiver has said it did not process.
const UNPROCESSED_REPEATS_MAX: u32 = 2;
/// Longer URLs are refused; no receiver of webhooks needs one.
const URL_BYTES_MAX: usize = 4096;

/// Clients with certificates of their own that are kept, and for how long after the last use.
const OWN_CLIENTS_MAX: u64 = 1024;
const OWN_CLIENT_IDLE: Duration = Duration::from_secs(600);

type Client = legacy::Client<Connector, Full<Bytes>>;

/// Judges where requests go, and sends them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EgressGuard {
    shared: Arc<Shared>,
    /// Private on purpose: [`EgressGuard::send`] is the only way to use it.
    client: Client,
}

/// What clients with certificates of their own are made from.
struct Shared {
    policy: Arc<EgressPolicy>,
    resolver: Arc<GuardedResolver>,
    connect_timeout: Duration,
    roots: Arc<RootCertStore>,
    proxy_health: Arc<ProxyHealth>,
    open: Arc<OpenConnections>,
    own: Cache<[u8; 32], Client>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl EgressGuard {
    /// `connect_timeout` bounds the look-up of the name, TCP and TLS together.
    pub fn new(policy: EgressPolicy, connect_timeout: Duration) -> Self {
        Self::with_lookup(policy, connect_timeout, resolve::system_lookup(), KEPT_MAX)
    }

    fn with_lookup(policy: EgressPolicy, connect_timeout: Duration, lookup: Lookup, kept_max: usize) -> Self {
        let policy = Arc::new(policy);
        // Shorter than the whole, so that a name that hangs is reported as such.
        let lookup_timeout = connect_timeout * 4 / 5;
        let resolver = Arc::new(GuardedResolver::new(Arc::clone(&policy), lookup, lookup_timeout));
        let own = Cache::builder().max_capacity(OWN_CLIENTS_MAX).time_to_idle(OWN_CLIENT_IDLE).build();
        let (roots, proxy_health) = (certificates::roots(), Arc::default());
        let open = OpenConnections::new(kept_max);
        let shared = Shared { policy, resolver, connect_timeout, roots, proxy_health, open, own };
        let tls = Certificates::none().tls(&shared.roots);
        let tls = tls.unwrap_or_else(|_| unreachable!("there are no certificates that could be wrong"));
        let client = shared.client(tls);
        Self { shared: Arc::new(shared), client }
    }

    /// The same guard for an endpoint with certificates of its own. Its connections are shared with
    /// nobody who does not have the same ones.
    pub fn with_certificates(&self, certificates: &Certificates<'_>) -> Result<Self, CertificateFault> {
        let fingerprint = certificates.fingerprint();
        let shared = Arc::clone(&self.shared);
        let client = if let Some(client) = shared.own.get(&fingerprint) {
            client
        } else {
            let client = shared.client(certificates.tls(&shared.roots)?);
            shared.own.insert(fingerprint, client.clone());
            client
        };
        Ok(Self { shared, client })
    }

    pub fn policy(&self) -> &EgressPolicy {
        &self.shared.policy
    }

    /// For how long nothing can leave, because the forward proxy fails for all.
    pub fn proxy_pause(&self) -> Option<Duration> {
        self.shared.policy.proxy.as_ref()?;
        self.shared.proxy_health.pause()
    }

    /// The same for one that is about to send. After a pause one is let through, to see how things are;
    /// the others wait for another.
    pub fn proxy_turn(&self) -> Option<Duration> {
        self.shared.policy.proxy.as_ref()?;
        self.shared.proxy_health.turn()
    }

    /// What can be said of a URL without resolving its name. Also for configuration: an endpoint
    /// whose URL is refused here can never be delivered to.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        self.shared.policy.check_url(url)
    }

    /// Sends a request to where its URL leads, if it may go there.
    ///
    /// Below this call a request is repeated only where it is certain that no receiver has seen it: its
    /// pooled connection was closed before anything of it was written, or the receiver's HTTP/2 layer said
    /// that it was not processed. One that was written to a connection just as the receiver closed it may
    /// have arrived: that is a failure like another.
    pub async fn send(&self, request: EgressRequest) -> Result<EgressResponse, EgressSendError> {
        self.check_url(&request.url)?;
        let began = Instant::now();
        let deadline = began + request.timeout;
        let outgoing = request.into_http()?;
        let mut repeats = 0;
        loop {
            match self.exchange(outgoing.clone(), began, deadline).await {
                Err(Fault { unprocessed: true, .. }) if repeats < UNPROCESSED_REPEATS_MAX => repeats += 1,
                Err(fault) => return Err(fault.error),
                Ok(response) => {
                    if self.shared.policy.proxy.is_some() {
                        self.shared.proxy_health.learn(Ok(()));
                    }
                    return Ok(response);
                }
            }
        }
    }

    async fn exchange(
        &self,
        mut outgoing: http::Request<Full<Bytes>>,
        began: Instant,
        deadline: Instant,
    ) -> Result<EgressResponse, Fault> {
        let way = capture_connection(&mut outgoing);
        let (mut error, unprocessed) = match timeout_at(deadline.into(), self.client.request(outgoing)).await
        {
            Ok(Ok(response)) => return Ok(EgressResponse::new(response, began, deadline.into())),
            Ok(Err(error)) => (EgressSendError::of_client(&error), send::is_unprocessed(&error)),
            Err(_) => {
                let connected = way.connection_metadata().is_some();
                let why =
                    if connected { "no answer in time" } else { "no answer in time: no connection yet" };
                (EgressSendError::new(SendErrorKind::Timeout, why), false)
            }
        };
        // So that one sees how far a request came.
        if let Some(connection) = way.connection_metadata().as_ref() {
            let mut extras = http::Extensions::new();
            connection.get_extras(&mut extras);
            let birth = extras.get::<Birth>();
            // Where the connection ended before the request was handed to it, the client does not say why.
            let fault = birth.and_then(Birth::tls_fault).filter(|_| error.kind == SendErrorKind::Protocol);
            if let Some(fault) = fault {
                error = EgressSendError::new(SendErrorKind::Tls, format!("{error}: {fault}"));
            }
            *error.timings = birth.map(|birth| birth.take(began)).unwrap_or_default();
        }
        Err(Fault { error, unprocessed })
    }
}

/// Of one exchange.
struct Fault {
    error: EgressSendError,
    /// The receiver has said that it did nothing with it.
    unprocessed: bool,
}

impl Shared {
    fn client(&self, tls: ClientConfig) -> Client {
        let tls_once = certificates::without_http2(tls.clone());
        let connector = Connector::new(Parts {
            resolver: Arc::clone(&self.resolver),
            tls: TlsConnector::from(Arc::new(tls)),
            tls_once: TlsConnector::from(Arc::new(tls_once)),
            open: Arc::clone(&self.open),
            proxy: self.policy.proxy.clone(),
            proxy_health: Arc::clone(&self.proxy_health),
            timeout: self.connect_timeout,
        });
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .http1_max_buf_size(RESPONSE_HEADERS_BYTES_MAX as usize)
            .http2_max_header_list_size(RESPONSE_HEADERS_BYTES_MAX)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .build(connector)
    }
}

impl EgressPolicy {
    /// See [`EgressGuard::check_url`].
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(EgressError::TooLong { limit_bytes: URL_BYTES_MAX });
        }
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err(EgressError::PlainHttp),
            scheme => return Err(EgressError::Scheme { scheme: scheme.chars().take(16).collect() }),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Credentials);
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if port == 0 || !(self.allow_ports.is_empty() || self.allow_ports.contains(&port)) {
            return Err(EgressError::Port { port });
        }
        // The url crate has already turned decimal, octal and hexadecimal spellings into addresses.
        match url.host() {
            None | Some(Host::Domain("")) => Err(EgressError::NoHost),
            Some(Host::Ipv4(address)) => self.check_address(&address.to_string(), address.into()),
            Some(Host::Ipv6(address)) => self.check_address(&address.to_string(), address.into()),
            Some(Host::Domain(name)) if is_localhost(name) && !self.allows_loopback() => {
                Err(EgressError::LocalName { host: name.to_owned() })
            }
            Some(Host::Domain(_)) => Ok(()),
        }
    }
}

/// RFC 6761: `localhost` and everything below it means this machine, whatever a resolver says.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last_label = name.rsplit('.').next().unwrap_or(name);
    last_label.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case("localhost.localdomain")
}
