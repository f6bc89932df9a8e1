//! What expressions give, what they are refused for, and that nothing makes them panic or hang. Whatever is put
//! together of their words is tried by `tests/fuzz`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::DateTime;
use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::id::{EventId, SourceId, TenantId};
use crate::secrets::Secret;

mod altered;

const BODY: &str = r#"{"id":"evt-7","type":"order.paid","total":12.5,"count":3,"big":18446744073709551615,
    "paid":true,"none":null,"tags":["a","b","b"],"items":[{"sku":"x","n":1},{"sku":"y","n":2}],"text":"Ünïcode"}"#;

struct OneSecret;

impl SecretLookup for OneSecret {
    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        (name == "hook").then(|| Arc::new(Secret::from("sesame")))
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-kind", http::HeaderValue::from_static("Order"));
    headers.append("x-twice", http::HeaderValue::from_static("1"));
    headers.append("x-twice", http::HeaderValue::from_static("2"));
    headers.insert("x-raw", http::HeaderValue::from_bytes(b"\xff").unwrap());
    headers
}

fn event(body: &str) -> Event {
    Event {
        id: EventId::new(),
        tenant_id: TenantId::new(),
        source_id: Some(SourceId::new()),
        event_type: "order.paid".into(),
        channel: None,
        content_type: "application/json".into(),
        headers: Bytes::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        time: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
    }
}

/// What an expression gives in a filter over [`BODY`].
fn decide(text: &str) -> Result<bool, String> {
    let program = Program::compile(text, Place::Filter).map_err(|error| format!("refused: {error}"))?;
    let event = event(BODY);
    program.decide(&Scope::of_event(&event)).map_err(|error| format!("failed: {error}"))
}

fn verify(text: &str) -> Result<bool, String> {
    let program = Program::compile(text, Place::Verify).map_err(|error| format!("refused: {error}"))?;
    let headers = headers();
    let request = RequestScope {
        method: "POST",
        path_and_query: "/in/a?x=1&x=2&y=%20",
        headers: &headers,
        body: BODY.as_bytes(),
    };
    program
        .decide(&Scope::of_request(request).with_secrets(&OneSecret))
        .map_err(|error| format!("failed: {error}"))
}

#[test]
fn what_is_true() {
    for text in [
        "true",
        "event.type == 'order.paid' && event.data.total > 12",
        "event.data.count == 3.0 && event.data.count == 3u && event.data.big > 5",
        "has(event.data.paid) && !has(event.data.nothing) && !has(event.channel) && has(event.source)",
        "event.channel == null && event.data.none == null",
        "event.data.tags.exists(t, t == 'b') && event.data.tags.all(t, size(t) == 1)",
        "event.data.tags.exists_one(t, t == 'a') && !event.data.tags.exists_one(t, t == 'b')",
        "event.data.items.filter(i, i.n > 1).map(i, i.sku) == ['y']",
        "event.data.items.map(i, i.n > 1, i.sku)[0] == 'y'",
        "event.data.items.map(i, event.data.tags.map(t, t + i.sku))[1][2] == 'by'",
        "'a' in event.data.tags && 'id' in event.data && !('z' in event.data.tags)",
        "event.data['text'].size() == 7 && event.data.text.substring(0, 1) == 'Ü'",
        "event.type.startsWith('order.') && event.type.endsWith('paid') && event.type.contains('r.p')",
        "event.type.matches('^order\\\\.[a-z]+$') && matches(event.type, 'paid')",
        "event.data.missing == 1 || true",
        "!(event.data.missing == 1 && false)",
        "[event.data.missing, 1].size() == 2 || true",
        "event.data.items.exists(i, i.missing == 1 || i.n == 2)",
        "event.timestamp > timestamp('2023-01-01T00:00:00Z') && event.timestamp.getFullYear() == 2023",
        "event.timestamp - duration('1h30m') < event.timestamp && duration('60s') == duration('1m')",
        "int('7') + 1 == 8 && -2 * 3 == -6 && 7 / 2 == 3 && 7 % 2 == 1 && 7.0 / 2.0 == 3.5",
        "string(event.data.count) + '!' == '3!' && double('1.5') == 1.5 && uint(1) == 1u",
        "base64.encode('ab') == 'YWI=' && string(base64.decode('YWI')) == 'ab'",
        "hex.encode(b'\\xff\\x00') == 'ff00' && hex.decode('ff00') == b'\\xff\\x00'",
        "hex.encode(hmac_sha256('key', 'The quick brown fox jumps over the lazy dog')) == \
         'f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8'",
        "{'a': 1, 'b': [2]}.b[0] == 2 && {'a': 1} == {'a': 1.0} && {'a': 1} != {'b': 1}",
        "' a,b '.trim().split(',').join('-').upperAscii() == 'A-B' && 'aXa'.replace('a', 'bb') == 'bbXbb'",
        "event.id.startsWith('evt_') && event.source.startsWith('src_')",
        "(event.data.paid ? 'yes' : 'no') == 'yes' && 0.0 / 0.0 != 0.0 / 0.0",
    ] {
        assert_eq!(decide(text), Ok(true), "{text}");
    }
}

