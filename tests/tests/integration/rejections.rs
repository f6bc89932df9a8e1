//! What is refused is kept for whoever has to mend it: which part was wrong, and no secret.

use std::time::Instant;

use bowline_core::headers::decode_headers;
use bowline_core::id::SourceId;
use bowline_proto::v1;
use bowline_tests::provider::BODY;
use bowline_tests::sign::{self, Headers};
use bowline_tests::{BOUND, Provider, Stack, eventually, http};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::sources_over_http::{custom, headers};

const SECRET: &str = "bowline-test-rejected-secret";

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

/// One row.
#[derive(Debug)]
struct Kept {
    code: String,
    message: String,
    method: String,
    path: String,
    headers: Vec<u8>,
    body: Vec<u8>,
    remote_addr: String,
}

impl Kept {
    fn holds(&self, text: &str) -> bool {
        let bytes = [&self.headers[..], &self.body].map(|part| String::from_utf8_lossy(part).into_owned());
        [&self.message, &self.path, &bytes[0], &bytes[1]].iter().any(|part| part.contains(text))
    }

    fn header(&self, name: &str) -> Option<String> {
        let (_, value) = decode_headers(&self.headers).find(|(known, _)| *known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

fn uuid(source: &str) -> Uuid {
    source.parse::<SourceId>().unwrap().0
}

/// The only rejection of a source, once it is there: it is written after the answer.
async fn kept(stack: &Stack, source: &str) -> Kept {
    let rows = eventually(BOUND, async || {
        let sql = "SELECT code, message, method, path, headers, body, remote_addr FROM rejections
                    WHERE source_id = $1";
        let rows = stack.database.sql().query(sql, &[&uuid(source)]).await.unwrap();
        if rows.is_empty() { Err("no rejection of this source") } else { Ok(rows) }
    })
    .await;
    assert_eq!(rows.len(), 1, "one request, one rejection");
    let row = &rows[0];
    Kept {
        code: row.get(0),
        message: row.get(1),
        method: row.get(2),
        path: row.get(3),
        headers: row.get(4),
        body: row.get(5),
        remote_addr: row.get(6),
    }
}

struct Case {
    source: v1::Source,
    method: ::http::Method,
    query: &'static str,
    headers: Headers,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    /// What the reason names.
    names: &'static str,
}

fn preset(name: &str) -> v1::Source {
    v1::Source { preset: name.into(), ..Default::default() }
}

fn case(source: v1::Source, headers: Headers, status: u16, code: &'static str, names: &'static str) -> Case {
    let (method, body) = (::http::Method::POST, BODY.to_vec());
    Case { source, method, query: "", headers, body, status, code, names }
}

fn without(name: &str, mut all: Headers) -> Headers {
    all.retain(|(known, _)| known != name);
    all
}

fn with(name: &str, value: &str, all: Headers) -> Headers {
    let mut all = without(name, all);
    all.push((name.into(), value.into()));
    all
}

/// What a provider sends that does not send it right.
fn of_providers() -> Vec<Case> {
    let github = || sign::github(SECRET, "d-1", "push", BODY);
    let stripe = |age_s: i64| sign::stripe(SECRET, sign::unix_now(-age_s), BODY);
    let blocks = |body: &[u8]| sign::chatblocks(SECRET, "key-1", sign::unix_now(0), body);
    let ahead = sign::slack(SECRET, sign::unix_now(1000), BODY);
    let no_signature = without("x-hub-signature-256", github());
    let hex = format!("sha256={}", "x".repeat(64));
    let other = sign::github("bowline-test-another-secret", "d-1", "push", BODY);
    let plain = with("content-type", "text/plain", blocks(BODY));
    let long_key = with("idempotency-key", &"k".repeat(20_000), blocks(BODY));
    let small = v1::Source { body_limit_bytes: 8, ..preset("github") };
    let get = ::http::Method::GET;
    vec![
        Case { method: get, ..case(preset("github"), github(), 405, "method_not_allowed", "POST") },
        case(preset("github"), no_signature, 400, "missing_header", "`x-hub-signature-256`"),
        case(
            preset("github"),
            with("x-hub-signature-256", "sha1=00", github()),
            400,
            "malformed_header",
            "`x-hub-signature-256` is malformed: it does not start with `sha256=`",
        ),
        case(
            preset("github"),
            with("x-hub-signature-256", &hex, github()),
            400,
            "malformed_header",
            "the signature is not hex",
        ),
        case(preset("github"), other, 401, "signature_mismatch", "`x-hub-signature-256`"),
        // Its age is that when it arrives, some cases later.
        case(preset("stripe"), stripe(100_000), 401, "timestamp_too_old", "timestamp is too old: 100"),
        case(preset("slack"), ahead, 401, "timestamp_in_future", "timestamp is in the future"),
        case(
            preset("chatblocks"),
            without("idempotency-key", blocks(BODY)),
            400,
            "missing_header",
            "`idempotency-key`",
        ),
        case(
            preset("chatblocks"),
            without("content-type", blocks(BODY)),
            400,
            "missing_header",
            "`content-type`",
        ),
        case(preset("chatblocks"), plain, 400, "unsupported_content_type", "`content-type`"),
        case(preset("chatblocks"), long_key, 400, "malformed_dedup_key", "idempotency-key is malformed"),
        Case {
            body: b"{\"a\":}".into(),
            ..case(preset("chatblocks"), blocks(b"{\"a\":}"), 400, "invalid_json", "line 1 column 6")
        },
        case(small, github(), 413, "body_too_large", "8 bytes"),
    ]
}

/// The same for schemes of one's own.
fn of_schemes() -> Vec<Case> {
    let basic = || custom(json!({"algorithm": "basic", "signature": {"sources": ["header:authorization"]}}));
    let token = |at: &str| custom(json!({"algorithm": "token", "signature": {"sources": [at]}}));
    let versioned = custom(json!({
        "algorithm": "token",
        "signature": {"sources": ["header:x-token"]},
        "require_headers": {"x-version": "3"},
    }));
    let both = headers([("x-token", SECRET), ("x-version", "2")]);
    let wrong = headers([("authorization", "Basic aG9vazpvdGhlcg==")]);
    let bearer = headers([("authorization", "Bearer nonsense")]);
    let bare = Headers::new;
    vec![
        case(basic(), bare(), 401, "missing_header", "`authorization` is missing"),
        case(basic(), bearer, 400, "malformed_header", "`authorization` is malformed"),
        case(basic(), wrong, 401, "wrong_password", "`authorization`"),
        case(token("header:x-token"), headers([("x-token", "other")]), 401, "wrong_token", "`x-token`"),
        case(token("query:token"), bare(), 400, "missing_field", "query parameter `token`"),
        Case { query: "?token=other", ..case(token("query:token"), bare(), 401, "wrong_token", "`token`") },
        Case {
            query: "?token=",
            ..case(token("query:token"), bare(), 400, "malformed_field", "`token` is malformed: empty")
        },
        case(token("json:/token"), bare(), 400, "missing_field", "`/token` of the body"),
        case(versioned, both, 400, "unexpected_header", "`x-version`"),
    ]
}

#[tokio::test]
async fn every_refusal_is_kept_and_names_what_was_wrong() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    for case in of_providers().into_iter().chain(of_schemes()) {
        let basic = case.source.scheme.as_ref().is_some_and(|scheme| format!("{scheme:?}").contains("basic"));
        let secret = if basic { "hook:bowline-test-rejected-secret" } else { SECRET };
        let source = admin.source_like(case.source, secret).await.id;
        let url = format!("{}{}", stack.inbound(&source), case.query);
        let answer = http::send(case.method.clone(), &url, &case.headers, case.body.clone()).await.unwrap();
        assert_eq!(answer.refused(case.status), case.code, "{}", answer.text());

        let kept = kept(&stack, &source).await;
        assert_eq!((kept.code.as_str(), kept.method.as_str()), (case.code, case.method.as_str()), "{kept:?}");
        assert_eq!(json!(kept.message), answer.json()["error"]["message"], "the sender was told the same");
        assert!(kept.message.contains(case.names), "`{}` is not in: {}", case.names, kept.message);
        assert_eq!(kept.remote_addr, "127.0.0.1");
        assert!(kept.path.starts_with(&format!("/in/{source}")), "{}", kept.path);
        assert!(!kept.holds(SECRET), "{kept:?}");
        // A body that was not read is not kept, nor one that a token stands in.
        let is_there = !matches!(case.status, 405 | 413) && !case.names.contains("of the body");
        assert_eq!(kept.body, if is_there { case.body } else { Vec::new() }, "{}", case.code);
    }
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_body_that_never_ends_or_ends_too_early_is_kept_as_a_refusal() {
    let stack = ingest_only().await;
    let address = stack.ingests[0].http_url().replace("http://", "");
    for (announced, sent, code) in [
        ("transfer-encoding: chunked", format!("4000\r\n{}\r\n", "x".repeat(0x4000)), "body_too_large"),
        ("content-length: 100", "x".repeat(50), "body_incomplete"),
    ] {
        let wanted = v1::Source { body_limit_bytes: 1000, ..preset("github") };
        let source = stack.admin().source_like(wanted, SECRET).await.id;
        let request = format!("POST /in/{source} HTTP/1.1\r\nhost: {address}\r\n{announced}\r\n\r\n{sent}");
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The server may cut the connection with the rest of the body unread.
        let ended = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer)).await;
        let _ = ended.expect("the connection ends");
        let kept = kept(&stack, &source).await;
        assert_eq!((kept.code.as_str(), kept.body.len()), (code, 0), "{kept:?}");
    }
}

#[tokio::test]
async fn a_source_without_a_usable_secret_says_so() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let insecure = v1::Source { insecure: true, ..Default::default() };
    let source = admin.source_like(insecure, "").await;
    let update = v1::UpdateSourceRequest {
        source: Some(v1::Source { id: source.id.clone(), ..preset("github") }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["preset".into(), "insecure".into()] }),
    };
    admin.sources().update_source(update).await.unwrap();
    let provider = Provider { url: stack.inbound(&source.id), source_id: source.id, secret: SECRET.into() };
    let answer = provider.push("d-1").await;
    assert_eq!(answer.refused(503), "no_usable_secret");
    assert!(!answer.header("retry-after").is_empty());
    let kept = kept(&stack, &provider.source_id).await;
    assert_eq!(kept.code, "no_usable_secret");
    assert!(kept.message.contains("secret"), "{}", kept.message);
}

