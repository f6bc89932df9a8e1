//! What a numbered body carries: the run, its number in the run, and when it was meant to be sent.
//!
//! The members have fixed widths, so that the sink reads them without parsing the rest.

/// Longer runs would need a wider field.
pub(crate) const NUMBER_MAX: u64 = 9_999_999_999;
const OPENING: &[u8] = br#"{"run":""#;
const RUN_AT: usize = OPENING.len();
const RUN_CHARS: usize = 10;
const NUMBER_AT: usize = RUN_AT + RUN_CHARS + br#"","n":""#.len();
const NUMBER_CHARS: usize = 10;
const INTENDED_AT: usize = NUMBER_AT + NUMBER_CHARS + br#"","at":""#.len();
const INTENDED_CHARS: usize = 20;
/// The shortest body there is: all of it but padding.
pub(crate) const BYTES_MIN: usize = INTENDED_AT + INTENDED_CHARS + br#"","pad":""}"#.len();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) run: u32,
    pub(crate) number: u64,
    /// Since 1970; 0 where no time was intended.
    pub(crate) intended_ns: u64,
}

impl Mark {
    /// A JSON body of `bytes` bytes, or of the fewest that do.
    pub(crate) fn body(self, bytes: usize) -> Vec<u8> {
        let padding = "x".repeat(bytes.saturating_sub(BYTES_MIN));
        let Self { run, number, intended_ns } = self;
        format!(r#"{{"run":"{run:010}","n":"{number:010}","at":"{intended_ns:020}","pad":"{padding}"}}"#)
            .into_bytes()
    }

    /// Reads it from a body that holds one, be it in an envelope.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let start = body.windows(OPENING.len()).position(|window| window == OPENING)?;
        let digits = |at: usize, chars: usize| -> Option<u64> {
            std::str::from_utf8(body.get(start + at..start + at + chars)?).ok()?.parse().ok()
        };
        Some(Self {
            run: digits(RUN_AT, RUN_CHARS)?.try_into().ok()?,
            number: digits(NUMBER_AT, NUMBER_CHARS)?,
            intended_ns: digits(INTENDED_AT, INTENDED_CHARS)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_also_from_within_an_envelope() {
        let mark = Mark { run: 7, number: NUMBER_MAX, intended_ns: 1_790_000_000_123_456_789 };
        let body = mark.body(512);
        assert_eq!(body.len(), 512);
        assert_eq!(Mark::read(&body), Some(mark));
        let envelope = [br#"{"type":"push","data":"#.as_slice(), &body, b"}"].concat();
        assert_eq!(Mark::read(&envelope), Some(mark));
        assert_eq!(Mark::read(&body[..60]), None);
        assert_eq!(mark.body(0).len(), BYTES_MIN);
        assert!(serde_json::from_slice::<serde_json::Value>(&mark.body(0)).is_ok());
    }
}
