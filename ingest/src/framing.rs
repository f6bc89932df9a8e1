//! Watches where the requests of an HTTP/1 connection end.
//!
//! A request that gives its length twice over, as `Content-Length` and as `Transfer-Encoding`, may have
//! been cut differently by whatever stands before us (RFC 9112, section 6.1: request smuggling). The
//! HTTP library takes the one and forgets the other, so it is seen here, on the way in. Nothing is
//! decided from what this reads but to refuse; the bodies are the library's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of a line as much is looked at; no line that matters is longer.
const LINE_SEEN_MAX: usize = 64;
/// The library's numbers end a little before those of 64 bits; a length above all use is made malformed,
/// which it answers with 400.
const LENGTH_MAX: u64 = u64::MAX >> 1;

/// Which request of the connection was the first with two lengths.
#[derive(Debug)]
pub(crate) struct Framing {
    first_ambiguous: AtomicU64,
}

impl Default for Framing {
    fn default() -> Self {
        Self { first_ambiguous: AtomicU64::new(u64::MAX) }
    }
}

impl Framing {
    /// Whether the end of this request is in doubt, or of one before it; the first is number 0.
    pub(crate) fn is_ambiguous(&self, number: u64) -> bool {
        number >= self.first_ambiguous.load(Ordering::Relaxed)
    }
}

/// A connection whose requests are watched.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    scanner: Scanner,
    framing: Arc<Framing>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, framing: Arc<Framing>) -> Self {
        Self { stream, scanner: Scanner::default(), framing }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.scanner.feed(&mut buffer.filled_mut()[before..]) {
            this.framing.first_ambiguous.fetch_min(this.scanner.heads - 1, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Debug)]
struct Scanner {
    state: State,
    /// Of the line that is being read.
    line: [u8; LINE_SEEN_MAX],
    line_length: usize,
    head: Head,
    /// Heads that are complete.
    heads: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// HTTP/2, or nothing that will be read any further.
    Over,
}

/// What is known of the head that is being read.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    has_begun: bool,
    length: Option<u64>,
    has_length: bool,
    has_encoding: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { state: State::Head, line: [0; LINE_SEEN_MAX], line_length: 0, head: Head::default(), heads: 0 }
    }
}

impl Scanner {
    /// Reads on; true when the head that was read last has two lengths.
    fn feed(&mut self, mut bytes: &mut [u8]) -> bool {
        while !bytes.is_empty() && self.state != State::Over {
            let rest = match self.state {
                State::Body(left) => self.skip(bytes.len(), left, State::Body, State::Head),
                State::Chunk(left) => self.skip(bytes.len(), left, State::Chunk, State::ChunkEnd),
                _ => match self.read_line(bytes) {
                    Some(end) => {
                        if self.end_of_line(&mut bytes[..end]) {
                            return true;
                        }
                        end + 1
                    }
                    None => return false,
                },
            };
            bytes = &mut bytes[rest..];
        }
        false
    }

    fn skip(&mut self, available: usize, left: u64, stay: fn(u64) -> State, next: State) -> usize {
        let taken = left.min(available as u64);
        self.state = if taken == left { next } else { stay(left - taken) };
        taken as usize
    }

    /// Where the line ends, if it does; its beginning is kept.
    fn read_line(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let from = self.line_length.min(LINE_SEEN_MAX);
        let seen = part.len().min(LINE_SEEN_MAX - from);
        self.line[from..from + seen].copy_from_slice(&part[..seen]);
        self.line_length = self.line_length.saturating_add(part.len());
        end
    }

