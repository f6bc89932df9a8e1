//! What may be kept of a request: everything but the secrets that stand in it.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};

use super::judge::Received;
use crate::headers::encode_headers;
use crate::scheme::{Scheme, Source};
use crate::snapshot::LiveSource;

/// Headers kept with an event or a rejection.
pub const HEADERS_KEPT_BYTES_MAX: usize = 16 * 1024;
/// Of a longer body the beginning is kept.
pub const BODY_KEPT_BYTES_MAX: usize = 1024 * 1024;
const PATH_KEPT_BYTES_MAX: usize = 2048;

/// A request as it is kept with its rejection.
#[derive(Debug, Clone)]
pub struct KeptRequest {
    pub method: String,
    pub path_and_query: String,
    /// As [`encode_headers`] writes them.
    pub headers: Bytes,
    pub body: Bytes,
    pub remote: IpAddr,
    /// What a second verification would need and is not here; empty: nothing.
    pub left_out: String,
}

impl KeptRequest {
    pub fn of(received: Received<'_>, live: &LiveSource) -> Self {
        let mut left_out = Vec::new();
        let secrets = secret_sources(live);
        let (headers, whole) = headers_kept(received.headers, live, &[]);
        for name in received.headers.keys().filter(|name| is_secret(name, live) && is_verified_by(name, live))
        {
            left_out.push(format!("the header `{name}`"));
        }
        if !whole {
            left_out.push(format!("the headers beyond {HEADERS_KEPT_BYTES_MAX} bytes"));
        }
        let body = body_kept(received.body, secrets, live.expressions.verify_looks_at.body);
        if body.len() < received.body.len() {
            left_out.push(if body.is_empty() { "the body".into() } else { "the end of the body".into() });
        }
        let path = path_kept(received.path_and_query, secrets, live.expressions.verify_looks_at.query);
        if path.len() < received.path_and_query.len() {
            left_out.push("the query".into());
        }
        Self {
            method: received.method.to_string(),
            path_and_query: path.to_owned(),
            headers,
            // A copy: a slice would hold the whole of a larger body in memory.
            body: Bytes::copy_from_slice(body),
            remote: received.remote,
            left_out: left_out.join(", "),
        }
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.headers.len() + self.path_and_query.len() + self.left_out.len()
    }
}

/// The headers fit to be kept, and whether all of them fit in: those that carry a secret are left out,
/// and `apart` are kept elsewhere.
pub(super) fn headers_kept(headers: &HeaderMap, live: &LiveSource, apart: &[HeaderName]) -> (Bytes, bool) {
    let kept = headers.iter().filter(|(name, _)| !is_secret(name, live) && !apart.contains(name));
    let mut bytes = 0;
    let counted = kept.map(|(name, value)| {
        bytes += name.as_str().len() + value.len() + ": \n".len();
        (name.as_str(), value.as_bytes())
    });
    let encoded = encode_headers(counted, HEADERS_KEPT_BYTES_MAX);
    // Counted up to the first that was left out.
    (encoded, bytes <= HEADERS_KEPT_BYTES_MAX)
}

fn is_secret(name: &HeaderName, live: &LiveSource) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name)
        || secret_sources(live).iter().any(|source| source.as_header() == Some(name))
        || live.expressions.verify_looks_at.header(name.as_str())
}

fn is_verified_by(name: &HeaderName, live: &LiveSource) -> bool {
    let in_scheme =
        |scheme: &Scheme| scheme.signature.sources.iter().any(|source| source.as_header() == Some(name));
    scheme(live).is_some_and(in_scheme) || live.expressions.verify_looks_at.header(name.as_str())
}

fn scheme(live: &LiveSource) -> Option<&Scheme> {
    live.source.spec.scheme.as_ref().or(live.preset.description().scheme.as_ref())
}

/// Where the sender writes the secret itself, if it does.
fn secret_sources(live: &LiveSource) -> &[Source] {
    secrets_of(scheme(live))
}

fn secrets_of(scheme: Option<&Scheme>) -> &[Source] {
    match scheme {
        Some(scheme) if scheme.algorithm.sends_the_secret() => &scheme.signature.sources,
        _ => &[],
    }
}

/// The beginning of a body; nothing of one in which a secret may stand.
fn body_kept<'b>(body: &'b [u8], secrets: &[Source], looked_at: bool) -> &'b [u8] {
    let in_body = secrets.iter().any(|source| !matches!(source, Source::Header(_) | Source::Query(_)));
    if in_body || looked_at { &[] } else { &body[..body.len().min(BODY_KEPT_BYTES_MAX)] }
}

/// A query in which a secret may stand is not kept.
fn path_kept<'p>(path_and_query: &'p str, secrets: &[Source], looked_at: bool) -> &'p str {
    let in_query = looked_at || secrets.iter().any(|source| matches!(source, Source::Query(_)));
    let kept = match path_and_query.split_once('?') {
        Some((path, _)) if in_query => path,
        _ => path_and_query,
    };
    let mut end = kept.len().min(PATH_KEPT_BYTES_MAX);
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    &kept[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_not_kept() {
        let query = [Source::Query("token".into())];
        let sent = "/in/src_1?token=bowline-test-token";
        assert_eq!(path_kept(sent, &query, false), "/in/src_1");
        assert_eq!(path_kept(sent, &[], true), "/in/src_1");
        assert_eq!(path_kept("/in/src_1?page=1", &[], false), "/in/src_1?page=1");
        assert_eq!(
            path_kept(&format!("/{}é", "x".repeat(PATH_KEPT_BYTES_MAX - 2)), &[], false).len(),
            PATH_KEPT_BYTES_MAX - 1
        );
    }

    #[test]
    fn a_body_with_a_token_in_it_is_not_kept() {
        let body = br#"{"token":"bowline-test-token"}"#;
        assert_eq!(body_kept(body, &["json:/token".parse().unwrap()], false), b"");
        assert_eq!(body_kept(body, &[], true), b"");
        assert_eq!(body_kept(body, &[Source::Query("token".into())], false), body);
        assert_eq!(body_kept(&vec![0; BODY_KEPT_BYTES_MAX + 1], &[], false).len(), BODY_KEPT_BYTES_MAX);
    }

    #[test]
    fn only_schemes_that_send_the_secret_have_something_to_hide() {
        let scheme = |algorithm: &str| -> Scheme {
            let signature = serde_json::json!({"sources": ["header:x-token", "query:token"]});
            serde_json::from_value(serde_json::json!({"algorithm": algorithm, "signature": signature}))
                .unwrap()
        };
        assert_eq!(secrets_of(Some(&scheme("token"))).len(), 2);
        assert_eq!(secrets_of(Some(&scheme("hmac-sha256"))), []);
        assert_eq!(secrets_of(None), []);
    }
}
