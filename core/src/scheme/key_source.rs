//! Keys that no secret holds: where a request says they are, what of that is believed, and how they
//! are read. The fetching itself is [`crate::keys`]: nothing here waits.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use regex::bytes::RegexBuilder;
use serde::{Deserialize, Serialize};
use url::Url;

use super::compile::CompiledScheme;
use super::content::Content;
use super::der;
use super::describe::{Algorithm, Family, is_default};
use super::error::VerifyError;
use super::jwt;
use super::key::{Key, KeyError, KeyForm, Material};
use super::request::InboundRequest;
use super::source::{JsonPointer, Source};
use super::{asymmetric, json, limits};
use crate::secrets::Secret;

/// Where keys are fetched, if no secret is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeySourceSpec {
    /// A certificate at a URL that the request names.
    X509Url {
        from: Source,
        /// A regular expression for the whole host.
        host: String,
        #[serde(default, skip_serializing_if = "is_default")]
        path_suffix: String,
    },
    /// A set of JSON Web Keys; with an empty URL the secrets are all there is.
    Jwks { url: String },
    /// One JSON Web Key by the id the token names: `{kid}` and `{secret}` are filled in.
    KeyById { url: String, body: BTreeMap<String, String>, at: JsonPointer },
    /// No key at all: the provider is asked, with the secret as bearer token, whether it knows what the
    /// request is about. `url` is a template of values of the request.
    FetchBack { url: String },
}

#[derive(Debug, Clone)]
pub(super) enum KeySource {
    X509Url { from: Source, host: regex::bytes::Regex, path_suffix: String },
    Jwks { url: Url },
    KeyById { url: Url, body: BTreeMap<String, String>, at: JsonPointer },
    FetchBack { url: Content },
}

/// What to fetch before a request can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFetch {
    pub url: Url,
    /// JSON to post; a GET otherwise.
    pub body: Option<Secret>,
    pub bearer: Option<Secret>,
    /// The key wanted, where the request names it.
    pub key_id: Option<String>,
    /// The answer says by its status alone what is true.
    pub confirms: bool,
}

impl KeySourceSpec {
    /// `None` for a set of keys without a URL.
    pub(super) fn compile(&self) -> Result<Option<KeySource>, String> {
        let https = |text: &str| match Url::parse(text) {
            Ok(url) if url.scheme() == "https" || url.scheme() == "http" => Ok(url),
            _ => Err(format!("`{text}` is no https URL")),
        };
        Ok(Some(match self {
            Self::X509Url { from, host, path_suffix } => {
                let pattern =
                    RegexBuilder::new(&format!("^(?:{host})$")).unicode(false).size_limit(1 << 18).build();
                let host = pattern.map_err(|fault| format!("`{host}` is no pattern for a host: {fault}"))?;
                KeySource::X509Url { from: from.clone(), host, path_suffix: path_suffix.clone() }
            }
            Self::Jwks { url } if url.is_empty() => return Ok(None),
            Self::Jwks { url } => KeySource::Jwks { url: https(url)? },
            Self::KeyById { url, body, at } => {
                KeySource::KeyById { url: https(url)?, body: body.clone(), at: at.clone() }
            }
            Self::FetchBack { url } => {
                let url = Content::parse(url).map_err(|fault| fault.to_string())?;
                if !url.is_plain() || url.has_mac() {
                    return Err("only values of the request can be part of the URL".to_owned());
                }
                KeySource::FetchBack { url }
            }
        }))
    }
}

impl KeySource {
    pub(super) fn source(&self) -> Option<&Source> {
        match self {
            Self::X509Url { from, .. } => Some(from),
            _ => None,
        }
    }
}

impl CompiledScheme {
    /// Whether keys may have to be fetched at all.
    pub fn fetches_keys(&self) -> bool {
        self.key_source.is_some()
    }

    /// Whether a source can do without any secret: its keys are all fetched.
    pub fn needs_no_secret(&self) -> bool {
        matches!(self.key_source, Some(KeySource::X509Url { .. } | KeySource::Jwks { .. }))
            && self
                .jwt
                .as_ref()
                .is_none_or(|spec| spec.algorithms.iter().all(|one| !one.algorithm().is_hmac()))
    }

