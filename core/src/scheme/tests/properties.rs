//! For every scheme: what is signed verifies, any changed byte fails, and nothing makes it panic.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::{Sent, at, keys};
use crate::preset;
use crate::scheme::{CompiledScheme, Content, InboundRequest, Key, SignInput};

const NOW: i64 = 1_767_312_000;
const SECRET: &str = "whsec_Ym93bGluZS10ZXN0LWtleS1ub3QtYS1zZWNyZXQ=";

fn schemes() -> Vec<(&'static str, &'static CompiledScheme)> {
    preset::all().filter_map(|preset| Some((preset.name(), preset.scheme()?))).collect()
}

fn sign(scheme: &CompiledScheme, keys: &[Key], id: &str, body: &[u8]) -> Sent {
    let input = SignInput {
        id,
        timestamp: at(NOW),
        method: "POST",
        url: "https://hooks.example.com/in",
        headers: &HeaderMap::new(),
        body,
    };
    let mut sent = Sent { path: "/in".into(), body: body.to_vec(), ..Sent::default() };
    for (name, value) in scheme.sign(&input, keys).unwrap() {
        sent.headers.append(name, value);
    }
    sent
}

/// Another printable byte than the one that is there.
fn changed(value: &HeaderValue, at: usize, by: u8) -> HeaderValue {
    let mut bytes = value.as_bytes().to_vec();
    let at = at % bytes.len();
    bytes[at] = b'!' + (bytes[at] - b'!' + 1 + by % 93) % 94;
    HeaderValue::from_bytes(&bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_verifies(body in prop::collection::vec(any::<u8>(), 0..300), id in "[a-zA-Z0-9_-]{1,40}") {
        for (name, scheme) in schemes() {
            let keys = keys(scheme, &[SECRET]);
            let sent = sign(scheme, &keys, &id, &body);
            prop_assert!(sent.verify(scheme, &keys, NOW).is_ok(), "{}", name);
        }
    }

    #[test]
    fn any_changed_byte_of_the_body_fails(
        body in prop::collection::vec(any::<u8>(), 1..300), at in any::<usize>(), by in 1..=255u8,
    ) {
        for (name, scheme) in schemes() {
            let keys = keys(scheme, &[SECRET]);
            let mut sent = sign(scheme, &keys, "msg_1", &body);
            let at = at % sent.body.len();
            sent.body[at] ^= by;
            prop_assert!(sent.verify(scheme, &keys, NOW).is_err(), "{}", name);
            sent.body[at] ^= by;
            sent.body.push(by);
            prop_assert!(sent.verify(scheme, &keys, NOW).is_err(), "{}", name);
            sent.body.truncate(body.len() - 1);
            prop_assert!(sent.verify(scheme, &keys, NOW).is_err(), "{}", name);
        }
    }

    #[test]
    fn any_changed_byte_of_a_signed_header_fails(at in any::<usize>(), by in any::<u8>()) {
        for (name, scheme) in schemes() {
            // ConnectGain's timestamp is no part of what is signed, and says so.
            let unsigned = name == "connectgain";
            let keys = keys(scheme, &[SECRET]);
            let sent = sign(scheme, &keys, "msg_1", b"{}");
            for header in sent.headers.keys().filter(|header| !(unsigned && header.as_str().ends_with("timestamp"))) {
                let mut forged = sent.clone();
                forged.headers.insert(header, changed(&sent.headers[header], at, by));
                prop_assert!(forged.verify(scheme, &keys, NOW).is_err(), "{} {}", name, header);
            }
        }
    }

    #[test]
    fn another_secret_fails(secret in "([a-zA-Z0-9+/]{4}){6,10}") {
        for (name, scheme) in schemes() {
            let sent = sign(scheme, &keys(scheme, &[SECRET]), "msg_1", b"{}");
            prop_assert!(sent.verify(scheme, &keys(scheme, &[&secret]), NOW).is_err(), "{}", name);
        }
    }

    #[test]
    fn no_header_makes_it_panic(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
        body in prop::collection::vec(any::<u8>(), 0..100),
        now in any::<i32>(),
    ) {
        for (_, scheme) in schemes() {
            let keys = keys(scheme, &[SECRET]);
            let mut headers = HeaderMap::new();
            for name in scheme.own_headers() {
                for value in &values {
                    if let Ok(value) = HeaderValue::from_bytes(value) {
                        headers.append(name, value);
                    }
                }
            }
            let request = InboundRequest::new("POST", "/in", &headers, &body);
            let _ = scheme.verify(&request, &keys, at(i64::from(now)));
        }
    }

    #[test]
    fn nearly_right_headers_do_not_panic_either(value in "(t=|v1[=,]|v1a,|v0=|sha256=|,|[ ,]|17673120[0-9]{2}|[0-9a-f]{1,64}|[A-Za-z0-9+/]{43}=){0,20}") {
        for (_, scheme) in schemes() {
            let keys = keys(scheme, &[SECRET]);
            let mut headers = HeaderMap::new();
            for name in scheme.own_headers() {
                headers.append(name, HeaderValue::from_str(&value).unwrap());
            }
            let request = InboundRequest::new("POST", "/in", &headers, b"{}");
            prop_assert!(scheme.verify(&request, &keys, at(NOW)).is_err());
        }
    }

    #[test]
    fn no_body_and_no_template_makes_reading_panic(body in prop::collection::vec(any::<u8>(), 0..200), json in "[\\[\\]{}\":,a-z0-9\\\\u ]{0,80}", template in ".{0,60}") {
        let _ = Content::parse(&template);
        let headers = HeaderMap::new();
        for preset in preset::all() {
            for body in [&body[..], json.as_bytes()] {
                let request = InboundRequest::new("POST", "/in?a=%", &headers, body).with_pointers(preset.pointers());
                let _ = (preset.event_type(&request), preset.channel(&request), preset.dedup_key(&request));
                let _ = (preset.check(&request), preset.check_body(&request), preset.handshake(&request, &[], true));
            }
        }
    }
}
