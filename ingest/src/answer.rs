//! What a sender is answered: bytes and status, nothing of how they came about.

use std::time::Duration;

use bowline_core::id::EventId;
use bowline_core::preset::{Answer, Answers, HandshakeAnswer};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use bowline_core::inbound::Refusal;

pub(crate) use crate::edge::Reply;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[derive(Serialize)]
struct Accepted {
    id: EventId,
    duplicate: bool,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
}

/// The body of a refusal that no preset words.
pub(crate) fn error_document(code: &str, message: &str) -> Vec<u8> {
    document(&ErrorDocument { error: ErrorBody { code, message } })
}

/// The event is committed, now or before.
pub(crate) fn accepted(answers: &Answers, id: EventId, duplicate: bool) -> Reply {
    match &answers.accepted {
        Some(answer) => prescribed(answer),
        None => json(StatusCode::OK, document(&Accepted { id, duplicate })),
    }
}

/// `answers` are the source's, once it is known which one is meant.
pub(crate) fn refused(refusal: &Refusal, answers: Option<&Answers>) -> Reply {
    let own = answers.and_then(|answers| match refusal.status {
        _ if refusal.is_of_verification => answers.refused.as_ref(),
        StatusCode::METHOD_NOT_ALLOWED => answers.wrong_method.as_ref(),
        _ => None,
    });
    let mut reply = if let Some(answer) = own {
        prescribed(answer)
    } else {
        json(refusal.status, error_document(refusal.code, &refusal.message))
    };
    let headers = reply.headers_mut();
    if let Some(scheme) = refusal.www_authenticate {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    if let Some(retry_after) = refusal.retry_after {
        headers.insert(RETRY_AFTER, whole_seconds(retry_after).into());
    }
    if let Some(allow) = refusal.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    if refusal.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// The proof that a provider asked for.
pub(crate) fn handshake(answer: HandshakeAnswer) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(answer.body)));
    *reply.status_mut() = answer.status;
    *reply.headers_mut() = answer.headers;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A document that may be kept for a while, by anybody.
pub(crate) fn public(document: &impl Serialize, content_type: &'static str, cached_for_s: u32) -> Reply {
    let mut reply = json(StatusCode::OK, self::document(document));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(cache) = HeaderValue::from_str(&format!("public, max-age={cached_for_s}")) {
        headers.insert(CACHE_CONTROL, cache);
    }
    reply
}

fn prescribed(answer: &Answer) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::copy_from_slice(answer.body.as_bytes())));
    // Presets are part of the binary, and a test reads each: what stands in is never seen.
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    if let Ok(content_type) = HeaderValue::from_str(&answer.content_type) {
        reply.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    reply
}

fn json(status: StatusCode, document: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(document)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// Plain data: serializing it cannot fail.
fn document(data: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(data).unwrap_or_default()
}

/// Rounded up: who comes back a moment early is turned away again.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use bowline_core::preset;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn read(reply: Reply) -> (u16, String, String) {
        let (head, body) = reply.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let content_type = head.headers[CONTENT_TYPE].to_str().unwrap().to_owned();
        (head.status.as_u16(), content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    fn answers(preset: &str) -> &'static Answers {
        preset::find(preset).unwrap().answers()
    }

    #[tokio::test]
    async fn an_accepted_event_is_named_or_answered_as_the_preset_says() {
        let id = EventId::new();
        let (status, content_type, body) = read(accepted(answers("github"), id, true)).await;
        assert_eq!((status, content_type.as_str()), (200, "application/json"));
        assert_eq!(body, format!(r#"{{"id":"{id}","duplicate":true}}"#));
        let (status, _, body) = read(accepted(answers("chatbase"), id, false)).await;
        assert_eq!((status, body.as_str()), (200, "OK"));
    }

    #[tokio::test]
    async fn a_refusal_says_which_check_failed() {
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "missing_header", "the header `x` is missing");
        let (status, _, body) = read(refused(&refusal, Some(answers("github")))).await;
        assert_eq!(status, 400);
        assert_eq!(body, r#"{"error":{"code":"missing_header","message":"the header `x` is missing"}}"#);
    }

    #[tokio::test]
    async fn a_preset_words_the_failure_of_its_verification_and_no_other() {
        let mut refusal = Refusal::new(StatusCode::UNAUTHORIZED, "signature_mismatch", "no match");
        let (status, _, body) = read(refused(&refusal, Some(answers("chatbase")))).await;
        assert_eq!((status, body.contains("signature_mismatch")), (401, true));
        refusal.is_of_verification = true;
        let (status, _, body) = read(refused(&refusal, Some(answers("chatbase")))).await;
        assert_eq!((status, body.as_str()), (400, r#"{"message":"Signature didn't match"}"#));

        let method = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "POST alone");
        let (status, _, body) = read(refused(&method, Some(answers("chatbase")))).await;
        assert_eq!((status, body.as_str()), (405, "Method Not Allowed"));
        let (status, _, body) = read(refused(&method, Some(answers("github")))).await;
        assert_eq!((status, body.contains("method_not_allowed")), (405, true));
    }

    #[test]
    fn what_a_sender_is_to_do_stands_in_headers() {
        let mut refusal = Refusal::unavailable("overloaded", "later", Duration::from_millis(1200));
        refusal.allow = Some("POST, GET".into());
        refusal.www_authenticate = Some("Bearer realm=\"webhooks\"");
        refusal.close = true;
        let reply = refused(&refusal, None);
        assert_eq!(reply.status(), 503);
        for (name, value) in [
            (RETRY_AFTER, "2"),
            (ALLOW, "POST, GET"),
            (WWW_AUTHENTICATE, "Bearer realm=\"webhooks\""),
            (CONNECTION, "close"),
        ] {
            assert_eq!(reply.headers()[&name], value, "{name}");
        }
    }

    #[test]
    fn waits_are_whole_seconds_and_never_none() {
        let waits = [0, 1, 999, 1000, 1001].map(|ms| whole_seconds(Duration::from_millis(ms)));
        assert_eq!(waits, [1, 1, 1, 1, 2]);
    }
}
