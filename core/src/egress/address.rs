//! Which addresses are not on the public Internet, as a table.
//!
//! After the IANA special-purpose address registries (RFC 6890 and what updates it). IPv4 hidden in
//! IPv6 is dug out and judged by the IPv4 table.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is; only [`AddressClass::Public`] is open to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    Public,
    Loopback,
    Private,
    LinkLocal,
    /// IPv6 unique-local (RFC 4193) and the site-local range before it.
    UniqueLocal,
    /// Shared space of carrier-grade NAT (RFC 6598).
    CarrierNat,
    Multicast,
    Broadcast,
    Unspecified,
    Documentation,
    Benchmarking,
    Reserved,
    /// Where a cloud answers with credentials of this machine.
    Metadata,
    /// Local-use NAT64 (RFC 8215): where the IPv4 address sits in it is not known here.
    LocalTranslation,
}

impl AddressClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::UniqueLocal => "unique-local",
            Self::CarrierNat => "carrier-grade NAT",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Unspecified => "unspecified",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Reserved => "reserved",
            Self::Metadata => "cloud metadata",
            Self::LocalTranslation => "local-use NAT64",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

use AddressClass as C;

/// Metadata services. The first is that of most clouds, then ECS tasks, EKS pods, Azure's wire
/// server (public space!), Alibaba and Oracle's old one.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// AWS (instances, then EKS pods) and Google.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// First match wins.
const RANGES_V4: [(Ipv4Addr, u32, AddressClass); 17] = [
    (Ipv4Addr::UNSPECIFIED, 32, C::Unspecified),
    (Ipv4Addr::BROADCAST, 32, C::Broadcast),
    // "This network": many systems take all of it for the machine itself.
    (Ipv4Addr::UNSPECIFIED, 8, C::Reserved),
    (Ipv4Addr::new(10, 0, 0, 0), 8, C::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, C::CarrierNat),
    (Ipv4Addr::new(127, 0, 0, 0), 8, C::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, C::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, C::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, C::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, C::Documentation),
    // The retired relays of 6to4.
    (Ipv4Addr::new(192, 88, 99, 0), 24, C::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, C::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, C::Benchmarking),
    (Ipv4Addr::new(198, 51, 100, 0), 24, C::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, C::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, C::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, C::Reserved),
];

/// First match wins. What matches none and is not global unicast (`2000::/3`) is reserved.
const RANGES_V6: [(Ipv6Addr, u32, AddressClass); 12] = [
    (Ipv6Addr::UNSPECIFIED, 128, C::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, C::Loopback),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, C::LocalTranslation),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, C::Benchmarking),
    // Teredo lies in here too, and is judged before.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, C::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, C::Documentation),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, C::Documentation),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, C::UniqueLocal),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, C::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, C::UniqueLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, C::Multicast),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, C::Public),
];

/// Class of an address; one that carries IPv4 inside has the class of what is inside.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    if METADATA_V4.contains(&address) {
        return C::Metadata;
    }
    let found = RANGES_V4.iter().find(|(network, prefix_len, _)| {
        let shift = 32 - prefix_len;
        address.to_bits() >> shift == network.to_bits() >> shift
    });
    found.map_or(C::Public, |(_, _, class)| *class)
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if METADATA_V6.contains(&address) {
        return C::Metadata;
    }
    for hidden in hidden_v4(address) {
        let class = classify_v4(hidden);
        if class != C::Public {
            return class;
        }
    }
    if carries_v4(address) {
        return C::Public;
    }
    let found = RANGES_V6.iter().find(|(network, prefix_len, _)| {
        let shift = 128 - prefix_len;
        address.to_bits() >> shift == network.to_bits() >> shift
    });
    found.map_or(C::Reserved, |(_, _, class)| *class)
}

fn carries_v4(address: Ipv6Addr) -> bool {
    hidden_v4(address).next().is_some()
}

