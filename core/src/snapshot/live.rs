//! Sources and endpoints as the hot path wants them: parsed, compiled, with their keys at hand.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, OnceLock};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use url::Url;

use super::credentials::{CredentialError, SentHeaders};
use super::keys::{self, KeyCache, KeysError};
use super::receiver_tls::ReceiverTls;
use super::refused::Refused;
use crate::access_token::AccessTokens;
use crate::egress::EgressGuard;
use crate::endpoint::{Endpoint, EndpointSpec, EndpointState};
use crate::endpoint_auth::EndpointAuth;
use crate::expression::{Budget, EvaluationError, ExpressionError, LooksAt, Place, Program, Scope};
use crate::format::{self, Format};
use crate::preset::{self, Preset};
use crate::scheme::{CompiledScheme, Key};
use crate::secrets::{Purpose, Secret, StoredSecret, Vault, name};
use crate::source::{Source, SourceSpec};

/// Names no server, so nothing could be sent there even by mistake.
static NOWHERE: LazyLock<Url> = LazyLock::new(|| {
    // A constant that parses.
    Url::parse("invalid:unreadable-endpoint").unwrap_or_else(|_| unreachable!("a constant that parses"))
});

/// What compiling an expression costs, in steps of evaluating one.
const COMPILE_STEPS: u64 = 5_000;

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
    pub expressions: SourceExpressions,
    /// What this replica has refused since it accepted something.
    pub refused: Refused,
    keys: KeyCache,
}

/// A source's own expressions; most have none.
#[derive(Debug, Default)]
pub struct SourceExpressions {
    pub event_type: Option<Program>,
    pub channel: Option<Program>,
    pub dedup_key: Option<Program>,
    pub verify: Option<Program>,
    /// Where `verify` looks: what stands there may be a secret, and is not kept.
    pub verify_looks_at: LooksAt,
}

impl SourceExpressions {
    fn compile(spec: &SourceSpec) -> Result<Self, String> {
        let compile = |name: &str, text: &Option<String>, place| {
            let program = text.as_deref().map(|text| Program::compile(text, place));
            program
                .transpose()
                .map_err(|fault| format!("its {name} is no expression of this version: {fault}"))
        };
        let verify = compile("verification", &spec.verify_cel, Place::Verify)?;
        Ok(Self {
            verify_looks_at: verify.as_ref().map(Program::looks_at).unwrap_or_default(),
            verify,
            event_type: compile("event type", &spec.event_type_cel, Place::Name)?,
            channel: compile("channel", &spec.channel_cel, Place::Name)?,
            dedup_key: compile("deduplication key", &spec.dedup_key_cel, Place::DedupKey)?,
        })
    }
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
        let expressions = SourceExpressions::compile(&source.spec)?;
        if scheme.is_none() && expressions.verify.is_none() && !source.spec.insecure {
            return Err("it has no scheme and is not marked insecure".into());
        }
        Ok(Self {
            source,
            preset,
            scheme,
            secrets,
            expressions,
            refused: Refused::default(),
            keys: KeyCache::default(),
        })
    }

    /// The keys that are valid now, newest first; empty where nothing is verified.
    pub fn keys(&self, vault: &Vault, now: DateTime<Utc>) -> Result<Arc<[Key]>, KeysError> {
        let Some(scheme) = &self.scheme else { return Ok(Arc::default()) };
        let open =
            |stored: &StoredSecret| keys::open(vault, stored, Purpose::Verify, |secret| scheme.key(secret));
        self.keys.get(&self.secrets, now, open)
    }

    /// Whether it has a secret to verify by, be it expired.
    pub fn has_secret(&self) -> bool {
        self.secrets.iter().any(|secret| secret.is_signing())
    }

    /// The valid versions of a named secret, newest first. One that does not open is left out.
    pub fn named_secrets(&self, vault: &Vault, now: DateTime<Utc>, name: &str) -> Vec<Arc<Secret>> {
        let valid =
            |secret: &&Arc<StoredSecret>| secret.name == name && secret.expires_at.is_none_or(|at| at > now);
        let open = |stored: &Arc<StoredSecret>| {
            let opened = vault.open(stored, Purpose::Verify);
            // What is wrong with a secret is for the log of the deployment alone.
            opened
                .inspect_err(|error| tracing::error!(secret_id = %stored.id, %error, "a secret of a source cannot be used"))
                .ok()
        };
        self.secrets.iter().filter(valid).filter_map(open).collect()
    }
}

/// An expression that is compiled when it is first used: of 100,000 endpoints few match at once.
#[derive(Debug)]
struct Lazy {
    text: String,
    place: Place,
    program: OnceLock<Result<Program, ExpressionError>>,
}

impl Lazy {
    fn new(text: Option<&String>, place: Place) -> Option<Self> {
        text.map(|text| Self { text: text.clone(), place, program: OnceLock::new() })
    }

    fn program(&self) -> Result<&Program, ExpressionFault> {
        let compiled = self.program.get_or_init(|| Program::compile(&self.text, self.place));
        compiled.as_ref().map_err(|fault| ExpressionFault::Refused(fault.clone()))
    }
}

/// What a filter said, and what asking it cost.
#[derive(Debug)]
pub struct Selection {
    pub selected: Result<bool, ExpressionFault>,
    pub steps: u64,
}

