//! One HTTP request of a delivery: format, sign, send through the egress guard, read what comes back.
//! No database connection is held here (invariant 4).

use std::time::{Duration, Instant};

use bowline_core::access_token::{AccessTokens, TokenError};
use bowline_core::defaults::RESPONSE_CAPTURE_BYTES;
use bowline_core::delivery::DeadReason;
use bowline_core::egress::{EgressGuard, EgressRequest, EgressSendError, SendErrorKind, Timings};
use bowline_core::event::Event;
use bowline_core::expression::{DeliveryScope, Scope};
use bowline_core::format::AttemptContext;
use bowline_core::headers::AttemptIds;
use bowline_core::id::AttemptId;
use bowline_core::secrets::Vault;
use bowline_core::snapshot::LiveEndpoint;
use chrono::{DateTime, Utc};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};

use crate::decide::Answer;
use crate::job::Job;
use crate::redact::{Redacted, kept_request, kept_response};

/// Past the capture, this much more is read so that the connection can be used again.
const RESPONSE_READ_BYTES: usize = 64 * 1024;

/// What an attempt was and what came of it.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) id: AttemptId,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) duration: Duration,
    pub(crate) answer: Answer,
    pub(crate) url: String,
    /// `None`: nothing was sent.
    pub(crate) request_headers: Option<Vec<u8>>,
    pub(crate) status: Option<u16>,
    pub(crate) response_headers: Option<Vec<u8>>,
    pub(crate) response_body: Option<Vec<u8>>,
    pub(crate) error_kind: Option<&'static str>,
    pub(crate) error_message: Option<String>,
    /// Of the connection, where one had to be made.
    pub(crate) timings: Timings,
    /// From the sending of the request to the head of its answer.
    pub(crate) first_byte: Option<Duration>,
}

/// What every attempt needs.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) guard: EgressGuard,
    pub(crate) vault: Vault,
}

impl Sender {
    pub(crate) async fn attempt(
        &self,
        job: &Job,
        event: &Event,
        endpoint: &LiveEndpoint,
        started_at: DateTime<Utc>,
    ) -> Attempted {
        let mut attempted = Attempted {
            id: AttemptId::new(),
            started_at,
            duration: Duration::ZERO,
            answer: Answer::Nothing,
            url: endpoint.url.to_string(),
            request_headers: None,
            status: None,
            response_headers: None,
            response_body: None,
            error_kind: None,
            error_message: None,
            timings: Timings::default(),
            first_byte: None,
        };
        let request = match self.request(job, event, endpoint, &attempted) {
            Ok(request) => request,
            Err(unsendable) => {
                attempted.refuse(unsendable);
                return attempted;
            }
        };
        let guard = match endpoint.guard(&self.guard, &self.vault) {
            Ok(guard) => guard,
            Err(error) => {
                attempted.refuse(Unsendable::without_secret(&error));
                return attempted;
            }
        };
        let start = Instant::now();
        let deadline = start + endpoint.endpoint.spec.timeout;
        let of = AttemptIds { event_id: event.id, attempt_id: attempted.id.0 };
        let way = Way { of, guard: &guard, vault: &self.vault, deadline };
        match endpoint.access_tokens() {
            None => way.exchange(request, &mut attempted).await,
            Some(tokens) => way.exchange_with_token(tokens, request, &mut attempted).await,
        }
        attempted.duration = start.elapsed();
        attempted
    }

    fn request(
        &self,
        job: &Job,
        event: &Event,
        endpoint: &LiveEndpoint,
        attempted: &Attempted,
    ) -> Result<EgressRequest, Unsendable> {
        let keys = endpoint
            .keys(&self.vault, attempted.started_at)
            .map_err(|error| Unsendable::without_secret(&error))?;
        let headers = endpoint
            .headers(&self.vault, attempted.started_at)
            .map_err(|error| Unsendable::without_secret(&error))?;
        let context = AttemptContext {
            number: job.attempt + 1,
            attempt_id: attempted.id.0,
            now: attempted.started_at,
            url: endpoint.url.as_str(),
            headers: &headers,
        };
        let transformed = transformed(job, event, endpoint)?;
        let outbound = endpoint
            .format
            .request(transformed.as_ref().unwrap_or(event), &context, &keys)
            .map_err(|error| Unsendable { reason: error.dead_reason(), message: error.to_string() })?;
        Ok(EgressRequest {
            method: Method::POST,
            url: endpoint.url.clone(),
            headers: outbound.headers,
            body: outbound.body,
            timeout: endpoint.endpoint.spec.timeout,
        })
    }
}

/// How one attempt goes out, and until when.
struct Way<'a> {
    of: AttemptIds,
    guard: &'a EgressGuard,
    vault: &'a Vault,
    deadline: Instant,
}

