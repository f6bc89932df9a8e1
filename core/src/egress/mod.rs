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
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::sync::Cache;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

pub use address::AddressClass;
pub use certificates::{
    CertificateFault, Certificates, PEM_BYTES_MAX, check_authorities, check_chain, check_key,
};
pub use connect::Timings;
pub use exchange::{EgressRequest, EgressResponse};
pub use policy::{EgressError, EgressPolicy};
pub use proxy::ForwardProxy;
pub use send::{EgressSendError, SendErrorKind};

use connect::{Connector, Parts};
use proxy::ProxyHealth;
use resolve::{GuardedResolver, Lookup};

/// Idle connections kept per host, and for how long.
const IDLE_PER_HOST_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// An HTTP/2 connection that answers no ping is given up before requests pile up on it.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What a receiver's response headers may take, HTTP/2.
const RESPONSE_HEADERS_BYTES_MAX: u32 = 64 * 1024;
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
        Self::with_lookup(policy, connect_timeout, resolve::system_lookup())
    }

    fn with_lookup(policy: EgressPolicy, connect_timeout: Duration, lookup: Lookup) -> Self {
        let policy = Arc::new(policy);
        // Shorter than the whole, so that a name that hangs is reported as such.
        let lookup_timeout = connect_timeout * 4 / 5;
        let resolver = Arc::new(GuardedResolver::new(Arc::clone(&policy), lookup, lookup_timeout));
        let own = Cache::builder().max_capacity(OWN_CLIENTS_MAX).time_to_idle(OWN_CLIENT_IDLE).build();
        let (roots, proxy_health) = (certificates::roots(), Arc::default());
        let shared = Shared { policy, resolver, connect_timeout, roots, proxy_health, own };
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

    /// For how long nothing can leave, because the forward proxy has just failed.
    pub fn proxy_pause(&self) -> Option<Duration> {
        self.shared.policy.proxy.as_ref()?;
        self.shared.proxy_health.pause()
    }

    /// What can be said of a URL without resolving its name. Also for configuration: an endpoint
    /// whose URL is refused here can never be delivered to.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        self.shared.policy.check_url(url)
    }

    /// Sends a request to where its URL leads, if it may go there.
    ///
    /// One safe repetition can happen below this call: a request that the receiver's HTTP/2 layer
    /// said it never processed, or whose pooled connection was closed before anything was written.
    pub async fn send(&self, request: EgressRequest) -> Result<EgressResponse, EgressSendError> {
        self.check_url(&request.url)?;
        let deadline = Instant::now() + request.timeout;
        let outgoing = request.into_http()?;
        match timeout_at(deadline, self.client.request(outgoing)).await {
            Err(_) => Err(EgressSendError::new(SendErrorKind::Timeout, "no answer in time")),
            Ok(Err(error)) => Err(EgressSendError::of_client(&error)),
            Ok(Ok(response)) => Ok(EgressResponse::new(response, deadline)),
        }
    }
}

impl Shared {
    fn client(&self, tls: ClientConfig) -> Client {
        let connector = Connector::new(Parts {
            resolver: Arc::clone(&self.resolver),
            tls: TlsConnector::from(Arc::new(tls)),
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
            .http2_max_header_list_size(RESPONSE_HEADERS_BYTES_MAX)
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
