//! Every preset against its own example, and what each of them promises.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::scheme::{InboundRequest, StatusHint};
use crate::secrets::Secret;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_312_000, 0).unwrap()
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn request<'a>(preset: &'a Preset, headers: &'a HeaderMap, body: &'a [u8]) -> InboundRequest<'a> {
    InboundRequest::new("POST", "/in", headers, body)
        .with_public_url("https://hooks.example.com")
        .with_pointers(preset.pointers())
}

#[test]
fn a_preset_for_every_scheme_that_is_known() {
    let known: Vec<&str> = include_str!("../scheme/testdata/schemes.txt").lines().collect();
    assert_eq!(known.len(), 116);
    for name in known {
        let preset = find(name).unwrap_or_else(|| panic!("no preset {name}"));
        assert!(preset.docs_url().is_some() || ["chimpbase", "connectgain", "rkt"].contains(&name), "{name}");
    }
    let names: Vec<&str> = all().map(Preset::name).collect();
    assert_eq!((names[0], names.last()), ("standard", Some(&CUSTOM)), "the best known first, none at last");
    assert!(find("nope").is_none());
    assert!(all().all(|preset| preset.scheme().is_some() != (preset.name() == CUSTOM)));
}

#[test]
fn every_folder_is_part_of_the_binary() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/presets")).unwrap();
    let mut folders: Vec<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut names: Vec<String> = all().map(|preset| preset.name().to_owned()).collect();
    folders.sort();
    names.sort();
    assert_eq!(folders, names);
}

