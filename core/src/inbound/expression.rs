//! The expressions of a source over a request: its names, its deduplication key, its verification.
//! Looked at only where a source has them, and the body is read as JSON only by those that ask.

use std::sync::Arc;

use crate::event::OWN_EVENTS;
use crate::expression::{EvaluationError, RequestScope, Scope, SecretLookup};
use crate::scheme::InboundRequest;
use crate::secrets::{Purpose, Secret, StoredSecret, Vault};
use crate::snapshot::LiveSource;
use chrono::{DateTime, Utc};
use http::StatusCode;

use super::refusal::Refusal;

/// Versions of a secret that are tried during an overlap.
const VERSIONS_MAX: usize = 10;

fn scope<'a>(request: &InboundRequest<'a>) -> Scope<'a> {
    Scope::of_request(RequestScope {
        method: request.method(),
        path_and_query: request.path_and_query(),
        headers: request.headers(),
        body: request.body(),
    })
}

/// What the expressions of a source say of a request, where it has them.
#[derive(Debug, Default)]
#[allow(clippy::option_option, reason = "no expression is not an expression that says null")]
pub(super) struct Said {
    /// `None`: what the constant or the preset says.
    pub(super) event_type: Option<String>,
    /// The outer `None`: no expression.
    pub(super) channel: Option<Option<String>>,
    pub(super) dedup_key: Option<Option<Vec<u8>>>,
}

pub(super) fn read(request: &InboundRequest<'_>, live: &LiveSource) -> Result<Said, Refusal> {
    let own = &live.expressions;
    if own.event_type.is_none() && own.channel.is_none() && own.dedup_key.is_none() {
        return Ok(Said::default());
    }
    let scope = scope(request);
    let name = |program: &crate::expression::Program, field| {
        program.name(&scope).map_err(|fault| failed(field, &fault))
    };
    Ok(Said {
        event_type: match &own.event_type {
            Some(program) => name(program, "event_type_cel")?,
            None => None,
        },
        channel: match &own.channel {
            Some(program) => Some(name(program, "channel_cel")?),
            None => None,
        },
        dedup_key: match &own.dedup_key {
            Some(program) => Some(program.key(&scope).map_err(|fault| failed("dedup_key", &fault))?),
            None => None,
        },
    })
}

fn failed(field: &str, fault: &EvaluationError) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "expression_failed",
        format!("the expression `{field}` of this source fails on this request: {fault}"),
    )
}

/// No request can bring one of Bowline's own events about: they are told only by Bowline.
pub(super) fn check_event_type(event_type: &str) -> Result<(), Refusal> {
    if event_type.starts_with(OWN_EVENTS) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "reserved_event_type",
            format!("an event type must not start with `{OWN_EVENTS}`: those are Bowline's own"),
        ));
    }
    Ok(())
}

/// Whether the source's `verify` holds, with any version of its secrets that is valid now.
pub(super) fn verify(
    request: &InboundRequest<'_>,
    live: &LiveSource,
    vault: &Vault,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let Some(program) = &live.expressions.verify else { return Ok(()) };
    let valid = |secret: &&Arc<StoredSecret>| secret.expires_at.is_none_or(|at| at > now);
    let secrets: Vec<&StoredSecret> = live.secrets.iter().filter(valid).map(AsRef::as_ref).collect();
    let versions = |name: &str| secrets.iter().filter(|secret| secret.name == name).count();
    let rounds = secrets.iter().map(|secret| versions(&secret.name)).max().unwrap_or(1).min(VERSIONS_MAX);
    let mut last = None;
    for version in 0..rounds {
        let lookup = Versions { secrets: &secrets, vault, version };
        match program.decide(&scope(request).with_secrets(&lookup)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(fault) => last = Some(fault),
        }
    }
    let (code, message) = match last {
        Some(fault) => (
            "expression_failed",
            format!("the expression `verify` of this source fails on this request: {fault}"),
        ),
        None => (
            "wrong_signature",
            "the expression `verify` of this source does not hold for this request".into(),
        ),
    };
    let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, code, message);
    refusal.is_of_verification = true;
    Err(refusal)
}

/// The secrets of a source, of each name the one of this version (0 for the newest).
struct Versions<'a> {
    secrets: &'a [&'a StoredSecret],
    vault: &'a Vault,
    version: usize,
}

impl SecretLookup for Versions<'_> {
    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        let mut named = self.secrets.iter().filter(|secret| secret.name == name).peekable();
        let newest = named.peek().copied();
        let stored = named.nth(self.version).or(newest)?;
        match self.vault.open(stored, Purpose::Verify) {
            Ok(secret) => Some(secret),
            Err(error) => {
                // What is wrong with a secret is for the log of the deployment alone.
                tracing::error!(secret_id = %stored.id, %error, "a secret of a source cannot be used");
                None
            }
        }
    }
}
