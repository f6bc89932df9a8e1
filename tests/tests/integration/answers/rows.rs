//! The rows: what is sent, and what is answered.

use std::fmt::Write as _;

use bowline_proto::v1;
use bowline_tests::{Stack, sign};
use prost_types::FieldMask;

use super::Row;
use crate::edge::open_source_like;

pub(super) const BODY: &str = r#"{"id":1}"#;
const SECRET: &str = "bowline-test-answers-secret";
const PASSWORD: &str = "bowline-test-user:bowline-test-password";

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const ENDS: &[(&str, &str)] = &[("content-type", "application/json"), ("connection", "close")];

pub(super) fn row(
    name: &'static str,
    request: String,
    status: u16,
    code: &'static str,
    says: &'static str,
) -> Row {
    Row { name, request, status, code, says, headers: JSON }
}

/// The sources that the rows are sent to, by what they are there for.
pub(super) struct Sources {
    pub(super) github: String,
    standard: String,
    chatblocks: String,
    chatbase: String,
    basic: String,
    bearer: String,
    token: String,
    meta: String,
    pub(super) small: String,
    elsewhere: String,
    disabled: String,
}

impl Sources {
    pub(super) async fn create(stack: &Stack) -> Self {
        let admin = stack.admin();
        let disabled = admin.source("github", SECRET).await;
        let update = v1::UpdateSourceRequest {
            source: Some(v1::Source { id: disabled.clone(), enabled: Some(false), ..v1::Source::default() }),
            update_mask: Some(FieldMask { paths: vec!["enabled".into()] }),
        };
        admin.sources().update_source(update).await.unwrap();
        let list = vec!["192.0.2.0/24".to_owned()];
        let small = v1::Source { body_limit_bytes: 100, ..v1::Source::default() };
        Self {
            github: admin.source("github", SECRET).await,
            standard: admin.source("standard", &sign::test_secret("answers")).await,
            chatblocks: admin.source("chatblocks", SECRET).await,
            chatbase: admin.source("chatbase", SECRET).await,
            basic: admin.source("postmark", PASSWORD).await,
            bearer: admin.source("strapi", SECRET).await,
            token: admin.source("gitlab-token", SECRET).await,
            meta: admin.source("meta", SECRET).await,
            small: open_source_like(stack, small).await,
            elsewhere: open_source_like(stack, v1::Source { ip_allow_list: list, ..v1::Source::default() })
                .await,
            disabled,
        }
    }
}

