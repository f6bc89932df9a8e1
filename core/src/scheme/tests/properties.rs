//! For every scheme: what is signed verifies, any changed byte fails, and nothing makes it panic.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Sent, at};
use crate::preset;
use crate::scheme::{Algorithm, CompiledScheme, Content, InboundRequest, Key, SignInput};
use crate::secrets::Secret;

const NOW: i64 = 1_767_312_000;
const SECRET: &str = "whsec_Ym93bGluZS10ZXN0LWtleS1ub3QtYS1zZWNyZXQ=";

const HEX: &str = "626f776c696e652d746573742d6b65792d6e6f742d612d736563726574";
const P256: &str = include_str!("../testdata/p256-private.pem");
const RSA: &str = include_str!("../testdata/rsa-private.pem");

/// A scheme with the first of the keys above that it can use.
struct Case {
    name: &'static str,
    scheme: &'static CompiledScheme,
    keys: Vec<Key>,
}

/// All schemes that some key is for.
static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let case = |preset: &'static preset::Preset| {
        let scheme = preset.scheme()?;
        let basic = format!("webhook:{SECRET}");
        let secrets = [basic.as_str(), SECRET, HEX, P256, RSA];
        let secrets = if scheme.algorithm() == Algorithm::Basic { &secrets[..1] } else { &secrets[1..] };
        let key = secrets.iter().find_map(|secret| scheme.key(&Secret::new(*secret)).ok())?;
        Some(Case { name: preset.name(), scheme, keys: vec![key] })
    };
    preset::all().filter_map(case).collect()
});

/// Those that sign any body.
static SIGNING: LazyLock<Vec<&Case>> = LazyLock::new(|| {
    let signs = |case: &&Case| case.scheme.pointers().is_empty() && try_sign(case, "msg_1", b"{}").is_some();
    CASES.iter().filter(signs).collect()
});

fn sign(case: &Case, id: &str, body: &[u8]) -> Sent {
    try_sign(case, id, body).unwrap()
}

fn try_sign(case: &Case, id: &str, body: &[u8]) -> Option<Sent> {
    let mut headers = HeaderMap::new();
    if let Some(version) = case.name.strip_prefix("plivo-") {
        let nonce: HeaderName = format!("x-plivo-signature-{version}-nonce").parse().unwrap();
        headers.insert(nonce, HeaderValue::from_static("12345"));
    }
    let path = if case.name == "twilio-json" {
        format!("/in?bodySHA256={}", hex::encode(Sha256::digest(body)))
    } else {
        "/in".to_owned()
    };
    let input = SignInput {
        id,
        timestamp: at(NOW),
        method: "POST",
        url: &format!("https://hooks.example.com{path}"),
        headers: &headers,
        body,
    };
    let signed = case.scheme.sign(&input, &case.keys).ok()?;
    let mut sent = Sent { path, body: body.to_vec(), headers: headers.clone() };
    for (name, value) in signed {
        sent.headers.append(name, value);
    }
    Some(sent)
}

/// Another printable byte than the one that is there.
fn changed(value: &HeaderValue, at: usize, by: u8) -> HeaderValue {
    let mut bytes = value.as_bytes().to_vec();
    let at = at % bytes.len();
    bytes[at] = b'!' + (bytes[at].max(b'!') - b'!' + 1 + by % 93) % 94;
    HeaderValue::from_bytes(&bytes).unwrap()
}

