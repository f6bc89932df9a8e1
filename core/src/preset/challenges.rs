//! The requests by which providers check who owns a URL, each with the answer it expects.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{HandshakeAnswer, Preset, VectorRequest, find};
use crate::scheme::{InboundRequest, Key};
use crate::secrets::Secret;

#[derive(Deserialize)]
struct Challenge {
    id: String,
    provider: String,
    request: VectorRequest,
    secret: Option<String>,
    expected_response: Expected,
}

#[derive(Deserialize)]
struct Expected {
    status: u16,
    body: Option<String>,
    json: Option<serde_json::Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    store_secret: Option<String>,
}

fn keys(preset: &Preset, secrets: &[&str]) -> Vec<Key> {
    let scheme = preset.scheme().unwrap();
    secrets.iter().map(|secret| scheme.key(&Secret::from(*secret)).unwrap()).collect()
}

#[test]
fn every_challenge_has_its_answer() {
    let challenges: Vec<Challenge> = serde_json::from_str(include_str!("testdata/challenges.json")).unwrap();
    assert_eq!(challenges.len(), 14);
    for challenge in challenges {
        let (id, request, expected) = (&challenge.id, &challenge.request, &challenge.expected_response);
        let preset = find(&challenge.provider).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let body = STANDARD.decode(&request.body_b64).unwrap();
        let path = request.url.strip_prefix("https://hooks.example.com").unwrap();
        let secrets: Vec<&str> =
            challenge.secret.as_deref().filter(|text| !text.is_empty()).into_iter().collect();
        let keys = keys(preset, &secrets);
        let received =
            InboundRequest::new(&request.method, path, &headers, &body).with_pointers(preset.pointers());
        let answer = preset
            .handshake(&received, &keys, false)
            .or_else(|| preset.handshake(&received, &keys, true))
            .unwrap_or_else(|| panic!("{id}: no handshake"));
        assert_eq!(answer.status.as_u16(), expected.status, "{id}");
        if let Some(body) = &expected.body {
            assert_eq!(&answer.body, body, "{id}");
        }
        if let Some(json) = &expected.json {
            assert_eq!(&serde_json::from_str::<serde_json::Value>(&answer.body).unwrap(), json, "{id}");
        }
        for (name, value) in &expected.headers {
            let own = answer.headers[name.as_str()].to_str().unwrap();
            assert_eq!(own.split(';').next(), Some(value.as_str()), "{id} {name}");
        }
        let stored = answer.store_secret.as_ref().and_then(Secret::expose_str);
        assert_eq!(stored, expected.store_secret.as_deref(), "{id}");
    }
}

fn answer(
    preset: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<HandshakeAnswer> {
    let preset = find(preset).unwrap();
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let request =
        InboundRequest::new(method, path, &headers, body.as_bytes()).with_pointers(preset.pointers());
    let keys =
        if preset.scheme().unwrap().algorithm().is_hmac() { keys(preset, &["hush"]) } else { Vec::new() };
    preset.handshake(&request, &keys, false).or_else(|| preset.handshake(&request, &keys, true))
}

#[test]
fn the_other_handshakes() {
    let validation =
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let zoom = answer("zoom", "POST", "/in", &[], validation).unwrap();
    let zoom: serde_json::Value = serde_json::from_str(&zoom.body).unwrap();
    // openssl dgst -sha256 -hmac hush
    assert_eq!(zoom["encryptedToken"], "36517668f50730dfc6247803d9cc2b23e89a05172ec38cd1797466a23164362a");
    assert_eq!(zoom["plainToken"], "qgg8vlvZRS6UYooatFL8Aw");

    let graph = answer("microsoft-graph", "POST", "/in?validationToken=a%20b%3C", &[], "").unwrap();
    assert_eq!(graph.body, "a b<");
    assert_eq!(graph.headers["content-type"], "text/plain; charset=utf-8");

    let origin = [("webhook-request-origin", "eventemitter.example.com")];
    let cloudevents = answer("cloudevents-webhook", "OPTIONS", "/in", &origin, "").unwrap();
    assert_eq!(cloudevents.headers["webhook-allowed-origin"], "eventemitter.example.com");

    let body = r#"{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns.eu-west-1.amazonaws.com/?Token=t"}"#;
    let sns = answer("aws-sns", "POST", "/in", &[], body).unwrap();
    assert_eq!(sns.visit.as_deref(), Some("https://sns.eu-west-1.amazonaws.com/?Token=t"));

    let notion = answer("notion", "POST", "/in", &[], r#"{"verification_token":"secret_invented"}"#).unwrap();
    assert_eq!(notion.store_secret, Some(Secret::from("secret_invented")));
    assert!(answer("intercom", "HEAD", "/in", &[], "").is_some());
    assert!(answer("woocommerce", "POST", "/in", &[], "webhook_id=7").is_some());
    assert!(answer("woocommerce", "POST", "/in", &[], r#"{"webhook_id":7}"#).is_none());
}

/// The answer to X's check is signed as its events are: what could be an event is not signed.
#[test]
fn a_check_signs_no_event() {
    for event in ["%7B%22for_user_id%22%3A%221%22%7D", "%22", "a%20b", "", &"a".repeat(129)] {
        let answer = answer("x-twitter", "GET", &format!("/in?crc_token={event}"), &[], "").unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (400, ""), "{event}");
    }
    let zoom = find("zoom").unwrap();
    let none = HeaderMap::new();
    let body = br#"{"event":"endpoint.url_validation","payload":{"plainToken":"v0:1:{}"}}"#;
    let request = InboundRequest::new("POST", "/in", &none, body).with_pointers(zoom.pointers());
    assert_eq!(zoom.handshake(&request, &keys(zoom, &["hush"]), false), None, "only once it is verified");
    assert!(zoom.awaits_verification(&request));
}
