//! The headers of an endpoint, those among them that nobody may read opened when they are first sent.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::keys::KEPT_S;
use crate::egress::{CertificateFault, basic};
use crate::endpoint::EndpointSpec;
use crate::endpoint_auth::EndpointAuth;
use crate::format::{Format, is_credential};
use crate::secrets::{Purpose, SecretError, StoredSecret, Vault, name};

/// Why an endpoint's credentials cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("the value of its header `{header}` is not among its secrets: set the header again")]
    Missing { header: HeaderName },
    #[error("the value of its header `{header}` is none that a header can have: set the header again")]
    Value { header: HeaderName },
    #[error("the password or token of its auth is not among its secrets: set its auth again")]
    AuthMissing,
    #[error("the password or token of its auth is none that a header can have: set its auth again")]
    AuthValue,
    #[error("the key of its client certificate is not among its secrets: set its tls again")]
    KeyMissing,
    #[error("its client certificate, its key or its authorities cannot be used: what was given {0}")]
    Certificates(#[from] CertificateFault),
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
    authorization: Option<Authorization>,
    kept: ArcSwapOption<Kept>,
}

/// What does not change from one attempt to the next.
#[derive(Debug)]
struct Authorization {
    /// `None`: Bearer.
    username: Option<String>,
    secret: Option<Arc<StoredSecret>>,
}

impl Authorization {
    fn of(auth: &EndpointAuth, secrets: &[Arc<StoredSecret>]) -> Option<Self> {
        let find = |wanted| secrets.iter().find(|secret| secret.name == wanted).cloned();
        match auth {
            EndpointAuth::Basic { username } => {
                Some(Self { username: Some(username.clone()), secret: find(name::PASSWORD) })
            }
            EndpointAuth::Bearer => Some(Self { username: None, secret: find(name::TOKEN) }),
            // Fetched by the attempt.
            EndpointAuth::ClientCredentials(_) => None,
        }
    }

    fn open(&self, vault: &Vault) -> Result<HeaderValue, CredentialError> {
        let stored = self.secret.as_ref().ok_or(CredentialError::AuthMissing)?;
        let secret = vault.open(stored, Purpose::Authenticate)?;
        let text = secret.expose_str().ok_or(CredentialError::AuthValue)?;
        if let Some(username) = &self.username {
            return Ok(basic(&Zeroizing::new(format!("{username}:{text}"))));
        }
        let mut value = HeaderValue::from_str(&Zeroizing::new(format!("Bearer {text}")))
            .map_err(|_| CredentialError::AuthValue)?;
        value.set_sensitive(true);
        Ok(value)
    }
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
        let authorization = spec.auth.as_deref().and_then(|auth| Authorization::of(auth, secrets));
        let any = !headers.is_empty() || authorization.is_some();
        let sealed =
            any.then(|| Box::new(SealedHeaders { headers, authorization, kept: ArcSwapOption::empty() }));
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
        if let Some(authorization) = &sealed.authorization {
            all.insert(AUTHORIZATION, authorization.open(vault)?);
        }
        let all = Arc::new(all);
        // Then the vault is asked again, so that an unsealing its log had no room for is told.
        let until = now + TimeDelta::seconds(KEPT_S);
        sealed.kept.store(Some(Arc::new(Kept { all: Arc::clone(&all), from: now, until })));
        Ok(all)
    }
}
