//! What the configuration opens, and why a request is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::address::{AddressClass, classify};
use super::proxy::ForwardProxy;

/// What may be reached besides public addresses over `https:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Networks that are open although they are not public. An IPv4 network also opens its
    /// v4-mapped spelling, no other hidden form. A metadata service is opened only by its own
    /// address (`/32` or `/128`), never by a range around it.
    pub allow_cidrs: Vec<IpNet>,
    pub allow_http: bool,
    /// Empty: every port.
    pub allow_ports: Vec<u16>,
    /// Through which every request goes, if there is one.
    pub proxy: Option<ForwardProxy>,
}

/// Why a request does not leave. No retry helps against any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    #[error("the URL is longer than {limit_bytes} bytes")]
    TooLong { limit_bytes: usize },
    #[error("`{scheme}:` URLs are refused: use `https:`")]
    Scheme { scheme: String },
    #[error("`http:` URLs are refused: use `https:`, or set egress.allow_http")]
    PlainHttp,
    #[error("a URL with a user name or password is refused: use a header of the endpoint instead")]
    Credentials,
    #[error("port {port} is refused: it is not in egress.allow_ports")]
    Port { port: u16 },
    #[error("the URL has no host")]
    NoHost,
    #[error("host `{host}` is refused: it means this machine (egress.allow_cidrs can open it)")]
    LocalName { host: String },
    /// The address itself is not in the message: whoever owns the endpoint need not learn what a
    /// private name resolves to.
    #[error("host `{host}` is refused: it leads to a {class} address (egress.allow_cidrs can open it)")]
    Address { host: String, address: IpAddr, class: AddressClass },
}

impl EgressPolicy {
    /// Opens what one machine needs to talk to itself: `http:` and loopback.
    pub fn loopback() -> Self {
        let (v4, v6) = loopback_nets();
        Self { allow_cidrs: vec![v4, v6], allow_http: true, ..Self::default() }
    }

    /// Whether a connection to this address, found under the name `host`, may be made.
    pub fn check_address(&self, host: &str, address: IpAddr) -> Result<(), EgressError> {
        let class = classify(address);
        if class == AddressClass::Public || self.allows(address, class) {
            return Ok(());
        }
        Err(EgressError::Address { host: host.to_owned(), address, class })
    }

    fn allows(&self, address: IpAddr, class: AddressClass) -> bool {
        // `::ffff:a.b.c.d` is the same socket as `a.b.c.d`.
        let canonical = address.to_canonical();
        self.allow_cidrs.iter().any(|net| {
            let by_itself = net.prefix_len() == net.max_prefix_len();
            (class != AddressClass::Metadata || by_itself)
                && (net.contains(&address) || net.contains(&canonical))
        })
    }

    pub(super) fn allows_loopback(&self) -> bool {
        let allowed = |address: IpAddr| self.allows(address, AddressClass::Loopback);
        allowed(Ipv4Addr::LOCALHOST.into()) || allowed(Ipv6Addr::LOCALHOST.into())
    }
}

fn loopback_nets() -> (IpNet, IpNet) {
    (
        // The prefix lengths are those of the address families: `new_assert` cannot fail on them.
        IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(cidrs: &[&str]) -> EgressPolicy {
        let allow_cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        EgressPolicy { allow_cidrs, ..EgressPolicy::default() }
    }

    fn passes(policy: &EgressPolicy, address: &str) -> bool {
        policy.check_address("host.test", address.parse().unwrap()).is_ok()
    }

    #[test]
    fn an_allowed_network_is_open_and_its_neighbours_are_not() {
        let policy = allowing(&["10.1.0.0/16", "fd12::/16"]);
        for open in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "1.1.1.1"] {
            assert!(passes(&policy, open), "{open}");
        }
        // A translated form goes through someone's gateway: it is not the allowed socket.
        for shut in ["10.2.0.1", "fd13::1", "64:ff9b::10.1.2.3", "2002:a01:203::1", "127.0.0.1"] {
            assert!(!passes(&policy, shut), "{shut}");
        }
    }

    #[test]
    fn metadata_opens_only_by_its_own_address() {
        assert!(!passes(&allowing(&["169.254.0.0/16", "0.0.0.0/0"]), "169.254.169.254"));
        assert!(passes(&allowing(&["169.254.169.254/32"]), "169.254.169.254"));
        assert!(!passes(&allowing(&["fc00::/7"]), "fd00:ec2::254"));
    }

    #[test]
    fn the_message_names_host_and_class_not_the_address() {
        let error = EgressPolicy::default().check_address("a.test", "10.9.8.7".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host `a.test` is refused: it leads to a private address (egress.allow_cidrs can open it)"
        );
    }
}
