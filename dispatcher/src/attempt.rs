//! One HTTP request of a delivery: format, sign, send through the egress guard, read what comes back.
//! No database connection is held here (invariant 4).

use std::time::{Duration, Instant};

use bowline_core::defaults::RESPONSE_CAPTURE_BYTES;
use bowline_core::delivery::DeadReason;
use bowline_core::egress::{EgressGuard, EgressSendError, SendErrorKind};
use bowline_core::event::Event;
use bowline_core::expression::{DeliveryScope, Scope};
use bowline_core::format::AttemptContext;
use bowline_core::id::AttemptId;
use bowline_core::secrets::Vault;
use bowline_core::snapshot::LiveEndpoint;
use chrono::{DateTime, Utc};
use http::HeaderMap;

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
}

/// What every attempt needs.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) guard: EgressGuard,
    pub(crate) vault: Vault,
}

impl Sender {
    pub(crate) async fn attempt(&self, job: &Job, event: &Event, endpoint: &LiveEndpoint) -> Attempted {
        let mut attempted = Attempted {
            id: AttemptId::new(),
            started_at: Utc::now(),
            duration: Duration::ZERO,
            answer: Answer::Nothing,
            url: endpoint.url.to_string(),
            request_headers: None,
            status: None,
            response_headers: None,
            response_body: None,
            error_kind: None,
            error_message: None,
        };
        let request = match self.request(job, event, endpoint, &attempted) {
            Ok(request) => request,
            Err(Unsendable { reason, message }) => {
                attempted.answer = Answer::Impossible(reason);
                attempted.error_kind = Some(reason.as_str());
                attempted.error_message = Some(message);
                return attempted;
            }
        };
        let redacted = Redacted::of(request.headers());
        attempted.request_headers = Some(kept_request(request.headers()));
        let start = Instant::now();
        self.exchange(request, &redacted, &mut attempted).await;
        attempted.duration = start.elapsed();
        attempted
    }

    fn request(
        &self,
        job: &Job,
        event: &Event,
        endpoint: &LiveEndpoint,
        attempted: &Attempted,
    ) -> Result<reqwest::Request, Unsendable> {
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
        let mut request = reqwest::Request::new(reqwest::Method::POST, endpoint.url.clone());
        *request.headers_mut() = outbound.headers;
        *request.timeout_mut() = Some(endpoint.endpoint.spec.timeout);
        *request.body_mut() = Some(outbound.body.into());
        Ok(request)
    }

    async fn exchange(&self, request: reqwest::Request, redacted: &Redacted, attempted: &mut Attempted) {
        let mut response = match self.guard.send(request).await {
            Ok(response) => response,
            Err(error) => return failed(attempted, error),
        };
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), Utc::now());
        attempted.status = Some(status);
        attempted.response_headers = Some(kept_response(response.headers(), redacted));
        let mut body = Vec::new();
        let mut read = 0;
        // The timeout covers the body as well: a head alone is no answer.
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
                Err(error) => break Err(EgressSendError::from(error)),
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
        _ => Answer::Nothing,
    };
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    (at.with_timezone(&Utc) - now).to_std().ok()
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
        assert_eq!(of("Wed, 31 Dec 2025 00:01:00 GMT"), None);
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
    }
}
