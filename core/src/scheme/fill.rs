//! Fills the template of what is signed, piece by piece: the body is never copied.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::canonical::{self, JsonFieldsSpec, SignedHeadersSpec};
use super::content::{Content, Part};
use super::error::Malformed;
use super::request::InboundRequest;
use super::source::Source;

/// What a scheme says of the parts that stand for several values.
#[derive(Debug, Clone, Default)]
pub(super) struct SchemeFields {
    pub(super) signed_headers: Option<SignedHeadersSpec>,
    pub(super) json_fields: Option<JsonFieldsSpec>,
    pub(super) url_unescape: String,
    /// Fields of a form that hold the signature, and so are not signed.
    pub(super) signature_fields: Vec<String>,
}

/// What the parts that are not in the request itself stand for.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) timestamp: &'a [u8],
    pub(super) id: &'a [u8],
    /// Scheme and authority as the caller saw them.
    pub(super) origin: &'a str,
    /// For plain hashes alone.
    pub(super) secret: &'a [u8],
    pub(super) fields: &'a SchemeFields,
}

/// A value that the content needs and the request does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    Missing(Source),
    Malformed(Source, Malformed),
}

impl From<(Source, Malformed)> for Gap {
    fn from((source, fault): (Source, Malformed)) -> Self {
        Self::Malformed(source, fault)
    }
}

impl Values<'_> {
    /// Hands every piece to `sink` in order.
    pub(super) fn feed(
        &self,
        content: &Content,
        request: &InboundRequest<'_>,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), Gap> {
        for part in content.parts() {
            match part {
                Part::Literal(text) => sink(text.as_bytes()),
                Part::Body => sink(request.body()),
                Part::Timestamp => sink(self.timestamp),
                Part::Id => sink(self.id),
                Part::Method => sink(request.method().as_bytes()),
                Part::Secret => sink(self.secret),
                Part::Value { source, optional } => sink(&value(request, source, *optional)?),
                Part::Url => {
                    sink(self.origin.as_bytes());
                    sink(request.path_and_query().as_bytes());
                }
                Part::UrlNoQuery => {
                    sink(self.origin.as_bytes());
                    let path = request.path_and_query().split('?').next().unwrap_or_default();
                    sink(path.as_bytes());
                }
                Part::PathQuery => sink(request.path_and_query().as_bytes()),
                made => sink(&self.make(made, request)?),
            }
        }
        Ok(())
    }

    /// The parts that have to be put together.
    fn make(&self, part: &Part, request: &InboundRequest<'_>) -> Result<Vec<u8>, Gap> {
        Ok(match part {
            Part::BodySha256Hex => hex::encode(Sha256::digest(request.body())).into_bytes(),
            Part::BodyCrc32Dec => crc32fast::hash(request.body()).to_string().into_bytes(),
            Part::PathQueryEscaped => canonical::path_query_escaped(request.path_and_query()).into_bytes(),
            Part::UrlUnescaped => {
                let url = [self.origin, request.path_and_query()].concat();
                canonical::unescape(&url, &self.fields.url_unescape)
            }
            Part::FormSortedConcat => canonical::form_sorted_concat(form(request)?),
            Part::UrlWithSortedForm => {
                canonical::url_with_sorted_form(self.origin, request.path_and_query(), form(request)?)
            }
            Part::FormPhpSerialized => {
                let left_out: Vec<&str> = self.fields.signature_fields.iter().map(String::as_str).collect();
                canonical::php_serialized(form(request)?, &left_out)
            }
            Part::SignedHeaders => match &self.fields.signed_headers {
                Some(spec) => spec.render(request)?,
                None => Vec::new(),
            },
            Part::JsonFields => match &self.fields.json_fields {
                Some(spec) => spec.render(request)?,
                None => Vec::new(),
            },
            // The others are borrowed from the request; a signature in what is signed is refused
            // when the scheme is compiled.
            _ => Vec::new(),
        })
    }
}

fn form<'r>(request: &'r InboundRequest<'_>) -> Result<&'r [super::form::Field<'r>], Gap> {
    // Any field of the form names the place.
    request.form().map_err(|fault| Gap::Malformed(Source::Form("body".to_owned()), fault))
}

pub(super) fn value<'a>(
    request: &InboundRequest<'a>,
    source: &Source,
    optional: bool,
) -> Result<Cow<'a, [u8]>, Gap> {
    match request.get(source) {
        Ok(Some(value)) => Ok(value),
        Ok(None) if optional => Ok(Cow::Borrowed(&[])),
        Ok(None) => Err(Gap::Missing(source.clone())),
        Err(fault) => Err(Gap::Malformed(source.clone(), fault)),
    }
}
