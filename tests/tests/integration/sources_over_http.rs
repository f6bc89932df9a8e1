//! Sources of every kind of scheme and of the reference systems, posted to over HTTP.

use std::time::Duration;

use bowline_proto::v1;
use bowline_tests::http::{self, Answer};
use bowline_tests::provider::BODY;
use bowline_tests::sign::{self, Headers};
use bowline_tests::{BOUND, Provider, Receiver, Stack, admin, eventually};
use prost_types::value::Kind;
use serde_json::{Value, json};

/// A source of the preset `custom` that verifies by `scheme`, written as its JSON.
pub(super) fn custom(scheme: Value) -> v1::Source {
    let Some(Kind::StructValue(scheme)) = wire(scheme).kind else { panic!("a scheme is an object") };
    v1::Source { scheme: Some(scheme), event_type: "door.opened".into(), ..Default::default() }
}

fn wire(json: Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(list) => {
            Kind::ListValue(prost_types::ListValue { values: list.into_iter().map(wire).collect() })
        }
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.into_iter().map(|(name, value)| (name, wire(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

pub(super) fn headers<const N: usize>(pairs: [(&str, &str); N]) -> Headers {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

/// Posts to a source whose credentials stand in one header; `None` leaves it out.
async fn present(stack: &Stack, source: &str, name: &str, value: Option<&str>) -> Answer {
    let headers = value.map(|value| headers([(name, value)])).unwrap_or_default();
    http::post(&stack.inbound(source), &headers, BODY).await.unwrap()
}

/// The credentials came in, and are in nothing that is kept.
async fn is_kept_nowhere(stack: &Stack, credentials: &str) {
    let kept = stack.database.sql();
    let rows = kept.query("SELECT headers, body FROM events", &[]).await.unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        for part in [row.get::<_, Vec<u8>>(0), row.get(1)] {
            let text = String::from_utf8_lossy(&part).into_owned();
            assert!(!text.contains(credentials), "{text}");
        }
    }
    assert!(!stack.logs().contains(credentials), "the log holds {credentials}");
}

#[tokio::test]
async fn a_source_takes_http_basic() {
    let stack = ingest_only().await;
    let scheme = json!({"algorithm": "basic", "signature": {"sources": ["header:authorization"]}});
    let source = stack.admin().source_like(custom(scheme), "hook:bowline:test").await.id;
    let ask = async |value: Option<&str>| present(&stack, &source, "authorization", value).await;

    // `hook:bowline:test`: everything after the first colon is the password.
    ask(Some("Basic aG9vazpib3dsaW5lOnRlc3Q=")).await.accepted();
    for (value, code) in [
        (None, "missing_header"),
        (Some("Basic aG9vazpvdGhlcg=="), "wrong_password"),
        (Some("Basic b3RoZXI6Ym93bGluZTp0ZXN0"), "wrong_password"),
    ] {
        let answer = ask(value).await;
        assert_eq!(answer.refused(401), code, "{value:?}");
        assert!(answer.header("www-authenticate").starts_with("Basic realm="), "{answer:?}");
    }
    assert_eq!(ask(Some("Bearer bowline")).await.refused(400), "malformed_header");
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);
    is_kept_nowhere(&stack, "aG9vazpib3dsaW5lOnRlc3Q=").await;
}

#[tokio::test]
async fn a_source_takes_a_bearer_token() {
    let stack = ingest_only().await;
    let scheme = json!({
        "algorithm": "token",
        "signature": {"sources": ["header:authorization"], "prefix": "Bearer "},
    });
    let source = stack.admin().source_like(custom(scheme), "bowline-test-bearer").await.id;
    let ask = async |value: Option<&str>| present(&stack, &source, "authorization", value).await;

    ask(Some("Bearer bowline-test-bearer")).await.accepted();
    for (value, code) in [(None, "missing_header"), (Some("Bearer bowline-test-beares"), "wrong_token")] {
        let answer = ask(value).await;
        assert_eq!(answer.refused(401), code, "{value:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"webhooks\"");
    }
    assert_eq!(ask(Some("bowline-test-bearer")).await.refused(400), "malformed_header");
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);
    is_kept_nowhere(&stack, "bowline-test-bearer").await;
}

#[tokio::test]
async fn a_source_takes_a_token_in_a_header_of_its_own() {
    let stack = ingest_only().await;
    let scheme = json!({"algorithm": "token", "signature": {"sources": ["header:x-door-token"]}});
    let source = stack.admin().source_like(custom(scheme), "bowline-test-door").await.id;
    let ask = async |value: Option<&str>| present(&stack, &source, "X-Door-Token", value).await;

    ask(Some("bowline-test-door")).await.accepted();
    let missing = ask(None).await;
    assert_eq!(missing.refused(400), "missing_header");
    assert!(missing.text().contains("x-door-token"), "{}", missing.text());
    assert_eq!(ask(Some("bowline-test-doos")).await.refused(401), "wrong_token");
    assert_eq!(ask(Some("bowline-test-door2")).await.refused(401), "wrong_token");
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);
    is_kept_nowhere(&stack, "bowline-test-door").await;
}

#[tokio::test]
async fn a_source_takes_a_token_in_the_query() {
    let stack = ingest_only().await;
    let scheme = json!({"algorithm": "token", "signature": {"sources": ["query:token"]}});
    let source = stack.admin().source_like(custom(scheme), "bowline test/query").await.id;
    let ask = async |query: &str| {
        http::post(&format!("{}{query}", stack.inbound(&source)), &Headers::new(), BODY).await.unwrap()
    };
    ask("?page=1&token=bowline%20test%2Fquery").await.accepted();
    assert_eq!(ask("?token=bowline").await.refused(401), "wrong_token");
    assert_eq!(ask("").await.refused(400), "missing_field");
    is_kept_nowhere(&stack, "bowline%20test%2Fquery").await;
}

#[tokio::test]
async fn a_key_is_forgotten_when_its_time_is_over() {
    let stack = ingest_only().await;
    let secret = "bowline-test-github-secret";
    let brief = v1::Source {
        preset: "github".into(),
        dedup_ttl: Some(admin::duration(Duration::from_secs(1))),
        ..Default::default()
    };
    let id = stack.admin().source_like(brief, secret).await.id;
    let brief = Provider { url: stack.inbound(&id), source_id: id, secret: secret.to_owned() };
    let lasting = Provider::create(&stack).await;
    let first = brief.push("same").await.accepted();
    let kept = lasting.push("same").await.accepted();

    // A repetition does not make the key younger: pushed again and again, it ends all the same.
    let second = eventually(BOUND, async || {
        let json = brief.push("same").await.json();
        if json == json!({"id": first, "duplicate": true}) { Err(json) } else { Ok(json) }
    })
    .await;
    assert_eq!(second["duplicate"], false, "{second}");
    let again = lasting.push("same").await.json();
    assert_eq!(again, json!({"id": kept, "duplicate": true}), "24 h are not over");
    let day = "SELECT count(*) FROM dedup_keys AS k JOIN events AS e ON e.id = k.event_id
                WHERE k.expires_at - e.create_time BETWEEN interval '86000 s' AND interval '87000 s'";
    assert_eq!(stack.database.count(day).await, 1, "a key lasts for a day where nothing is said");
    let events = stack.database.count("SELECT count(*) FROM events").await;
    let keys = stack.database.count("SELECT count(*) FROM dedup_keys").await;
    assert_eq!((events, keys), (3, 2), "the new event has taken the key over");
}

#[tokio::test]
async fn connectgain_names_the_organization_as_the_channel() {
    let stack = ingest_only().await;
    let secret = "bowline-test-connectgain-secret";
    let source = stack.admin().source("connectgain", secret).await;
    let body = r#"{"event":"contact.created","timestamp":"2026-01-01T00:00:00Z","data":{"organization_id":"org-7"}}"#;
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let headers = sign::connectgain(secret, "contact.created", &now, body.as_bytes());
    let id = http::post(&stack.inbound(&source), &headers, body).await.unwrap().accepted();
    let got = stack.admin().events().get_event(v1::GetEventRequest { id }).await.unwrap();
    assert_eq!(got.into_inner().event.unwrap().channel, "org-7");
}

#[tokio::test]
async fn chatbase_sends_json_or_is_told_where_it_breaks() {
    let stack = ingest_only().await;
    let secret = "bowline-test-chatbase-secret";
    let source = stack.admin().source("chatbase", secret).await;
    for broken in ["", "{", r#"{"eventType":"leads.submit",}"#, "leads.submit"] {
        let headers = sign::chatbase(secret, broken.as_bytes());
        let answer = http::post(&stack.inbound(&source), &headers, broken).await.unwrap();
        // Rightly signed: it is not told that the signature is wrong.
        assert_eq!(answer.refused(400), "invalid_json", "{broken:?}");
    }
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_secret_made_for_rkt_is_used_with_its_prefix() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint { format: "rkt".into(), ..admin::endpoint(receiver.url()) };
    let (_, secret) = admin.endpoint(endpoint).await;
    assert!(secret.starts_with("whsec_") && secret.len() > 32, "{secret}");
    admin.publish("lead.captured").await;
    let request = receiver.await_count(1, BOUND).await.remove(0);
    let whole = hex::encode(sign::hmac_sha256(secret.as_bytes(), &[&request.body]));
    assert_eq!(request.header("x-rkt-signature"), whole);

    let wanted = v1::Source { preset: "rkt".into(), ..Default::default() };
    let request = v1::CreateSourceRequest { source: Some(wanted), ..Default::default() };
    let created = admin.sources().create_source(request).await.unwrap().into_inner();
    assert!(created.secret.starts_with("whsec_"), "{}", created.secret);
    let headers = sign::rkt(&created.secret, BODY);
    let url = stack.inbound(&created.source.unwrap().id);
    http::post(&url, &headers, BODY).await.unwrap().accepted();
}

/// The event lists of RKT's and ConnectGain's pages.
const RKT_EVENTS: [&str; 10] = [
    "session.created",
    "session.resolved",
    "message.received",
    "message.sent",
    "lead.captured",
    "ticket.created",
    "ticket.updated",
    "handoff.escalated",
    "handoff.assigned",
    "handoff.returned",
];
const CONNECTGAIN_EVENTS: [&str; 17] = [
    "contact.created",
    "contact.updated",
    "contact.assigned",
    "deal.created",
    "deal.updated",
    "deal.stage.changed",
    "deal.assigned",
    "conversation.created",
    "conversation.assigned",
    "conversation.status.changed",
    "message.received",
    "message.sent",
    "message.delivered",
    "message.read",
    "message.failed",
    "broadcast.response",
    "zoom.recording.completed",
];

/// Sends each of `events` in as the provider does; each goes out, in the same format, to an endpoint
/// that asked for it by name.
async fn comes_in_and_goes_out(preset: &str, events: &[&str], sign: impl Fn(&str, &str, &[u8]) -> Headers) {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint {
        format: preset.into(),
        event_types: events.iter().map(ToString::to_string).collect(),
        ..admin::endpoint(receiver.url())
    };
    admin.endpoint(endpoint).await;
    let secret = format!("bowline-test-{preset}-secret");
    let source = admin.source(preset, &secret).await;
    let mut ids = Vec::new();
    for event in events.iter().chain(&["nothing.on.the.page"]) {
        let body = json!({"event": event, "timestamp": "2026-01-01T00:00:00.000Z", "data": {"of": event}});
        let body = body.to_string();
        let headers = sign(&secret, event, body.as_bytes());
        ids.push(http::post(&stack.inbound(&source), &headers, body).await.unwrap().accepted());
    }
    ids.pop();
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    let mut arrived: Vec<_> =
        receiver.requests().iter().map(bowline_tests::receiver::Recorded::json).collect();
    arrived.sort_by_key(|body| body["event"].to_string());
    let mut names: Vec<_> = arrived.iter().map(|body| body["event"].as_str().unwrap()).collect();
    let mut wanted = events.to_vec();
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    assert!(arrived.iter().all(|body| body["data"]["data"]["of"] == body["event"]), "{arrived:?}");
}

#[tokio::test]
async fn every_event_of_rkt_comes_in_and_goes_out() {
    comes_in_and_goes_out("rkt", &RKT_EVENTS, |secret, _, body| sign::rkt(secret, body)).await;
}

#[tokio::test]
async fn every_event_of_connectgain_comes_in_and_goes_out() {
    comes_in_and_goes_out("connectgain", &CONNECTGAIN_EVENTS, |secret, event, body| {
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        sign::connectgain(secret, event, &now, body)
    })
    .await;
}
