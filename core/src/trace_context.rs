//! W3C Trace Context: the trace that an event came with goes on to its receivers; one that came with none begins
//! a trace of its own, the same at every attempt.

use uuid::Uuid;

use crate::event::Event;
use crate::headers::decode_headers;
use crate::id::EventId;

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
/// Propagated at least up to here (Trace Context, 3.3.1.5); longer ones are left out whole.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// What of a `traceparent` goes on: its trace, and whether that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent<'a> {
    trace_id: &'a str,
    flags: &'a str,
}

/// Whether a header is a `traceparent` that may be handed on.
pub fn is_valid(traceparent: &str) -> bool {
    parse(traceparent).is_some()
}

/// `00-{32 hex}-{16 hex}-{2 hex}`, in lower case; later versions may have more behind it.
fn parse(text: &str) -> Option<Parent<'_>> {
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = text.splitn(5, '-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(parent_id, 16) && is_hex(flags, 2);
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    (well_formed && known && !is_zero(trace_id) && !is_zero(parent_id)).then_some(Parent { trace_id, flags })
}

/// `traceparent` and, where there is one, `tracestate` of an attempt.
pub(crate) fn outbound(event: &Event, attempt_id: Uuid) -> (String, Option<String>) {
    let came_with = |wanted: &str| {
        let mut found = decode_headers(&event.headers).filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        // Twice is once too often to know which is meant.
        match (found.next(), found.next()) {
            (Some((_, value)), None) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    };
    match came_with(TRACEPARENT).and_then(|text| parse(text.trim())) {
        Some(Parent { trace_id, flags }) => {
            let state = came_with(TRACESTATE).filter(|state| state.len() <= TRACESTATE_BYTES_MAX);
            (format!("00-{trace_id}-{:016x}-{flags}", span_id(attempt_id)), state.map(str::to_owned))
        }
        None => (own_traceparent(event.id, attempt_id), None),
    }
}

/// Of an event that came with no trace.
pub(crate) fn own_traceparent(event_id: EventId, attempt_id: Uuid) -> String {
    format!("00-{:032x}-{:016x}-00", event_id.0.as_u128(), span_id(attempt_id))
}

/// Of an id the end is random; it is never all zeros, for it holds the variant.
fn span_id(attempt_id: Uuid) -> u64 {
    attempt_id.as_u128() as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::Utc;

    use super::*;
    use crate::headers::encode_headers;
    use crate::id::{DEFAULT_TENANT, EventId};

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const ATTEMPT: Uuid = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);

    fn event(headers: &[(&str, &str)]) -> Event {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        Event {
            id: EventId(Uuid::from_u128(0x0190_1111_2222_7333_8444_5555_6666_7777)),
            tenant_id: DEFAULT_TENANT,
            source_id: None,
            event_type: "a".into(),
            channel: None,
            content_type: String::new(),
            headers: encode_headers(headers, 10_000),
            body: Bytes::new(),
            time: Utc::now(),
        }
    }

    #[test]
    fn a_trace_goes_on_and_its_state_with_it() {
        let came = event(&[("traceparent", GIVEN), ("tracestate", "congo=t61rcWkgMzE")]);
        let (parent, state) = outbound(&came, ATTEMPT);
        assert_eq!(parent, "00-0af7651916cd43dd8448eb211c80319c-a716446655440000-01");
        assert_eq!(state.as_deref(), Some("congo=t61rcWkgMzE"));
    }

    #[test]
    fn without_a_trace_one_begins_which_is_the_same_at_every_attempt() {
        let own = "00-01901111222273338444555566667777-a716446655440000-00";
        let long = "x".repeat(513);
        for headers in [
            &[][..],
            &[("traceparent", "garbage"), ("tracestate", "a=b")],
            &[("traceparent", GIVEN), ("traceparent", GIVEN)],
        ] {
            assert_eq!(outbound(&event(headers), ATTEMPT), (own.into(), None), "{headers:?}");
        }
        assert_eq!(outbound(&event(&[("traceparent", GIVEN), ("tracestate", &long)]), ATTEMPT).1, None);
    }

    #[test]
    fn what_is_a_traceparent() {
        assert!(is_valid(GIVEN) && is_valid(&format!("01{}-more", &GIVEN[2..])));
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
