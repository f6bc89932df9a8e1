//! Answers whether a request was signed with one of the secrets, and if not, which check failed.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ed25519_dalek::Signature;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::compile::CompiledScheme;
use super::content::{Bindings, Gap};
use super::describe::{Algorithm, TimestampUnit};
use super::encoding::Decoded;
use super::error::{Malformed, VerifyError};
use super::key::{Key, KeyForm, Material};
use super::layout::{Candidate, Parsed};
use super::limits;
use super::request::InboundRequest;
use super::source::Source;

/// What a valid request showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Place of the secret that fits, in the list given.
    pub key_index: usize,
    /// The timestamp the sender wrote, where the scheme has one of a known form.
    pub timestamp: Option<DateTime<Utc>>,
}

/// A timestamp as it goes into the content, and what it means.
struct Stamp<'v> {
    text: Cow<'v, [u8]>,
    time: Option<DateTime<Utc>>,
}

/// A signature that decoded, with the label it stood under.
struct Presented {
    label: Option<usize>,
    signature: Decoded,
}

impl CompiledScheme {
    /// Verifies against any of `keys` (at most [`limits::KEYS_MAX`] count, newest first).
    pub fn verify(
        &self,
        request: &InboundRequest<'_>,
        keys: &[Key],
        now: DateTime<Utc>,
    ) -> Result<Verified, VerifyError> {
        let keys = &keys[..keys.len().min(limits::KEYS_MAX)];
        if keys.is_empty() {
            return Err(VerifyError::NoUsableSecret);
        }
        self.check_required_headers(request)?;
        let values = self.signature_values(request)?;
        if self.algorithm.sends_the_secret() {
            return self.verify_sent(&values, keys);
        }
        let parsed = self.parse_values(&values)?;
        let presented = self.decode_candidates(&parsed, values[0].0)?;
        let stamp = self.check_timestamp(request, &parsed, values[0].0, now)?;
        let id = self.event_id(request)?;
        let bindings = Bindings { timestamp: &stamp.text, id: &id };
        for (key_index, key) in keys.iter().enumerate() {
            for form in &key.forms {
                if self.matches(request, bindings, form, &presented)? {
                    return Ok(Verified { key_index, timestamp: stamp.time });
                }
            }
        }
        Err(VerifyError::SignatureMismatch {
            at: values[0].0.clone(),
            signatures: presented.len(),
            secrets: keys.len(),
        })
    }

    fn check_required_headers(&self, request: &InboundRequest<'_>) -> Result<(), VerifyError> {
        for (name, wanted) in &self.require_headers {
            let at = || Source::header(name.clone());
            let value = request
                .header(name)
                .map_err(|fault| VerifyError::Malformed { at: at(), fault })?
                .ok_or_else(|| VerifyError::Missing { at: at() })?;
            if value.as_ref() != wanted.as_bytes() {
                return Err(VerifyError::UnexpectedHeader { name: name.to_string() });
            }
        }
        Ok(())
    }

    /// The raw values of all signature sources that are there, as text; at least one.
    fn signature_values<'a, 's>(
        &'s self,
        request: &InboundRequest<'a>,
    ) -> Result<Vec<(&'s Source, Cow<'a, str>)>, VerifyError> {
        let mut values = Vec::with_capacity(1);
        for source in &self.sources {
            let malformed = |fault| VerifyError::Malformed { at: source.clone(), fault };
            let Some(value) = request.get(source).map_err(malformed)? else { continue };
            if value.is_empty() {
                return Err(malformed(Malformed::Empty));
            }
            if value.len() > limits::HEADER_BYTES_MAX {
                return Err(malformed(Malformed::TooLong { max_bytes: limits::HEADER_BYTES_MAX }));
            }
            values.push((source, into_text(value).ok_or_else(|| malformed(Malformed::NotText))?));
        }
        match (values.is_empty(), self.sources.first()) {
            (true, Some(first)) => Err(VerifyError::Missing { at: first.clone() }),
            _ => Ok(values),
        }
    }

