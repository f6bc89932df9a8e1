//! An inbound request as the engine sees it: raw bytes, and values looked up by [`Source`].

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;

use super::error::Malformed;
use super::form::{self, Field};
use super::json::{self, JsonFault};
use super::key::BASE64;
use super::limits;
use super::source::{JsonPointer, Source};
use super::xml;

/// What stands between the values of a header that is there more than once.
pub(super) const JOINT: &str = ", ";

/// A value and where it stood.
pub type Found<'s, 'a> = (&'s Source, Cow<'a, [u8]>);

/// Borrowed from the server for as long as verification takes.
pub struct InboundRequest<'a> {
    method: &'a str,
    /// Scheme and authority as the caller saw them, such as `https://hooks.example.com`.
    public_url: Option<&'a str>,
    path_and_query: &'a str,
    headers: &'a HeaderMap,
    body: &'a [u8],
    pointers: &'a [JsonPointer],
    /// The body is read as JSON at most once, when the first `json:` source is asked for.
    fields: OnceLock<Result<Vec<Option<&'a RawValue>>, JsonFault>>,
    /// The body is read as a form at most once, in the same way.
    form: OnceLock<Result<Vec<Field<'a>>, Malformed>>,
}

impl<'a> InboundRequest<'a> {
    pub fn new(method: &'a str, path_and_query: &'a str, headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        Self {
            method,
            public_url: None,
            path_and_query,
            headers,
            body,
            pointers: &[],
            fields: OnceLock::new(),
            form: OnceLock::new(),
        }
    }

    /// Scheme and authority as the caller saw them, for schemes that sign the URL.
    #[must_use]
    pub fn with_public_url(mut self, public_url: &'a str) -> Self {
        self.public_url = Some(public_url.trim_end_matches('/'));
        self
    }

    /// The `json:` values that may be asked for, so that one pass finds them all; see
    /// [`crate::preset::Preset::pointers`]. Others cost a pass of their own.
    #[must_use]
    pub fn with_pointers(mut self, pointers: &'a [JsonPointer]) -> Self {
        self.pointers = pointers;
        self
    }

