//! The template of the signed bytes, taken apart once and then fed piece by piece to the MAC.
//!
//! | written | stands for |
//! |---|---|
//! | `{body}` | the exact bytes of the body |
//! | `{body_sha256_hex}` | their SHA-256 in lower-case hex |
//! | `{timestamp}` | the timestamp exactly as received |
//! | `{id}` | the value at `event_id` |
//! | `{method}` | the method in capitals |
//! | `{url}`, `{url_no_query}` | the URL as the caller saw it |
//! | `{path_query}` | path and query as received |
//! | `{header:N}`, `{query:N}`, `{json:/ptr}` | a value of the request; with `?` behind it, empty where it is missing |
//! | `{{`, `}}` | a brace |

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::error::Malformed;
use super::limits;
use super::request::InboundRequest;
use super::source::{JsonPointer, Source, SourceError};

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Body,
    BodySha256Hex,
    Timestamp,
    Id,
    Method,
    Url,
    UrlNoQuery,
    PathQuery,
    Value { source: Source, optional: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error("longer than {} bytes", limits::CONTENT_BYTES_MAX)]
    Length,
    #[error("more than {} parts", limits::CONTENT_PARTS_MAX)]
    Parts,
    #[error("the brace at byte {at} has no partner; a brace itself is written twice")]
    Brace { at: usize },
    #[error("at byte {at}: `{{{name}}}` is not known")]
    Unknown { at: usize, name: String },
    #[error("at byte {at}: {fault}")]
    Source { at: usize, fault: SourceError },
}

/// What the parts that are not in the request itself stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bindings<'a> {
    pub(super) timestamp: &'a [u8],
    pub(super) id: &'a [u8],
}

/// A value that the content needs and the request does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    Missing(Source),
    Malformed(Source, Malformed),
}

impl Content {
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        if text.len() > limits::CONTENT_BYTES_MAX {
            return Err(ContentError::Length);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(next) = text[at..].chars().next() {
            let rest = &text[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(next);
                at += 2;
            } else if next == '{' {
                let len = rest.find('}').ok_or(ContentError::Brace { at })?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(Part::parse(&rest[1..len], at)?);
                at += len + 1;
            } else if next == '}' {
                return Err(ContentError::Brace { at });
            } else {
                literal.push(next);
                at += next.len_utf8();
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.len() > limits::CONTENT_PARTS_MAX {
            return Err(ContentError::Parts);
        }
        Ok(Self { parts })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn binds_body(&self) -> bool {
        self.has(&Part::Body) || self.has(&Part::BodySha256Hex)
    }

    pub(super) fn has_timestamp(&self) -> bool {
        self.has(&Part::Timestamp)
    }

    pub(super) fn has_id(&self) -> bool {
        self.has(&Part::Id)
    }

    fn has(&self, part: &Part) -> bool {
        self.parts.contains(part)
    }

    /// Whether it is made of literals and values of the request alone.
    pub(crate) fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_) | Part::Value { .. }))
    }

    pub(crate) fn pointers(&self) -> impl Iterator<Item = &JsonPointer> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value { source: Source::Json(pointer), .. } => Some(pointer),
            _ => None,
        })
    }

    /// Hands every piece to `sink` in order; nothing is put together in memory.
    pub(super) fn feed(
        &self,
        request: &InboundRequest<'_>,
        bindings: Bindings<'_>,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), Gap> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => sink(text.as_bytes()),
                Part::Body => sink(request.body()),
                Part::BodySha256Hex => {
                    let mut text = [0u8; 64];
                    hex::encode_to_slice(Sha256::digest(request.body()), &mut text)
                        .unwrap_or_else(|_| unreachable!("32 bytes are 64 digits"));
                    sink(&text);
                }
                Part::Timestamp => sink(bindings.timestamp),
                Part::Id => sink(bindings.id),
                Part::Method => sink(request.method().as_bytes()),
                Part::Url => {
                    sink(request.public_url().unwrap_or_default().as_bytes());
                    sink(request.path_and_query().as_bytes());
                }
                Part::UrlNoQuery => {
                    sink(request.public_url().unwrap_or_default().as_bytes());
                    let path = request.path_and_query().split('?').next().unwrap_or_default();
                    sink(path.as_bytes());
                }
                Part::PathQuery => sink(request.path_and_query().as_bytes()),
                Part::Value { source, optional } => sink(&value(request, source, *optional)?),
            }
        }
        Ok(())
    }

    /// The text of a plain template, or `None` where a value is missing or is no text.
    pub(crate) fn render(&self, request: &InboundRequest<'_>) -> Option<String> {
        let mut out = Vec::new();
        let bindings = Bindings { timestamp: &[], id: &[] };
        self.feed(request, bindings, |piece| out.extend_from_slice(piece)).ok()?;
        String::from_utf8(out).ok()
    }
}