#[test]
fn requests() {
    for text in [
        "request.method == 'POST' && request.path == '/in/a' && request.query.x == '1' && request.query['y'] == ' '",
        "request.headers['X-Kind'] == 'Order' && header('x-kind') == 'Order' && header('none') == null",
        "header('x-twice') == '1, 2' && 'x-kind' in request.headers && !('none' in request.headers)",
        "request.json.type == 'order.paid' && string(request.body).contains('evt-7') && size(request.body) > 10",
        "constant_time_eq(secret('hook'), 'sesame') && !constant_time_eq(secret('hook'), 'sesam')",
        "constant_time_eq('v1=' + hex.encode(hmac_sha256(secret('hook'), request.method + '.x')), \
         'v1=9f994536830fddc98d2c5be2851098cbfd3a6a540c4ac7be6c3c61d465c8d46d')",
        "[secret('hook')].exists(s, constant_time_eq(s, b'sesame'))",
        "constant_time_eq(base64.decode(base64.encode(secret('hook'))), secret('hook'))",
    ] {
        assert_eq!(verify(text), Ok(true), "{text}");
    }
    assert_eq!(
        verify("secret('other') == secret('other') || true").unwrap_err(),
        "refused: line 1, column 17: \
         a secret can only be compared, with constant_time_eq"
    );
    let missing = verify("constant_time_eq(secret('other'), 'x')").unwrap_err();
    assert_eq!(missing, "failed: line 1, column 24: there is no usable secret named `other`");
    assert!(verify("header('x-raw') == 'x'").unwrap_err().starts_with("failed:"));
    assert!(verify("constant_time_eq(header('none'), 'x')").unwrap_err().starts_with("failed:"));
}