    pub fn method(&self) -> &'a str {
        self.method
    }

    pub fn path_and_query(&self) -> &'a str {
        self.path_and_query
    }

    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn public_url(&self) -> Option<&'a str> {
        self.public_url
    }

    /// Whether the body is JSON, and if not, where it breaks.
    pub fn check_json(&self) -> Result<(), JsonFault> {
        self.fields().map(|_| ())
    }

    /// The value at `source`, or `None` where there is none. A body is asked for the fields of a form or for
    /// members of its JSON as its content type has it: a form has no members, and JSON no fields.
    pub fn get(&self, source: &Source) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        match source {
            Source::Header(name) => self.header(&name.0),
            Source::Query(name) => Ok(self.query(name)),
            Source::Json(pointer) => self.json(pointer),
            Source::Form(field) => Ok(self.field(field)?.cloned()),
            Source::FormJson(field, pointer) => match self.field(field)? {
                Some(value) => {
                    let raw = json::find(value, std::slice::from_ref(pointer))?.first().copied().flatten();
                    Ok(raw.and_then(json::text_of).map(|text| Cow::Owned(text.into_owned().into_bytes())))
                }
                None => Ok(None),
            },
            Source::FormXml(field, pointer) => Ok(self.field(field)?.and_then(|value| {
                let unbroken: Vec<u8> = value.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                let document = String::from_utf8(BASE64.decode(unbroken).ok()?).ok()?;
                xml::text_at(&document, pointer).map(|text| Cow::Owned(text.into_bytes()))
            })),
        }
    }

    /// How often the place is there: more than once only for a header.
    pub(super) fn times(&self, source: &Source) -> usize {
        source.as_header().map_or(1, |name| self.headers.get_all(name).iter().count())
    }

    fn field(&self, name: &str) -> Result<Option<&Cow<'a, [u8]>>, Malformed> {
        // The word of the content type is not enough: what is no JSON is read for its fields all the same.
        if form::is_json(self.content_type()) && self.check_json().is_ok() {
            return Ok(None);
        }
        form::only(self.form()?, name)
    }

    fn content_type(&self) -> Option<&'a [u8]> {
        self.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes)
    }

    /// The fields of the form in the body, in their order.
    pub(super) fn form(&self) -> Result<&[Field<'a>], Malformed> {
        match self.form.get_or_init(|| form::fields(self.content_type(), self.body)) {
            Ok(fields) => Ok(fields),
            Err(fault) => Err(fault.clone()),
        }
    }

    /// The first source that is there, with its value.
    pub fn first<'s>(&self, sources: &'s [Source]) -> Result<Option<Found<'s, 'a>>, (&'s Source, Malformed)> {
        for source in sources {
            if let Some(value) = self.get(source).map_err(|fault| (source, fault))? {
                return Ok(Some((source, value)));
            }
        }
        Ok(None)
    }

    /// A header's value; repeated ones are joined with `, `.
    pub fn header(&self, name: &HeaderName) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        let mut values = self.headers.get_all(name).iter();
        let Some(first) = values.next() else { return Ok(None) };
        let mut joined = Cow::Borrowed(first.as_bytes());
        for value in values {
            let joined = joined.to_mut();
            joined.extend_from_slice(JOINT.as_bytes());
            joined.extend_from_slice(value.as_bytes());
            if joined.len() > limits::HEADER_BYTES_MAX {
                break;
            }
        }
        if joined.len() > limits::HEADER_BYTES_MAX {
            return Err(Malformed::TooLong { max_bytes: limits::HEADER_BYTES_MAX });
        }
        Ok(Some(joined))
    }

    fn query(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let (_, query) = self.path_and_query.split_once('?')?;
        let (_, value) = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?;
        Some(match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    fn json(&self, pointer: &JsonPointer) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        let found = match self.pointers.iter().position(|known| known == pointer) {
            Some(slot) => self.fields().map(|fields| fields.get(slot).copied().flatten()),
            None => json::find(self.body, std::slice::from_ref(pointer))
                .map(|found| found.first().copied().flatten()),
        };
        let raw = match found {
            Ok(raw) => raw,
            Err(_) if form::is_form(self.content_type()) => None,
            Err(fault) => return Err(Malformed::Json(fault)),
        };
        Ok(raw.and_then(json::text_of).map(|text| match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }))
    }

    /// What stands at `pointer` as it is written in the body.
    pub(crate) fn raw_json(&self, pointer: &JsonPointer) -> Option<&'a str> {
        let found = json::find(self.body, std::slice::from_ref(pointer)).ok()?;
        found.first().copied().flatten().map(RawValue::get)
    }

    fn fields(&self) -> Result<&[Option<&'a RawValue>], JsonFault> {
        match self.fields.get_or_init(|| json::find(self.body, self.pointers)) {
            Ok(fields) => Ok(fields),
            Err(fault) => Err(fault.clone()),
        }
    }
}

/// Headers and body may hold secrets and are left out.
impl fmt::Debug for InboundRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundRequest")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(request: &InboundRequest<'_>, source: &str) -> Option<String> {
        let value = request.get(&source.parse().unwrap()).unwrap()?;
        Some(String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn values_of_every_kind() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        let pointers = ["/a".parse().unwrap()];
        let request = InboundRequest::new("POST", "/in?a=b%20c&d=&a=z", &headers, br#"{"a":"x","b":2}"#)
            .with_pointers(&pointers);
        assert_eq!(value(&request, "header:X-A").as_deref(), Some("1, 2"));
        assert_eq!(value(&request, "header:x-b"), None);
        assert_eq!(value(&request, "query:a").as_deref(), Some("b c"));
        assert_eq!(value(&request, "query:d").as_deref(), Some(""));
        assert_eq!(value(&request, "query:e"), None);
        assert_eq!(value(&request, "json:/a").as_deref(), Some("x"));
        assert_eq!(value(&request, "json:/b").as_deref(), Some("2"));
        request.check_json().unwrap();
    }

    #[test]
    fn a_header_has_a_limit() {
        let mut headers = HeaderMap::new();
        for _ in 0..3 {
            headers.append("x-a", "a".repeat(limits::HEADER_BYTES_MAX / 2).parse().unwrap());
        }
        let request = InboundRequest::new("POST", "/", &headers, b"");
        assert!(matches!(request.get(&"header:x-a".parse().unwrap()), Err(Malformed::TooLong { .. })));
    }

    #[test]
    fn debug_holds_no_content() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "hush".parse().unwrap());
        let request = InboundRequest::new("POST", "/?token=hush", &headers, b"hush");
        assert!(!format!("{request:?}").contains("hush"));
    }
}
