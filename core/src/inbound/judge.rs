//! From a received request to the event it is, or the check it fails.

use std::net::IpAddr;
use std::sync::Arc;

use crate::defaults;
use crate::event::Event;
use crate::id::EventId;
use crate::journal::{DedupKey, NewEvent};
use crate::preset::{HandshakeAnswer, HandshakeSecrets, MissingDedupKey, RequirementError};
use crate::scheme::{CompiledScheme, InboundRequest, Key, KeyFetch, StatusHint, VerifyError};
use crate::secrets::Vault;
use crate::snapshot::LiveSource;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};

use super::kept::headers_kept;
use super::refusal::{RETRY_LATER, Refusal, method_not_allowed};
use super::{expression, handshake};

const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// A request that is all there.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    pub method: &'a Method,
    pub path_and_query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
    /// Who sent it; a proxy's, where one stands before.
    pub remote: IpAddr,
}

/// What a request turned out to be.
#[derive(Debug)]
pub enum Verdict {
    Handshake(HandshakeAnswer),
    Event(Box<NewEvent>),
}

/// What a request is judged by, apart from the source.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub vault: &'a Vault,
    pub public_url: &'a str,
    /// Keys that were fetched for this request; see [`Judge::key_fetch`].
    pub fetched: &'a [Key],
    /// Which secrets are valid is a matter of now,
    pub now: DateTime<Utc>,
    /// how old a signature is one of when it was received.
    pub received_at: DateTime<Utc>,
}

impl Judge<'_> {
    /// The checks in their order: handshake, required headers, signature, body, deduplication key.
    pub fn judge(&self, received: Received<'_>, live: &LiveSource) -> Result<Verdict, Refusal> {
        let preset = live.preset.as_ref();
        let request = self.request(received, live);
        let keys = self.handshake_keys(live);
        let named = |name: &str| live.named_secrets(self.vault, self.now, name);
        let shared = HandshakeSecrets { keys: &keys, named: &named };
        if let Some(answer) = handshake::unverified(live, &request, &shared) {
            return Ok(Verdict::Handshake(answer));
        }
        if received.method != Method::POST && !preset.awaits_verification(&request) {
            return Err(method_not_allowed(preset));
        }
        preset.check(&request).map_err(|fault| refuse_requirement(&fault))?;
        if !live.source.spec.insecure {
            self.verify(&request, live)?;
        }
        preset.check_body(&request).map_err(|fault| refuse_requirement(&fault))?;
        if let Some(answer) = handshake::verified(live, &request, &shared) {
            return Ok(Verdict::Handshake(answer));
        }
        let event = self.event(received, &request, live)?;
        Ok(Verdict::Event(Box::new(event)))
    }

    /// What must be fetched before this request can be judged; nothing for most sources.
    pub fn key_fetch(&self, received: Received<'_>, live: &LiveSource) -> Result<Option<KeyFetch>, Refusal> {
        let scheme = live.scheme.as_deref().filter(|scheme| scheme.fetches_keys());
        let Some(scheme) = scheme.filter(|_| !live.source.spec.insecure) else { return Ok(None) };
        let request = self.request(received, live);
        let Ok(()) = live.preset.check(&request) else { return Ok(None) };
        let keys = self.own_keys(scheme, live)?;
        scheme
            .key_fetch(&request, &keys)
            .map_err(|fault| refuse_verification(&fault, scheme.www_authenticate()))
    }

    fn request<'r>(&'r self, received: Received<'r>, live: &'r LiveSource) -> InboundRequest<'r> {
        InboundRequest::new(
            received.method.as_str(),
            received.path_and_query,
            received.headers,
            received.body,
        )
        .with_public_url(self.public_url)
        .with_pointers(live.preset.pointers())
    }

    /// Only few handshakes are answered with the help of a secret.
    fn handshake_keys(&self, live: &LiveSource) -> Arc<[Key]> {
        if live.preset.handshakes_need_keys() {
            return live.keys(self.vault, self.now).unwrap_or_default();
        }
        Arc::default()
    }

    fn own_keys(&self, scheme: &CompiledScheme, live: &LiveSource) -> Result<Arc<[Key]>, Refusal> {
        live.keys(self.vault, self.now).or_else(|error| {
            if scheme.needs_no_secret() {
                return Ok(Arc::default());
            }
            // What is wrong with a secret is for the log of the deployment alone.
            tracing::error!(source_id = %live.source.id, %error, "the secrets of a source cannot be used");
            Err(refuse_verification(&VerifyError::NoUsableSecret, None))
        })
    }

    fn verify(&self, request: &InboundRequest<'_>, live: &LiveSource) -> Result<(), Refusal> {
        expression::verify(request, live, self.vault, self.now)?;
        let Some(scheme) = live.scheme.as_deref() else {
            if live.expressions.verify.is_some() {
                return Ok(());
            }
            return Err(Refusal::unavailable(
                "no_scheme",
                "this source has no scheme to verify with: give it one",
                RETRY_LATER,
            ));
        };
        let own = self.own_keys(scheme, live)?;
        let keys = if self.fetched.is_empty() { &*own } else { self.fetched };
        scheme
            .verify(request, keys, self.received_at)
            .map(|_| ())
            .map_err(|fault| refuse_verification(&fault, scheme.www_authenticate()))
    }

    fn event(
        &self,
        received: Received<'_>,
        request: &InboundRequest<'_>,
        live: &LiveSource,
    ) -> Result<NewEvent, Refusal> {
        let (source, preset) = (&live.source, live.preset.as_ref());
        let spec = &source.spec;
        let said = expression::read(request, live)?;
        let key = match said.dedup_key {
            Some(key) => key.map(Into::into),
            None => preset.dedup_key(request).map_err(|fault| refuse_dedup_key(&fault))?,
        };
        let key = key.map(|key| DedupKey {
            scope: source.id.0,
            hash: DedupKey::hash(&key),
            ttl: spec.dedup_ttl.unwrap_or(defaults::DEDUP_TTL),
            fingerprint: None,
        });
        let event_type = said.event_type.or_else(|| spec.event_type.clone());
        let event_type = event_type
            .or_else(|| preset.event_type(request))
            .unwrap_or_else(|| format!("{}.event", preset.name()));
        expression::check_event_type(&event_type)?;
        let channel = said.channel.or_else(|| spec.channel.clone().map(Some));
        let event = Event {
            id: EventId::new(),
            tenant_id: source.tenant_id,
            source_id: Some(source.id),
            event_type,
            channel: channel.unwrap_or_else(|| preset.channel(request)),
            content_type: content_type(received.headers),
            headers: headers_kept(received.headers, live, &[CONTENT_TYPE]).0,
            body: received.body.clone(),
            time: self.now,
        };
        Ok(NewEvent { event, generation: source.generation, key })
    }
}

