//! A realistic request, signed as the provider signs, with ids that are new each time.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Preset;
use crate::scheme::{InboundRequest, KeyError, SignError, SignInput, Source};
use crate::secrets::Secret;

/// Ready to be sent by POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedExample {
    pub method: &'static str,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExampleError {
    #[error("the preset `{0}` has no example")]
    None(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("the example's `{0}` cannot be set")]
    Field(String),
}

impl Preset {
    /// The documented example with a fresh `id` (a UUID or the like: letters, digits, `-`, `_`)
    /// wherever the provider puts one that tells events apart.
    pub fn sign_example(
        &self,
        secret: &Secret,
        now: DateTime<Utc>,
        id: &str,
    ) -> Result<SignedExample, ExampleError> {
        self.sign_example_to("", secret, now, id)
    }

    /// The same for a URL, which some providers sign.
    pub fn sign_example_to(
        &self,
        url: &str,
        secret: &Secret,
        now: DateTime<Utc>,
        id: &str,
    ) -> Result<SignedExample, ExampleError> {
        let none = || ExampleError::None(self.name().to_owned());
        let example = self.example().ok_or_else(none)?;
        let scheme = self.scheme().ok_or_else(none)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &example.headers {
            set(&mut headers, name, value)?;
        }
        let mut body = self.payload.as_bytes().to_vec();
        for (source, template) in &example.unique {
            if template == "{unix_ms}" {
                body = with_value(&body, source, &now.timestamp_millis())?;
                continue;
            }
            let value = template.replace("{id}", id);
            match source {
                Source::Header(name) => set(&mut headers, name.0.as_str(), &value)?,
                Source::Json(_) => body = with_value(&body, source, value.as_str())?,
                _ => return Err(ExampleError::Field(source.to_string())),
            }
        }
        // The id that is signed is the one in the headers or the body, where the scheme has one.
        let signed_id = {
            let request = InboundRequest::new("POST", "/", &headers, &body);
            let found = scheme_id(self, &request);
            found.unwrap_or_else(|| id.to_owned())
        };
        let keys = [scheme.key(secret)?];
        let input =
            SignInput { id: &signed_id, timestamp: now, method: "POST", url, headers: &headers, body: &body };
        for (name, value) in scheme.sign(&input, &keys)? {
            headers.insert(name, value);
        }
        Ok(SignedExample { method: "POST", headers, body })
    }
}

fn scheme_id(preset: &Preset, request: &InboundRequest<'_>) -> Option<String> {
    let (_, id) = request.first(&preset.description.scheme.as_ref()?.event_id).ok()??;
    String::from_utf8(id.into_owned()).ok()
}

fn set(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), ExampleError> {
    let fault = || ExampleError::Field(name.to_owned());
    let value = HeaderValue::from_str(value).map_err(|_| fault())?;
    headers.insert(name.parse::<HeaderName>().map_err(|_| fault())?, value);
    Ok(())
}

/// Replaces one value in place, so that the rest of the payload stays as it was published.
fn with_value(
    body: &[u8],
    source: &Source,
    value: &(impl serde::Serialize + ?Sized),
) -> Result<Vec<u8>, ExampleError> {
    let fault = || ExampleError::Field(source.to_string());
    let Source::Json(pointer) = source else { return Err(fault()) };
    let headers = HeaderMap::new();
    let request = InboundRequest::new("POST", "/", &headers, body);
    let written = request.raw_json(pointer).ok_or_else(fault)?;
    let at = written.as_ptr() as usize - body.as_ptr() as usize;
    let value = serde_json::to_string(value).map_err(|_| fault())?;
    Ok([&body[..at], value.as_bytes(), &body[at + written.len()..]].concat())
}