fn request(method: &str, source: &str, headers: &sign::Headers, body: &str) -> String {
    let mut text = format!("{method} /in/{source} HTTP/1.1\r\nHost: ingest.test\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    write!(text, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    text
}

pub(super) fn post(source: &str, headers: &sign::Headers, body: &str) -> String {
    request("POST", source, headers, body)
}

pub(super) fn github(delivery: &str) -> sign::Headers {
    sign::github(SECRET, delivery, "push", BODY.as_bytes())
}

fn chatblocks(key: &str) -> sign::Headers {
    sign::chatblocks(SECRET, key, sign::unix_now(0), BODY.as_bytes())
}

fn changed(mut headers: sign::Headers, name: &str, value: &str) -> sign::Headers {
    headers.retain(|(known, _)| known != name);
    headers.push((name.to_owned(), value.to_owned()));
    headers
}

fn without(mut headers: sign::Headers, name: &str) -> sign::Headers {
    headers.retain(|(known, _)| known != name);
    headers
}

fn value(headers: &sign::Headers, name: &str) -> String {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap()
}

fn authorization(value: &str) -> sign::Headers {
    vec![("authorization".to_owned(), value.to_owned())]
}

/// Accepted, and accepted before.
pub(super) fn accepted(sources: &Sources) -> Vec<Row> {
    let chatbase = sign::chatbase(SECRET, BODY.as_bytes());
    // Names in any case, a repeated header, unknown versions, and of several signatures any that is right.
    let (timestamp, right) = {
        let whole = value(&chatblocks("k"), "x-chatblocks-signature");
        let (timestamp, right) = whole.split_once(',').unwrap();
        (timestamp.to_owned(), right.to_owned())
    };
    let wrong = format!("v1={},v0=x,v2=y", "0".repeat(64));
    let mixed: sign::Headers = [
        ("CONTENT-TYPE", "application/json".to_owned()),
        ("Idempotency-KEY", "mixed".to_owned()),
        ("X-ChatBlocks-Signature", timestamp),
        ("x-chatblocks-SIGNATURE", wrong),
        ("X-CHATBLOCKS-SIGNATURE", right),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let meta = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=bowline-test-answers-secret";
    let handshake = format!("GET /in/{}?{meta} HTTP/1.1\r\nHost: x\r\n\r\n", sources.meta);
    vec![
        row("accepted", post(&sources.github, &github("one"), BODY), 200, "", r#","duplicate":false}"#),
        row("accepted: the id", post(&sources.github, &github("two"), BODY), 200, "", r#"{"id":"evt_"#),
        row("accepted, in the preset's words", post(&sources.chatbase, &chatbase, BODY), 200, "", "OK")
            .with(&[("content-type", "text/plain")]),
        row("accepted, however it is written", post(&sources.chatblocks, &mixed, BODY), 200, "", "evt_"),
        row("a duplicate", post(&sources.github, &github("one"), BODY), 200, "", r#","duplicate":true}"#),
        row("a handshake", handshake, 200, "", "1158201444").with(&[("cache-control", "no-store")]),
    ]
}

/// Nobody there, or not in this way.
pub(super) fn misdirected(sources: &Sources) -> Vec<Row> {
    let unknown = bowline_core::id::SourceId::new().to_string();
    let to = |source: &str| post(source, &github("three"), BODY);
    let by = |method: &str, source: &str| request(method, source, &github("three"), BODY);
    vec![
        row("no such source", to(&unknown), 404, "unknown_source", "no enabled source"),
        row("no id of a source", to("nonsense"), 404, "unknown_source", "no enabled source"),
        row("a source that is disabled", to(&sources.disabled), 404, "unknown_source", "no enabled source"),
        row("GET", by("GET", &sources.github), 405, "method_not_allowed", "POST").with(&[("allow", "POST")]),
        row("PUT", by("PUT", &sources.github), 405, "method_not_allowed", "POST").with(&[("allow", "POST")]),
        row("GET without its handshake", by("GET", &sources.meta), 405, "method_not_allowed", "POST")
            .with(&[("allow", "POST, GET")]),
        row("GET, in the preset's words", by("GET", &sources.chatbase), 405, "", "Method Not Allowed")
            .with(&[("allow", "POST"), ("content-type", "text/plain"), ("content-length", "18")]),
    ]
}

/// 400: each names the header, or the position.
pub(super) fn malformed(sources: &Sources) -> Vec<Row> {
    let standard = sign::standard(&sign::test_secret("answers"), "msg_1", sign::unix_now(0), BODY.as_bytes());
    let standard_post = |headers: &sign::Headers| post(&sources.standard, headers, BODY);
    let blocks = |headers: sign::Headers| post(&sources.chatblocks, &headers, BODY);
    let upper = value(&github("x"), "x-hub-signature-256").replace("sha256=", "").to_uppercase();
    let upper = changed(github("x"), "x-hub-signature-256", &format!("sha256={upper}"));
    let broken = r#"{"event": nonsense}"#;
    let broken = post(
        &sources.chatblocks,
        &sign::chatblocks(SECRET, "broken", sign::unix_now(0), broken.as_bytes()),
        broken,
    );
    vec![
        row(
            "a signature is missing",
            standard_post(&without(standard.clone(), "webhook-signature")),
            400,
            "missing_header",
            "webhook-signature",
        ),
        row(
            "an id is missing",
            standard_post(&without(standard.clone(), "webhook-id")),
            400,
            "missing_header",
            "webhook-id",
        ),
        row(
            "a timestamp that is none",
            standard_post(&changed(standard, "webhook-timestamp", "soon")),
            400,
            "malformed_header",
            "webhook-timestamp",
        ),
        row(
            "a key is missing",
            blocks(without(chatblocks("k"), "idempotency-key")),
            400,
            "missing_header",
            "idempotency-key",
        ),
        row(
            "a signature without its prefix",
            post(&sources.github, &changed(github("x"), "x-hub-signature-256", &"0".repeat(64)), BODY),
            400,
            "malformed_header",
            "x-hub-signature-256",
        ),
        row(
            "hex in capitals, where it has none",
            post(&sources.github, &upper, BODY),
            400,
            "malformed_header",
            "x-hub-signature-256",
        ),
        row(
            "another type than the preset's",
            blocks(changed(chatblocks("k"), "content-type", "text/plain")),
            400,
            "unsupported_content_type",
            "content-type",
        ),
        row("a body that is not the JSON it claims", broken, 400, "invalid_json", "column 12"),
    ]
}

/// 401 says which check failed, and 403 who is not heard.
pub(super) fn unverified(sources: &Sources) -> Vec<Row> {
    const BASIC: &[(&str, &str)] = &[("www-authenticate", "Basic"), ("content-type", "application/json")];
    const BEARER: &[(&str, &str)] = &[("www-authenticate", "Bearer"), ("content-type", "application/json")];
    const NO_QUESTION: &[(&str, &str)] = &[("www-authenticate", "-"), ("content-type", "application/json")];
    let zeros = changed(github("x"), "x-hub-signature-256", &format!("sha256={}", "0".repeat(64)));
    let aged = |age_s: i64| {
        let headers = sign::chatblocks(SECRET, "aged", sign::unix_now(-age_s), BODY.as_bytes());
        post(&sources.chatblocks, &headers, BODY)
    };
    let other = sign::chatbase("not-the-secret", BODY.as_bytes());
    let no = sign::Headers::new();
    vec![
        row(
            "a wrong signature",
            post(&sources.github, &zeros, BODY),
            401,
            "signature_mismatch",
            "x-hub-signature-256",
        )
        .with(NO_QUESTION),
        row("another body", post(&sources.github, &github("x"), "{}"), 401, "signature_mismatch", "matches"),
        row("too old", aged(1000), 401, "timestamp_too_old", "300 s"),
        row("too far ahead", aged(-1000), 401, "timestamp_in_future", "60 s"),
        row(
            "a wrong signature, in the preset's words",
            post(&sources.chatbase, &other, BODY),
            400,
            "",
            "Signature didn't match",
        ),
        row("no password", post(&sources.basic, &no, BODY), 401, "missing_header", "authorization")
            .with(BASIC),
        row(
            "a wrong password",
            post(&sources.basic, &authorization("Basic dTpw"), BODY),
            401,
            "wrong_password",
            "password",
        )
        .with(BASIC),
        row("no bearer token", post(&sources.bearer, &no, BODY), 401, "missing_header", "authorization")
            .with(BEARER),
        row(
            "a wrong bearer token",
            post(&sources.bearer, &authorization("Bearer x"), BODY),
            401,
            "wrong_token",
            "token",
        )
        .with(BEARER),
        row(
            "no token in a header of its own",
            post(&sources.token, &no, BODY),
            400,
            "missing_header",
            "x-gitlab-token",
        )
        .with(NO_QUESTION),
        row(
            "a wrong token in a header of its own",
            post(&sources.token, &vec![("x-gitlab-token".to_owned(), "x".to_owned())], BODY),
            401,
            "wrong_token",
            "x-gitlab-token",
        )
        .with(NO_QUESTION),
        row("from elsewhere", post(&sources.elsewhere, &no, BODY), 403, "sender_not_allowed", "127.0.0.1"),
    ]
}

/// What HTTP itself allows: these have the body of any other refusal, and end the connection.
pub(super) fn of_http(sources: &Sources) -> Vec<Row> {
    let head = |rest: &str| format!("POST /in/{} HTTP/1.1\r\nHost: x\r\n{rest}\r\n", sources.small);
    let large = post(&sources.small, &sign::Headers::new(), &"x".repeat(101));
    let endless = head(&format!("Transfer-Encoding: chunked\r\n\r\n80\r\n{}", "x".repeat(0x80)));
    vec![
        row("a body over the limit", large, 413, "body_too_large", "100 bytes").with(ENDS),
        row(
            "that is only announced",
            head("Content-Length: 1000000000\r\n"),
            413,
            "body_too_large",
            "100 bytes",
        )
        .with(ENDS),
        row("that never ends", endless, 413, "body_too_large", "100 bytes").with(ENDS),
        row("no request line", "nonsense\r\n\r\n".into(), 400, "malformed_request", "HTTP/1.1").with(ENDS),
        row("no version", "POST /\r\n\r\n".into(), 400, "malformed_request", "HTTP/1.1").with(ENDS),
        row("a blank in a name", head("X A: b\r\n"), 400, "malformed_request", "header").with(ENDS),
        row("a NUL in a header", head("X-A: a\0b\r\n"), 400, "malformed_request", "header").with(ENDS),
        row(
            "lengths that differ",
            head("Content-Length: 1\r\nContent-Length: 2\r\n"),
            400,
            "malformed_request",
            "length",
        )
        .with(ENDS),
        row(
            "two lengths",
            head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            400,
            "ambiguous_length",
            "exclude each other",
        )
        .with(ENDS),
        row("a line feed alone", head("X-A: b\n"), 400, "bare_line_feed", "carriage return").with(ENDS),
        row("two hosts", head("Host: y\r\n"), 400, "bad_host", "more than once").with(ENDS),
        row("no host", format!("POST /in/{} HTTP/1.1\r\n\r\n", sources.small), 400, "bad_host", "missing")
            .with(ENDS),
        row("another coding", head("Transfer-Encoding: gzip\r\n"), 400, "malformed_request", "length")
            .with(ENDS),
        row(
            "a coding too many",
            head("Transfer-Encoding: gzip, chunked\r\n"),
            501,
            "unsupported_transfer_encoding",
            "chunked",
        )
        .with(ENDS),
        row("too many headers", head(&"X-A: b\r\n".repeat(200)), 431, "headers_too_large", "headers")
            .with(ENDS),
        row(
            "headers too large",
            head(&format!("X-A: {}\r\n", "b".repeat(300_000))),
            431,
            "headers_too_large",
            "headers",
        )
        .with(ENDS),
        row(
            "too long a target",
            format!("POST /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000)),
            414,
            "target_too_long",
            "request line",
        )
        .with(ENDS),
    ]
}