    /// `end` is what is at hand of the line before its feed.
    fn end_of_line(&mut self, end: &mut [u8]) -> bool {
        let length = std::mem::take(&mut self.line_length);
        let seen = self.line;
        let line = &seen[..length.min(LINE_SEEN_MAX)];
        let line = if length <= LINE_SEEN_MAX { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        match self.state {
            State::Head if line.is_empty() => return self.end_of_head(),
            State::Head => match self.head.read(line, length) {
                Field::Fine => {}
                Field::Refused => self.state = State::Over,
                Field::BeyondUse => {
                    // Its last digit, or the carriage return: the line is none any more, and the end of the
                    // head is still found. Where neither is at hand the library says 431.
                    if let Some(last) = end.last_mut() {
                        *last = b'x';
                    }
                    self.state = State::Over;
                }
            },
            State::ChunkSize => self.state = chunk_size(line),
            State::ChunkEnd => self.state = if line.is_empty() { State::ChunkSize } else { State::Over },
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Over => {}
        }
        false
    }

    fn end_of_head(&mut self) -> bool {
        // Empty lines before a request are passed over.
        if !self.head.has_begun {
            return false;
        }
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        if head.has_encoding && head.has_length {
            self.state = State::Over;
            return true;
        }
        self.state = match head.length {
            _ if head.has_encoding => State::ChunkSize,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Head,
        };
        false
    }
}

/// What a line of a head means for what comes after it.
enum Field {
    Fine,
    /// The library will not read on.
    Refused,
    /// The library would, or not say well why it does not.
    BeyondUse,
}

impl Head {
    /// `length` is that of the whole line.
    fn read(&mut self, line: &[u8], length: usize) -> Field {
        // The request line is none of the fields.
        if !std::mem::replace(&mut self.has_begun, true) {
            return if line.starts_with(b"PRI * HTTP/2") { Field::Refused } else { Field::Fine };
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return Field::Fine };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.has_length = true;
            if length > LINE_SEEN_MAX {
                return Field::BeyondUse;
            }
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Field::Refused;
            }
            let Some(number) = number(value, 10).filter(|number| *number <= LENGTH_MAX) else {
                return Field::BeyondUse;
            };
            // A second one that differs is refused by the library.
            self.length = self.length.or(Some(number));
        }
        Field::Fine
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

fn chunk_size(line: &[u8]) -> State {
    let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
    match number(digits, 16) {
        Some(0) => State::Trailers,
        Some(size) => State::Chunk(size),
        None => State::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the heads, and of those the first ambiguous one; the same however it is cut.
    fn watch(text: &str) -> (u64, Option<u64>) {
        let mut whole = Scanner::default();
        let mut bytes = text.as_bytes().to_vec();
        let at_once = whole.feed(&mut bytes).then(|| whole.heads - 1);
        let mut cut = Scanner::default();
        let mut one_by_one = None;
        for byte in text.as_bytes() {
            if cut.feed(&mut [*byte]) {
                one_by_one = Some(cut.heads - 1);
            }
        }
        assert_eq!((at_once, whole.heads), (one_by_one, cut.heads), "{text}");
        (whole.heads, at_once)
    }

    const PLAIN: &str = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    const CHUNKED: &str = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n\r\n\r\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";

    #[test]
    fn a_request_with_two_lengths_is_found_wherever_it_stands() {
        for twice in [
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:4\r\n\r\n",
            "POST / HTTP/1.1\nTransfer-Encoding: gzip, chunked\nContent-Length: 4\n\n",
        ] {
            assert_eq!(watch(twice), (1, Some(0)));
            assert_eq!(watch(&format!("{PLAIN}{CHUNKED}\r\n{twice}{PLAIN}")), (3, Some(2)));
        }
    }

    #[test]
    fn bodies_are_never_read_as_heads() {
        let hidden = "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        let within = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
        assert_eq!(watch(&format!("{within}{PLAIN}")), (2, None));
        let in_a_chunk = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n{PLAIN}",
            hidden.len()
        );
        assert_eq!(watch(&in_a_chunk), (2, None));
        assert_eq!(watch(&format!("{PLAIN}GET / HTTP/1.1\r\n\r\n{CHUNKED}{PLAIN}")), (4, None));
        assert_eq!(watch("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nContent-Length: 1\r\n\r\n"), (0, None));
    }

    #[test]
    fn a_length_beyond_all_use_becomes_malformed_and_nothing_else_is_touched() {
        let fed = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            assert!(!Scanner::default().feed(&mut bytes));
            String::from_utf8(bytes).unwrap()
        };
        for fine in [PLAIN, CHUNKED, "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
            assert_eq!(fed(fine), fine);
        }
        let text = |length: &str| format!("POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{{}}");
        for length in ["18446744073709551615", "9223372036854775808", "99999999999999999999999"] {
            let malformed = text(length).replacen(&format!("{length}\r"), &format!("{length}x"), 1);
            assert_eq!(fed(&text(length)), malformed);
        }
        assert_eq!(fed(&text("9223372036854775807")), text("9223372036854775807"));
        let padded = text(&format!("{}2", " ".repeat(100)));
        assert_eq!(fed(&padded), padded.replacen("2\r\n\r", "2x\n\r", 1));
    }
}
