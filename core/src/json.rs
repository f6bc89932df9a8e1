//! JSON as senders write it, read whole.
//!
//! `serde_json` refuses three things that are valid JSON (RFC 8259): half of a surrogate pair in a text
//! (`"\ud83d"`, which `JSON.stringify` writes for an emoji cut in two), a number beyond the range of a double, and
//! what is nested deeper than it goes. The first is read here as U+FFFD, the second as infinite; both are
//! remembered as [`Json::Altered`], for what must not take two bodies for one. The third stays a fault, of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::IgnoredAny;

/// Arrays and objects in each other; the reader calls itself for each.
pub(crate) const DEPTH_MAX: usize = 127;

/// Why a body has no value. No message holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    #[error("is not JSON: line {line}, column {column}")]
    Form { line: usize, column: usize },
    #[error("is not JSON: byte {0} is not UTF-8")]
    Utf8(usize),
    #[error("is nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i64),
    /// Only what is no [`Self::Int`].
    Uint(u64),
    Double(f64),
    Text(String),
    Array(Vec<Self>),
    /// Of two members with one name the last counts.
    Object(BTreeMap<String, Self>),
    /// A text or a number that is not what was sent: others may be read as the same.
    Altered(Box<Self>, Alteration),
}

/// Whether anything looked at what was altered in one body; its clones are one.
#[derive(Debug, Clone, Default)]
pub struct Alteration(Arc<AtomicBool>);

impl Alteration {
    pub fn notice(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What has been noticed until now does not count.
    pub fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub fn was_noticed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// It says nothing about a value.
impl PartialEq for Alteration {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Json,
    pub alteration: Alteration,
    /// A member's name holds half of a surrogate pair: one that was read as the same may have displaced it.
    pub has_altered_names: bool,
}

pub(crate) fn read(body: &[u8]) -> Result<Document, JsonFault> {
    let text = std::str::from_utf8(body).map_err(|fault| JsonFault::Utf8(fault.valid_up_to()))?;
    // Whatever passes this is valid JSON: so the reader has no faults of form, and each is said where it stands.
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|fault| JsonFault::Form { line: fault.line(), column: fault.column() })?;
    let mut reader = Reader { text, at: 0, alteration: Alteration::default(), has_altered_names: false };
    let root = reader.value(0)?;
    Ok(Document { root, alteration: reader.alteration, has_altered_names: reader.has_altered_names })
}

/// For where values can only be those of `serde_json`: it has no infinite number. It stands there as the text
/// that JavaScript reads as that number.
impl From<Json> for serde_json::Value {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => flag.into(),
            Json::Int(number) => number.into(),
            Json::Uint(number) => number.into(),
            Json::Double(number) => serde_json::Number::from_f64(number)
                .map_or_else(|| (if number < 0.0 { "-Infinity" } else { "Infinity" }).into(), Self::Number),
            Json::Text(text) => text.into(),
            Json::Array(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(members) => {
                Self::Object(members.into_iter().map(|(name, value)| (name, value.into())).collect())
            }
            Json::Altered(json, _) => (*json).into(),
        }
    }
}

/// Reads a text that is known to be JSON: what cannot be there is passed over.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    alteration: Alteration,
    has_altered_names: bool,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    /// Past blanks, and past what stands between values.
    fn next(&mut self) -> u8 {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n' | b',' | b':') {
            self.at += 1;
        }
        self.peek()
    }

    fn since(&self, begin: usize) -> &'t str {
        self.text.get(begin..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Json, JsonFault> {
        let first = self.next();
        if matches!(first, b'[' | b'{') {
            if depth == DEPTH_MAX {
                return Err(JsonFault::Depth);
            }
            self.at += 1;
            return if first == b'[' { self.array(depth) } else { self.object(depth) };
        }
        if first == b'"' {
            let (text, is_altered) = self.string();
            return Ok(self.altered(Json::Text(text), is_altered));
        }
        let begin = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'a'..=b'z' | b'E' | b'.' | b'+' | b'-') {
            self.at += 1;
        }
        Ok(match self.since(begin) {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            written => {
                let number = number(written);
                let is_altered = matches!(number, Json::Double(number) if number.is_infinite());
                self.altered(number, is_altered)
            }
        })
    }

    fn altered(&self, json: Json, is_altered: bool) -> Json {
        if is_altered { Json::Altered(Box::new(json), self.alteration.clone()) } else { json }
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonFault> {
        let mut items = Vec::new();
        while !matches!(self.next(), b']' | 0) {
            items.push(self.value(depth + 1)?);
        }
        self.at += 1;
        Ok(Json::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonFault> {
        let mut members = BTreeMap::new();
        while !matches!(self.next(), b'}' | 0) {
            let (name, is_altered) = self.string();
            self.has_altered_names |= is_altered;
            members.insert(name, self.value(depth + 1)?);
        }
        self.at += 1;
        Ok(Json::Object(members))
    }

    /// A text, and whether half of a pair was in it.
    fn string(&mut self) -> (String, bool) {
        self.at += 1;
        let (mut made, mut is_altered, mut begin) = (String::new(), false, self.at);
        loop {
            match self.peek() {
                b'\\' => {
                    made.push_str(self.since(begin));
                    self.at += 1;
                    let character = self.escape();
                    is_altered |= character.is_none();
                    made.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                    begin = self.at;
                }
                b'"' | 0 => break,
                _ => self.at += 1,
            }
        }
        made.push_str(self.since(begin));
        self.at += 1;
        (made, is_altered)
    }

    /// What stands behind a backslash; `None` for half of a pair.
    fn escape(&mut self) -> Option<char> {
        let letter = self.peek();
        self.at += 1;
        Some(match letter {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unit(),
            other => char::from(other),
        })
    }

    fn unit(&mut self) -> Option<char> {
        let first = self.hex();
        if !(0xd800..0xdc00).contains(&first) || !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            return char::from_u32(first);
        }
        let before = self.at;
        self.at += 2;
        let second = self.hex();
        if !(0xdc00..0xe000).contains(&second) {
            // It stands for itself.
            self.at = before;
            return None;
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex(&mut self) -> u32 {
        let begin = self.at;
        self.at = (self.at + 4).min(self.text.len());
        u32::from_str_radix(self.since(begin), 16).unwrap_or_default()
    }
}

/// A whole number as one where it fits, as `serde_json` has it; minus zero has none.
fn number(written: &str) -> Json {
    if written != "-0" {
        if let Ok(number) = written.parse() {
            return Json::Int(number);
        }
        if let Ok(number) = written.parse() {
            return Json::Uint(number);
        }
    }
    Json::Double(written.parse().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests;