/// The IPv4 addresses inside an IPv6 address, by its prefix.
fn hidden_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let segments = address.segments();
    let at =
        |index: usize| Ipv4Addr::from_bits(u32::from(segments[index]) << 16 | u32::from(segments[index + 1]));
    let [first, second] = match segments {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        // v4-compatible (RFC 4291, retired), v4-mapped, v4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => [Some(at(6)), None],
        // 6to4 (RFC 3056).
        [0x2002, _, _, _, _, _, _, _] => [Some(at(1)), None],
        // Teredo (RFC 4380): the server, and the client with every bit turned.
        [0x2001, 0, _, _, _, _, _, _] => [Some(at(2)), Some(Ipv4Addr::from_bits(!at(6).to_bits()))],
        _ => [None, None],
    };
    first.into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_address() {
        let table: &[(AddressClass, &[&str])] = &[
            (
                C::Public,
                &["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"],
            ),
            (
                C::Public,
                &["128.0.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0"],
            ),
            (C::Public, &["223.255.255.255", "2606:4700:4700::1111", "2001:200::1", "2620:4f:8000::1"]),
            (C::Loopback, &["127.0.0.1", "127.255.255.255", "::1"]),
            (
                C::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.0",
                    "192.168.255.255",
                ],
            ),
            (C::LinkLocal, &["169.254.0.0", "169.254.255.255", "fe80::1", "febf:ffff::1"]),
            (C::UniqueLocal, &["fc00::", "fdff:ffff::1", "fec0::1"]),
            (C::CarrierNat, &["100.64.0.0", "100.127.255.255"]),
            (C::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
            (C::Broadcast, &["255.255.255.255"]),
            (C::Unspecified, &["0.0.0.0", "::"]),
            (C::Documentation, &["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff::1"]),
            (C::Benchmarking, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
            (
                C::Reserved,
                &["0.0.0.1", "192.0.0.1", "192.88.99.1", "240.0.0.1", "100::1", "2001:100::1", "5f00::1"],
            ),
            (C::Reserved, &["4000::1", "1::1", "fe00::1"]),
            (
                C::Metadata,
                &["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"],
            ),
            (C::LocalTranslation, &["64:ff9b:1::1.1.1.1", "64:ff9b:1:fffe::a00:1"]),
        ];
        for (class, addresses) in table {
            for text in *addresses {
                assert_eq!(classify(text.parse().unwrap()), *class, "{text}");
            }
        }
    }

    #[test]
    fn ipv4_hidden_in_ipv6_is_judged_as_ipv4() {
        let table = [
            ("::ffff:127.0.0.1", C::Loopback),
            ("::ffff:10.0.0.1", C::Private),
            ("::ffff:169.254.169.254", C::Metadata),
            ("::ffff:1.1.1.1", C::Public),
            ("::127.0.0.1", C::Loopback),
            ("::10.1.2.3", C::Private),
            ("::ffff:0:192.168.1.1", C::Private),
            ("64:ff9b::127.0.0.1", C::Loopback),
            ("64:ff9b::169.254.169.254", C::Metadata),
            ("64:ff9b::100.64.0.1", C::CarrierNat),
            ("64:ff9b::1.1.1.1", C::Public),
            // 6to4 of 10.0.0.1, 127.0.0.1, 1.1.1.1.
            ("2002:a00:1::1", C::Private),
            ("2002:7f00:1::", C::Loopback),
            ("2002:101:101::1", C::Public),
            // Teredo: public server, client 192.168.0.1; private server; both public.
            ("2001:0:101:101:0:0:3f57:fffe", C::Private),
            ("2001:0:a00:1:0:0:fefe:fefe", C::Private),
            ("2001:0:101:101:0:0:fefe:fefe", C::Public),
        ];
        for (text, class) in table {
            assert_eq!(classify(text.parse().unwrap()), class, "{text}");
        }
    }
}