/// Why an endpoint's expression gives nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionFault {
    /// It was accepted by another version.
    #[error("the expression is refused by this version: {0}")]
    Refused(ExpressionError),
    #[error(transparent)]
    Failed(#[from] EvaluationError),
}

/// An endpoint, ready to be sent to.
#[derive(Debug)]
pub struct LiveEndpoint {
    pub endpoint: Endpoint,
    pub url: Url,
    pub format: Arc<Format>,
    /// Those it signs with, newest first, expired ones too.
    pub secrets: Vec<Arc<StoredSecret>>,
    /// Why this build cannot send to it. It is paused here then, whatever its row says: its backlog
    /// waits for a build that can.
    pub fault: Option<String>,
    filter: Option<Lazy>,
    transform: Option<Lazy>,
    keys: KeyCache,
    headers: SentHeaders,
    tokens: Option<Box<AccessTokens>>,
    tls: Option<Box<ReceiverTls>>,
}

impl LiveEndpoint {
    /// One that this build cannot send to is kept with its [`fault`](Self::fault).
    pub fn new(endpoint: Endpoint, secrets: Vec<Arc<StoredSecret>>) -> Self {
        let (secrets, credentials): (Vec<_>, Vec<_>) =
            secrets.into_iter().partition(|secret| secret.is_signing());
        match read(&endpoint.spec, &credentials) {
            Ok(Read { url, format, headers, tokens, tls }) => {
                let filter = Lazy::new(endpoint.spec.filter.as_ref(), Place::Filter);
                let transform = Lazy::new(endpoint.spec.transform.as_ref(), Place::Transform);
                let keys = KeyCache::default();
                Self {
                    endpoint,
                    url,
                    format,
                    secrets,
                    fault: None,
                    filter,
                    transform,
                    keys,
                    headers,
                    tokens,
                    tls,
                }
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
            format: Arc::clone(&format::all()[0]),
            secrets: Vec::new(),
            headers: SentHeaders::none(),
            tokens: None,
            tls: None,
            fault: Some(fault),
            filter: None,
            transform: None,
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

    /// Its own headers, opened; those that hold a credential are marked as sensitive.
    pub fn headers(&self, vault: &Vault, now: DateTime<Utc>) -> Result<Arc<HeaderMap>, CredentialError> {
        self.headers.open(vault, now)
    }

    /// Where its access tokens come from, if it authenticates by those.
    pub fn access_tokens(&self) -> Option<&AccessTokens> {
        self.tokens.as_deref()
    }

    /// The guard its requests go through: `guard`, with the endpoint's certificates if it has any.
    pub fn guard<'a>(
        &self,
        guard: &'a EgressGuard,
        vault: &Vault,
    ) -> Result<Cow<'a, EgressGuard>, CredentialError> {
        match &self.tls {
            None => Ok(Cow::Borrowed(guard)),
            Some(tls) => tls.guard(guard, vault).map(Cow::Owned),
        }
    }

    /// Whether its filter, if it has one, selects the event of the scope.
    pub fn select(&self, scope: &Scope<'_>) -> Selection {
        let Some(filter) = &self.filter else { return Selection { selected: Ok(true), steps: 0 } };
        let compiles = if filter.program.get().is_none() { COMPILE_STEPS } else { 0 };
        let budget = Budget::default();
        let selected = filter.program().and_then(|program| Ok(program.decide_within(scope, &budget)?));
        Selection { selected, steps: compiles + budget.used_steps() }
    }

    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// What its transform makes of the event of the scope: JSON. `None` where it has none.
    pub fn transformed(&self, scope: &Scope<'_>) -> Option<Result<Vec<u8>, ExpressionFault>> {
        let transform = self.transform.as_ref()?;
        Some(transform.program().and_then(|program| Ok(program.body(scope)?)))
    }

    pub fn has_transform(&self) -> bool {
        self.transform.is_some()
    }

    pub(super) fn wants_channel(&self, channel: Option<&str>) -> bool {
        self.endpoint.spec.wants_channel(channel)
    }
}

/// What a specification comes to.
struct Read {
    url: Url,
    format: Arc<Format>,
    headers: SentHeaders,
    tokens: Option<Box<AccessTokens>>,
    tls: Option<Box<ReceiverTls>>,
}

fn read(spec: &EndpointSpec, secrets: &[Arc<StoredSecret>]) -> Result<Read, String> {
    let url = Url::parse(&spec.url).map_err(|fault| format!("its URL does not parse: {fault}"))?;
    let format = format::of(&spec.format, spec.custom.as_ref()).map_err(|fault| fault.to_string())?;
    let tokens = match spec.auth.as_deref() {
        Some(EndpointAuth::ClientCredentials(wanted)) => {
            let secret = secrets.iter().find(|secret| secret.name == name::CLIENT_SECRET);
            Some(Box::new(AccessTokens::new(wanted, secret.cloned())?))
        }
        _ => None,
    };
    let tls = spec.tls.as_deref().map(|tls| Box::new(ReceiverTls::new(tls.clone(), secrets)));
    let headers = SentHeaders::new(spec, &format, secrets)?;
    Ok(Read { url, format, headers, tokens, tls })
}