#[test]
fn what_is_refused_when_it_is_saved() {
    for (text, place, column, part) in [
        ("", Place::Filter, 1, "empty"),
        ("event.type ==", Place::Filter, 14, ""),
        ("event.type == 'a' &&& true", Place::Filter, 21, ""),
        ("event.typ == 'a'", Place::Filter, 6, "`event` has no `typ`; it has id, type"),
        ("evnt.type == 'a'", Place::Filter, 1, "there is no `evnt` here; there is event"),
        ("request.method == 'a'", Place::Filter, 1, "there is no `request` here"),
        ("event == 1", Place::Filter, 1, "used by its fields"),
        ("event.type", Place::Filter, 6, "must be a bool"),
        ("event.data.x", Place::Filter, 11, "must be a bool"),
        ("event.type == 1", Place::Filter, 12, "`==` does not work on a string and an int"),
        ("1 + 'a' == 2", Place::Filter, 3, "`+` does not work"),
        ("event.type.foo() == 1", Place::Filter, 15, "there is no function `foo` here"),
        ("secret('a') == 'b'", Place::Filter, 7, "there is no function `secret` here"),
        ("secret('a') == 'b'", Place::Verify, 13, "constant_time_eq"),
        ("'a' in [secret('a')]", Place::Verify, 5, "constant_time_eq"),
        ("secret(header('a')) == 'b'", Place::Verify, 7, "string literal"),
        ("string(secret('a')) == 'b'", Place::Verify, 7, "constant_time_eq"),
        ("size(hmac_sha256(secret('a'), 'b')) == 32", Place::Verify, 5, "constant_time_eq"),
        ("(true ? secret('a') : header('b')) == 'b'", Place::Verify, 29, "constant_time_eq"),
        ("{'a': secret('a')}.a == 'b'", Place::Verify, 13, "constant_time_eq"),
        ("event.type.matches(event.id)", Place::Filter, 25, "string literal"),
        ("event.type.matches('(')", Place::Filter, 20, "no regular expression"),
        ("event.type.matches('(\\\\w{100}){100}')", Place::Filter, 20, "too large"),
        ("event.type.startsWith(1)", Place::Filter, 22, "wants a string"),
        ("true\n && event.nothing == 1", Place::Filter, 10, "has no `nothing`"),
        ("1", Place::Transform, 1, "must be a map"),
        ("[1]", Place::Name, 1, "must be text"),
        ("{1: 2}", Place::Transform, 2, "must be a string"),
        ("a.b.Message{x: 1}", Place::Transform, 12, "no message types"),
    ] {
        let error = Program::compile(text, place).expect_err(text);
        let found = (error.position.column, error.problem.contains(part));
        assert_eq!(found, (column, true), "{text}: {error}");
    }
    let error = Program::compile("true\n && event.nothing == 1", Place::Filter).unwrap_err();
    assert_eq!(error.position.line, 2);
}

#[test]
fn what_is_too_large_is_refused() {
    let nested = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{} == 1", open.repeat(n), close.repeat(n))
    };
    let chain = |link: &str, n: usize| format!("1{} == 1", link.repeat(n));
    for text in [
        "(".repeat(4096),
        "[".repeat(4096),
        nested("(", "1", ")", 33),
        nested("true ? 1 : ", "1", "", 300),
        nested("[", "1", "]", 40),
        chain("+1", 100),
        format!("event.data{} == 1", ".a".repeat(1000)),
        format!("event.data{} == 1", ".map(x,x)".repeat(100)),
        format!("[{}] == 1", "1,".repeat(1200)),
        "x".repeat(4097),
        "{".repeat(4000),
    ] {
        let start = Instant::now();
        assert!(Program::compile(&text, Place::Filter).is_err(), "{}", &text[..20]);
        assert!(start.elapsed() < Duration::from_secs(10), "{}", &text[..20]);
    }
}