    fn parse_values<'v>(&self, values: &'v [(&Source, Cow<'_, str>)]) -> Result<Parsed<'v>, VerifyError> {
        let mut all = Parsed::default();
        for (source, value) in values {
            let malformed = |fault| VerifyError::Malformed { at: (*source).clone(), fault };
            let parsed = if let Some(layout) = &self.layout {
                layout.parse(value, &self.labels).map_err(malformed)?
            } else {
                let fault = || malformed(Malformed::Prefix { prefix: self.prefix.clone() });
                let text = value.strip_prefix(self.prefix.as_str()).ok_or_else(fault)?;
                Parsed { timestamp: None, candidates: vec![Candidate { label: None, text }] }
            };
            all.timestamp = all.timestamp.or(parsed.timestamp);
            all.candidates.extend(parsed.candidates);
        }
        all.candidates.truncate(limits::SIGNATURES_MAX);
        Ok(all)
    }

    /// Signatures that do not decode are left out; if none is left the header is malformed.
    fn decode_candidates(&self, parsed: &Parsed<'_>, at: &Source) -> Result<Vec<Presented>, VerifyError> {
        let malformed = |fault| VerifyError::Malformed { at: at.clone(), fault };
        if parsed.candidates.is_empty() {
            return Err(malformed(Malformed::NoSignature { key: self.labels.join("` or `") }));
        }
        let presented: Vec<Presented> = parsed
            .candidates
            .iter()
            .filter_map(|candidate| {
                let signature = self.encoding.decode(candidate.text, self.hex_case_insensitive)?;
                Some(Presented { label: candidate.label, signature })
            })
            .collect();
        if presented.is_empty() {
            return Err(malformed(Malformed::Encoding { encoding: self.encoding.name() }));
        }
        Ok(presented)
    }

    /// The timestamp's text for the content, and its meaning.
    fn check_timestamp<'a: 'v, 'v>(
        &'v self,
        request: &InboundRequest<'a>,
        parsed: &Parsed<'v>,
        signature_at: &'v Source,
        now: DateTime<Utc>,
    ) -> Result<Stamp<'v>, VerifyError> {
        let Some(spec) = &self.timestamp else {
            return Ok(Stamp { text: Cow::Borrowed(&[]), time: None });
        };
        let (at, text) = if let Some(layout) = self.layout.as_ref().filter(|layout| layout.holds_timestamp())
        {
            let text = parsed.timestamp.ok_or_else(|| VerifyError::Malformed {
                at: signature_at.clone(),
                fault: Malformed::NoTimestamp { key: layout.timestamp_name() },
            })?;
            (signature_at, Cow::Borrowed(text.as_bytes()))
        } else {
            let found = request.first(&spec.sources);
            let found = found.map_err(|(at, fault)| VerifyError::Malformed { at: at.clone(), fault })?;
            found.ok_or_else(|| missing(&spec.sources, signature_at))?
        };
        let stamp =
            std::str::from_utf8(&text).ok().and_then(|text| spec.unit.parse(text)).ok_or_else(|| {
                VerifyError::Malformed {
                    at: at.clone(),
                    fault: Malformed::Timestamp { form: spec.unit.form() },
                }
            })?;
        spec.check_fresh(stamp, now)?;
        let time = match spec.unit {
            TimestampUnit::S | TimestampUnit::Rfc3339 => DateTime::from_timestamp(stamp, 0),
            TimestampUnit::Ms => DateTime::from_timestamp_millis(stamp),
            TimestampUnit::Us => DateTime::from_timestamp_micros(stamp),
            TimestampUnit::Opaque => None,
        };
        Ok(Stamp { text, time })
    }

