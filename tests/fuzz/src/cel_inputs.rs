//! Expressions and what they are evaluated over: bounded, the same each time, and silent about values.
//!
//! An input is an expression, a line end, and the body it reads.

use std::sync::Arc;

use bowline_core::event::Event;
use bowline_core::expression::{Budget, Place, Program, RequestScope, Scope, SecretLookup, Value, limits};
use bowline_core::id::{EventId, TenantId};
use bowline_core::secrets::Secret;
use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderMap, HeaderValue};

pub const SEEDS: &[&[u8]] = &[
    b"request.json.total > 12 && request.json.tags.exists(t, t == 'b')\n{\"total\":12.5,\"tags\":[\"a\",\"b\"]}",
    b"constant_time_eq(hex.encode(hmac_sha256(secret('hook'), request.body)), header('x-signature'))\n{}",
    b"{'order': request.json.id, 'lines': request.json.items.filter(i, i.n > 0).map(i, i.sku)}\n{\"id\":7,\"items\":[{\"n\":1,\"sku\":\"x\"}]}",
    b"request.json.l.map(a, request.json.l.map(b, a + b))\n{\"l\":[1,2,3,4,5,6,7,8,9]}",
    b"[request.json.s].map(x, x + x).map(x, x + x).map(x, x + x).map(x, x + x)[0] == 'x'\n{\"s\":\"aaaaaaaaaaaaaaaa\"}",
    b"request.headers['x-kind'].matches('^(a|aa)+$') || request.query.x == '1'\n",
    b"string(timestamp('2023-01-01T00:00:00Z') + duration('1h')) + request.json.text.substring(1, 3).upperAscii()\n{\"text\":\"\xc3\x9cn\xc3\xafcode\"}",
    b"request.json.a == request.json.b ? int('7') / request.json.c : -9223372036854775808\n{\"a\":1,\"b\":1.0,\"c\":0}",
    b"base64.encode(request.body).split('A').join('-').replace('-', 'bb').size() > 4\n[[[[1]]]]",
    b"has(request.json.a) && {'a': request.json}.a == request.json && 'k' in request.json\n{\"k\":null}",
];

pub const WORDS: &[&str] = &[
    "request.json",
    "request.body",
    "request.headers",
    "request.query",
    "request.path",
    "request.method",
    "event.type",
    "event.id",
    ".a",
    "[0]",
    "[-1]",
    "['x']",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "'a'",
    "b'\\xff'",
    "\"",
    "1",
    "-9223372036854775808",
    "2u",
    "1.5e308",
    "0.0",
    " == ",
    " != ",
    " < ",
    " && ",
    " || ",
    "!",
    "-",
    " + ",
    " * ",
    " / ",
    " % ",
    " in ",
    " ? ",
    " : ",
    ",",
    "null",
    "true",
    ".map(x, ",
    ".filter(x, ",
    ".all(x, ",
    ".exists(x, x ",
    ".exists_one(x, ",
    ".size()",
    ".matches('(a|b)*c')",
    "timestamp(",
    "duration('-9e9h')",
    "has(request.json.a)",
    "x",
    ".substring(1, ",
    ".split('')",
    ".replace('', 'aa')",
    ".join(',')",
    "secret('hook')",
    "constant_time_eq(",
    "header('x-kind')",
    "hmac_sha256(",
    "string(",
    "int(",
    "bytes(",
    "\n",
    "{\"a\":",
    "[[[[[[[[",
    "\\u0000",
    "18446744073709551615",
    "\u{1f980}",
];

/// Stands in the secret and in a header, and nowhere else.
const MARK: &str = "bowline-fuzz-mark";
const PLACES: [Place; 5] = [Place::Verify, Place::Filter, Place::Name, Place::DedupKey, Place::Transform];
/// JSON writes a control character in six bytes, and what is read is not what is made.
const WRITTEN_BYTES_MAX: usize = 6 * (limits::MADE_BYTES_MAX as usize + limits::JSON_BYTES_MAX);

struct OneSecret;

impl SecretLookup for OneSecret {
    fn secret(&self, name: &str) -> Option<Arc<Secret>> {
        (name == "hook").then(|| Arc::new(Secret::from(MARK)))
    }
}

/// # Panics
/// When an evaluation is beyond its budget, differs from the last one, or an error holds a value.
pub fn check(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (text, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut headers = HeaderMap::new();
    headers.insert("x-kind", HeaderValue::from_static(MARK));
    headers.insert("x-signature", HeaderValue::from_static("00"));
    let request =
        RequestScope { method: "POST", path_and_query: "/in/a?x=1&x=2&y=%20", headers: &headers, body };
    let event = event(body);
    // The same of an event.
    let of_event = text.replace("request.json", "event.data");
    for place in PLACES {
        let is_of_event = matches!(place, Place::Filter | Place::Transform);
        let text = if is_of_event { of_event.as_str() } else { text };
        // Each time anew: what was parsed once must not be what makes it cheap.
        let scope = || {
            if is_of_event {
                return Scope::of_event(&event);
            }
            Scope::of_request(request).with_secrets(&OneSecret)
        };
        match Program::compile(text, place) {
            Ok(program) => check_program(&program, place, &scope),
            Err(error) => assert!(!error.problem.is_empty() && error.position.line > 0, "{error:?}"),
        }
    }
}

fn event(body: &[u8]) -> Event {
    Event {
        id: EventId::new(),
        tenant_id: TenantId::new(),
        source_id: None,
        event_type: "order.paid".into(),
        channel: None,
        content_type: "application/json".into(),
        headers: Bytes::new(),
        body: Bytes::copy_from_slice(body),
        time: DateTime::from_timestamp(1_767_312_000, 0).unwrap(),
    }
}

fn check_program<'s>(program: &Program, place: Place, scope: &dyn Fn() -> Scope<'s>) {
    let first = outcome(program, scope);
    assert_eq!(first, outcome(program, scope), "the same expression over the same values");
    match &first.0 {
        Ok(value) => assert!(place != Place::Verify || value.starts_with("Bool("), "{value}"),
        Err(said) => {
            let tells = said.contains(MARK) && !program.text().contains(MARK);
            assert!(!tells, "an error holds a value: {said}");
        }
    }
    if place == Place::Transform {
        let written = || program.body(&scope()).map_err(|error| error.to_string());
        let body = written();
        assert!(body.as_ref().map_or(0, Vec::len) <= WRITTEN_BYTES_MAX);
        assert_eq!(body, written(), "the same transform of the same event");
    }
}

/// What it gives, or why it gives nothing; and what it cost.
fn outcome<'s>(program: &Program, scope: &dyn Fn() -> Scope<'s>) -> (Result<String, String>, u64) {
    let (scope, budget) = (scope(), Budget::default());
    let value = match program.evaluate(&scope, &budget) {
        Ok(Value::Bool(truth)) => Ok(format!("Bool({truth})")),
        Ok(Value::String(text)) => Ok(format!("String({text:?})")),
        Ok(other) => Ok(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    };
    assert!(budget.used_steps() <= limits::STEPS_MAX, "{} steps", budget.used_steps());
    (value, budget.used_steps())
}
