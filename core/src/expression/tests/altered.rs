//! Bodies that are valid JSON, and that no reader can hold as they were sent.

use super::*;

#[test]
fn valid_json_is_read_whatever_stands_in_fields_nobody_looks_at() {
    let headers = HeaderMap::new();
    let of = |text: &str, place, body: &str| {
        let request =
            RequestScope { method: "POST", path_and_query: "/", headers: &headers, body: body.as_bytes() };
        let scope = Scope::of_request(request);
        let program = Program::compile(text, place).expect(text);
        match place {
            Place::DedupKey => {
                let key = program.key(&scope).map_err(|error| error.fault)?;
                Ok(key.map(|key| String::from_utf8(key).expect("UTF-8")))
            }
            Place::Name => program.name(&scope).map_err(|error| error.fault),
            _ => program.decide(&scope).map(|yes| Some(yes.to_string())).map_err(|error| error.fault),
        }
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    for ignored in [r#""\ud83d""#, "1e400", "{\"\\ud83d\": 1}"] {
        let body = format!(r#"{{"id": "evt-1", "type": "t", "ignored": {ignored}}}"#);
        assert_eq!(of("request.json.type", Place::Name, &body), some("t"), "{body}");
        assert_eq!(of("request.json.type == 't'", Place::Verify, &body).is_ok(), !ignored.contains('{'));
        if !ignored.contains('{') {
            assert_eq!(of("request.json.id", Place::DedupKey, &body), some("evt-1"), "{body}");
        }
    }
    // As it can be had, where two bodies may be taken for one.
    let cut = r#"{"id": "a\ud83d", "n": 1e400}"#;
    assert_eq!(of("request.json.id", Place::Name, cut), some("a\u{fffd}"));
    assert_eq!(of("request.json.n > 1.0 ? 'much' : 'little'", Place::Name, cut), some("much"));
    // And a refusal where one of them would be lost: also where a key is only made of it.
    for text in [
        "request.json.id",
        "base64.encode(bytes(request.json.id))",
        "string(request.json.n)",
        "request.json.n > 1.0 ? 'a' : 'b'",
        "request.json.map(name, string(request.json[name])).join(',')",
    ] {
        assert_eq!(of(text, Place::DedupKey, cut), Err(Fault::Altered), "{text}");
    }
    assert_eq!(of("request.json.id == 'a\u{fffd}'", Place::Verify, cut), Err(Fault::Altered));
    let whole = "{\"id\": \"a\u{fffd}\"}";
    assert_eq!(of("request.json.id", Place::DedupKey, whole), some("a\u{fffd}"), "as it was sent");
    let two = r#"{"\ud83d": "x", "\ud83e": "y", "id": 1}"#;
    assert_eq!(of("request.json.id", Place::DedupKey, two), Err(Fault::Altered));
    let deep = |depth| format!(r#"{{"type": "t", "d": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(of("request.json.type", Place::Name, &deep(126)), some("t"));
    let fault = of("request.json.type", Place::Name, &deep(127)).unwrap_err();
    assert_eq!(fault.to_string(), "the body is nested deeper than 127 levels");
}

#[test]
fn a_body_that_was_read_once_is_judged_for_each_expression() {
    let headers = HeaderMap::new();
    let body = br#"{"id": 7, "text": "\ud83d"}"#;
    let request = RequestScope { method: "POST", path_and_query: "/", headers: &headers, body };
    let scope = Scope::of_request(request);
    let name = Program::compile("request.json.text", Place::Name).unwrap();
    assert_eq!(name.name(&scope), Ok(Some("\u{fffd}".into())));
    let key = Program::compile("request.json.id", Place::DedupKey).unwrap();
    assert_eq!(key.key(&scope), Ok(Some(b"7".to_vec())), "what the name looks at is no matter of the key");
}

#[test]
fn transforms_and_filters_read_what_senders_write() {
    let event = event(r#"{"text": "a\ud83d", "n": 1e400}"#);
    let scope = Scope::of_event(&event);
    let filter = Program::compile("event.data.n > 5.0", Place::Filter).unwrap();
    assert_eq!(filter.decide(&scope), Ok(true));
    let transform = Program::compile("{'t': event.data.text}", Place::Transform).unwrap();
    assert_eq!(transform.body(&scope), Ok("{\"t\":\"a\u{fffd}\"}".into()));
}
