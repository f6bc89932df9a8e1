//! The template of the signed bytes, taken apart once and then fed piece by piece to the MAC.
//!
//! | written | stands for |
//! |---|---|
//! | `{body}` | the exact bytes of the body |
//! | `{body_sha256_hex}` | their SHA-256 in lower-case hex |
//! | `{body_crc32_dec}` | their CRC-32 in decimal |
//! | `{secret}` | the secret, for plain hashes |
//! | `{timestamp}` | the timestamp exactly as received |
//! | `{id}` | the value at `event_id` |
//! | `{method}` | the method in capitals |
//! | `{url}`, `{url_no_query}` | the URL as the caller saw it |
//! | `{url_unescaped}` | the URL without the percent-escapes of the characters in the scheme's `url_unescape` |
//! | `{path_query}` | path and query as received |
//! | `{path_query_escaped}` | the same with the whole query escaped as one component |
//! | `{url_with_sorted_form}` | the URL with its query in order, and the form behind it |
//! | `{form_sorted_concat}` | names and values of the form in order, without separators |
//! | `{form_php_serialized}` | the form as PHP serializes it in order, without the signature |
//! | `{signed_headers}`, `{json_fields}` | what the scheme's fields of these names say |
//! | `{header:N}`, `{query:N}`, `{json:/ptr}`, `{form:N}`, `{form-json:N#/ptr}` | a value of the request; with `?` behind it, empty where it is missing |
//! | `{mac_hex:SOURCE}`, `{mac_base64:SOURCE}` | such a value signed with the newest secret; in answers only |
//! | `{{`, `}}` | a brace |

use std::fmt::Write as _;

use super::describe::Encoding;
use super::limits;
use super::request::InboundRequest;
use super::source::{JsonPointer, Source, SourceError};

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Body,
    BodySha256Hex,
    BodyCrc32Dec,
    Timestamp,
    Id,
    Method,
    Url,
    UrlNoQuery,
    UrlUnescaped,
    PathQuery,
    PathQueryEscaped,
    UrlWithSortedForm,
    Secret,
    FormSortedConcat,
    FormPhpSerialized,
    SignedHeaders,
    JsonFields,
    Value { source: Source, optional: bool },
    Mac { source: Source, encoding: Encoding },
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

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether the signature speaks of what the event says, all of it or the fields meant to be signed.
    pub(super) fn binds_body(&self) -> bool {
        let is_field = |part: &Part| matches!(part, Part::Value { source: Source::Form(_), .. });
        self.binds_all_fields() || self.parts.iter().any(is_field)
    }

    /// Whether no field of the body can be changed; a signed field alone says so only where it holds all there is.
    pub(super) fn binds_all_fields(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(
                part,
                Part::Body
                    | Part::BodySha256Hex
                    | Part::BodyCrc32Dec
                    | Part::FormSortedConcat
                    | Part::FormPhpSerialized
                    | Part::UrlWithSortedForm
                    | Part::JsonFields
            )
        })
    }

    /// Whether each byte of the body counts.
    pub(super) fn binds_every_byte(&self) -> bool {
        self.has(&Part::Body) || self.has(&Part::BodySha256Hex)
    }

    pub(super) fn has_timestamp(&self) -> bool {
        self.has(&Part::Timestamp)
    }

    pub(super) fn has_id(&self) -> bool {
        self.has(&Part::Id)
    }

    pub(super) fn has(&self, part: &Part) -> bool {
        self.parts.contains(part)
    }

    /// Whether it asks for a signature itself.
    pub(crate) fn has_mac(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Mac { .. }))
    }

    /// Whether it is made of literals and values of the request alone.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |part: &Part| matches!(part, Part::Literal(_) | Part::Value { .. } | Part::Mac { .. });
        self.parts.iter().all(plain)
    }

    pub(crate) fn pointers(&self) -> impl Iterator<Item = &JsonPointer> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value { source, .. } | Part::Mac { source, .. } => source.as_json(),
            _ => None,
        })
    }

    /// The values of the request it is made of.
    pub(super) fn values(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value { source, .. } | Part::Mac { source, .. } => Some(source),
            _ => None,
        })
    }

    /// The text of a plain template, or `None` where a value is missing or is no text. `mac` signs
    /// what has to be signed.
    pub(crate) fn render(
        &self,
        request: &InboundRequest<'_>,
        mac: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value { source, optional } => match request.get(source).ok()? {
                    Some(value) => out.push_str(std::str::from_utf8(&value).ok()?),
                    None if *optional => {}
                    None => return None,
                },
                Part::Mac { source, encoding } => {
                    let signed = mac(request.get(source).ok()??.as_ref())?;
                    write!(out, "{}", encoding.encode(&signed)).ok()?;
                }
                _ => return None,
            }
        }
        Some(out)
    }
}

