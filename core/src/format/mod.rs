//! How an event is written for its receiver: headers, body and signature.
//!
//! 1. [`find`] gives a [`Format`]; the formats are data, in `formats.toml`.
//! 2. [`Format::key`] reads an endpoint's secret; [`Format::extra_headers`] checks the headers an
//!    endpoint adds.
//! 3. [`Format::request`] makes the request of one attempt: [`Format::body`], which for most formats
//!    is the same in every attempt, and [`Format::headers`], signed anew each time.

mod body;
mod credential;
mod describe;
mod headers;
mod javascript;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::delivery::DeadReason;
use crate::event::Event;
use crate::preset;
use crate::scheme::{CompiledScheme, GeneratedSecret, Key, KeyError, SchemeError, SignError, SignInput};
use crate::secrets::Secret;
use crate::trace_context;

pub(crate) use body::Data;
pub use credential::is_credential;
pub use describe::{Body, Custom, Description, JsonStyle, Member, Value};
pub use headers::{EXTRA_HEADERS_MAX, HeaderFault, HeaderRefusal};
pub(crate) use javascript::number_text;

/// The default for new endpoints.
pub const STANDARD: &str = "standard";

/// The header that stays the same over all attempts of an event, in every format.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// 1 for the first attempt.
pub const ATTEMPT: HeaderName = HeaderName::from_static("bowline-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static(trace_context::TRACEPARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(trace_context::TRACESTATE);
pub const USER_AGENT: &str = concat!("Bowline/", env!("CARGO_PKG_VERSION"));

static FORMATS: LazyLock<Vec<Arc<Format>>> = LazyLock::new(|| {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        format: Vec<Description>,
    }
    let broken = |fault: String| -> ! { panic!("a format in this binary is broken: {fault}") };
    // The file is part of the binary and a test reads it.
    let file: File =
        toml::from_str(include_str!("formats.toml")).unwrap_or_else(|fault| broken(fault.to_string()));
    let new = |description| Arc::new(Format::new(description).unwrap_or_else(|fault| broken(fault)));
    file.format.into_iter().map(new).collect()
});

/// A format that was checked.
#[derive(Debug)]
pub struct Format {
    description: Description,
    scheme: Arc<CompiledScheme>,
    /// Headers of its own, apart from the scheme's.
    own: Vec<(HeaderName, Value)>,
}

/// What belongs to one attempt alone.
#[derive(Debug, Clone, Copy)]
pub struct AttemptContext<'a> {
    /// 1 for the first.
    pub number: u32,
    /// Chimpbase's delivery id.
    pub attempt_id: Uuid,
    /// The moment of signing.
    pub now: DateTime<Utc>,
    /// Where it goes; only schemes that sign the URL look at it.
    pub url: &'a str,
    /// The endpoint's own, from [`Format::extra_headers`].
    pub headers: &'a HeaderMap,
}

/// A POST, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRequest {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why an event cannot be written in a format. No retry can help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the endpoint has no usable secret, and the format `{format}` is signed")]
    SecretMissing { format: String },
    #[error("the header `{name}` cannot hold this value")]
    HeaderValue { name: HeaderName },
    #[error("the event's JSON is nested deeper than {max} levels")]
    TooDeep { max: usize },
    #[error(transparent)]
    Sign(SignError),
}

impl FormatError {
    pub fn dead_reason(&self) -> DeadReason {
        match self {
            Self::SecretMissing { .. } => DeadReason::SecretMissing,
            Self::HeaderValue { .. } | Self::TooDeep { .. } | Self::Sign(_) => DeadReason::Unformattable,
        }
    }
}

/// Every format, in the order people look for them.
pub fn all() -> &'static [Arc<Format>] {
    &FORMATS
}

pub fn find(name: &str) -> Option<&'static Arc<Format>> {
    FORMATS.iter().find(|format| format.name() == name)
}

/// The format of an endpoint, with what it brings of its own.
pub fn of(name: &str, custom: Option<&Custom>) -> Result<Arc<Format>, FormatFault> {
    let known = find(name).ok_or_else(|| FormatFault::Unknown(name.to_owned()))?;
    match (custom, known.description.own_scheme) {
        (None, false) => Ok(Arc::clone(known)),
        (Some(custom), true) => Ok(Arc::new(known.with(custom)?)),
        (None, true) => Err(FormatFault::CustomMissing(name.to_owned())),
        (Some(_), false) => Err(FormatFault::NotCustom(name.to_owned())),
    }
}

