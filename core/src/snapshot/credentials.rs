//! The headers of an endpoint, those among them that nobody may read opened when they are first sent.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::keys::KEPT_S;
use crate::endpoint::EndpointSpec;
use crate::format::{Format, is_credential};
use crate::secrets::{Purpose, SecretError, StoredSecret, Vault, name};

/// Why an endpoint's credentials cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("the value of its header `{header}` is not among its secrets: set the header again")]
    Missing { header: HeaderName },
    #[error("the value of its header `{header}` is none that a header can have: set the header again")]
    Value { header: HeaderName },
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// What is sent along with every attempt.
#[derive(Debug)]
pub(super) struct SentHeaders {
    /// Those that anybody may read.
    plain: Arc<HeaderMap>,
    /// `None` where there are no others, as in most endpoints.
    sealed: Option<Box<SealedHeaders>>,
}

#[derive(Debug)]
struct SealedHeaders {
    headers: Vec<(HeaderName, Option<Arc<StoredSecret>>)>,
    kept: ArcSwapOption<Kept>,
}

#[derive(Debug)]
struct Kept {
    all: Arc<HeaderMap>,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl SentHeaders {
    pub(super) fn none() -> Self {
        Self { plain: Arc::default(), sealed: None }
    }

    /// The error says in a sentence why this build cannot send them.
    pub(super) fn new(
        spec: &EndpointSpec,
        format: &Format,
        secrets: &[Arc<StoredSecret>],
    ) -> Result<Self, String> {
        let mut plain = format.extra_headers(&spec.headers).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            faults.join("; ")
        })?;
        // Of an endpoint that was written before such values were sealed: at least they are not logged.
        for (name, value) in &mut plain {
            value.set_sensitive(is_credential(name));
        }
        let header = |text: &String| {
            let header =
                format.validate_header(text).map_err(|refusal| format!("header `{text}`: {refusal}"))?;
            let wanted = name::of_header(text);
            Ok((header, secrets.iter().find(|secret| secret.name == wanted).cloned()))
        };
        let headers: Vec<_> = spec.sealed_headers.iter().map(header).collect::<Result<_, String>>()?;
        let sealed =
            (!headers.is_empty()).then(|| Box::new(SealedHeaders { headers, kept: ArcSwapOption::empty() }));
        Ok(Self { plain: Arc::new(plain), sealed })
    }

    /// All of them; the values of credentials are marked as sensitive.
    pub(super) fn open(&self, vault: &Vault, now: DateTime<Utc>) -> Result<Arc<HeaderMap>, CredentialError> {
        let Some(sealed) = &self.sealed else { return Ok(Arc::clone(&self.plain)) };
        if let Some(kept) = &*sealed.kept.load()
            && kept.from <= now
            && now < kept.until
        {
            return Ok(Arc::clone(&kept.all));
        }
        let mut all = HeaderMap::clone(&self.plain);
        for (header, stored) in &sealed.headers {
            let stored =
                stored.as_ref().ok_or_else(|| CredentialError::Missing { header: header.clone() })?;
            let secret = vault.open(stored, Purpose::Authenticate)?;
            let mut value = HeaderValue::from_bytes(secret.expose())
                .map_err(|_| CredentialError::Value { header: header.clone() })?;
            value.set_sensitive(true);
            all.insert(header.clone(), value);
        }
        let all = Arc::new(all);
        // Then the vault is asked again, so that an unsealing its log had no room for is told.
        let until = now + TimeDelta::seconds(KEPT_S);
        sealed.kept.store(Some(Arc::new(Kept { all: Arc::clone(&all), from: now, until })));
        Ok(all)
    }
}