#[tokio::test]
async fn what_names_no_source_is_not_kept() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let unknown = format!("{}/in/{}", stack.ingests[0].http_url(), SourceId::new());
    let answer = http::post(&unknown, &Headers::new(), BODY).await.unwrap();
    assert_eq!(answer.refused(404), "unknown_source");
    // One that is kept, written in order, shows that the other was not.
    provider.push("d-1").await.accepted();
    let impostor = Provider { secret: "bowline-test-another-secret".into(), ..provider };
    impostor.push("d-2").await.refused(401);
    kept(&stack, &impostor.source_id).await;
    assert_eq!(stack.database.count("SELECT count(*) FROM rejections").await, 1);
}

#[tokio::test]
async fn no_rejection_holds_a_secret() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    // Each request has the right secret, and is refused for another reason.
    let scheme = |algorithm: &str, at: &str| {
        custom(json!({
            "algorithm": algorithm,
            "signature": {"sources": [at]},
            "require_headers": {"x-version": "3"},
        }))
    };
    let in_body = json!({"token": SECRET, "open": true}).to_string();
    let encoded = "aG9vazpib3dsaW5lLXRlc3QtcmVqZWN0ZWQtc2VjcmV0";
    let basic = format!("Basic {encoded}");
    let cookies =
        [("x-token", SECRET), ("cookie", "session=bowline-test-rejected-secret"), ("x-other", "kept")];
    for (source, secret, query, sent, body) in [
        (scheme("token", "header:x-token"), SECRET, "", headers(cookies), "{}"),
        (
            scheme("token", "query:token"),
            SECRET,
            "?token=bowline-test-rejected-secret&n=1",
            headers([]),
            "{}",
        ),
        (scheme("token", "json:/token"), SECRET, "", headers([]), in_body.as_str()),
        (
            scheme("basic", "header:authorization"),
            "hook:bowline-test-rejected-secret",
            "",
            headers([("authorization", &basic)]),
            "{}",
        ),
    ] {
        let source = admin.source_like(source, secret).await.id;
        let url = format!("{}{query}", stack.inbound(&source));
        let answer = http::post(&url, &sent, body.to_owned()).await.unwrap();
        assert_eq!(answer.refused(400), "missing_header", "{}", answer.text());
        let kept = kept(&stack, &source).await;
        assert!(!kept.holds(SECRET) && !kept.holds(encoded), "{kept:?}");
        if sent.len() == 3 {
            assert_eq!(kept.header("x-other").as_deref(), Some("kept"));
        }
    }
    let logs = stack.logs();
    assert!(!logs.contains(SECRET) && !logs.contains(encoded), "a secret is in the log");
}

