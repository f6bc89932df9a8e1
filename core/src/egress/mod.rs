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
//! 4. Redirects are never followed, no proxy is taken from the environment, no cookie is kept.
//!
//! [`address`] holds the table of what is refused; [`policy`] what the configuration opens again;
//! [`send`] tells the failures apart.

pub mod address;
mod certificates;
pub mod policy;
pub mod resolve;
pub mod send;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use reqwest::redirect;
use url::{Host, Url};

pub use address::AddressClass;
pub use certificates::{
    CertificateFault, Certificates, PEM_BYTES_MAX, check_authorities, check_chain, check_key,
};
pub use policy::{EgressError, EgressPolicy};
pub use send::{EgressSendError, SendErrorKind};

use resolve::{GuardedResolver, Lookup};

/// Idle connections kept per host, and for how long.
const IDLE_PER_HOST_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
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

/// Why no guard could be made.
#[derive(Debug, thiserror::Error)]
#[error("the client for outbound requests could not be built")]
pub struct EgressBuildError(#[from] reqwest::Error);

/// Judges where requests go, and sends them.
#[derive(Debug, Clone)]
pub struct EgressGuard {
    policy: Arc<EgressPolicy>,
    /// Private on purpose: [`EgressGuard::send`] is the only way to use it.
    client: reqwest::Client,
    shared: Arc<Shared>,
}

/// What clients with certificates of their own are made from.
struct Shared {
    resolver: Arc<GuardedResolver>,
    connect_timeout: Duration,
    own: Cache<[u8; 32], reqwest::Client>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("own", &self.own.entry_count()).finish_non_exhaustive()
    }
}

impl EgressGuard {
    /// `connect_timeout` bounds the look-up of the name, TCP and TLS together. Needs the process's
    /// TLS provider ([`crate::bootstrap::install_tls_provider`]).
    pub fn new(policy: EgressPolicy, connect_timeout: Duration) -> Result<Self, EgressBuildError> {
        Self::with_lookup(policy, connect_timeout, resolve::system_lookup())
    }

    fn with_lookup(
        policy: EgressPolicy,
        connect_timeout: Duration,
        lookup: Lookup,
    ) -> Result<Self, EgressBuildError> {
        let policy = Arc::new(policy);
        // Shorter than the whole, so that a name that hangs is reported as such.
        let lookup_timeout = connect_timeout * 4 / 5;
        let resolver = Arc::new(GuardedResolver::new(Arc::clone(&policy), lookup, lookup_timeout));
        let client = client(&resolver, connect_timeout, &Certificates::none())?;
        let own = Cache::builder().max_capacity(OWN_CLIENTS_MAX).time_to_idle(OWN_CLIENT_IDLE).build();
        Ok(Self { policy, client, shared: Arc::new(Shared { resolver, connect_timeout, own }) })
    }

    /// The same guard for an endpoint with certificates of its own. Its connections are shared with
    /// nobody who does not have the same ones.
    pub fn with_certificates(&self, certificates: &Certificates<'_>) -> Result<Self, EgressBuildError> {
        let fingerprint = certificates.fingerprint();
        let Shared { resolver, connect_timeout, own } = &*self.shared;
        let client = if let Some(client) = own.get(&fingerprint) {
            client
        } else {
            let client = client(resolver, *connect_timeout, certificates)?;
            own.insert(fingerprint, client.clone());
            client
        };
        Ok(Self { client, ..self.clone() })
    }

    pub fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    /// What can be said of a URL without resolving its name. Also for configuration: an endpoint
    /// whose URL is refused here can never be delivered to.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        self.policy.check_url(url)
    }

    /// Sends a request to where its URL leads, if it may go there. The request carries its own
    /// timeout for the whole exchange ([`reqwest::Request::timeout_mut`]).
    ///
    /// One safe repetition can happen below this call: a request that the receiver's HTTP/2 layer
    /// said it never processed, or whose pooled connection was closed before anything was written.
    pub async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, EgressSendError> {
        self.check_url(request.url())?;
        self.client.execute(request).await.map_err(EgressSendError::from)
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

fn client(
    resolver: &Arc<GuardedResolver>,
    connect_timeout: Duration,
    certificates: &Certificates<'_>,
) -> Result<reqwest::Client, EgressBuildError> {
    let builder = || certificates.put_in(client_builder(Arc::clone(resolver), connect_timeout));
    let mut first = builder()?;
    let authorities = certificates.authorities()?;
    if !authorities.is_empty() {
        first = first.tls_certs_merge(authorities.clone());
    }
    first.build().or_else(|error| {
        // A machine without CA certificates (an empty container) still reaches public receivers.
        tracing::warn!(
            %error,
            "no CA certificates of the system could be used: using the built-in list of public roots"
        );
        let roots = built_in_roots()?.into_iter().chain(authorities);
        Ok(builder()?.tls_certs_only(roots).build()?)
    })
}

fn client_builder(resolver: Arc<GuardedResolver>, connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .dns_resolver(resolver)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .http2_max_header_list_size(RESPONSE_HEADERS_BYTES_MAX)
}

fn built_in_roots() -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|root| reqwest::Certificate::from_der(root.as_ref()))
        .collect()
}
