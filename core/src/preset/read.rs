//! Reads a verified request the way its provider means it.

use std::borrow::Cow;

use http::HeaderName;
use http::header::CONTENT_TYPE;

use super::Preset;
use crate::scheme::{InboundRequest, JsonFault, Malformed, Source};

/// Longer names of events and channels are taken for something else.
const NAME_BYTES_MAX: usize = 256;

/// What a provider asks for beyond its signature, and a request lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    #[error("the header `{name}` is missing")]
    MissingHeader { name: HeaderName },
    #[error("the header `content-type` is missing; `{wanted}` is accepted")]
    MissingContentType { wanted: String },
    #[error("the header `content-type` is malformed: `{wanted}` is accepted")]
    ContentType { wanted: String },
    #[error(transparent)]
    Json(#[from] JsonFault),
}

impl RequirementError {
    /// A stable name of the check that failed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } | Self::MissingContentType { .. } => "missing_header",
            Self::ContentType { .. } => "unsupported_content_type",
            Self::Json(_) => "invalid_json",
        }
    }
}

/// No deduplication key where the provider promises one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingDedupKey {
    #[error(
        "{at} is missing or empty, by which this source tells one event from another: send it, or give the source \
         a `dedup_key` of its own"
    )]
    Missing { at: Source },
    #[error("{at} is malformed: {fault}: by it this source tells one event from another")]
    Malformed { at: Source, fault: Malformed },
}

impl MissingDedupKey {
    /// A stable name of the check that failed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing_dedup_key",
            Self::Malformed { .. } => "malformed_dedup_key",
        }
    }
}

impl Preset {
    /// Headers and content type, which need no body: a request that fails here is refused with 400
    /// before its signature is looked at.
    pub fn check(&self, request: &InboundRequest<'_>) -> Result<(), RequirementError> {
        for name in &self.require_headers {
            let value = request.headers().get(name);
            if value.is_none_or(|value| value.as_bytes().trim_ascii().is_empty()) {
                return Err(RequirementError::MissingHeader { name: name.clone() });
            }
        }
        let Some(wanted) = &self.description.content_type else { return Ok(()) };
        let Some(value) = request.headers().get(CONTENT_TYPE) else {
            return Err(RequirementError::MissingContentType { wanted: wanted.clone() });
        };
        let media_type = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        if !media_type.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()) {
            return Err(RequirementError::ContentType { wanted: wanted.clone() });
        }
        Ok(())
    }

    /// Whether the body is the JSON it claims to be: asked once the signature is known to be right.
    pub fn check_body(&self, request: &InboundRequest<'_>) -> Result<(), RequirementError> {
        if self.description.json_required {
            request.check_json()?;
        }
        Ok(())
    }

    /// What happened, in the provider's own words.
    pub fn event_type(&self, request: &InboundRequest<'_>) -> Option<String> {
        name(request, &self.description.event_type)
    }

    /// Whom or what it is about.
    pub fn channel(&self, request: &InboundRequest<'_>) -> Option<String> {
        name(request, &self.description.channel)
    }

    /// What the provider repeats when it sends the same event again; `None`: it is not deduplicated.
    pub fn dedup_key<'a>(
        &self,
        request: &InboundRequest<'a>,
    ) -> Result<Option<Cow<'a, [u8]>>, MissingDedupKey> {
        let dedup = &self.description.dedup;
        for source in &dedup.sources {
            match request.get(source) {
                Ok(Some(key)) if !key.trim_ascii().is_empty() => {
                    return Ok(Some(self.told_apart(key, request)));
                }
                Err(fault) if dedup.required => {
                    return Err(MissingDedupKey::Malformed { at: source.clone(), fault });
                }
                // Empty, absent, or in a body that is no JSON: the next may be there.
                Ok(_) | Err(_) => {}
            }
        }
        match dedup.sources.first() {
            Some(at) if dedup.required => Err(MissingDedupKey::Missing { at: at.clone() }),
            _ => Ok(None),
        }
    }

    /// The key with what tells its events apart: each with its length, so that none reads as a part of another.
    fn told_apart<'a>(&self, key: Cow<'a, [u8]>, request: &InboundRequest<'a>) -> Cow<'a, [u8]> {
        if self.description.dedup.with.is_empty() {
            return key;
        }
        let others = self.description.dedup.with.iter();
        let others = others.map(|source| request.get(source).ok().flatten().unwrap_or_default());
        let mut whole = Vec::new();
        for value in std::iter::once(key).chain(others) {
            whole.extend_from_slice(&(value.len() as u64).to_be_bytes());
            whole.extend_from_slice(&value);
        }
        Cow::Owned(whole)
    }
}

/// The first source with a value fit for a name.
fn name(request: &InboundRequest<'_>, sources: &[Source]) -> Option<String> {
    sources.iter().find_map(|source| {
        let value = request.get(source).ok()??;
        let text = std::str::from_utf8(&value).ok()?.trim();
        let fit = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
        fit.then(|| text.to_owned())
    })
}