#[tokio::test]
async fn headers_and_body_are_kept_up_to_a_limit() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let body = vec![b'x'; 3 << 20];
    let mut sent = sign::github("bowline-test-another-secret", "d-1", "push", &body);
    sent.extend((0..40).map(|number| (format!("x-filler-{number}"), "f".repeat(1000))));
    http::post(&provider.url, &sent, body).await.unwrap().refused(401);
    let kept = kept(&stack, &provider.source_id).await;
    assert_eq!(kept.body.len(), 1 << 20, "the beginning of a longer body");
    assert!((15_000..=16 * 1024).contains(&kept.headers.len()), "{} bytes of headers", kept.headers.len());
    assert_eq!(kept.header("x-github-delivery").as_deref(), Some("d-1"));
}

#[tokio::test]
async fn of_each_source_the_newest_hundred_stay() {
    let stack = ingest_only().await;
    let (noisy, other) = (Provider::create(&stack).await, Provider::create(&stack).await);
    let earlier = "
        INSERT INTO rejections (id, tenant_id, source_id, code, message, method, path, headers, body, remote_addr)
        SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, $1, $2, 'earlier', n::text, 'POST',
               '/', '', '', '127.0.0.1'
          FROM generate_series(1, 150) AS n";
    let tenant = bowline_core::id::DEFAULT_TENANT.0;
    stack.database.sql().execute(earlier, &[&tenant, &uuid(&noisy.source_id)]).await.unwrap();
    for provider in [&other, &noisy] {
        let impostor = Provider { secret: "bowline-test-another-secret".into(), ..provider.clone() };
        impostor.push("d-1").await.refused(401);
    }
    let count = async |what: &str| {
        let sql = format!("SELECT count(*) FROM rejections WHERE {what}");
        stack.database.count(&sql).await
    };
    eventually(BOUND, async || {
        let (new, old) = (count("code = 'signature_mismatch'").await, count("code = 'earlier'").await);
        if (new, old) == (2, 99) { Ok(()) } else { Err((new, old)) }
    })
    .await;
    assert_eq!(count("code = 'earlier' AND message::int <= 51").await, 0, "the oldest go first");
}

