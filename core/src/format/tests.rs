//! Every format, byte for byte, verified by the preset of the same name.

use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::*;
use crate::headers::encode_headers;
use crate::id::{DEFAULT_TENANT, EventId};
use crate::scheme::InboundRequest;

const EVENT: &str = "evt_01h2xcejqtf2nbrexx3vqjhp41";
const ATTEMPT_ID: Uuid = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);
const SECRET: &str = "whsec_Ym93bGluZS10ZXN0LWtleS1ub3QtYS1zZWNyZXQ=";

fn event(content_type: &str, body: impl Into<Bytes>) -> Event {
    Event {
        id: EVENT.parse::<EventId>().unwrap(),
        tenant_id: DEFAULT_TENANT,
        source_id: None,
        event_type: "lead.captured".to_owned(),
        channel: Some("bot_1".to_owned()),
        content_type: content_type.to_owned(),
        headers: Bytes::new(),
        body: body.into(),
        time: DateTime::from_timestamp(1_774_539_000, 123_000_000).unwrap(),
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_600_000, 999_000_000).unwrap()
}

fn attempt(number: u32, headers: &HeaderMap) -> AttemptContext<'_> {
    AttemptContext { number, attempt_id: ATTEMPT_ID, now: now(), url: "https://example.com/hook", headers }
}

fn send(format: &str, event: &Event) -> OutboundRequest {
    let format = find(format).unwrap();
    let keys = [format.key(&Secret::new(SECRET)).unwrap()];
    format.request(event, &attempt(1, &HeaderMap::new()), &keys).unwrap()
}

fn body(format: &str, event: &Event) -> String {
    String::from_utf8(send(format, event).body.to_vec()).unwrap()
}

#[test]
fn the_formats_of_this_version() {
    let names: Vec<&str> = all().iter().map(|format| format.name()).collect();
    assert_eq!(
        names,
        [
            "standard",
            "chimpbase",
            "rkt",
            "chatbase",
            "connectgain",
            "chatblocks",
            "cloudevents",
            "custom",
            "raw"
        ]
    );
    assert!(find("fax").is_none());
    let varying: Vec<&str> = all().iter().filter(|f| f.body_varies()).map(|format| format.name()).collect();
    assert_eq!(varying, ["chimpbase"]);
    let optional: Vec<&str> =
        all().iter().filter(|f| f.secret_optional()).map(|format| format.name()).collect();
    assert_eq!(optional, ["connectgain"]);
}

