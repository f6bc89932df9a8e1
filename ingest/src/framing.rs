//! Watches where the requests of an HTTP/1 connection end.
//!
//! A request that gives its length twice over, as `Content-Length` and as `Transfer-Encoding`, may have
//! been cut differently by whatever stands before us (RFC 9112, section 6.1: request smuggling). The
//! been cut differently by whatever stands before us (RFC 9112, section 6.1: request smuggling), and so may
//! one whose lines end in a line feed alone. The HTTP library takes the one length and forgets the other,
//! and lets such lines be, so both are seen here, on the way in. Nothing is decided from what this reads
//! but to refuse; the bodies are the library's. Where it cannot follow, it does not guess: a body is cut off
//! there, and what the library still takes for a request behind that is refused.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of a line as much is looked at; no line that matters is longer.
const LINE_SEEN_MAX: usize = 64;
/// The library's numbers end a little before those of 64 bits; a length above all use is made malformed,
/// which it answers with 400.
const LENGTH_MAX: u64 = u64::MAX >> 1;

/// Why others may see another request than we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// `Content-Length` and `Transfer-Encoding`.
    TwoLengths,
    /// A line of the head ends without a carriage return: elsewhere it may be part of the next one.
    LineFeed,
    /// What came before it is none of what we know how to read.
    Beginning,
}

/// What is known of a connection's requests and answers.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    /// The first request that is in doubt; all behind it are, too.
    doubt: OnceLock<(u64, Doubt)>,
    requests: AtomicU64,
    /// Answers of ours that the library does not have in full.
    answers_underway: AtomicU64,
}

impl Framing {
    /// Counts a request, and says what is in doubt. Requests of HTTP/1 are counted in the order they came
    /// in.
    pub(crate) fn next_request(&self) -> Option<Doubt> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let (first, doubt) = *self.doubt.get()?;
        (number >= first).then_some(if number == first { doubt } else { Doubt::Beginning })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn answer_begins(&self) {
        self.answers_underway.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn answer_ends(&self) {
        self.answers_underway.fetch_sub(1, Ordering::Relaxed);
    }

    /// False: what the library writes now is its own.
    pub(crate) fn is_answering(&self) -> bool {
        self.answers_underway.load(Ordering::Relaxed) > 0
    }

    /// Reads on, and remembers the first doubt: nothing is scanned behind it. How many of the bytes may be
    /// handed on.
    pub(crate) fn scan(&self, scanner: &mut Scanner, bytes: &mut [u8]) -> usize {
        let fine = scanner.feed(bytes);
        if let Some(doubt) = scanner.doubt {
            self.doubt.get_or_init(|| doubt);
        }
        fine
    }
}

/// Follows the requests of one connection, byte by byte.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    /// Of the line that is being read.
    line: [u8; LINE_SEEN_MAX],
    line_length: usize,
    /// The last byte that was read of it.
    ends_in_cr: bool,
    head: Head,
    /// Heads that are complete.
    heads: u64,
    doubt: Option<(u64, Doubt)>,
    /// In the middle of a body: nothing of it is handed on any more.
    is_broken: bool,
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
#[allow(clippy::struct_excessive_bools, reason = "what was seen, each by itself")]
struct Head {
    has_begun: bool,
    length: Option<u64>,
    has_length: bool,
    has_encoding: bool,
    has_bare_line_feed: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        let (state, head) = (State::Head, Head::default());
        Self {
            state,
            line: [0; LINE_SEEN_MAX],
            line_length: 0,
            ends_in_cr: false,
            head,
            heads: 0,
            doubt: None,
            is_broken: false,
        }
    }
}

impl Scanner {
    /// Whether the body that was being read has no end that all would see.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Reads on; how much of it may be handed on.
    fn feed(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Over {
            let left = &mut bytes[at..];
            at += match self.state {
                State::Body(length) => self.skip(left.len(), length, State::Body, State::Head),
                State::Chunk(length) => self.skip(left.len(), length, State::Chunk, State::ChunkEnd),
                _ => {
                    let is_in_body = self.state != State::Head;
                    let Some(end) = self.read_line(left) else { break };
                    self.end_of_line(&mut left[..end]);
                    self.is_broken = is_in_body && self.state == State::Over;
                    if self.is_broken {
                        return at;
                    }
                    end + 1
                }
            };
        }
        bytes.len()
    }

    /// Nothing is read any more: whatever the library takes from here on is refused.
    fn lose_track(&mut self) {
        self.doubt = Some((self.heads, Doubt::Beginning));
        self.state = State::Over;
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
        if let Some(last) = part.last() {
            self.ends_in_cr = *last == b'\r';
        }
        self.line_length = self.line_length.saturating_add(part.len());
        end
    }

    /// `end` is what is at hand of the line before its feed.
    fn end_of_line(&mut self, end: &mut [u8]) {
        let length = std::mem::take(&mut self.line_length);
        let is_whole = std::mem::take(&mut self.ends_in_cr);
        let seen = self.line;
        let line = &seen[..length.min(LINE_SEEN_MAX)];
        let line = if length <= LINE_SEEN_MAX { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        match self.state {
            State::Head if line.is_empty() => self.end_of_head(is_whole),
            State::Head => self.line_of_head(line, length, is_whole, end),
            // In a body the library has line feeds alone for no end of a line, or for an error.
            _ if !is_whole => self.lose_track(),
            State::ChunkSize => match chunk_size(line) {
                Some(state) => self.state = state,
                None => self.lose_track(),
            },
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => self.lose_track(),
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Over => {}
        }
    }

    fn line_of_head(&mut self, line: &[u8], length: usize, is_whole: bool, end: &mut [u8]) {
        let is_first = self.heads == 0 && !self.head.has_begun;
        self.head.has_bare_line_feed |= !is_whole;
        match self.head.read(line, length) {
            Field::Fine => {}
            // All of HTTP/2 comes behind that.
            Field::Preface if is_first => self.state = State::Over,
            Field::Preface | Field::Refused => self.lose_track(),
            Field::BeyondUse => {
                // Its last digit, or the carriage return: the line is none any more, and the end of the
                // head is still found. Where neither is at hand the library says 431.
                if let Some(last) = end.last_mut() {
                    *last = b'x';
                }
                self.lose_track();
            }
        }
    }

    fn end_of_head(&mut self, is_whole: bool) {
        // Empty lines before a request are passed over.
        if !self.head.has_begun {
            return;
        }
        let head = std::mem::take(&mut self.head);
        let doubt = match (head.has_encoding && head.has_length, head.has_bare_line_feed || !is_whole) {
            (true, _) => Some(Doubt::TwoLengths),
            (false, true) => Some(Doubt::LineFeed),
            (false, false) => None,
        };
        self.doubt = doubt.map(|doubt| (self.heads, doubt));
        self.heads += 1;
        self.state = match head.length {
            _ if self.doubt.is_some() => State::Over,
            _ if head.has_encoding => State::ChunkSize,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Head,
        };
    }
}

/// What a line of a head means for what comes after it.
enum Field {
    Fine,
    /// Of HTTP/2 (RFC 9113, section 3.4).
    Preface,
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
            return if line.starts_with(b"PRI * HTTP/2") { Field::Preface } else { Field::Fine };
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

/// `None`: no size, or one that is not seen to its end.
fn chunk_size(line: &[u8]) -> Option<State> {
    let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
    match number(digits, 16).filter(|_| digits.len() < LINE_SEEN_MAX)? {
        0 => Some(State::Trailers),
        size => Some(State::Chunk(size)),
    }
}

#[cfg(test)]
mod tests;