#[test]
fn an_evaluation_ends() {
    let list = format!("[{}]", vec!["1"; 900].join(","));
    let body = format!("{{\"l\":{list},\"s\":\"{}\"}}", "x".repeat(1000));
    let event = event(&body);
    let scope = Scope::of_event(&event);
    for (text, fault) in [
        ("event.data.l.all(a, event.data.l.all(b, event.data.l.all(c, true)))", Fault::Steps),
        ("event.data.l.exists(a, event.data.l.exists(b, event.data.l.exists(c, c == 2)))", Fault::Steps),
        ("event.data.l.exists(a, event.data.l.map(b, event.data.l)[0][5000] == 2)", Fault::Steps),
        ("event.data.l.map(a, event.data.l.map(b, event.data.s + event.data.s)) == []", Fault::Bytes),
    ] {
        let error = Program::compile(text, Place::Filter).expect(text).decide(&scope).expect_err(text);
        assert_eq!(error.fault, fault, "{text}");
    }
    // Text that doubles with each map.
    let doubling = format!("[event.data.s]{}[0] == 'x'", ".map(x, x + x)".repeat(25));
    let error = Program::compile(&doubling, Place::Filter).unwrap().decide(&scope).unwrap_err();
    assert_eq!(error.fault, Fault::Bytes);
    let doubling = format!("[[1, 2]]{}[0] == [1]", ".map(x, x + x)".repeat(25));
    let error = Program::compile(&doubling, Place::Filter).unwrap().decide(&scope).unwrap_err();
    assert_eq!(error.fault, Fault::Bytes);
    let long = event_with_text(900_000);
    let program = Program::compile("event.data.s.matches('(a|aa)+b$')", Place::Filter).unwrap();
    assert_eq!(program.decide(&Scope::of_event(&long)).unwrap_err().fault, Fault::Steps);
}

fn event_with_text(length: usize) -> Event {
    event(&format!("{{\"s\":\"{}\"}}", "a".repeat(length)))
}

#[test]
fn what_fails_says_where_and_holds_no_value() {
    for (text, expected) in [
        ("event.data.nothing == 1", "line 1, column 11: there is no `nothing`"),
        ("event.data.tags[9] == 'a'", "line 1, column 16: the index is out of bounds"),
        ("1 / (event.data.count - 3) == 1", "line 1, column 3: division by zero"),
        ("9223372036854775807 + event.data.count == 1", "line 1, column 21: the number overflows"),
        ("int(event.data.text) == 1", "line 1, column 4: this text is no int"),
        (
            "event.data.text + event.data.count == 1",
            "line 1, column 17: `+` does not work on a string and an int",
        ),
        ("event.data.total ? true : false", "line 1, column 11: this is a double, and must be a bool"),
    ] {
        assert_eq!(decide(text).unwrap_err(), format!("failed: {expected}"), "{text}");
    }
    let event = event("{\"a\":");
    let program = Program::compile("event.data == '{\"a\":'", Place::Filter).unwrap();
    assert_eq!(program.decide(&Scope::of_event(&event)), Ok(true), "no JSON is text");
    let program = Program::compile("request.json.a == 1", Place::Verify).unwrap();
    let headers = HeaderMap::new();
    let request =
        RequestScope { method: "POST", path_and_query: "/", headers: &headers, body: b"{\"sesame\": 1,}" };
    let error = program.decide(&Scope::of_request(request)).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 8: the body is not JSON: line 1, column 14");
    let large = vec![b' '; limits::JSON_BYTES_MAX + 1];
    let request = RequestScope { body: &large, ..request };
    assert_eq!(program.decide(&Scope::of_request(request)).unwrap_err().fault, Fault::BodyTooLarge);
}

#[test]
fn what_an_expression_looks_at() {
    let looks = |text| Program::compile(text, Place::Verify).expect(text).looks_at();
    let found = looks(
        "header('X-Token') == 'a' && request.headers['x-b'] == request.headers.host && request.path == ''",
    );
    assert_eq!(found.headers, ["x-token", "x-b", "host"]);
    assert!(!found.all_headers && !found.query && found.header("X-B") && !found.header("x-c"));
    assert!(looks("request.headers.exists(name, header(name) == 'a')").all_headers);
    assert!(looks("[1].map(x, request.query.token)[0] == 'a'").query);
    assert_eq!(looks("request.json.a == 1"), LooksAt::default());
    // What a secret is compared with may be that secret; a signature is made with one.
    assert!(looks("constant_time_eq(request.json.token, secret('a'))").body);
    assert!(looks("header('x-a') == 'b' && constant_time_eq(request.body, secret('a'))").body);
    let signed =
        "constant_time_eq(hex.encode(hmac_sha256(secret('a'), request.body)), header('x-signature'))";
    assert_eq!(looks(signed), LooksAt::default());
    let both = format!("{signed} && constant_time_eq(header('x-token'), secret('b')) && request.json.a == 1");
    let both = looks(&both);
    assert_eq!((both.headers.as_slice(), both.body), (&["x-token".to_owned()][..], false));
    assert!(looks("constant_time_eq(hmac_sha256(header('x-a'), secret('b')), request.body)").body);
}