#[test]
fn bodies_are_those_of_the_reference_pages() {
    let event = event("application/json", r#"{ "id": 1.0, "n":"é" }"#);
    assert_eq!(
        body("standard", &event),
        r#"{"type":"lead.captured","timestamp":"2026-03-26T15:30:00.123Z","data":{ "id": 1.0, "n":"é" }}"#
    );
    assert_eq!(
        body("chimpbase", &event),
        r#"{"event":"lead.captured","payload":{ "id": 1.0, "n":"é" },"deliveryId":"550e8400-e29b-41d4-a716-446655440000"}"#
    );
    assert_eq!(
        body("rkt", &event),
        r#"{"event":"lead.captured","chatbotId":"bot_1","timestamp":"2026-03-26T15:30:00.123Z","data":{ "id": 1.0, "n":"é" }}"#
    );
    assert_eq!(
        body("chatbase", &event),
        r#"{"eventType":"lead.captured","chatbotId":"bot_1","payload":{"id":1,"n":"é"}}"#
    );
    assert_eq!(
        body("connectgain", &event),
        r#"{"event":"lead.captured","timestamp":"2026-03-26T15:30:00Z","data":{"id":1,"n":"é"}}"#
    );
    assert_eq!(body("chatblocks", &event), r#"{ "id": 1.0, "n":"é" }"#);
    assert_eq!(body("raw", &event), r#"{ "id": 1.0, "n":"é" }"#);
}

#[test]
fn headers_are_those_of_the_reference_pages() {
    let event = event("application/json", "{}");
    let names = |format| {
        let mut names: Vec<String> = send(format, &event).headers.keys().map(ToString::to_string).collect();
        names.sort();
        names.retain(|name| {
            !["bowline-attempt", "content-type", "traceparent", "user-agent", "webhook-id"]
                .contains(&name.as_str())
        });
        names.join(" ")
    };
    assert_eq!(names("standard"), "webhook-signature webhook-timestamp");
    assert_eq!(names("raw"), "webhook-signature webhook-timestamp");
    assert_eq!(
        names("chimpbase"),
        "x-chimpbase-delivery-id x-chimpbase-event x-chimpbase-signature x-chimpbase-timestamp"
    );
    assert_eq!(names("rkt"), "x-rkt-signature");
    assert_eq!(names("chatbase"), "x-chatbase-signature");
    assert_eq!(names("connectgain"), "x-webhook-event x-webhook-signature x-webhook-timestamp");
    assert_eq!(names("chatblocks"), "idempotency-key x-chatblocks-signature");
    for format in all() {
        let headers = send(format.name(), &event).headers;
        assert_eq!(headers["webhook-id"], EVENT);
        assert_eq!(headers["bowline-attempt"], "1");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["user-agent"], USER_AGENT);
    }
    let value = |format, name: &str| send(format, &event).headers[name].to_str().unwrap().to_owned();
    assert_eq!(value("standard", "webhook-timestamp"), "1774600000");
    assert_eq!(value("chimpbase", "x-chimpbase-delivery-id"), ATTEMPT_ID.to_string());
    assert_eq!(value("connectgain", "x-webhook-timestamp"), "2026-03-27T08:26:40Z");
    assert_eq!(value("chatblocks", "idempotency-key"), EVENT);
    assert!(value("chatblocks", "x-chatblocks-signature").starts_with("t=1774600000,v1="));
    assert_eq!(value("rkt", "x-rkt-signature").len(), 64);
    assert_eq!(value("chatbase", "x-chatbase-signature").len(), 40);
}

#[test]
fn each_format_is_accepted_by_the_preset_it_is_named_after() {
    let event = event("application/json", r#"{"a":[1,2.5]}"#);
    for format in all() {
        let preset = preset::find(&format.description.scheme).unwrap();
        let sent = send(format.name(), &event);
        let keys = [format.key(&Secret::new(SECRET)).unwrap()];
        let request = InboundRequest::new("POST", "/in", &sent.headers, &sent.body);
        preset.check(&request).unwrap();
        preset.scheme().unwrap().verify(&request, &keys, now() + TimeDelta::seconds(60)).unwrap();
        assert_eq!(
            preset.dedup_key(&request).unwrap().unwrap().as_ref(),
            EVENT.as_bytes(),
            "{}",
            format.name()
        );
        if !["chatblocks", "cloudevents", "custom", "raw"].contains(&format.name()) {
            assert_eq!(preset.event_type(&request).as_deref(), Some("lead.captured"), "{}", format.name());
        }
    }
}

#[test]
fn data_that_is_not_json_is_a_string_or_base64() {
    for (content_type, bytes, expected) in [
        ("text/plain", &b"hi \"you\""[..], r#""hi \"you\"""#),
        ("text/plain", b"42", r#""42""#),
        ("application/json", b"42", "42"),
        ("application/problem+json; charset=utf-8", b"true", "true"),
        ("text/plain", b" [1]", " [1]"),
        ("application/x-www-form-urlencoded", b"{\"a\":1}", r#"{"a":1}"#),
        ("application/json", b"{\"a\":", r#""{\"a\":""#),
        ("", b"", r#""""#),
        ("application/octet-stream", b"\xff\x00", r#"{"base64":"/wA="}"#),
    ] {
        let event = event(content_type, bytes);
        let expected = format!(
            "{{\"type\":\"lead.captured\",\"timestamp\":\"2026-03-26T15:30:00.123Z\",\"data\":{expected}}}"
        );
        assert_eq!(body("standard", &event), expected);
    }
    let mut quiet = event("application/json", "{}");
    quiet.channel = None;
    assert_eq!(body("chatbase", &quiet), r#"{"eventType":"lead.captured","chatbotId":null,"payload":{}}"#);
}

#[test]
fn bytes_as_they_are_keep_their_type() {
    let csv = event("text/csv; charset=utf-8", "a,b\n");
    for format in ["raw", "chatblocks"] {
        let sent = send(format, &csv);
        assert_eq!(
            (sent.headers["content-type"].to_str().unwrap(), &sent.body[..]),
            ("text/csv; charset=utf-8", &b"a,b\n"[..])
        );
    }
    assert_eq!(send("standard", &csv).headers["content-type"], "application/json");
    assert_eq!(send("raw", &event("", "x")).headers["content-type"], "application/json");
}

#[test]
fn raw_takes_the_original_headers_along() {
    let mut event = event("application/json", "{}");
    let original: [(&str, &[u8]); 14] = [
        ("x-github-event", b"push"),
        ("x-hub-signature-256", b"sha256=00"),
        ("x-twice", b"1"),
        ("x-twice", b"2"),
        ("authorization", b"hush"),
        ("cookie", b"hush"),
        ("host", b"in"),
        ("connection", b"close, X-Hop"),
        ("x-hop", b"1"),
        ("transfer-encoding", b"chunked"),
        ("webhook-signature", b"v1,hush"),
        ("user-agent", b"GitHub"),
        ("content-encoding", b"gzip"),
        ("proxy-authorization", b"hush"),
    ];
    event.headers = encode_headers(original, 10_000);
    let sent = send("raw", &event);
    let values = |name: &str| sent.headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(values("x-github-event"), ["push"]);
    assert_eq!(values("x-hub-signature-256"), ["sha256=00"]);
    assert_eq!(values("x-twice"), ["1", "2"]);
    assert_eq!(values("content-encoding"), ["gzip"]);
    assert_eq!(values("user-agent"), [USER_AGENT]);
    for gone in
        ["authorization", "cookie", "host", "connection", "x-hop", "transfer-encoding", "proxy-authorization"]
    {
        assert!(sent.headers.get(gone).is_none(), "{gone}");
    }
    assert_eq!(values("webhook-signature").len(), 1);
    assert!(!format!("{:?}", sent.headers).contains("hush"));
    assert!(send("standard", &event).headers.get("x-github-event").is_none());
}

#[test]
fn secrets_and_endpoint_headers() {
    let event = event("application/json", "{}");
    let extra = HeaderMap::from_iter([("x-team".parse().unwrap(), "a".parse().unwrap())]);
    for format in all() {
        let unsigned = format.request(&event, &attempt(3, &extra), &[]);
        if format.secret_optional() {
            let unsigned = unsigned.unwrap();
            assert!(unsigned.headers.get("x-webhook-signature").is_none());
            assert_eq!(unsigned.headers["x-webhook-timestamp"], "2026-03-27T08:26:40Z");
            assert_eq!(unsigned.headers["x-team"], "a");
            assert_eq!(unsigned.headers["bowline-attempt"], "3");
        } else {
            let fault = unsigned.unwrap_err();
            assert_eq!(fault, FormatError::SecretMissing { format: format.name().to_owned() });
            assert_eq!(fault.dead_reason(), DeadReason::SecretMissing);
        }
        let secret = format.generate_secret().secret;
        let key = format.key(&secret).unwrap();
        format.request(&event, &attempt(1, &extra), std::slice::from_ref(&key)).unwrap();
    }
    let standard = find("standard").unwrap();
    let pair = standard.scheme().generate_secret_for(crate::scheme::Algorithm::Ed25519).unwrap();
    let public = [standard.key(&Secret::new(pair.public.unwrap())).unwrap()];
    let fault = standard.request(&event, &attempt(1, &extra), &public).unwrap_err();
    assert_eq!(fault.dead_reason(), DeadReason::SecretMissing);
}

#[test]
fn no_value_can_add_a_header() {
    let mut event = event("application/json", "{}");
    event.event_type = "a\r\nx-evil: 1".to_owned();
    let format = find("chimpbase").unwrap();
    let keys = [format.key(&Secret::new(SECRET)).unwrap()];
    let fault = format.request(&event, &attempt(1, &HeaderMap::new()), &keys).unwrap_err();
    assert_eq!(fault.to_string(), "the header `x-chimpbase-event` cannot hold this value");
    assert_eq!(fault.dead_reason(), DeadReason::Unformattable);
    event.content_type = "a\nb".to_owned();
    assert_eq!(send("raw", &event).headers["content-type"], "application/json");
}

#[test]
fn only_signatures_differ_between_attempts() {
    let event = event("application/json", r#"{"a":1}"#);
    for format in all() {
        let keys = [format.key(&Secret::new(SECRET)).unwrap()];
        let headers = HeaderMap::new();
        let one = format.request(&event, &attempt(1, &headers), &keys).unwrap();
        let later = AttemptContext {
            attempt_id: Uuid::from_u128(7),
            now: now() + TimeDelta::days(1),
            ..attempt(2, &headers)
        };
        let two = format.request(&event, &later, &keys).unwrap();
        assert_eq!(one.body == two.body, !format.body_varies(), "{}", format.name());
        assert_eq!(one.headers["webhook-id"], two.headers["webhook-id"]);
        assert_eq!(two.headers["bowline-attempt"], "2");
    }
}

#[test]
fn data_nested_too_deep_for_javascript_is_refused() {
    let deep = event("application/json", format!("{}{}", "[".repeat(1000), "]".repeat(1000)));
    assert!(body("standard", &deep).contains("[[[["));
    let format = find("chatbase").unwrap();
    let fault = format.body(&deep, ATTEMPT_ID).unwrap_err();
    assert_eq!(fault, FormatError::TooDeep { max: 256 });
}

/// JSON in all the ways people write it: blanks, escapes, repeated and numeric names.
fn any_json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (-(1i64 << 53)..(1i64 << 53)).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no infinity", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,8})\\.[0-9]{1,12}([eE][+-]?[0-9]{1,3})?",
        Just("-0".to_owned()),
    ];
    let text = prop_oneof![
        "([a-zA-Z0-9 ./é😀]|\\\\u[0-9a-fA-F]{4}|\\\\ud[89a-f][0-9a-f]{2}|\\\\[\"\\\\/bfnrt]){0,12}",
        "[0-9]{1,11}",
        "[ab]",
    ]
    .prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![number, text.clone(), Just("true".to_owned()), Just("null".to_owned())];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let member = (text.clone(), inner.clone()).prop_map(|(name, value)| format!("{name}\t: {value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[ {}]", items.join(" ,"))),
            prop::collection::vec(member, 0..24).prop_map(|members| format!("{{\n{}}}", members.join(", "))),
        ]
    })
}

/// Writes one body a line to Node, which answers with those that its own JSON would change.
fn changed_by_node(bodies: &[String]) -> Option<Vec<String>> {
    const SCRIPT: &str = "const lines = require('fs').readFileSync(0, 'utf8').split('\\n').slice(0, -1);\
        for (const line of lines) { const again = JSON.stringify(JSON.parse(line)); \
        if (again !== line) console.log(line + '\\n -> ' + again); } console.log('read ' + lines.length);";
    let mut node = Command::new("node")
        .args(["-e", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = node.stdin.take().unwrap();
    let text = bodies.iter().fold(String::new(), |text, body| text + body + "\n");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = node.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.pop(), Some(format!("read {}", bodies.len())));
    Some(lines)
}

#[test]
fn node_parses_and_writes_the_same_bytes() {
    let mut runner = TestRunner::deterministic();
    let mut bodies = Vec::new();
    for _ in 0..400 {
        let json = any_json().new_tree(&mut runner).unwrap().current();
        serde_json::from_str::<serde::de::IgnoredAny>(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
        let mut event = event("application/json", json);
        event.channel = Some("\u{2028}\u{7f}\"\\\n".to_owned());
        bodies.extend(["chatbase", "connectgain"].map(|format| body(format, &event)));
    }
    bodies.push(body("chatbase", &event("text/plain", "tab\t\u{1}\u{1f}é😀</script>\u{feff}")));
    bodies.push(body("connectgain", &event("", b"\xff".as_slice())));
    match changed_by_node(&bodies) {
        Some(changed) => assert!(changed.is_empty(), "{} changed:\n{}", changed.len(), changed.join("\n")),
        None => eprintln!("skipped: no `node` on PATH"),
    }
}