/// Why an endpoint has no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    #[error("the format `{0}` is not in this version")]
    Unknown(String),
    #[error("the format `{0}` needs a scheme of the endpoint's own")]
    CustomMissing(String),
    #[error("the format `{0}` has its own scheme: only `custom` takes another")]
    NotCustom(String),
    #[error("its scheme is none: {0}")]
    Scheme(SchemeError),
    #[error(
        "its scheme cannot sign: give one by HMAC, ed25519 or a token, whose signature stands in a header"
    )]
    NoSigning,
    #[error("its header `{name}`: {problem}")]
    Header { name: String, problem: String },
}

impl Format {
    /// This format with a scheme and headers of an endpoint's own.
    fn with(&self, custom: &Custom) -> Result<Self, FormatFault> {
        let scheme = Arc::new(custom.scheme.compile().map_err(FormatFault::Scheme)?);
        let description = Description { headers: custom.headers.clone(), ..self.description.clone() };
        let mut made = Self { description, scheme, own: Vec::new() };
        if !made.signs() {
            return Err(FormatFault::NoSigning);
        }
        for (name, value) in &custom.headers {
            let fault = |problem: String| FormatFault::Header { name: name.clone(), problem };
            if *value == Value::Data {
                return Err(fault("a header cannot hold the data".to_owned()));
            }
            let header = made.validate_header(name).map_err(|refusal| fault(refusal.to_string()))?;
            made.own.push((header, *value));
        }
        Ok(made)
    }

    /// Whether a secret made for it gives a signature in a header.
    fn signs(&self) -> bool {
        let trial = SignInput {
            id: "trial",
            timestamp: DateTime::UNIX_EPOCH,
            method: "POST",
            url: "https://localhost/",
            headers: &HeaderMap::new(),
            body: b"{}",
        };
        let key = self.scheme.key(&self.generate_secret().secret);
        key.is_ok_and(|key| self.scheme.sign(&trial, &[key]).is_ok_and(|headers| !headers.is_empty()))
    }