impl Part {
    fn parse(name: &str, at: usize) -> Result<Self, ContentError> {
        Ok(match name {
            "body" => Self::Body,
            "body_sha256_hex" => Self::BodySha256Hex,
            "body_crc32_dec" => Self::BodyCrc32Dec,
            "path_query_escaped" => Self::PathQueryEscaped,
            "url_with_sorted_form" => Self::UrlWithSortedForm,
            "secret" => Self::Secret,
            "form_sorted_concat" => Self::FormSortedConcat,
            "form_php_serialized" => Self::FormPhpSerialized,
            "signed_headers" => Self::SignedHeaders,
            "json_fields" => Self::JsonFields,
            "timestamp" => Self::Timestamp,
            "id" => Self::Id,
            "method" => Self::Method,
            "url" => Self::Url,
            "url_no_query" => Self::UrlNoQuery,
            "url_unescaped" => Self::UrlUnescaped,
            "path_query" => Self::PathQuery,
            _ if name.starts_with("mac_hex:") || name.starts_with("mac_base64:") => {
                let (function, written) = name.split_once(':').unwrap_or((name, ""));
                let source = written.parse().map_err(|fault| ContentError::Source { at, fault })?;
                let encoding = if function == "mac_hex" { Encoding::Hex } else { Encoding::Base64 };
                Self::Mac { source, encoding }
            }
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

    use super::super::fill::{Gap, SchemeFields, Values};
    use super::*;

    fn fill(template: &str) -> Result<String, Gap> {
        let mut headers = HeaderMap::new();
        headers.append("x-nonce", "n".parse().unwrap());
        let request = InboundRequest::new("PUT", "/in?q=1", &headers, br#"{"a":"b"}"#);
        let values = Values {
            timestamp: b"17",
            id: b"msg_1",
            origin: "https://hooks.example.com",
            secret: b"hush",
            fields: &SchemeFields::default(),
        };
        let mut out = Vec::new();
        values.feed(&Content::parse(template).unwrap(), &request, |piece| out.extend_from_slice(piece))?;
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
        assert_eq!(fill("{body_crc32_dec}").unwrap(), "1811307676");
        assert_eq!(fill("{secret}{path_query_escaped}").unwrap(), "hush/in?q%253D1");
        assert_eq!(fill("{header:x-gone}"), Err(Gap::Missing("header:x-gone".parse().unwrap())));
    }

    #[test]
    fn faults_have_a_place() {
        for (template, fault) in [
            ("a{body", "the brace at byte 1 has no partner; a brace itself is written twice"),
            ("a}b", "the brace at byte 1 has no partner; a brace itself is written twice"),
            ("é{nope}", "at byte 2: `{nope}` is not known"),
            ("{form:}", "at byte 0: the field of the form has no name"),
        ] {
            assert_eq!(Content::parse(template).unwrap_err().to_string(), fault);
        }
        assert_eq!(Content::parse(&"x".repeat(2000)), Err(ContentError::Length));
        assert_eq!(Content::parse(&"{id}".repeat(33)), Err(ContentError::Parts));
    }
}