#[test]
fn every_example_is_accepted_by_its_own_preset() {
    let mut examples = 0;
    for preset in all().filter(|preset| preset.example().is_some()) {
        examples += 1;
        let name = preset.name();
        let scheme = preset.scheme().unwrap();
        let secret = scheme.generate_secret().secret;
        let keys = [scheme.key(&secret).unwrap()];
        let url = "https://hooks.example.com/in";
        let sign = |id: &str| {
            preset.sign_example_to(url, &secret, now(), id).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let (one, two) = (sign("0001"), sign("0002"));
        let (first, second) =
            (request(preset, &one.headers, &one.body), request(preset, &two.headers, &two.body));
        for example in [&first, &second] {
            preset.check(example).unwrap_or_else(|e| panic!("{name}: {e}"));
            scheme.verify(example, &keys, now()).unwrap_or_else(|e| panic!("{name}: {e}"));
            preset.check_body(example).unwrap();
            assert_eq!(preset.event_type(example), preset.example().unwrap().event_type, "{name}");
            assert_eq!(preset.handshake(example, &[], true), None, "{name}");
        }
        let (one, two) = (preset.dedup_key(&first).unwrap(), preset.dedup_key(&second).unwrap());
        let named = !preset.description().dedup.sources.is_empty();
        assert!(
            one.is_some() == named && (one != two || !named),
            "{name}: each example is an event of its own"
        );
    }
    assert!(examples > 95, "{examples}");
}

#[test]
fn limits_are_the_providers() {
    let limit = |name| find(name).unwrap().body_limit_bytes();
    assert_eq!(limit("chatblocks"), 262_144);
    assert_eq!(limit("github"), 25 * 1024 * 1024);
    assert_eq!(find("chatblocks").unwrap().max_stored_payloads(), Some(1000));
    assert_eq!(find("github").unwrap().max_stored_payloads(), None);
    assert_eq!(limit("mailgun"), 25 * 1024 * 1024);
    for preset in all().filter(|preset| !["github", "mailgun", "chatblocks"].contains(&preset.name())) {
        assert_eq!(preset.body_limit_bytes(), crate::defaults::BODY_LIMIT_BYTES, "{}", preset.name());
    }
}

#[test]
fn windows_are_the_providers() {
    for (name, past, future) in [
        ("standard", 300, Some(300)),
        ("chimpbase", 300, Some(300)),
        ("slack", 300, Some(300)),
        ("stripe", 300, None),
        ("chatblocks", 300, Some(60)),
        ("connectgain", 300, Some(300)),
    ] {
        let preset = find(name).unwrap();
        let scheme = preset.scheme().unwrap();
        let secret = Secret::new("Ym93bGluZS10ZXN0LWtleQ==");
        let keys = [scheme.key(&secret).unwrap()];
        let verdict = |shift_s: i64| {
            let example =
                preset.sign_example(&secret, now() + chrono::TimeDelta::seconds(shift_s), "1").unwrap();
            scheme.verify(&request(preset, &example.headers, &example.body), &keys, now()).map(|_| ())
        };
        assert!(verdict(-past).is_ok(), "{name}");
        assert_eq!(verdict(-past - 1).unwrap_err().code(), "timestamp_too_old", "{name}");
        match future {
            Some(future) => {
                assert!(verdict(future).is_ok(), "{name}");
                let fault = verdict(future + 1).unwrap_err();
                assert_eq!(fault.code(), "timestamp_in_future", "{name}");
                assert_eq!(fault.status_hint(), StatusHint::Unauthorized);
            }
            None => assert!(verdict(86_400).is_ok(), "{name}"),
        }
    }
}

#[test]
fn chatblocks_asks_for_its_headers() {
    let preset = find("chatblocks").unwrap();
    let code = |list: &[(&str, &str)]| {
        let headers = headers(list);
        preset.check(&request(preset, &headers, b"{}")).map_err(|fault| (fault.code(), fault.to_string()))
    };
    let key = ("idempotency-key", "1");
    assert_eq!(code(&[key, ("content-type", "application/json; charset=utf-8")]), Ok(()));
    assert_eq!(code(&[key, ("content-type", "Application/JSON")]), Ok(()));
    let (name, text) = code(&[("content-type", "application/json")]).unwrap_err();
    assert_eq!((name, text.as_str()), ("missing_header", "the header `idempotency-key` is missing"));
    assert_eq!(code(&[key]).unwrap_err().0, "missing_header");
    assert_eq!(code(&[key, ("content-type", "text/plain")]).unwrap_err().0, "unsupported_content_type");
    let none = HeaderMap::new();
    let fault = preset.dedup_key(&request(preset, &none, b"{}")).unwrap_err();
    assert_eq!(fault.code(), "missing_dedup_key");
    let fault = preset.check_body(&request(preset, &none, b"{\"a\":")).unwrap_err();
    assert_eq!(fault.code(), "invalid_json");
    assert!(fault.to_string().contains("line 1 column 5"), "{fault}");
}

#[test]
fn keys_names_and_channels_come_from_where_the_provider_puts_them() {
    let read = |preset: &str, list: &[(&str, &str)], body: &str| {
        let preset = find(preset).unwrap();
        let headers = headers(list);
        let request = request(preset, &headers, body.as_bytes());
        let key = preset.dedup_key(&request).unwrap().map(|key| String::from_utf8(key.into_owned()).unwrap());
        (preset.event_type(&request), preset.channel(&request), key)
    };
    let some = |text: &str| Some(text.to_owned());
    let chimpbase = r#"{"event":"a","payload":{},"deliveryId":"d"}"#;
    let delivery = ("x-chimpbase-delivery-id", "d");
    assert_eq!(
        read("chimpbase", &[delivery, ("webhook-id", "evt_1")], chimpbase),
        (some("a"), None, some("evt_1"))
    );
    assert_eq!(read("chimpbase", &[("x-chimpbase-event", "b")], chimpbase), (some("b"), None, some("d")));
    assert_eq!(read("rkt", &[], r#"{"event":"e","chatbotId":"c"}"#), (some("e"), some("c"), None));
    assert_eq!(read("chatbase", &[], r#"{"eventType":"leads.submit","chatbotId":7}"#).1, some("7"));
    assert_eq!(
        read("slack", &[], r#"{"type":"event_callback","event":{"type":"x"},"event_id":"Ev1"}"#),
        (some("x"), None, some("Ev1"))
    );
    assert_eq!(read("slack", &[], "payload=form"), (None, None, None));
    assert_eq!(read("stripe", &[], r#"{"id":"","type":"a\nb"}"#), (None, None, None));
    assert_eq!(read("github", &[("x-github-event", "push")], "{"), (some("push"), None, None));
    assert_eq!(read("custom", &[("idempotency-key", "k")], "{}"), (None, None, None));
}

#[test]
fn what_an_event_is_about_is_no_key_without_what_tells_its_events_apart() {
    let adyen = |event: &str, success: &str| {
        format!(
            r#"{{"notificationItems":[{{"NotificationRequestItem":
                {{"pspReference":"7914073381342284","eventCode":"{event}","success":"{success}"}}}}]}}"#
        )
    };
    let sign = |request: &str| {
        format!(
            r#"json={{"event":{{"event_hash":"ab"}},"signature_request":{{"signature_request_id":"{request}"}}}}"#
        )
    };
    for (preset, one, other) in [
        ("adyen-payments", adyen("NOTIFICATION_OF_CHARGEBACK", "true"), adyen("CHARGEBACK", "true")),
        ("adyen-payments", adyen("CAPTURE", "false"), adyen("CAPTURE", "true")),
        ("dropbox-sign", sign("1"), sign("2")),
        (
            "flutterwave",
            r#"{"event":"transfer.completed","data":{"id":1,"status":"FAILED"}}"#.into(),
            r#"{"event":"transfer.completed","data":{"id":1,"status":"SUCCESSFUL"}}"#.into(),
        ),
        (
            "hubspot-v3",
            r#"[{"eventId":1,"objectId":2,"occurredAt":3}]"#.into(),
            r#"[{"eventId":1,"objectId":23,"occurredAt":""}]"#.into(),
        ),
        (
            "paystack",
            r#"{"event":"charge.dispute.create","data":{"id":1}}"#.into(),
            r#"{"event":"charge.dispute.resolve","data":{"id":1}}"#.into(),
        ),
        // What belongs to one does not read as the beginning of the next.
        (
            "paystack",
            r#"{"event":"\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000","data":{"id":"R"}}"#.into(),
            r#"{"event":"","data":{"id":"R\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0008"}}"#.into(),
        ),
        (
            "postmark",
            r#"{"RecordType":"Delivery","MessageID":"m"}"#.into(),
            r#"{"RecordType":"Open","MessageID":"m","ReceivedAt":"2026-01-01T00:00:00Z"}"#.into(),
        ),
        (
            "viber",
            r#"{"event":"delivered","message_token":1,"user_id":"u"}"#.into(),
            r#"{"event":"seen","message_token":1,"user_id":"u"}"#.into(),
        ),
    ] {
        let preset = find(preset).unwrap();
        let none = HeaderMap::new();
        let key = |body: &str| {
            preset
                .dedup_key(&request(preset, &none, body.as_bytes()))
                .unwrap()
                .map(std::borrow::Cow::into_owned)
        };
        assert!(key(&one).is_some() && key(&one) == key(&one), "{}", preset.name());
        assert_ne!(key(&one), key(&other), "{}: {one} {other}", preset.name());
    }
}

#[test]
fn a_link_in_an_order_is_no_ping() {
    let preset = find("woocommerce").unwrap();
    let headers = headers(&[("content-type", "application/json")]);
    let order = request(preset, &headers, br#"{"id":7,"note":"https://example.com/?a=1&webhook_id=1"}"#);
    assert_eq!(preset.handshake(&order, &[], false), None);
    assert_eq!(preset.handshake(&order, &[], true), None);
    let none = HeaderMap::new();
    assert!(preset.handshake(&request(preset, &none, b"webhook_id=1"), &[], false).is_some());
}

#[test]
fn slack_gets_its_challenge_back() {
    let preset = find("slack").unwrap();
    let none = HeaderMap::new();
    // https://docs.slack.dev/reference/events/url_verification
    let body = br#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let verification = request(preset, &none, body);
    assert_eq!(preset.handshake(&verification, &[], false), None, "the signature goes first");
    let answer = preset.handshake(&verification, &[], true).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    let other = request(preset, &none, br#"{"challenge":"x","type":"event_callback"}"#);
    assert_eq!(preset.handshake(&other, &[], true), None);
    assert_eq!(preset.handshake_methods().count(), 0);
}

#[test]
fn handshakes_of_other_shapes() {
    let compile = |toml: &str| toml::from_str::<Handshake>(toml).unwrap().compile();
    let okta = compile(
        "method='GET'\nwhen_exists='header:x-okta-verification-challenge'\n\
         respond={json={verification='{header:x-okta-verification-challenge}'}}",
    )
    .unwrap();
    let preset = Preset {
        handshakes: vec![okta],
        ..Preset::read("name='t'\ndisplay_name='T'\nbody_limit_bytes=1", "").unwrap()
    };
    let headers = headers(&[("x-okta-verification-challenge", "my \"challenge\"")]);
    let request = InboundRequest::new("GET", "/", &headers, b"");
    let answer = preset.handshake(&request, &[], false).unwrap();
    assert_eq!(answer.body, r#"{"verification":"my \"challenge\""}"#);
    assert_eq!(preset.handshake_methods().collect::<Vec<_>>(), ["GET"]);
    assert!(compile("respond={text='x'}").is_err());
    assert!(compile("method='GET'\nrespond={text='{body}'}").is_err());
    assert!(compile("method='GET'\nrespond={text='x',json={}}").is_err());
    assert!(compile("method='GET'\nrespond={status=1}").is_err());
}
