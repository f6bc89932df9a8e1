//! Answers whether a request was signed with one of the secrets, and if not, which check failed.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use ed25519_dalek::{Signature, VerifyingKey};

use super::asymmetric::EcdsaForm;
use super::canonical;
use super::compile::CompiledScheme;
use super::content::Content;
use super::describe::{Algorithm, TimestampUnit};
use super::encoding::Decoded;
use super::error::{Malformed, VerifyError};
use super::fill::{Gap, Values};
use super::key::{Key, KeyForm, Material};
use super::layout::{Candidate, Parsed};
use super::limits;
use super::mac::{HashState, Tag};
use super::request::InboundRequest;
use super::source::Source;
use crate::secrets::is_same;

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

/// What every key is tried with.
struct Trial<'t, 'r> {
    request: &'t InboundRequest<'r>,
    timestamp: &'t [u8],
    id: &'t [u8],
    /// In place of the key's own.
    algorithm: Option<Algorithm>,
    presented: &'t [Presented],
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
        self.check_preconditions(request)?;
        if self.algorithm == Algorithm::FetchBack {
            let key_index = self.is_confirmed(request, keys)?;
            return Ok(Verified { key_index, timestamp: None });
        }
        let values = self.signature_values(request)?;
        if self.algorithm.sends_the_secret() {
            return self.verify_sent(&values, keys);
        }
        if self.jwt.is_some() {
            return self.verify_token(request, (values[0].0, &values[0].1), keys, now);
        }
        let parsed = self.parse_values(&values)?;
        let presented = self.decode_candidates(&parsed, values[0].0)?;
        let stamp = self.check_timestamp(request, &parsed, values[0].0, now)?;
        let id = self.event_id(request)?;
        let algorithm = self.algorithm_of(request)?;
        let named = self.named_secret(request, keys)?;
        let trial = Trial { request, timestamp: &stamp.text, id: &id, algorithm, presented: &presented };
        for (key_index, key) in keys.iter().enumerate() {
            // The sender says which secret it used: those with another id are not it.
            if named.as_ref().is_some_and(|named| key.id.as_ref().is_some_and(|id| **id != **named)) {
                continue;
            }
            for form in &key.forms {
                if self.matches(&trial, form)? {
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

    fn check_preconditions(&self, request: &InboundRequest<'_>) -> Result<(), VerifyError> {
        self.check_required_headers(request)?;
        for (source, content) in &self.require_equal {
            let value = request
                .get(source)
                .map_err(|fault| VerifyError::Malformed { at: source.clone(), fault })?
                .ok_or_else(|| VerifyError::Missing { at: source.clone() })?;
            let mut own = Vec::new();
            self.values(&[], &[], request.public_url().unwrap_or_default())
                .feed(content, request, |piece| own.extend_from_slice(piece))
                .map_err(gap)?;
            if !is_same(&own, &value) {
                return Err(VerifyError::NotEqual { at: source.clone() });
            }
        }
        self.check_key_place(request)
    }

    /// The algorithm, or the one that a value of the request chooses.
    fn algorithm_of(&self, request: &InboundRequest<'_>) -> Result<Option<Algorithm>, VerifyError> {
        let Some(by) = &self.algorithm_by else { return Ok(None) };
        let malformed = |fault| VerifyError::Malformed { at: by.source.clone(), fault };
        let value = request
            .get(&by.source)
            .map_err(malformed)?
            .ok_or_else(|| VerifyError::Missing { at: by.source.clone() })?;
        let chosen = std::str::from_utf8(&value).ok().and_then(|value| by.values.get(value));
        chosen.copied().map(Some).ok_or_else(|| malformed(Malformed::Choice))
    }

    /// The id by which the request names a secret, where one of ours has it.
    fn named_secret(
        &self,
        request: &InboundRequest<'_>,
        keys: &[Key],
    ) -> Result<Option<String>, VerifyError> {
        let Some(spec) = &self.key_id else { return Ok(None) };
        let found = request
            .first(&spec.sources)
            .map_err(|(at, fault)| VerifyError::Malformed { at: at.clone(), fault })?;
        let Some((_, value)) = found else { return Ok(None) };
        let Ok(text) = std::str::from_utf8(&value) else { return Ok(None) };
        let id = match (&spec.item_sep, &spec.kv_sep, &spec.key) {
            (Some(item_sep), Some(kv_sep), Some(wanted)) => text
                .split(item_sep.as_str())
                .filter_map(|item| item.trim().split_once(kv_sep.as_str()))
                .find_map(|(key, id)| (key.trim() == wanted).then(|| id.trim())),
            _ => Some(text),
        };
        let known = |id: &&str| keys.iter().any(|key| key.id.as_deref() == Some(*id));
        Ok(id.filter(known).map(str::to_owned))
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
    pub(super) fn signature_values<'a, 's>(
        &'s self,
        request: &InboundRequest<'a>,
    ) -> Result<Vec<(&'s Source, Cow<'a, str>)>, VerifyError> {
        let (mut values, mut empty) = (Vec::with_capacity(1), None);
        for source in &self.sources {
            let malformed = |fault| VerifyError::Malformed { at: source.clone(), fault };
            let Some(value) = request.get(source).map_err(malformed)? else { continue };
            if value.is_empty() {
                empty = empty.or(Some(source));
                continue;
            }
            if value.len() > limits::HEADER_BYTES_MAX {
                return Err(malformed(Malformed::TooLong { max_bytes: limits::HEADER_BYTES_MAX }));
            }
            if self.layout.is_none() && request.times(source) > 1 {
                return Err(malformed(Malformed::Repeated { times: request.times(source) }));
            }
            values.push((source, into_text(value).ok_or_else(|| malformed(Malformed::NotText))?));
        }
        match (values.is_empty(), empty, self.sources.first()) {
            (true, Some(at), _) => Err(VerifyError::Malformed { at: at.clone(), fault: Malformed::Empty }),
            (true, None, Some(first)) => Err(VerifyError::Missing { at: first.clone() }),
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
        let in_layout = self.layout.as_ref().filter(|layout| layout.holds_timestamp());
        let (at, text) = if let Some(layout) = in_layout {
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
        let malformed = || {
            let fault = match request.times(at) {
                times if times > 1 && in_layout.is_none() => Malformed::Repeated { times },
                _ => Malformed::Timestamp { form: spec.unit.form() },
            };
            VerifyError::Malformed { at: at.clone(), fault }
        };
        let stamp =
            std::str::from_utf8(&text).ok().and_then(|text| spec.unit.parse(text)).ok_or_else(malformed)?;
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

    /// Every reading of the content with one key, each compared with every signature in constant time. A
    /// reading of which the request lacks a part is not what was signed; if it lacks one of each, that is said.
    fn matches(&self, trial: &Trial<'_, '_>, form: &KeyForm) -> Result<bool, VerifyError> {
        let fits = |p: &&Presented| p.label.is_none_or(|label| label == form.label);
        if !trial.presented.iter().any(|p| fits(&p)) {
            return Ok(false);
        }
        let origin = trial.request.public_url().unwrap_or_default();
        let origins: Vec<Cow<'_, str>> = match self.url_variants.as_slice() {
            [] => vec![Cow::Borrowed(origin)],
            variants => variants.iter().map(|one| Cow::Owned(canonical::url_variant(origin, *one))).collect(),
        };
        let (mut was_read, mut lacking) = (false, None);
        for content in std::iter::once(&self.content).chain(&self.content_also) {
            for origin in &origins {
                match self.matches_content(trial, form, content, origin) {
                    Ok(true) => return Ok(true),
                    Ok(false) => was_read = true,
                    Err(fault) => lacking = lacking.or(Some(fault)),
                }
            }
        }
        match lacking {
            Some(fault) if !was_read => Err(fault),
            _ => Ok(false),
        }
    }

    fn matches_content(
        &self,
        trial: &Trial<'_, '_>,
        form: &KeyForm,
        content: &Content,
        origin: &str,
    ) -> Result<bool, VerifyError> {
        let mut values = self.values(trial.timestamp, trial.id, origin);
        let fitting = || trial.presented.iter().filter(|p| p.label.is_none_or(|label| label == form.label));
        // All of them, so that time does not tell which one came close.
        let equals = |tag: &Tag| fitting().fold(false, |any, p| any | tag.is(&p.signature));
        match &form.material {
            Material::Hmac(state) => {
                let mut mac = state.as_ref().clone();
                values.feed(content, trial.request, |piece| mac.update(piece)).map_err(gap)?;
                return Ok(equals(&mac.finish()));
            }
            Material::Hash(secret) => {
                let Some(mut hash) = HashState::new(form.algorithm) else { return Ok(false) };
                values.secret = secret.expose();
                values.feed(content, trial.request, |piece| hash.update(piece)).map_err(gap)?;
                return Ok(equals(&hash.finish()));
            }
            _ => {}
        }
        let mut message = Vec::with_capacity(trial.request.body().len() + 128);
        values.feed(content, trial.request, |piece| message.extend_from_slice(piece)).map_err(gap)?;
        let algorithm = trial.algorithm.unwrap_or(form.algorithm);
        let mut signatures = fitting().map(|p| p.signature.bytes());
        let ed25519 = |key: &VerifyingKey, signature: &[u8]| {
            Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(&message, &signature).is_ok())
        };
        Ok(match &form.material {
            Material::Ed25519Public(key) => signatures.any(|signature| ed25519(key, signature)),
            Material::Ed25519Private(key) => {
                let public = key.verifying_key();
                signatures.any(|signature| ed25519(&public, signature))
            }
            Material::Public(key) => {
                signatures.any(|signature| key.verify(algorithm, EcdsaForm::Asn1, &message, signature))
            }
            Material::Private(key) => {
                let public = key.public();
                signatures.any(|signature| public.verify(algorithm, EcdsaForm::Asn1, &message, signature))
            }
            _ => false,
        })
    }

    pub(super) fn values<'v>(&'v self, timestamp: &'v [u8], id: &'v [u8], origin: &'v str) -> Values<'v> {
        Values { timestamp, id, origin, secret: &[], fields: &self.fields }
    }
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