    fn event_id<'v>(&self, request: &InboundRequest<'v>) -> Result<Cow<'v, [u8]>, VerifyError> {
        if !self.content.has_id() {
            return Ok(Cow::Borrowed(&[]));
        }
        let (at, id) = request
            .first(&self.event_id)
            .map_err(|(at, fault)| VerifyError::Malformed { at: at.clone(), fault })?
            .ok_or_else(|| missing(&self.event_id, &self.sources[0]))?;
        if id.is_empty() {
            return Err(VerifyError::Malformed { at: at.clone(), fault: Malformed::Empty });
        }
        Ok(id)
    }

    /// One computation a key form, compared with every signature in constant time.
    fn matches(
        &self,
        request: &InboundRequest<'_>,
        bindings: Bindings<'_>,
        form: &KeyForm,
        presented: &[Presented],
    ) -> Result<bool, VerifyError> {
        let fits = |p: &&Presented| p.label.is_none_or(|label| label == form.label);
        if !presented.iter().any(|p| fits(&p)) {
            return Ok(false);
        }
        let public = match &form.material {
            Material::Hmac(state) => {
                let mut mac = state.as_ref().clone();
                self.content.feed(request, bindings, |piece| mac.update(piece)).map_err(gap)?;
                let tag = mac.finish();
                let any = presented
                    .iter()
                    .filter(fits)
                    .fold(subtle::Choice::from(0), |any, p| any | tag.bytes().ct_eq(p.signature.bytes()));
                return Ok(any.into());
            }
            Material::Ed25519Public(key) => **key,
            Material::Ed25519Private(key) => key.verifying_key(),
            Material::Sent { .. } => return Ok(false),
        };
        let mut message = Vec::with_capacity(request.body().len() + 128);
        self.content.feed(request, bindings, |piece| message.extend_from_slice(piece)).map_err(gap)?;
        Ok(presented.iter().filter(fits).any(|p| {
            Signature::from_slice(p.signature.bytes())
                .is_ok_and(|signature| public.verify_strict(&message, &signature).is_ok())
        }))
    }

    fn verify_sent(&self, values: &[(&Source, Cow<'_, str>)], keys: &[Key]) -> Result<Verified, VerifyError> {
        let (at, value) = &values[0];
        let given = self
            .read_credentials(value)
            .map_err(|fault| VerifyError::Malformed { at: (*at).clone(), fault })?;
        let hash = Sha256::digest(&given);
        // Every key is compared, so that time does not tell which one came close.
        let mut fit = None;
        for (key_index, key) in keys.iter().enumerate() {
            for form in &key.forms {
                if let Material::Sent { hash: own, .. } = &form.material
                    && bool::from(own.as_slice().ct_eq(&hash))
                {
                    fit = fit.or(Some(key_index));
                }
            }
        }
        match (fit, self.algorithm) {
            (Some(key_index), _) => Ok(Verified { key_index, timestamp: None }),
            (None, Algorithm::Basic) => Err(VerifyError::WrongPassword { at: (*at).clone() }),
            (None, _) => Err(VerifyError::WrongToken { at: (*at).clone() }),
        }
    }

    fn read_credentials<'v>(&self, value: &'v str) -> Result<Cow<'v, [u8]>, Malformed> {
        if self.algorithm == Algorithm::Basic {
            let form = Malformed::Credentials { form: "Basic base64(user:password)" };
            let Some(encoded) = strip_any_case(value, "Basic ") else { return Err(form) };
            return STANDARD.decode(encoded.trim()).map(Cow::Owned).map_err(|_| form);
        }
        // The name of an authentication scheme has no case (RFC 9110).
        strip_any_case(value, &self.prefix)
            .map(|token| Cow::Borrowed(token.as_bytes()))
            .ok_or_else(|| Malformed::Prefix { prefix: self.prefix.clone() })
    }
}

fn strip_any_case<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    let head = value.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &value[prefix.len()..])
}

fn missing(sources: &[Source], or: &Source) -> VerifyError {
    VerifyError::Missing { at: sources.first().unwrap_or(or).clone() }
}

fn gap(gap: Gap) -> VerifyError {
    match gap {
        Gap::Missing(at) => VerifyError::Missing { at },
        Gap::Malformed(at, fault) => VerifyError::Malformed { at, fault },
    }
}

fn into_text(value: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match value {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}