impl Way<'_> {
    /// With an access token; with another one, once more, where the receiver says 401 to the first.
    async fn exchange_with_token(
        &self,
        tokens: &AccessTokens,
        request: EgressRequest,
        attempted: &mut Attempted,
    ) {
        let mut refused = None;
        loop {
            let token = match tokens.get(self.guard, self.vault, refused.as_ref(), self.deadline.into()).await
            {
                Ok(token) => token,
                Err(error) => return without_token(attempted, &error),
            };
            // The server gave out the same one again: it would be refused again.
            if refused.as_ref() == Some(&token) {
                return;
            }
            let mut authorized = request.clone();
            authorized.headers.insert(AUTHORIZATION, token.clone());
            self.exchange(authorized, attempted).await;
            if attempted.status != Some(401) || refused.is_some() {
                return;
            }
            refused = Some(token);
        }
    }

    async fn exchange(&self, mut request: EgressRequest, attempted: &mut Attempted) {
        attempted.begin_again();
        let redacted = Redacted::of(&request.headers);
        attempted.request_headers = Some(kept_request(&request.headers, self.of));
        let began = Instant::now();
        // The timeout covers the body as well: a head alone is no answer.
        request.timeout = self.deadline.saturating_duration_since(began);
        let mut response = match self.guard.send(request).await {
            Ok(response) => response,
            Err(error) => {
                attempted.timings = *error.timings;
                return failed(attempted, error);
            }
        };
        attempted.first_byte = Some(began.elapsed());
        attempted.timings = response.timings;
        let status = response.status.as_u16();
        let retry_after = retry_after(&response.headers, Utc::now());
        attempted.status = Some(status);
        attempted.response_headers = Some(kept_response(&response.headers, self.of, &redacted));
        let mut body = Vec::new();
        let mut read = 0;
        let ended = loop {
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    read += bytes.len();
                    let room = RESPONSE_CAPTURE_BYTES - body.len();
                    body.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    if read > RESPONSE_READ_BYTES {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        attempted.response_body = Some(redacted.in_bytes(body));
        match ended {
            Ok(()) => attempted.answer = Answer::Status { status, retry_after },
            Err(error) => failed(attempted, error),
        }
    }
}

/// The event with what the endpoint's transform makes of its data; `None` where it has none.
fn transformed(job: &Job, event: &Event, endpoint: &LiveEndpoint) -> Result<Option<Event>, Unsendable> {
    if !endpoint.has_transform() {
        return Ok(None);
    }
    let delivery = DeliveryScope { id: job.key.to_string(), attempt: job.attempt + 1 };
    let body = match endpoint.transformed(&Scope::of_event(event).with_delivery(delivery)) {
        None => return Ok(None),
        Some(Ok(body)) => body.into(),
        Some(Err(fault)) => {
            let message = format!("the endpoint's transform fails on this event: {fault}");
            return Err(Unsendable { reason: DeadReason::TransformFailed, message });
        }
    };
    Ok(Some(Event { body, content_type: "application/json".into(), ..event.clone() }))
}

impl Attempted {
    /// DNS, connect, TLS, first byte.
    pub(crate) fn steps(&self) -> [Option<Duration>; 4] {
        let Timings { dns, connect, tls } = self.timings;
        [dns, connect, tls, self.first_byte]
    }

    /// Nothing stays of an exchange before, which was refused for its token.
    fn begin_again(&mut self) {
        self.answer = Answer::Nothing;
        (self.status, self.response_headers, self.response_body) = (None, None, None);
        (self.error_kind, self.error_message) = (None, None);
        (self.timings, self.first_byte) = (Timings::default(), None);
    }

    /// Nothing is sent, and no retry can help.
    fn refuse(&mut self, unsendable: Unsendable) {
        self.answer = Answer::Impossible(unsendable.reason);
        self.error_kind = Some(unsendable.reason.as_str());
        self.error_message = Some(unsendable.message);
    }
}

/// What an attempt comes to for which there is no (other) access token. An answer 401 stays one.
fn without_token(attempted: &mut Attempted, error: &TokenError) {
    attempted.error_kind = Some("auth");
    attempted.error_message = Some(format!("no access token: {error}"));
    if let TokenError::Send(error) = error
        && let Some(answer) = proxy_fault(error.kind)
    {
        attempted.error_kind = Some(error.kind.as_str());
        attempted.answer = answer;
        return;
    }
    if attempted.status.is_none() && error.is_final() {
        let reason = match error {
            TokenError::Send(_) => DeadReason::EgressRefused,
            _ => DeadReason::SecretMissing,
        };
        attempted.answer = Answer::Impossible(reason);
        attempted.error_kind = Some(reason.as_str());
    }
}

struct Unsendable {
    reason: DeadReason,
    message: String,
}

impl Unsendable {
    fn without_secret(error: &impl ToString) -> Self {
        Self { reason: DeadReason::SecretMissing, message: error.to_string() }
    }
}

fn failed(attempted: &mut Attempted, error: EgressSendError) {
    attempted.error_kind = Some(error.kind.as_str());
    attempted.error_message = Some(error.message);
    attempted.answer = match error.kind {
        SendErrorKind::EgressRefused => Answer::Impossible(DeadReason::EgressRefused),
        kind => proxy_fault(kind).unwrap_or(Answer::Nothing),
    };
}

/// What it means that the forward proxy did not let a request through.
fn proxy_fault(kind: SendErrorKind) -> Option<Answer> {
    match kind {
        SendErrorKind::Proxy => Some(Answer::ProxyFault),
        SendErrorKind::ProxyRefused => Some(Answer::ProxyRefused),
        _ => None,
    }
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3); also as a date of mail, which some write for it.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than can be counted are as many as can be.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = match httpdate::parse_http_date(text) {
        Ok(at) => DateTime::<Utc>::from(at),
        Err(_) => DateTime::parse_from_rfc2822(text).ok()?.with_timezone(&Utc),
    };
    (at - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().with_timezone(&Utc);
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", http::HeaderValue::from_static(text));
            retry_after(&headers, now)
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Thu, 01 Jan 2026 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(of("Thursday, 01-Jan-26 00:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(of("Thu Jan  1 00:01:00 2026"), Some(Duration::from_secs(60)));
        assert_eq!(of("Thu, 01 Jan 2026 00:01:00 -0000"), Some(Duration::from_secs(60)));
        assert_eq!(of("999999999999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(of(""), None);
        assert_eq!(of("Wed, 31 Dec 2025 00:01:00 GMT"), None);
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
    }
}
