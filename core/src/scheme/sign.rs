//! Writes the headers of an outbound request, from the same description that verifies it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ed25519_dalek::Signer;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::canonical;
use super::compile::CompiledScheme;
use super::describe::Algorithm;
use super::error::SignError;
use super::fill::{Gap, Values};
use super::jwt;
use super::key::{Key, KeyForm, Material};
use super::limits;
use super::mac::HashState;
use super::request::InboundRequest;
use super::source::Source;

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct SignInput<'a> {
    /// Stands for `{id}` and is written where the scheme reads it.
    pub id: &'a str,
    /// The moment of signing, not of the event.
    pub timestamp: DateTime<Utc>,
    pub method: &'a str,
    /// The whole URL; schemes that sign none of it need none.
    pub url: &'a str,
    /// The other headers of the request, for schemes that sign some of them.
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

impl CompiledScheme {
    /// The headers to add. Where the layout carries several signatures all `keys` sign, side by
    /// side; elsewhere the first, which is the newest.
    pub fn sign(
        &self,
        input: &SignInput<'_>,
        keys: &[Key],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, SignError> {
        let mut signers = keys
            .iter()
            .take(limits::KEYS_MAX)
            .filter_map(|key| key.forms.iter().find(|form| form.can_sign()));
        let first = signers.next().ok_or(SignError::NoSigningKey)?;
        let signature_at = header_of(&self.sources)?;
        let mut written = Vec::with_capacity(3);
        for (name, value) in &self.require_headers {
            written.push((name.clone(), header_value(name, value.as_bytes())?));
        }
        if let Material::Sent { text, .. } = &first.material {
            written.push((signature_at.clone(), self.credentials(signature_at, text.expose())?));
            return Ok(written);
        }
        if self.content.has_id() || !self.event_id.is_empty() {
            let name = header_of(&self.event_id)?;
            written.push((name.clone(), header_value(name, input.id.as_bytes())?));
        }
        let timestamp = self.timestamp.as_ref().map(|spec| spec.unit.write(input.timestamp));
        if let (Some(spec), Some(text)) = (&self.timestamp, &timestamp)
            && !spec.sources.is_empty()
        {
            match header_of(&spec.sources) {
                Ok(name) => written.push((name.clone(), header_value(name, text.as_bytes())?)),
                // A timestamp inside the body is already there.
                Err(_) if !self.content.has_timestamp() => {}
                Err(fault) => return Err(fault),
            }
        }
        let (origin, path_and_query) = split_url(input.url);
        let origin = match self.url_variants.first() {
            Some(variant) => canonical::url_variant(origin, *variant),
            None => origin.to_owned(),
        };
        // What was written so far may be signed too.
        let mut headers = input.headers.clone();
        headers.extend(written.iter().map(|(name, value)| (Some(name.clone()), value.clone())));
        if let Some(spec) = &self.fields.signed_headers {
            let names = header_value(&spec.list_header, spec.list().as_bytes())?;
            headers.insert(spec.list_header.clone(), names.clone());
            written.push((spec.list_header.clone(), names));
        }
        let request = InboundRequest::new(input.method, path_and_query, &headers, input.body);
        let values =
            self.values(timestamp.as_deref().unwrap_or_default().as_bytes(), input.id.as_bytes(), &origin);
        let one = |form| self.signature(&request, values, form);
        let value = match &self.layout {
            _ if self.jwt.is_some() => {
                let token = self
                    .jwt
                    .as_ref()
                    .and_then(|spec| jwt::sign(spec, first, &request, &origin, input.timestamp));
                format!("{}{}", self.prefix, token.ok_or(SignError::NoSigningKey)?)
            }
            None => format!("{}{}", self.prefix, one(first)?),
            Some(layout) => {
                let signatures = std::iter::once(first)
                    .chain(signers)
                    .take(limits::SIGNATURES_MAX)
                    .map(|form| Ok((self.labels[form.label].as_str(), one(form)?)))
                    .collect::<Result<Vec<_>, SignError>>()?;
                layout.write(timestamp.as_deref(), &signatures)
            }
        };
        written.push((signature_at.clone(), header_value(signature_at, value.as_bytes())?));
        Ok(written)
    }

    fn signature<'v>(
        &self,
        request: &InboundRequest<'_>,
        mut values: Values<'v>,
        form: &'v KeyForm,
    ) -> Result<String, SignError> {
        match &form.material {
            Material::Hmac(state) => {
                let mut mac = state.as_ref().clone();
                values.feed(&self.content, request, |piece| mac.update(piece)).map_err(gap)?;
                return Ok(self.encoding.encode(mac.finish().to_write()));
            }
            Material::Hash(secret) => {
                let mut hash = HashState::new(form.algorithm).ok_or(SignError::NoSigningKey)?;
                values.secret = secret.expose();
                values.feed(&self.content, request, |piece| hash.update(piece)).map_err(gap)?;
                return Ok(self.encoding.encode(hash.finish().to_write()));
            }
            _ => {}
        }
        let mut message = Vec::with_capacity(request.body().len() + 128);
        values.feed(&self.content, request, |piece| message.extend_from_slice(piece)).map_err(gap)?;
        match &form.material {
            Material::Ed25519Private(key) => Ok(self.encoding.encode(&key.sign(&message).to_bytes())),
            Material::Private(key) => {
                let signature = key.sign(form.algorithm, &message).ok_or(SignError::NoSigningKey)?;
                Ok(self.encoding.encode(&signature))
            }
            _ => Err(SignError::NoSigningKey),
        }
    }

    fn credentials(&self, name: &HeaderName, secret: &[u8]) -> Result<HeaderValue, SignError> {
        let text = match self.algorithm {
            Algorithm::Basic => format!("Basic {}", STANDARD.encode(secret)).into_bytes(),
            _ => [self.prefix.as_bytes(), secret].concat(),
        };
        let mut value = header_value(name, &text)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl KeyForm {
    fn can_sign(&self) -> bool {
        matches!(
            self.material,
            Material::Hmac(_)
                | Material::Hash(_)
                | Material::Ed25519Private(_)
                | Material::Private(_)
                | Material::Sent { .. }
        )
    }
}

fn header_of(sources: &[Source]) -> Result<&HeaderName, SignError> {
    let first = sources.first().ok_or(SignError::NoSigningKey)?;
    first.as_header().ok_or_else(|| SignError::NotAHeader(first.clone()))
}

fn header_value(name: &HeaderName, value: &[u8]) -> Result<HeaderValue, SignError> {
    HeaderValue::from_bytes(value).map_err(|_| SignError::HeaderValue(name.to_string()))
}

/// Scheme and authority, and the rest.
fn split_url(url: &str) -> (&str, &str) {
    let authority_at = url.find("://").map_or(0, |at| at + 3);
    match url[authority_at..].find(['/', '?']) {
        Some(len) => url.split_at(authority_at + len),
        None => (url, ""),
    }
}

fn gap(gap: Gap) -> SignError {
    match gap {
        Gap::Missing(source) => SignError::Missing(source),
        Gap::Malformed(_, fault) => SignError::Body(fault),
    }
}
