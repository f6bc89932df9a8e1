//! Headers in the log of attempts: what follows from the attempt's own ids is one byte there.

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

use super::{push, within};
use crate::id::EventId;
use crate::trace_context;

// No header's name begins with one of these either.
const EVENT_ID: u8 = 0x01;
const OWN_TRACE: u8 = 0x02;
const JSON: u8 = 0x03;

/// Which attempt a block is of.
#[derive(Debug, Clone, Copy)]
pub struct AttemptIds {
    pub event_id: EventId,
    pub attempt_id: Uuid,
}

/// The headers that most requests have, and their codes.
const EXPECTED: [(u8, &str); 3] =
    [(EVENT_ID, "webhook-id"), (OWN_TRACE, trace_context::TRACEPARENT), (JSON, "content-type")];

impl AttemptIds {
    /// What the header of this code holds. It is made where that header is met: most responses have the content type
    /// alone.
    fn expected(self, code: u8) -> Cow<'static, str> {
        match code {
            EVENT_ID => self.event_id.to_string().into(),
            OWN_TRACE => trace_context::own_traceparent(self.event_id, self.attempt_id).into(),
            _ => "application/json".into(),
        }
    }
}

/// As [`super::encode_headers`], and shorter.
pub fn encode_attempt_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ids: AttemptIds,
    limit_bytes: usize,
) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in within(headers, limit_bytes) {
        let known = EXPECTED.iter().find(|(_, known)| *known == name);
        match known.filter(|(code, _)| ids.expected(*code).as_bytes() == value) {
            Some((code, _)) => out.extend_from_slice(&[*code, b'\n']),
            None => push(&mut out, name, value),
        }
    }
    out
}

/// The block that [`super::decode_headers`] reads, of one that [`encode_attempt_headers`] made with the same ids.
pub fn expand_attempt_headers(encoded: &[u8], ids: AttemptIds) -> Bytes {
    let mut out = Vec::with_capacity(encoded.len() + 128);
    for line in encoded.split_inclusive(|byte| *byte == b'\n') {
        match EXPECTED.iter().find(|(code, _)| line == [*code, b'\n']) {
            Some((code, name)) => push(&mut out, name, ids.expected(*code).as_bytes()),
            None => out.extend_from_slice(line),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::decode_headers;

    const IDS: AttemptIds = AttemptIds {
        event_id: EventId(Uuid::from_u128(0x0190_1111_2222_7333_8444_5555_6666_7777)),
        attempt_id: Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000),
    };

    #[test]
    fn what_follows_from_the_ids_comes_back() {
        let event_id = IDS.event_id.to_string();
        let of_another = AttemptIds { attempt_id: Uuid::from_u128(7), ..IDS };
        for (trace, codes) in [
            (trace_context::own_traceparent(IDS.event_id, IDS.attempt_id), 3),
            (trace_context::own_traceparent(IDS.event_id, of_another.attempt_id), 2),
        ] {
            let sent: Vec<(&str, &[u8])> = vec![
                ("content-type", b"application/json"),
                ("webhook-id", event_id.as_bytes()),
                ("traceparent", trace.as_bytes()),
                ("x-team", b"billing"),
                ("content-type", b"text/plain"),
                ("x-empty", b""),
            ];
            let encoded = encode_attempt_headers(sent.clone(), IDS, 1000);
            assert_eq!(encoded.iter().filter(|byte| **byte < 0x08).count(), codes);
            assert_eq!(decode_headers(&expand_attempt_headers(&encoded, IDS)).collect::<Vec<_>>(), sent);
        }
    }

    /// A receiver may send back what it was sent, and blocks are read for as long as their days are kept.
    #[test]
    fn what_is_stored_stays_as_it_is() {
        let trace = format!("00-{:032x}-a716446655440000-00", IDS.event_id.0.as_u128());
        let event_id = IDS.event_id.to_string();
        let headers: [(&str, &[u8]); 5] = [
            ("content-type", b"application/json"),
            ("traceparent", trace.as_bytes()),
            ("webhook-id", event_id.as_bytes()),
            ("webhook-id", b"another"),
            ("x-id", event_id.as_bytes()),
        ];
        let mut stored = b"\x03\n\x02\n\x01\n".to_vec();
        push(&mut stored, "webhook-id", b"another");
        push(&mut stored, "x-id", event_id.as_bytes());
        assert_eq!(encode_attempt_headers(headers, IDS, 1000), stored);
        assert_eq!(decode_headers(&expand_attempt_headers(&stored, IDS)).collect::<Vec<_>>(), headers);
    }
}
