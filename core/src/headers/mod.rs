//! Headers as they are stored: short, because they are much of what is written for each event and attempt.
//!
//! A block holds a line for each header, ended by a line feed, which neither name nor value can hold: `name: value`
//! in raw bytes, or one byte that stands for a [well-known name](names) and then the value. The log of attempts
//! leaves out what follows from its ids, too ([`attempt`]).

mod attempt;
mod names;

use bytes::Bytes;

pub use attempt::{AttemptIds, encode_attempt_headers, expand_attempt_headers};

const SEPARATOR: &[u8] = b": ";

/// A block of `headers`, as far as they fit: it ends before the one with which `name: value\n` of all would be
/// longer than `limit_bytes`.
pub fn encode_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    limit_bytes: usize,
) -> Bytes {
    let mut out = Vec::new();
    for (name, value) in within(headers, limit_bytes) {
        push(&mut out, name, value);
    }
    out.into()
}

/// The inverse of [`encode_headers`].
pub fn decode_headers(encoded: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    encoded.split(|byte| *byte == b'\n').filter_map(|line| {
        if let Some(known) = line.first().and_then(|code| names::of_code(*code)) {
            return Some((known, &line[1..]));
        }
        let at = line.windows(SEPARATOR.len()).position(|pair| pair == SEPARATOR)?;
        Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + SEPARATOR.len()..]))
    })
}

/// Those that fit into `limit_bytes`, written out in full: how well they shorten is nothing a user could foresee.
fn within<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    limit_bytes: usize,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let mut bytes = 0;
    headers.into_iter().take_while(move |(name, value)| {
        bytes += name.len() + SEPARATOR.len() + value.len() + 1;
        bytes <= limit_bytes
    })
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if let Some(code) = names::code_of(name) {
        out.push(code);
    } else {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(SEPARATOR);
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_are_capped() {
        let headers: Vec<(&str, &[u8])> =
            vec![("x-a", b"1"), ("host", b"in.test"), ("x-b", b"a: b \xff"), ("Host", b": "), ("x-c", b"")];
        let encoded = encode_headers(headers.clone(), 1000);
        assert_eq!(decode_headers(&encoded).collect::<Vec<_>>(), headers);
        for (limit, kept) in [(6, 0), (7, 1), (20, 1), (21, 2), (32, 2)] {
            let capped = encode_headers(headers.clone(), limit);
            assert_eq!(decode_headers(&capped).collect::<Vec<_>>(), headers[..kept], "{limit} bytes");
        }
    }

    #[test]
    fn a_well_known_name_takes_one_byte() {
        assert_eq!(encode_headers([("content-length", &b"12"[..])], 100).len(), "?12\n".len());
    }

    /// Blocks are read for as long as their days are kept: a name keeps its code.
    #[test]
    fn codes_stay_what_they_are() {
        let block = b"\x80in.test\n\x8777\nx-plain: \x80\n\xffof a later version\n";
        let expected: [(&str, &[u8]); 3] =
            [("host", b"in.test"), ("x-forwarded-for", b"77"), ("x-plain", b"\x80")];
        assert_eq!(decode_headers(block).collect::<Vec<_>>(), expected);
    }
}