#[test]
fn names_and_keys() {
    let headers = headers();
    let request =
        RequestScope { method: "POST", path_and_query: "/", headers: &headers, body: BODY.as_bytes() };
    let scope = Scope::of_request(request);
    let name = |text| Program::compile(text, Place::Name).expect("a name").name(&scope);
    assert_eq!(name("header('x-kind').lowerAscii()"), Ok(Some("order".into())));
    assert_eq!(name("header('none')"), Ok(None));
    assert!(name("request.json.count").is_err() && name("''").is_err() && name("'a\\nb'").is_err());
    let key = |text| Program::compile(text, Place::DedupKey).expect("a key").key(&scope);
    assert_eq!(key("request.json.id"), Ok(Some(b"evt-7".to_vec())));
    assert_eq!(key("request.json.count"), Ok(Some(b"3".to_vec())));
    assert_eq!(key("b'\\xff'"), Ok(Some(vec![255])));
    assert_eq!((key("null"), key("'  '")), (Ok(None), Ok(None)));
    assert!(key("request.json.tags").is_err() && key("string(request.body) + string(request.body)").is_ok());
}

#[test]
fn bodies() {
    let event = event(BODY);
    let delivery = DeliveryScope { id: "evt_x.ep_y.0".into(), attempt: 2 };
    let scope = Scope::of_event(&event).with_delivery(delivery);
    let body = |text: &str| {
        let body = Program::compile(text, Place::Transform).expect("a transform").body(&scope);
        body.map(|bytes| String::from_utf8(bytes).expect("UTF-8")).map_err(|error| error.to_string())
    };
    assert_eq!(
        body("{'t': event.type, 'n': delivery.attempt, 'at': event.timestamp, 'i': event.data.items[0]}"),
        Ok(r#"{"at":"2023-11-14T22:13:20Z","i":{"n":1,"sku":"x"},"n":2,"t":"order.paid"}"#.into())
    );
    assert_eq!(
        body("{'b': b'\\xff', 'big': event.data.big}"),
        Ok(r#"{"b":"/w==","big":18446744073709551615}"#.into())
    );
    assert!(body("event.data").unwrap().contains("\"text\":\"Ünïcode\""));
    assert!(body("event.data.tags").unwrap_err().contains("the result must be a map"));
    assert!(body("{'a': 1.0 / 0.0}").unwrap_err().contains("JSON has no infinite number"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        for place in [Place::Filter, Place::Transform, Place::Verify] {
            let _ = Program::compile(&text, place);
        }
    }

    #[test]
    fn no_event_panics(body in "\\PC{0,60}|[\\[{\"0-9a-e,:.}\\]-]{0,60}|[\\[]{0,400}", at in -3_i64..9) {
        let event = event(&body);
        let scope = Scope::of_event(&event);
        for text in [
            "event.data.a == event.data.b",
            "event.data[0] < 5 || event.data.exists(x, x == x)",
            "size(event.data) > 1 && event.data.map(x, string(x)).join(',') == ''",
            "event.data.substring(1, 2) == 'a' || timestamp(event.data) > event.timestamp",
            "int(event.data) % 2 == 0 || -event.data == 1 || duration(event.data) == duration('1s')",
        ] {
            let _ = Program::compile(text, Place::Filter).expect(text).decide(&scope);
        }
        let indexed = format!("event.data[{at}] == event.data.substring({at})");
        let _ = Program::compile(&indexed, Place::Filter).expect("an index").decide(&scope);
    }
}
