//! The head of a request, as HTTP has it: what could be read in two ways is refused, and who sent it.

use std::net::{IpAddr, SocketAddr};

use bowline_core::source::SourceSpec;
use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, StatusCode, Version};
use ipnet::IpNet;

use crate::framing::Doubt;
use bowline_core::inbound::Refusal;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies one behind the other that are followed back.
const HOPS_MAX: usize = 32;

/// Refuses what another on the way may have understood differently (RFC 9112, sections 2.2, 3.2 and 6.1).
pub(crate) fn check(head: &Parts, doubt: Option<Doubt>, headers_max: usize) -> Result<(), Refusal> {
    if let Some(doubt) = doubt {
        let (code, message) = words(doubt);
        return Err(bad(StatusCode::BAD_REQUEST, code, message));
    }
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || codings.next().is_some() {
            return Err(bad(
                StatusCode::NOT_IMPLEMENTED,
                "unsupported_transfer_encoding",
                "the header `transfer-encoding` may say `chunked` and nothing else",
            ));
        }
    }
    // HTTP/1 is counted while it is read.
    if head.headers.len() > headers_max {
        return Err(Refusal::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too_many_headers",
            format!("the request has more than {headers_max} headers"),
        ));
    }
    check_host(head)
}

fn words(doubt: Doubt) -> (&'static str, &'static str) {
    match doubt {
        Doubt::TwoLengths => {
            ("ambiguous_length", "the headers `content-length` and `transfer-encoding` exclude each other")
        }
        Doubt::LineFeed => {
            ("bare_line_feed", "a line of the head ends in a line feed without a carriage return before it")
        }
        Doubt::Beginning => {
            ("ambiguous_request", "where this request begins is in doubt: the one before it was malformed")
        }
    }
}

fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let problem = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => "the header `host` is there more than once",
        (Some(host), None) if !is_host(host.as_bytes()) => "the header `host` names no host",
        // HTTP/1.0 has none, and HTTP/2 has it in the request line.
        (None, None) if head.version == Version::HTTP_11 => "the header `host` is missing",
        _ => return Ok(()),
    };
    Err(bad(StatusCode::BAD_REQUEST, "bad_host", problem))
}

fn is_host(value: &[u8]) -> bool {
    value.is_empty() || (!value.contains(&b'@') && Authority::try_from(value).is_ok())
}

fn bad(status: StatusCode, code: &'static str, message: &'static str) -> Refusal {
    let mut refusal = Refusal::new(status, code, message);
    refusal.close = true;
    refusal
}

/// Who sent it: `peer`, or, where that is a proxy whose word counts, whom the proxies name, followed
/// back to the first that is none of them.
pub(crate) fn sender(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut sender = peer.ip().to_canonical();
    if trusted.is_empty() || !is_trusted(sender) {
        return sender;
    }
    let named = headers.get_all(X_FORWARDED_FOR);
    let named: Vec<&str> = named.iter().filter_map(|value| value.to_str().ok()).collect();
    for text in named.iter().rev().flat_map(|value| value.rsplit(',')).take(HOPS_MAX) {
        // Whoever wrote nonsense is the last whose address is known.
        let Some(address) = address(text.trim()) else { break };
        sender = address;
        if !is_trusted(sender) {
            break;
        }
    }
    sender
}

/// With or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Whether the source hears senders from there.
pub(crate) fn check_sender(spec: &SourceSpec, sender: IpAddr) -> Result<(), Refusal> {
    if spec.hears(sender) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "sender_not_allowed",
        format!("{sender} is in none of the networks this source hears"),
    ))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn there_is_one_host() {
        let of = |version, hosts: &[&str]| {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            check(&head(version, &headers), None, 100).map_err(|refusal| refusal.code)
        };
        for fine in ["x", "x:80", "[::1]:80", ""] {
            assert_eq!(of(Version::HTTP_11, &[fine]), Ok(()), "{fine}");
        }
        for bad in [&["x", "x"][..], &["x", "y"], &["a b"], &["x/y"], &["user@x"], &[]] {
            assert_eq!(of(Version::HTTP_11, bad), Err("bad_host"), "{bad:?}");
        }
        assert_eq!((of(Version::HTTP_10, &[]), of(Version::HTTP_2, &[])), (Ok(()), Ok(())));
        assert_eq!(of(Version::HTTP_2, &["x", "x"]), Err("bad_host"));
    }

    #[test]
    fn a_body_has_one_length_and_one_coding() {
        let of = |codings: &[&str]| {
            let mut headers = vec![("host", "x")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            check(&head(Version::HTTP_11, &headers), None, 100).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!((of(&[]), of(&["chunked"]), of(&["Chunked"])), (Ok(()), Ok(()), Ok(())));
        for bad in
            [&["gzip, chunked"][..], &["chunked", "chunked"], &["gzip", "chunked"], &["chunked, chunked"]]
        {
            assert_eq!(of(bad), Err(501), "{bad:?}");
        }
        for (doubt, code) in [
            (Doubt::TwoLengths, "ambiguous_length"),
            (Doubt::LineFeed, "bare_line_feed"),
            (Doubt::Beginning, "ambiguous_request"),
        ] {
            let refusal = check(&head(Version::HTTP_11, &[("host", "x")]), Some(doubt), 100).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.code, refusal.close), (400, code, true));
        }
        let many = vec![("x", "y"); 17];
        assert_eq!(check(&head(Version::HTTP_2, &many), None, 16).unwrap_err().status.as_u16(), 431);
    }

    #[test]
    fn a_senders_address_is_only_taken_from_proxies_that_are_trusted() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).to_vec();
        let of = |peer: &str, forwarded: &[&str]| {
            let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let head = head(Version::HTTP_11, &headers);
            sender(SocketAddr::new(peer.parse().unwrap(), 1), &head.headers, &trusted).to_string()
        };
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // What a sender made up stands to the left of what the proxies wrote.
            ("10.0.0.1", &["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.1:443,10.0.0.2"], "198.51.100.1"),
            ("fd00::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(of(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_source_hears_the_networks_of_its_list() {
        let spec = |list: &[&str]| SourceSpec {
            ip_allow_list: list.iter().map(|text| text.parse().unwrap()).collect(),
            ..SourceSpec::default()
        };
        let of = |list, sender: &str| check_sender(&spec(list), sender.parse().unwrap()).is_ok();
        assert!(of(&[], "192.0.2.1") && of(&["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1"));
        assert!(!of(&["192.0.2.0/24"], "192.0.3.1"));
    }
}