fn value<'a>(request: &InboundRequest<'a>, source: &Source, optional: bool) -> Result<Cow<'a, [u8]>, Gap> {
    match request.get(source) {
        Ok(Some(value)) => Ok(value),
        Ok(None) if optional => Ok(Cow::Borrowed(&[])),
        Ok(None) => Err(Gap::Missing(source.clone())),
        Err(fault) => Err(Gap::Malformed(source.clone(), fault)),
    }
}

impl Part {
    fn parse(name: &str, at: usize) -> Result<Self, ContentError> {
        Ok(match name {
            "body" => Self::Body,
            "body_sha256_hex" => Self::BodySha256Hex,
            "timestamp" => Self::Timestamp,
            "id" => Self::Id,
            "method" => Self::Method,
            "url" => Self::Url,
            "url_no_query" => Self::UrlNoQuery,
            "path_query" => Self::PathQuery,
            _ if name.contains(':') => {
                let (written, optional) = match name.strip_suffix('?') {
                    Some(written) => (written, true),
                    None => (name, false),
                };
                let source = written.parse().map_err(|fault| ContentError::Source { at, fault })?;
                Self::Value { source, optional }
            }
            _ => return Err(ContentError::Unknown { at, name: name.to_owned() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn fill(template: &str) -> Result<String, Gap> {
        let mut headers = HeaderMap::new();
        headers.append("x-nonce", "n".parse().unwrap());
        let request = InboundRequest::new("PUT", "/in?q=1", &headers, br#"{"a":"b"}"#)
            .with_public_url("https://hooks.example.com/");
        let mut out = Vec::new();
        let bindings = Bindings { timestamp: b"17", id: b"msg_1" };
        Content::parse(template).unwrap().feed(&request, bindings, |piece| out.extend_from_slice(piece))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_part() {
        assert_eq!(fill("{id}.{timestamp}.{body}").unwrap(), "msg_1.17.{\"a\":\"b\"}");
        assert_eq!(
            fill("{method}\n{url}|{url_no_query}|{path_query}").unwrap(),
            "PUT\nhttps://hooks.example.com/in?q=1|https://hooks.example.com/in|/in?q=1"
        );
        assert_eq!(fill("{header:x-nonce}{query:q}{json:/a}{json:/c?}{{}}").unwrap(), "n1b{}");
        assert_eq!(fill("{body_sha256_hex}").unwrap().len(), 64);
        assert_eq!(fill("{header:x-gone}"), Err(Gap::Missing("header:x-gone".parse().unwrap())));
    }

    #[test]
    fn faults_have_a_place() {
        for (template, fault) in [
            ("a{body", "the brace at byte 1 has no partner; a brace itself is written twice"),
            ("a}b", "the brace at byte 1 has no partner; a brace itself is written twice"),
            ("é{nope}", "at byte 2: `{nope}` is not known"),
            ("{form:a}", "at byte 0: `form:a` is no source: write header:NAME, query:NAME or json:/pointer"),
        ] {
            assert_eq!(Content::parse(template).unwrap_err().to_string(), fault);
        }
        assert_eq!(Content::parse(&"x".repeat(2000)), Err(ContentError::Length));
        assert_eq!(Content::parse(&"{id}".repeat(33)), Err(ContentError::Parts));
    }
}