    fn new(description: Description) -> Result<Self, String> {
        let fault = |problem: &str| format!("{}: {problem}", description.name);
        let scheme = preset::find(&description.scheme)
            .and_then(preset::Preset::shared_scheme)
            .ok_or_else(|| fault("its scheme is that of no preset"))?;
        let own = description
            .headers
            .iter()
            .map(|(name, value)| match value {
                Value::Data => Err(fault("a header cannot hold the data")),
                _ => Ok((name.parse().map_err(|_| fault("a header has no valid name"))?, *value)),
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self { description, scheme, own })
    }

    pub fn name(&self) -> &str {
        &self.description.name
    }

    pub fn display_name(&self) -> &str {
        &self.description.display_name
    }

    /// Whether an endpoint may have no secret; it is then not signed.
    pub fn secret_optional(&self) -> bool {
        self.description.secret_optional
    }

    /// Reads an endpoint's secret; keep the key, so that it is decoded once.
    pub fn key(&self, secret: &Secret) -> Result<Key, KeyError> {
        self.scheme.key(secret)
    }

    /// What this format signs with.
    pub fn scheme(&self) -> &CompiledScheme {
        &self.scheme
    }

    pub fn generate_secret(&self) -> GeneratedSecret {
        self.scheme.generate_secret()
    }

    /// Whether each attempt has a body of its own; otherwise [`Self::body`] can be kept.
    pub fn body_varies(&self) -> bool {
        match &self.description.body {
            Body::Envelope { members, .. } => members.iter().any(|member| member.value.varies()),
            Body::Event { .. } => false,
        }
    }

    /// The request of one attempt. `keys` are the endpoint's, newest first.
    pub fn request(
        &self,
        event: &Event,
        attempt: &AttemptContext<'_>,
        keys: &[Key],
    ) -> Result<OutboundRequest, FormatError> {
        let body = self.body(event, attempt.attempt_id)?;
        let headers = self.headers(event, attempt, keys, &body)?;
        Ok(OutboundRequest { headers, body })
    }

    /// The exact bytes to send.
    pub fn body(&self, event: &Event, attempt_id: Uuid) -> Result<Bytes, FormatError> {
        match &self.description.body {
            Body::Event { .. } => Ok(event.body.clone()),
            Body::Envelope { members, json } => {
                let text = |value: Value| value.text(event, attempt_id, event.time);
                body::envelope(members, *json, event, text).map(Bytes::from)
            }
        }
    }

    /// The headers for a body made by [`Self::body`], signed.
    pub fn headers(
        &self,
        event: &Event,
        attempt: &AttemptContext<'_>,
        keys: &[Key],
        body: &[u8],
    ) -> Result<HeaderMap, FormatError> {
        let mut headers = HeaderMap::with_capacity(attempt.headers.len() + 12);
        if let Body::Event { original_headers: true } = self.description.body {
            self.copy_original(event, &mut headers);
        }
        for (name, value) in attempt.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(http::header::CONTENT_TYPE, self.content_type(event));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let event_id = event.id.to_string();
        headers.insert(WEBHOOK_ID, text_value(&WEBHOOK_ID, &event_id)?);
        headers.insert(ATTEMPT, HeaderValue::from(attempt.number));
        let (traceparent, tracestate) = trace_context::outbound(event, attempt.attempt_id);
        headers.insert(TRACEPARENT, text_value(&TRACEPARENT, &traceparent)?);
        // Of the sender's making: one that no header can hold is no reason not to deliver.
        if let Some(state) = tracestate.and_then(|state| HeaderValue::from_str(&state).ok()) {
            headers.insert(TRACESTATE, state);
        }
        for (name, value) in &self.own {
            if let Some(text) = value.text(event, attempt.attempt_id, attempt.now) {
                let text = if self.description.percent_headers { percent(&text) } else { text };
                headers.insert(name.clone(), text_value(name, &text)?);
            }
        }
        if keys.is_empty() {
            if self.secret_optional() {
                return Ok(headers);
            }
            return Err(FormatError::SecretMissing { format: self.name().to_owned() });
        }
        let input = SignInput {
            id: &event_id,
            timestamp: attempt.now,
            method: "POST",
            url: attempt.url,
            headers: &headers,
            body,
        };
        let signed = self.scheme.sign(&input, keys).map_err(|fault| match fault {
            SignError::NoSigningKey => FormatError::SecretMissing { format: self.name().to_owned() },
            other => FormatError::Sign(other),
        })?;
        for (name, value) in signed {
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// JSON for an envelope; for the event's own bytes the type they came with.
    fn content_type(&self, event: &Event) -> HeaderValue {
        let json = HeaderValue::from_static("application/json");
        match self.description.body {
            Body::Envelope { .. } => json,
            Body::Event { .. } if event.content_type.is_empty() => json,
            Body::Event { .. } => HeaderValue::from_str(&event.content_type).unwrap_or(json),
        }
    }
}

impl Value {
    /// Different in each attempt.
    fn varies(self) -> bool {
        matches!(self, Self::AttemptId | Self::SignTimeS)
    }

    /// `None` for the data, which is no text, and for a channel the event does not have.
    fn text(self, event: &Event, attempt_id: Uuid, signed_at: DateTime<Utc>) -> Option<String> {
        let time = |time: DateTime<Utc>, form| Some(time.to_rfc3339_opts(form, true));
        match self {
            Self::EventType => Some(event.event_type.clone()),
            Self::EventId => Some(event.id.to_string()),
            Self::Channel => event.channel.clone(),
            Self::AttemptId => Some(attempt_id.to_string()),
            Self::EventTimeMs => time(event.time, SecondsFormat::Millis),
            Self::EventTimeS => time(event.time, SecondsFormat::Secs),
            Self::SignTimeS => time(signed_at, SecondsFormat::Secs),
            Self::EventSource => Some(match event.source_id {
                Some(source) => format!("/sources/{source}"),
                None => format!("/tenants/{}", event.tenant_id),
            }),
            Self::CloudeventsVersion => Some("1.0".to_owned()),
            Self::Data => None,
        }
    }
}

/// Line feeds and the like are refused here: nothing can add a header by its value.
fn text_value(name: &HeaderName, text: &str) -> Result<HeaderValue, FormatError> {
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| FormatError::HeaderValue { name: name.clone() })
}

/// As `CloudEvents` writes values into headers: blanks, quotes, percent signs and what is not printable ASCII
/// become `%XX`, byte by byte.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!' | b'#' | b'$' | b'&'..=b'~' => out.push(char::from(byte)),
            _ => out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]),
        }
    }
    out
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value)])
}
