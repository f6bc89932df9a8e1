//! An event: one payload, kept as the exact bytes that came.

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::id::{EventId, SourceId, TenantId};

/// How the types of Bowline's own events begin. Nothing from outside can make one, and they go only to
/// endpoints that name them, never through `*`.
pub const OWN_EVENTS: &str = "bowline.";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: EventId,
    pub tenant_id: TenantId,
    /// `None` for an event published by an app.
    pub source_id: Option<SourceId>,
    /// A dotted name such as `order.created`.
    pub event_type: String,
    pub channel: Option<String>,
    /// The `Content-Type` it came with.
    pub content_type: String,
    /// The other inbound headers, capped; see [`encode_headers`].
    pub headers: Bytes,
    pub body: Bytes,
    pub time: DateTime<Utc>,
}

/// Headers kept as `name: value\n` lines of raw bytes: neither name nor value can hold a line feed.
/// Stops before the line that would pass `limit_bytes`.
pub fn encode_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    limit_bytes: usize,
) -> Bytes {
    let mut out = Vec::new();
    for (name, value) in headers {
        if out.len() + name.len() + value.len() + 3 > limit_bytes {
            break;
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.into()
}

/// The inverse of [`encode_headers`].
pub fn decode_headers(encoded: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    encoded.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.windows(2).position(|pair| pair == b": ")?;
        Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + 2..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_are_capped() {
        let headers: Vec<(&str, &[u8])> = vec![("x-a", b"1"), ("x-b", b"a: b \xff"), ("x-c", b"")];
        let encoded = encode_headers(headers.clone(), 1000);
        assert_eq!(decode_headers(&encoded).collect::<Vec<_>>(), headers);
        let capped = encode_headers(headers.clone(), 10);
        assert_eq!(decode_headers(&capped).collect::<Vec<_>>(), headers[..1]);
    }
}
