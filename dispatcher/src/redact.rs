//! What the log of deliveries keeps of an exchange: everything but credentials (invariant 8).
//!
//! A header that holds one keeps its name. A receiver may send back what it was sent, so the values of this
//! request's credentials are looked for in what came back, too.

use bowline_core::format::is_credential;
use bowline_core::headers::{AttemptIds, encode_attempt_headers};
use http::HeaderMap;

/// Stands in the log in place of a credential.
const REDACTED: &[u8] = b"(redacted)";
const HEADERS_KEPT_BYTES: usize = 16 * 1024;
/// Shorter ones would be found by chance, and are guessed anyway.
const VALUE_BYTES_MIN: usize = 8;

/// Headers of a request as sent. What is sensitive was marked when the request was made.
pub(crate) fn kept_request(headers: &HeaderMap, of: AttemptIds) -> Vec<u8> {
    let lines = headers
        .iter()
        .map(|(name, value)| (name.as_str(), if value.is_sensitive() { REDACTED } else { value.as_bytes() }));
    encode_attempt_headers(lines, of, HEADERS_KEPT_BYTES)
}

/// Headers of a response: no cookies and tokens the receiver hands out, and none that it hands back.
pub(crate) fn kept_response(headers: &HeaderMap, of: AttemptIds, redacted: &Redacted) -> Vec<u8> {
    let lines = headers.iter().map(|(name, value)| {
        let hidden = is_credential(name) || redacted.is_in(value.as_bytes());
        (name.as_str(), if hidden { REDACTED } else { value.as_bytes() })
    });
    encode_attempt_headers(lines, of, HEADERS_KEPT_BYTES)
}

/// The credentials that went out with one request; of most requests none.
pub(crate) struct Redacted(Vec<Vec<u8>>);

impl Redacted {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = Vec::new();
        for value in headers.values().filter(|value| value.is_sensitive()) {
            let whole = value.as_bytes();
            // `Bearer token`: an echo may leave out the first word.
            let last = whole.rsplit(|byte| *byte == b' ').next().unwrap_or(whole);
            for part in [whole, last] {
                if part.len() >= VALUE_BYTES_MIN && !values.iter().any(|known| known == part) {
                    values.push(part.to_vec());
                }
            }
        }
        // The longer one first, so that nothing of it is left.
        values.sort_by_key(|value: &Vec<u8>| std::cmp::Reverse(value.len()));
        Self(values)
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|value| find(bytes, value).is_some())
    }

    /// `bytes` without any of them.
    pub(crate) fn in_bytes(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for value in &self.0 {
            let mut from = 0;
            while let Some(at) = find(&bytes[from..], value) {
                let begin = from + at;
                bytes.splice(begin..begin + value.len(), REDACTED.iter().copied());
                from = begin + REDACTED.len();
            }
            // The capture may end in the middle of one.
            let begun = |len: &usize| bytes[from..].ends_with(&value[..*len]);
            if let Some(len) = (VALUE_BYTES_MIN..value.len()).rev().find(begun) {
                bytes.truncate(bytes.len() - len);
                bytes.extend_from_slice(REDACTED);
            }
        }
        bytes
    }
}

fn find(bytes: &[u8], value: &[u8]) -> Option<usize> {
    bytes.windows(value.len()).position(|window| window == value)
}

#[cfg(test)]
mod tests {
    use bowline_core::headers::decode_headers;
    use bowline_core::id::EventId;
    use http::HeaderValue;
    use uuid::Uuid;

    use super::*;

    const OF: AttemptIds =
        AttemptIds { event_id: EventId(Uuid::from_u128(1)), attempt_id: Uuid::from_u128(2) };

    fn text(kept: &[u8]) -> String {
        let line = |(name, value): (&str, &[u8])| format!("{name}: {}\n", String::from_utf8_lossy(value));
        decode_headers(kept).map(line).collect::<Vec<_>>().concat()
    }

    fn headers(list: &[(&'static str, &'static str, bool)]) -> HeaderMap {
        let entry = |(name, value, sensitive): &(&'static str, &'static str, bool)| {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(*sensitive);
            (http::HeaderName::from_static(name), value)
        };
        list.iter().map(entry).collect()
    }

    #[test]
    fn names_stay_and_credentials_go() {
        let sent =
            headers(&[("authorization", "Bearer bowline-test-token", true), ("x-team", "billing", false)]);
        let kept = text(&kept_request(&sent, OF));
        assert_eq!(kept, "authorization: (redacted)\nx-team: billing\n");
        let came = headers(&[
            ("set-cookie", "id=1", false),
            ("x-echo", "you said Bearer bowline-test-token", false),
            ("www-authenticate", "Bearer realm=\"shop\"", false),
        ]);
        let kept = text(&kept_response(&came, OF, &Redacted::of(&sent)));
        assert_eq!(
            kept,
            "set-cookie: (redacted)\nx-echo: (redacted)\nwww-authenticate: Bearer realm=\"shop\"\n"
        );
    }

    #[test]
    fn what_a_receiver_sends_back_is_taken_out() {
        let sent =
            headers(&[("authorization", "Bearer bowline-test-token", true), ("x-pin", "1234567", true)]);
        let redacted = Redacted::of(&sent);
        let body = |text: &str| String::from_utf8(redacted.in_bytes(text.into())).unwrap();
        assert_eq!(
            body("[Bearer bowline-test-token] [bowline-test-token]bowline-test-token 1234567"),
            "[(redacted)] [(redacted)](redacted) 1234567"
        );
        assert_eq!(body("cut off: bowline-test-to"), "cut off: (redacted)");
        assert_eq!(body("nothing"), "nothing");
        assert_eq!(body(""), "");
    }
}
