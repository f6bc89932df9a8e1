//! Sources and endpoints as the hot path wants them: parsed, compiled, with their keys at hand.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use url::Url;

use super::keys::{self, KeyCache, KeysError};
use crate::endpoint::{Endpoint, EndpointSpec, EndpointState};
use crate::format::{self, Format};
use crate::preset::{self, Preset};
use crate::scheme::{CompiledScheme, Key};
use crate::secrets::{Purpose, StoredSecret, Vault};
use crate::source::Source;

/// Names no server, so nothing could be sent there even by mistake.
static NOWHERE: LazyLock<Url> = LazyLock::new(|| {
    // A constant that parses.
    Url::parse("invalid:unreadable-endpoint").unwrap_or_else(|_| unreachable!("a constant that parses"))
});

/// A source, ready to verify.
#[derive(Debug)]
pub struct LiveSource {
    pub source: Source,
    /// With the source's own parameters.
    pub preset: Arc<Preset>,
    /// Its own, else the preset's; none where it is insecure and the preset has none.
    pub scheme: Option<Arc<CompiledScheme>>,
    /// Newest first, expired ones too.
    pub secrets: Vec<Arc<StoredSecret>>,
    keys: KeyCache,
}

impl LiveSource {
    /// The error says in a sentence why this build cannot serve the source.
    pub fn new(source: Source, secrets: Vec<Arc<StoredSecret>>) -> Result<Self, String> {
        let preset = preset::configured(&source.spec.preset, &source.spec.parameters)
            .ok_or_else(|| format!("the preset `{}` is not in this version", source.spec.preset))?
            .map_err(|fault| fault.to_string())?;
        let scheme = match &source.spec.scheme {
            Some(scheme) => Some(Arc::new(scheme.compile().map_err(|fault| fault.to_string())?)),
            None => preset.shared_scheme(),
        };
        if scheme.is_none() && !source.spec.insecure {
            return Err("it has no scheme and is not marked insecure".into());
        }
        Ok(Self { source, preset, scheme, secrets, keys: KeyCache::default() })
    }

    /// The keys that are valid now, newest first; empty where nothing is verified.
    pub fn keys(&self, vault: &Vault, now: DateTime<Utc>) -> Result<Arc<[Key]>, KeysError> {
        let Some(scheme) = &self.scheme else { return Ok(Arc::default()) };
        let open =
            |stored: &StoredSecret| keys::open(vault, stored, Purpose::Verify, |secret| scheme.key(secret));
        self.keys.get(&self.secrets, now, open)
    }
}

/// An endpoint, ready to be sent to.
#[derive(Debug)]
pub struct LiveEndpoint {
    pub endpoint: Endpoint,
    pub url: Url,
    pub format: &'static Format,
    /// Newest first, expired ones too.
    pub secrets: Vec<Arc<StoredSecret>>,
    /// Its own headers, checked.
    pub headers: HeaderMap,
    /// Why this build cannot send to it. It is paused here then, whatever its row says: its backlog
    /// waits for a build that can.
    pub fault: Option<String>,
    keys: KeyCache,
}

impl LiveEndpoint {
    /// One that this build cannot send to is kept with its [`fault`](Self::fault).
    pub fn new(endpoint: Endpoint, secrets: Vec<Arc<StoredSecret>>) -> Self {
        match read(&endpoint.spec) {
            Ok((url, format, headers)) => {
                Self { endpoint, url, format, secrets, headers, fault: None, keys: KeyCache::default() }
            }
            Err(fault) => Self::held(endpoint, fault),
        }
    }

    /// One that is matched, so that its deliveries are kept, and never sent to.
    pub fn held(mut endpoint: Endpoint, fault: String) -> Self {
        endpoint.state = EndpointState::Paused;
        Self {
            endpoint,
            url: NOWHERE.clone(),
            // Never used; formats are part of the binary, so there is a first one.
            format: &format::all()[0],
            secrets: Vec::new(),
            headers: HeaderMap::new(),
            fault: Some(fault),
            keys: KeyCache::default(),
        }
    }

    /// The keys that sign now, newest first; empty where it has no secret.
    pub fn keys(&self, vault: &Vault, now: DateTime<Utc>) -> Result<Arc<[Key]>, KeysError> {
        let open = |stored: &StoredSecret| {
            keys::open(vault, stored, Purpose::Sign, |secret| self.format.key(secret))
        };
        self.keys.get(&self.secrets, now, open)
    }

    pub(super) fn wants_channel(&self, channel: Option<&str>) -> bool {
        let channels = &self.endpoint.spec.channels;
        channels.is_empty() || channel.is_some_and(|channel| channels.iter().any(|wanted| wanted == channel))
    }
}

fn read(spec: &EndpointSpec) -> Result<(Url, &'static Format, HeaderMap), String> {
    let url = Url::parse(&spec.url).map_err(|fault| format!("its URL does not parse: {fault}"))?;
    let format = format::find(&spec.format)
        .ok_or_else(|| format!("the format `{}` is not in this version", spec.format))?;
    let headers = format.extra_headers(&spec.headers).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })?;
    Ok((url, format, headers))
}
