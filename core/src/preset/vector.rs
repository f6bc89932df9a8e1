//! Signed requests with the clock to judge them by, as files hold them: what `bowline verify` reads.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::Preset;
use crate::scheme::{CompiledScheme, InboundRequest, JsonPointer, Key};
use crate::secrets::Secret;

/// One request and what it is judged with. Other members are for people.
#[derive(Debug, Deserialize)]
pub struct Vector {
    pub id: String,
    /// Name of the preset.
    pub scheme: String,
    pub request: VectorRequest,
    /// As a user pastes them; public keys, where the scheme is asymmetric.
    pub secrets: Vec<Secret>,
    /// Unix seconds.
    pub now: i64,
    /// Of the preset; its examples where there are none.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// `valid`, `invalid` or `either`, where somebody knows.
    #[serde(default)]
    pub expected: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct VectorRequest {
    pub method: String,
    /// As the caller saw it.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body_b64: String,
}

/// Whether the source would have taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VectorVerdict {
    Valid,
    /// Refused: which check failed.
    Invalid(String),
    /// Not judged: what is wrong with the vector itself.
    Error(String),
}

/// What keeps a vector from being judged.
#[derive(Debug, thiserror::Error)]
enum Unjudged {
    #[error("there is no preset `{0}`")]
    Preset(String),
    #[error("{0}")]
    Parameters(String),
    #[error("the preset `{0}` has no scheme")]
    NoScheme(String),
    #[error("request.body_b64 is not base64")]
    Body,
    #[error("request.url has no scheme and host")]
    Url,
    #[error("now is no time")]
    Now,
}

impl Vector {
    /// Judges by the signature alone, without asking anybody: nothing is fetched.
    pub fn judge(&self) -> VectorVerdict {
        let configured;
        let found = if self.parameters.is_empty() {
            super::find(&self.scheme).ok_or_else(|| Unjudged::Preset(self.scheme.clone()))
        } else {
            configured = super::configured(&self.scheme, &self.parameters);
            match &configured {
                None => Err(Unjudged::Preset(self.scheme.clone())),
                Some(Ok(preset)) => Ok(preset.as_ref()),
                Some(Err(fault)) => Err(Unjudged::Parameters(fault.to_string())),
            }
        };
        let scheme = found.and_then(|preset: &Preset| {
            let scheme = preset.scheme().ok_or_else(|| Unjudged::NoScheme(self.scheme.clone()))?;
            Ok((scheme, preset.pointers()))
        });
        verdict(scheme.and_then(|(scheme, pointers)| self.verify(scheme, pointers)))
    }

    /// The same by a scheme that is no preset's.
    pub fn judge_by(&self, scheme: &CompiledScheme) -> VectorVerdict {
        verdict(self.verify(scheme, &[]))
    }

    fn verify(
        &self,
        scheme: &CompiledScheme,
        pointers: &[JsonPointer],
    ) -> Result<Result<(), String>, Unjudged> {
        let now = DateTime::from_timestamp(self.now, 0).ok_or(Unjudged::Now)?;
        let body = STANDARD.decode(&self.request.body_b64).map_err(|_| Unjudged::Body)?;
        let (origin, path_and_query) = split(&self.request.url).ok_or(Unjudged::Url)?;
        let headers = match self.headers() {
            Ok(headers) => headers,
            Err(reason) => return Ok(Err(reason)),
        };
        let (keys, faults): (Vec<_>, Vec<_>) =
            self.secrets.iter().map(|secret| scheme.key(secret)).partition(Result::is_ok);
        let keys: Vec<Key> = keys.into_iter().flatten().collect();
        if let Some(fault) = faults.into_iter().find_map(Result::err).filter(|_| keys.is_empty()) {
            return Ok(Err(format!("no secret can be used: {fault}")));
        }
        let request = InboundRequest::new(&self.request.method, path_and_query, &headers, &body)
            .with_public_url(origin)
            .with_pointers(pointers);
        let verified = scheme.verify(&request, &keys, now);
        Ok(verified.map(|_| ()).map_err(|fault| format!("{}: {fault}", fault.code())))
    }

    /// No server would have taken other headers.
    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.request.headers {
            let wrong = || format!("no request has such a header: `{name}`");
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
            headers.append(name.parse::<HeaderName>().map_err(|_| wrong())?, value);
        }
        Ok(headers)
    }
}

fn verdict(outcome: Result<Result<(), String>, Unjudged>) -> VectorVerdict {
    match outcome {
        Ok(Ok(())) => VectorVerdict::Valid,
        Ok(Err(reason)) => VectorVerdict::Invalid(reason),
        Err(unjudged) => VectorVerdict::Error(unjudged.to_string()),
    }
}

/// Scheme and authority, and the rest.
fn split(url: &str) -> Option<(&str, &str)> {
    let authority_at = url.find("://")? + 3;
    let len = url[authority_at..].find(['/', '?']).unwrap_or(url.len() - authority_at);
    (len > 0).then(|| url.split_at(authority_at + len))
}
