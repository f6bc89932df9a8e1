//! Which headers may go along with a delivery, and which belong to someone else.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Format, is_credential};
use crate::event::Event;
use crate::headers::decode_headers;

/// Headers an endpoint may add.
pub const EXTRA_HEADERS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 4096;

/// They end with the connection (RFC 9110, 7.6.1), or describe it.
const OF_THE_CONNECTION: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Written by every format.
const OF_EVERY_FORMAT: [&str; 8] = [
    "bowline-attempt",
    "content-type",
    "traceparent",
    "tracestate",
    "user-agent",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];
/// What the sender told us about itself or asked of us is no business of the receiver's.
const OF_THE_SENDER: [&str; 4] = ["accept-encoding", "authorization", "cookie", "set-cookie"];

/// Why a header may not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderRefusal {
    #[error("it is no header name")]
    Name,
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    NameLength,
    #[error("it belongs to the connection")]
    Connection,
    #[error("the format `{format}` sets it")]
    Format { format: String },
    #[error("the value holds something other than printable ASCII")]
    Value,
    #[error("the value is longer than {VALUE_BYTES_MAX} bytes")]
    ValueLength,
    #[error("more than {EXTRA_HEADERS_MAX} headers")]
    Count,
}

/// One of an endpoint's headers and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header `{name}`: {refusal}")]
pub struct HeaderFault {
    pub name: String,
    pub refusal: HeaderRefusal,
}

impl Format {
    /// Whether an endpoint of this format may add a header of this name.
    pub fn validate_header(&self, name: &str) -> Result<HeaderName, HeaderRefusal> {
        if name.len() > NAME_BYTES_MAX {
            return Err(HeaderRefusal::NameLength);
        }
        let name: HeaderName = name.parse().map_err(|_| HeaderRefusal::Name)?;
        if OF_THE_CONNECTION.contains(&name.as_str()) {
            return Err(HeaderRefusal::Connection);
        }
        if self.sets(&name) {
            return Err(HeaderRefusal::Format { format: self.name().to_owned() });
        }
        Ok(name)
    }

    /// The headers of an endpoint, ready for [`super::AttemptContext`]; all faults at once.
    pub fn extra_headers(&self, headers: &BTreeMap<String, String>) -> Result<HeaderMap, Vec<HeaderFault>> {
        let mut checked = HeaderMap::with_capacity(headers.len());
        let mut faults = Vec::new();
        for (at, (name, value)) in headers.iter().enumerate() {
            let header = if at < EXTRA_HEADERS_MAX {
                self.validate_header(name).and_then(|header| Ok((header, validate_value(value)?)))
            } else {
                Err(HeaderRefusal::Count)
            };
            match header {
                Ok((header, value)) => {
                    checked.insert(header, value);
                }
                Err(refusal) => faults.push(HeaderFault { name: name.clone(), refusal }),
            }
        }
        if faults.is_empty() { Ok(checked) } else { Err(faults) }
    }

    fn sets(&self, name: &HeaderName) -> bool {
        OF_EVERY_FORMAT.contains(&name.as_str())
            || self.own.iter().any(|(own, _)| own == name)
            || self.scheme.own_headers().contains(&name)
    }

    /// The headers an event came with, as far as they may go on.
    pub(super) fn copy_original(&self, event: &Event, headers: &mut HeaderMap) {
        let parsed: Vec<(HeaderName, HeaderValue)> = decode_headers(&event.headers)
            .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_bytes(value).ok()?)))
            .collect();
        // The sender may name further headers that end with its connection.
        let named: Vec<String> = parsed
            .iter()
            .filter(|(name, _)| *name == http::header::CONNECTION)
            .filter_map(|(_, value)| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        for (name, mut value) in parsed {
            let text = name.as_str();
            let stays = OF_THE_CONNECTION.contains(&text)
                || OF_THE_SENDER.contains(&text)
                || named.iter().any(|named| named == text)
                || self.sets(&name);
            if !stays {
                // It goes on, and is not logged.
                value.set_sensitive(is_credential(&name));
                headers.append(name, value);
            }
        }
    }
}

fn validate_value(value: &str) -> Result<HeaderValue, HeaderRefusal> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(HeaderRefusal::ValueLength);
    }
    // Stricter than HTTP, which lets bytes of no known encoding pass.
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(HeaderRefusal::Value);
    }
    HeaderValue::from_str(value).map_err(|_| HeaderRefusal::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ATTEMPT, WEBHOOK_ID, all, find};

    #[test]
    fn owned_headers_are_refused_in_any_case() {
        for format in all() {
            for name in OF_THE_CONNECTION {
                assert_eq!(
                    format.validate_header(&name.to_uppercase()),
                    Err(HeaderRefusal::Connection),
                    "{name}"
                );
            }
            for name in OF_EVERY_FORMAT {
                let refusal = HeaderRefusal::Format { format: format.name().to_owned() };
                assert_eq!(format.validate_header(name), Err(refusal), "{name}");
            }
            assert!(format.validate_header(WEBHOOK_ID.as_str()).is_err());
            assert!(format.validate_header(ATTEMPT.as_str()).is_err());
            assert!(format.validate_header("Authorization").is_ok(), "receivers ask for it");
            assert_eq!(format.validate_header("a b"), Err(HeaderRefusal::Name));
            assert_eq!(format.validate_header("a\r\nb"), Err(HeaderRefusal::Name));
            assert_eq!(format.validate_header(&"a".repeat(129)), Err(HeaderRefusal::NameLength));
        }
        let refused = |format: &str, name: &str| find(format).unwrap().validate_header(name).is_err();
        assert!(
            refused("chimpbase", "X-Chimpbase-Delivery-Id") && refused("chimpbase", "x-chimpbase-signature")
        );
        assert!(refused("chatblocks", "Idempotency-Key") && !refused("standard", "Idempotency-Key"));
        assert!(refused("connectgain", "X-Webhook-Timestamp") && !refused("rkt", "X-Webhook-Timestamp"));
    }

    #[test]
    fn all_faults_of_an_endpoint_are_named() {
        let format = find("standard").unwrap();
        let of =
            |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let map: BTreeMap<String, String> = of(&[("X-A", "1"), ("host", "x"), ("x-b", "a\nb"), ("x-c", "é")]);
        let faults: Vec<String> =
            format.extra_headers(&map).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "header `host`: it belongs to the connection",
                "header `x-b`: the value holds something other than printable ASCII",
                "header `x-c`: the value holds something other than printable ASCII",
            ]
        );
        assert_eq!(format.extra_headers(&of(&[("X-A", "1")])).unwrap()["x-a"], "1");
        let many: BTreeMap<String, String> = (0..33).map(|n| (format!("x-{n}"), String::new())).collect();
        assert_eq!(format.extra_headers(&many).unwrap_err()[0].refusal, HeaderRefusal::Count);
        let long: BTreeMap<String, String> = of(&[("x-a", &"a".repeat(5000))]);
        assert_eq!(format.extra_headers(&long).unwrap_err()[0].refusal, HeaderRefusal::ValueLength);
    }
}