    /// What must be fetched before [`Self::verify`], where no key at hand is one; an error where the
    /// request names a place that is not to be trusted.
    pub fn key_fetch(
        &self,
        request: &InboundRequest<'_>,
        keys: &[Key],
    ) -> Result<Option<KeyFetch>, VerifyError> {
        let Some(source) = &self.key_source else { return Ok(None) };
        let verifies =
            |key: &Key| key.forms.iter().any(|form| !matches!(form.material, Material::Credential(_)));
        if keys.iter().any(verifies) {
            return Ok(None);
        }
        self.check_key_place(request)?;
        if self.algorithm != Algorithm::FetchBack {
            // Nothing is fetched for a request that is not signed at all.
            self.signature_values(request)?;
        }
        let plain = |url| KeyFetch { url, body: None, bearer: None, key_id: None, confirms: false };
        Ok(Some(match source {
            KeySource::X509Url { .. } => plain(self.certificate_url(request)?),
            KeySource::Jwks { url } => KeyFetch { key_id: self.named_key(request)?, ..plain(url.clone()) },
            KeySource::KeyById { url, body, .. } => {
                let key_id = self.named_key(request)?.ok_or_else(|| self.missing_signature())?;
                let body = fill(body, &key_id, keys)?;
                KeyFetch { body: Some(body), key_id: Some(key_id), ..plain(url.clone()) }
            }
            KeySource::FetchBack { .. } => {
                let bearer = credential(keys).ok_or(VerifyError::NoUsableSecret)?.clone();
                KeyFetch { bearer: Some(bearer), confirms: true, ..plain(self.fetch_back_url(request)?) }
            }
        }))
    }