/// The value of a counter of the first ingest; 0 before its first increment.
async fn counter(stack: &Stack, series: &str) -> u64 {
    let url = format!("{}/metrics", stack.ingests[0].ops_url());
    let metrics = http::send(::http::Method::GET, &url, &Headers::new(), "").await.unwrap().text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn noise_fills_no_disk() {
    let stack = ingest_only().await;
    let provider = Provider::create(&stack).await;
    let impostor = Provider { secret: "bowline-test-another-secret".into(), ..provider };
    let start = Instant::now();
    let names: Vec<_> = (0..200).map(|number| format!("noise-{number}")).collect();
    let answers = futures_util::future::join_all(names.iter().map(|name| impostor.push(name))).await;
    assert!(answers.iter().all(|answer| answer.status == 401), "each is answered all the same");
    let seconds = start.elapsed().as_secs() + 1;
    // Ten in each second that has begun.
    let (kept, dropped) = eventually(BOUND, async || {
        let kept = counter(&stack, "bowline_ingest_rejections_kept_total").await;
        let dropped = counter(&stack, "bowline_ingest_rejections_dropped_total{reason=\"rate\"}").await;
        if kept + dropped == 200 { Ok((kept, dropped)) } else { Err((kept, dropped)) }
    })
    .await;
    assert!(kept >= 10 && kept <= 10 * (seconds + 1), "{kept} kept, {dropped} dropped in {seconds} s");
    let rows = stack.database.count("SELECT count(*) FROM rejections").await;
    assert_eq!(rows, i64::try_from(kept).unwrap().min(100));
}
