//! Headers in the log of attempts: what follows from the attempt's own ids is one byte there.

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

impl AttemptIds {
    /// The headers that most requests have, and their codes.
    fn expected(self) -> [(u8, &'static str, String); 3] {
        [
            (EVENT_ID, "webhook-id", self.event_id.to_string()),
            (
                OWN_TRACE,
                trace_context::TRACEPARENT,
                trace_context::own_traceparent(self.event_id, self.attempt_id),
            ),
            (JSON, "content-type", "application/json".to_owned()),
        ]
    }
}

/// As [`super::encode_headers`], and shorter.
pub fn encode_attempt_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ids: AttemptIds,
    limit_bytes: usize,
) -> Vec<u8> {
    let expected = ids.expected();
    let mut out = Vec::new();
    for (name, value) in within(headers, limit_bytes) {
        let as_expected = |(_, known, text): &&(u8, &str, String)| *known == name && text.as_bytes() == value;
        match expected.iter().find(as_expected) {
            Some((code, ..)) => out.extend_from_slice(&[*code, b'\n']),
            None => push(&mut out, name, value),
        }
    }
    out
}

/// The block that [`super::decode_headers`] reads, of one that [`encode_attempt_headers`] made with the same ids.
pub fn expand_attempt_headers(encoded: &[u8], ids: AttemptIds) -> Bytes {
    let expected = ids.expected();
    let mut out = Vec::with_capacity(encoded.len() + 128);
    for line in encoded.split_inclusive(|byte| *byte == b'\n') {
        match expected.iter().find(|(code, ..)| line == [*code, b'\n']) {
            Some((_, name, text)) => push(&mut out, name, text.as_bytes()),
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
}