/// Empty for none, and for one that is no plain text.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if value.len() <= CONTENT_TYPE_BYTES_MAX { value.to_owned() } else { String::new() }
}

fn refuse_requirement(fault: &RequirementError) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, fault.code(), fault.to_string())
}

fn refuse_dedup_key(fault: &MissingDedupKey) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, fault.code(), fault.to_string())
}

pub fn refuse_verification(fault: &VerifyError, www_authenticate: Option<&'static str>) -> Refusal {
    let status = match fault.status_hint() {
        StatusHint::BadRequest => StatusCode::BAD_REQUEST,
        StatusHint::Unauthorized => StatusCode::UNAUTHORIZED,
        StatusHint::Unavailable => {
            return Refusal::unavailable(fault.code(), fault.to_string(), RETRY_LATER);
        }
    };
    let mut refusal = Refusal::new(status, fault.code(), fault.to_string());
    refusal.www_authenticate = www_authenticate.filter(|_| status == StatusCode::UNAUTHORIZED);
    refusal.is_of_verification = true;
    refusal
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;
    use crate::scheme::Source;

    #[test]
    fn a_failed_check_has_the_status_of_its_kind() {
        let at = || Source::header(AUTHORIZATION);
        let ask = Some("Bearer realm=\"webhooks\"");
        for (fault, status, asked) in [
            (VerifyError::Missing { at: at() }, 401, ask),
            (VerifyError::WrongToken { at: at() }, 401, ask),
            (VerifyError::Missing { at: Source::header(CONTENT_TYPE) }, 400, None),
            (VerifyError::UnexpectedHeader { name: "x".into() }, 400, None),
            (VerifyError::TimestampTooOld { age_s: 301, window_s: 300 }, 401, ask),
        ] {
            let refusal = refuse_verification(&fault, ask);
            assert_eq!((refusal.status.as_u16(), refusal.www_authenticate), (status, asked), "{fault}");
            assert!(refusal.is_of_verification);
        }
        let refusal = refuse_verification(&VerifyError::NoUsableSecret, ask);
        assert_eq!((refusal.status.as_u16(), refusal.retry_after), (503, Some(RETRY_LATER)));
        assert!(!refusal.is_of_verification, "the sender did nothing wrong");
    }

    #[test]
    fn a_content_type_is_plain_text_of_bounded_length() {
        let of = |value: &[u8]| {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            content_type(&HeaderMap::from_iter([(CONTENT_TYPE, value)]))
        };
        assert_eq!(of(b"application/json; charset=utf-8"), "application/json; charset=utf-8");
        assert_eq!(of(b"text/\xff"), "");
        assert_eq!(of(&[b'a'; CONTENT_TYPE_BYTES_MAX + 1]), "");
        assert_eq!(content_type(&HeaderMap::new()), "");
    }
}