#[test]
fn most_presets_sign() {
    let names: Vec<&str> = SIGNING.iter().map(|case| case.name).collect();
    assert!(names.len() > 90, "{} only: {names:?}", names.len());
    for asymmetric in ["sendgrid", "standard", "messagebird", "hubspot-v1", "contentful", "postmark"] {
        assert!(names.contains(&asymmetric), "{asymmetric}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_verifies(body in prop::collection::vec(any::<u8>(), 0..300), id in "[a-zA-Z0-9_-]{1,40}") {
        for case in SIGNING.iter() {
            let verdict = sign(case, &id, &body).verify(case.scheme, &case.keys, NOW);
            prop_assert!(verdict.is_ok(), "{}: {:?}", case.name, verdict);
        }
    }

    #[test]
    fn any_changed_byte_of_the_body_fails(
        body in prop::collection::vec(any::<u8>(), 1..300), at in any::<usize>(), by in 1..=255u8,
    ) {
        for case in SIGNING.iter().filter(|case| case.scheme.binds_every_byte()) {
            let (name, scheme, keys) = (case.name, case.scheme, &case.keys);
            let mut sent = sign(case, "msg_1", &body);
            let at = at % sent.body.len();
            sent.body[at] ^= by;
            prop_assert!(sent.verify(scheme, keys, NOW).is_err(), "{}", name);
            sent.body[at] ^= by;
            sent.body.push(by);
            prop_assert!(sent.verify(scheme, keys, NOW).is_err(), "{}", name);
            sent.body.truncate(body.len() - 1);
            prop_assert!(sent.verify(scheme, keys, NOW).is_err(), "{}", name);
        }
    }

    #[test]
    fn any_changed_byte_of_a_signed_header_fails(at in any::<usize>(), by in any::<u8>()) {
        for case in SIGNING.iter() {
            let (name, scheme, keys) = (case.name, case.scheme, &case.keys);
            // ConnectGain's timestamp is no part of what is signed, and says so.
            let unsigned = name == "connectgain";
            let sent = sign(case, "msg_1", b"{}");
            for header in sent.headers.keys().filter(|header| !(unsigned && header.as_str().ends_with("timestamp"))) {
                let mut forged = sent.clone();
                let value = changed(&sent.headers[header], at, by);
                // The word `Bearer` has no case, and neither has hex where the scheme says so.
                let no_case = header == "authorization" || scheme.hex_case_insensitive;
                if no_case && value.as_bytes().eq_ignore_ascii_case(sent.headers[header].as_bytes()) {
                    continue;
                }
                forged.headers.insert(header, value);
                prop_assert!(forged.verify(scheme, keys, NOW).is_err(), "{} {}", name, header);
            }
        }
    }

    #[test]
    fn another_secret_fails(secret in "([a-zA-Z0-9+/]{4}){6,10}") {
        for case in SIGNING.iter() {
            let sent = sign(case, "msg_1", b"{}");
            let hex = hex::encode(&secret);
            let basic = format!("webhook:{secret}");
            let others: Vec<Key> =
                [&secret, &hex, &basic].into_iter().filter_map(|one| case.scheme.key(&Secret::from(one.as_str())).ok()).collect();
            prop_assert!(sent.verify(case.scheme, &others, NOW).is_err(), "{}", case.name);
        }
    }

    #[test]
    fn no_header_makes_it_panic(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
        body in prop::collection::vec(any::<u8>(), 0..100),
        now in any::<i32>(),
    ) {
        for Case { scheme, keys, .. } in CASES.iter() {
            let mut headers = HeaderMap::new();
            for name in scheme.own_headers() {
                for value in &values {
                    if let Ok(value) = HeaderValue::from_bytes(value) {
                        headers.append(name, value);
                    }
                }
            }
            let request = InboundRequest::new("POST", "/in", &headers, &body);
            let _ = scheme.verify(&request, keys, at(i64::from(now)));
        }
    }

    #[test]
    fn nearly_right_headers_do_not_panic_either(value in "(t=|v1[=,]|v1a,|v0=|sha256=|,|[ ,]|17673120[0-9]{2}|[0-9a-f]{1,64}|[A-Za-z0-9+/]{43}=){0,20}") {
        for Case { scheme, keys, .. } in CASES.iter() {
            let mut headers = HeaderMap::new();
            for name in scheme.own_headers() {
                headers.append(name, HeaderValue::from_str(&value).unwrap());
            }
            let request = InboundRequest::new("POST", "/in", &headers, b"{}");
            prop_assert!(scheme.verify(&request, keys, at(NOW)).is_err());
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