    /// The keys in what was fetched.
    pub fn read_fetched(
        &self,
        fetch: &KeyFetch,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Vec<Key>, KeyError> {
        if fetch.confirms {
            let material = Material::Confirmed(fetch.url.as_str().into());
            let form = KeyForm { label: 0, algorithm: Algorithm::FetchBack, material };
            return Ok(vec![Key { forms: vec![form], id: None, text: Secret::new(Vec::new()) }]);
        }
        match (&self.key_source, &self.jwt) {
            (Some(KeySource::Jwks { .. }), Some(spec)) => jwt::read_set(spec, body),
            (Some(KeySource::Jwks { .. }), None) => {
                jwt::read_set(&jwt::JwtSpec::of_keys(self.algorithm).ok_or(KeyError::KeySet)?, body)
            }
            (Some(KeySource::KeyById { at, .. }), Some(spec)) => {
                let found = json::find(body, std::slice::from_ref(at)).map_err(|_| KeyError::KeySet)?;
                let key = found.first().copied().flatten().ok_or(KeyError::KeySet)?;
                let mut keys = jwt::read_set(spec, key.get().as_bytes())?;
                // It was asked for by this id, whatever it calls itself.
                for key in &mut keys {
                    key.id = fetch.key_id.as_deref().map(Into::into);
                }
                Ok(keys)
            }
            _ => self.read_certificate(body, now),
        }
    }

    fn read_certificate(&self, pem: &[u8], now: DateTime<Utc>) -> Result<Vec<Key>, KeyError> {
        let (_, der) = der::pem(pem).ok_or(KeyError::Encoding("a certificate in PEM"))?;
        let certificate = der::certificate(&der).ok_or(KeyError::Encoding("a certificate in PEM"))?;
        if now < certificate.not_before || now > certificate.not_after {
            return Err(KeyError::NotValidNow);
        }
        let material = asymmetric::of_spki(&certificate.key, self.algorithm.family())?;
        let form = KeyForm { label: 0, algorithm: self.algorithm, material };
        Ok(vec![Key { forms: vec![form], id: None, text: Secret::new(Vec::new()) }])
    }

    /// The place of the certificate, checked: a pinned key does not make another place right.
    pub(super) fn certificate_url(&self, request: &InboundRequest<'_>) -> Result<Url, VerifyError> {
        let Some(KeySource::X509Url { from, .. }) = &self.key_source else {
            return Err(self.missing_signature());
        };
        let text = request
            .get(from)
            .map_err(|fault| VerifyError::Malformed { at: from.clone(), fault })?
            .ok_or_else(|| VerifyError::Missing { at: from.clone() })?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        self.trusted_url(text).ok_or_else(|| VerifyError::KeyPlace { at: from.clone() })
    }

    /// A URL at one of the hosts that certificates come from; `None` for every other.
    pub fn trusted_url(&self, text: &str) -> Option<Url> {
        let Some(KeySource::X509Url { host, .. }) = &self.key_source else { return None };
        let url = Url::parse(text).ok().filter(|_| text.len() <= limits::URL_BYTES_MAX)?;
        let right = url.scheme() == "https"
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && host.is_match(url.host_str()?.as_bytes());
        right.then_some(url)
    }

    /// The same, and the path is one of a certificate.
    pub(super) fn check_key_place(&self, request: &InboundRequest<'_>) -> Result<(), VerifyError> {
        let Some(KeySource::X509Url { from, path_suffix, .. }) = &self.key_source else { return Ok(()) };
        let url = self.certificate_url(request)?;
        if url.path().ends_with(path_suffix.as_str()) && (path_suffix.is_empty() || url.query().is_none()) {
            return Ok(());
        }
        Err(VerifyError::KeyPlace { at: from.clone() })
    }

    pub(super) fn fetch_back_url(&self, request: &InboundRequest<'_>) -> Result<Url, VerifyError> {
        let Some(KeySource::FetchBack { url }) = &self.key_source else {
            return Err(self.missing_signature());
        };
        // An id is a word: nothing in it may lead to another path.
        for source in url.values() {
            let value = request
                .get(source)
                .map_err(|fault| VerifyError::Malformed { at: source.clone(), fault })?
                .ok_or_else(|| VerifyError::Missing { at: source.clone() })?;
            let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
            if value.is_empty() || value.len() > 128 || !value.iter().all(word) {
                return Err(VerifyError::KeyPlace { at: source.clone() });
            }
        }
        let text = url.render(request, |_| None).unwrap_or_default();
        Url::parse(&text).map_err(|_| self.missing_signature())
    }

    fn named_key(&self, request: &InboundRequest<'_>) -> Result<Option<String>, VerifyError> {
        let Some(source) = self.sources.first() else { return Ok(None) };
        let value =
            request.get(source).map_err(|fault| VerifyError::Malformed { at: source.clone(), fault })?;
        let value = value.ok_or_else(|| self.missing_signature())?;
        Ok(std::str::from_utf8(&value).ok().and_then(|value| self.token_key_id(value)))
    }

    fn missing_signature(&self) -> VerifyError {
        match self.sources.first() {
            Some(at) => VerifyError::Missing { at: at.clone() },
            None => VerifyError::NoUsableSecret,
        }
    }

    /// What verifies by being confirmed.
    pub(super) fn is_confirmed(
        &self,
        request: &InboundRequest<'_>,
        keys: &[Key],
    ) -> Result<usize, VerifyError> {
        let url = self.fetch_back_url(request)?;
        let says = |key: &Key| {
            key.forms
                .iter()
                .any(|form| matches!(&form.material, Material::Confirmed(own) if **own == *url.as_str()))
        };
        keys.iter().position(says).ok_or(VerifyError::NotConfirmed)
    }
}

impl jwt::JwtSpec {
    /// For a set of keys that verify something else than tokens.
    fn of_keys(algorithm: Algorithm) -> Option<Self> {
        let algorithm = match (algorithm.family(), algorithm) {
            (Family::Ed25519, _) => jwt::JwtAlgorithm::EdDsa,
            (Family::Ecdsa, _) => jwt::JwtAlgorithm::Es256,
            (_, Algorithm::RsaSha256) => jwt::JwtAlgorithm::Rs256,
            (_, Algorithm::RsaPssSha256) => jwt::JwtAlgorithm::Ps256,
            _ => return None,
        };
        Some(Self {
            algorithms: vec![algorithm],
            issuer: String::new(),
            audience: String::new(),
            equal: BTreeMap::new(),
            required: Vec::new(),
            leeway_s: 0,
            max_age_s: None,
            body_hash: None,
            url_hash: None,
        })
    }
}

fn credential(keys: &[Key]) -> Option<&Secret> {
    keys.iter().flat_map(|key| &key.forms).find_map(|form| match &form.material {
        Material::Credential(secret) => Some(secret),
        _ => None,
    })
}

fn fill(body: &BTreeMap<String, String>, key_id: &str, keys: &[Key]) -> Result<Secret, VerifyError> {
    let secret = credential(keys).and_then(Secret::expose_str).ok_or(VerifyError::NoUsableSecret)?;
    let value = |text: &String| match text.as_str() {
        "{secret}" => secret.to_owned(),
        "{kid}" => key_id.to_owned(),
        text => text.to_owned(),
    };
    let filled: BTreeMap<&str, String> =
        body.iter().map(|(name, text)| (name.as_str(), value(text))).collect();
    Ok(Secret::from(serde_json::to_string(&filled).map_err(|_| VerifyError::NoUsableSecret)?))
}
