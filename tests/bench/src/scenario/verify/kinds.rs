//! The kinds of verification, each as a source and a request that is good for it. What signs is the engine that
//! verifies, with keys made for tests alone.

use anyhow::{Context, Result};
use bowline_core::scheme::{Scheme, SignInput};
use bowline_core::secrets::Secret;
use bowline_proto::v1;
use chrono::Utc;
use http::HeaderMap;
use prost_types::value::Kind as WireKind;
use serde_json::{Value, json};

use crate::payload::Mark;
use crate::scenario::BODY_BYTES;

pub(super) const WITHOUT: &str = "none";
const SECRET: &str = "bowline-bench-verify-secret";
/// A seed of 32 sevens.
const ED25519_SEED: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const P256: &str = include_str!("../../../../../core/src/scheme/testdata/p256-private.pem");
const RSA: &str = include_str!("../../../../../core/src/scheme/testdata/rsa-private.pem");
/// The public half of that seed, as a provider publishes it, and a token under it that never runs out.
pub(super) const KEY_SET: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}]}"#;
const TOKEN: &str = "eyJhbGciOiAiRWREU0EiLCAia2lkIjogImEifQ.eyJpc3MiOiAicHJvdmlkZXIudGVzdCJ9.\
    JDIMtER4sc_h1fea27eSgUUDrRYYWt9fk1vw5-5wAJxxNMI3-EKsOnPqJugNY6V9Lv02n1SBg4LYZ5mBB6ZhCQ";

/// A request as it is sent, again and again.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) source: v1::Source,
    pub(super) secret: String,
    pub(super) basic: Option<v1::BasicCredentials>,
    pub(super) given: Given,
}

pub(super) fn all(key_set_url: &str) -> Result<Vec<Kind>> {
    let header = |encoding: &str| json!({"sources": ["header:x-signature"], "encoding": encoding});
    let over_body =
        |algorithm: &str| json!({"algorithm": algorithm, "content": "{body}", "signature": header("base64")});
    let pem = |algorithm: &str| json!({"algorithm": algorithm, "content": "{body}", "signature": header("base64"), "key": {"decode": "pem"}});
    let timed = json!({
        "algorithm": "hmac-sha256", "content": "{timestamp}.{body}", "signature": header("hex"),
        "timestamp": {"sources": ["header:x-timestamp"], "unit": "s", "tolerance_past_s": 86400},
    });
    let sorted = json!({
        "algorithm": "hmac-sha256", "content": "{method}{form_sorted_concat}", "signature": header("hex"),
    });
    let hashed = json!({
        "algorithm": "hmac-sha256", "content": "{method}.{body_sha256_hex}", "signature": header("hex"),
    });
    let ed25519 = json!({
        "algorithm": "ed25519", "content": "{body}", "signature": header("base64"),
        "key": {"decode": "base64", "part": "private"},
    });
    let token =
        json!({"algorithm": "token", "body_bound": false, "signature": {"sources": ["header:x-token"]}});
    Ok(vec![
        Kind {
            name: WITHOUT,
            source: v1::Source { insecure: true, ..named() },
            secret: String::new(),
            basic: None,
            given: Given { headers: Vec::new(), body: json_body() },
        },
        signed("HMAC-SHA256, body", over_body("hmac-sha256"), SECRET, json_body())?,
        signed("HMAC-SHA256, time and body", timed, SECRET, json_body())?,
        signed("HMAC-SHA256, sorted form", sorted, SECRET, form_body())?,
        signed("HMAC-SHA256, hash of the body", hashed, SECRET, json_body())?,
        signed("HMAC-SHA512, body", over_body("hmac-sha512"), SECRET, json_body())?,
        signed("token", token, SECRET, json_body())?,
        basic(),
        signed("ed25519", ed25519, ED25519_SEED, json_body())?,
        signed("ECDSA P-256", pem("ecdsa-p256-sha256"), P256, json_body())?,
        signed("RSA PKCS#1", pem("rsa-sha256"), RSA, json_body())?,
        signed("RSA PSS", pem("rsa-pss-sha256"), RSA, json_body())?,
        jwt(key_set_url),
        cel()?,
    ])
}

/// Nothing but the verification differs between them.
fn named() -> v1::Source {
    v1::Source { event_type: "bench.verified".into(), ..Default::default() }
}

fn json_body() -> String {
    let mark = Mark { run: 0, number: 0, intended_ns: 0 };
    String::from_utf8_lossy(&mark.body(BODY_BYTES)).into_owned()
}

fn form_body() -> String {
    let fields: Vec<String> = (0..16).rev().map(|n| format!("Field{n:02}=value+{n}+of+the+form")).collect();
    fields.join("&")
}

/// Signed once, by the scheme itself.
fn signed(name: &'static str, scheme: Value, secret: &str, body: String) -> Result<Kind> {
    let compiled = serde_json::from_value::<Scheme>(scheme.clone())?.compile().context(name)?;
    let key = compiled.key(&Secret::new(secret.to_owned())).context(name)?;
    let mut given = HeaderMap::new();
    if body.starts_with("Field") {
        given.insert("content-type", http::HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    let input = SignInput {
        id: "",
        timestamp: Utc::now(),
        method: "POST",
        url: "",
        headers: &given,
        body: body.as_bytes(),
    };
    let written = compiled.sign(&input, &[key]).context(name)?;
    let mut headers = Vec::new();
    for (name, value) in given.iter().chain(written.iter().map(|(name, value)| (name, value))) {
        headers.push((name.to_string(), value.to_str()?.to_owned()));
    }
    let source = v1::Source { scheme: Some(structure(scheme)?), ..named() };
    Ok(Kind { name, source, secret: secret.to_owned(), basic: None, given: Given { headers, body } })
}

fn basic() -> Kind {
    let scheme = json!({
        "algorithm": "basic", "body_bound": false, "signature": {"sources": ["header:authorization"]},
    });
    let credentials = v1::BasicCredentials { username: "bench".into(), password: SECRET.into() };
    // `bench:bowline-bench-verify-secret`
    let authorization = "Basic YmVuY2g6Ym93bGluZS1iZW5jaC12ZXJpZnktc2VjcmV0".to_owned();
    Kind {
        name: "Basic",
        source: v1::Source { scheme: structure(scheme).ok(), ..named() },
        secret: String::new(),
        basic: Some(credentials),
        given: Given { headers: vec![("authorization".into(), authorization)], body: json_body() },
    }
}

fn jwt(key_set_url: &str) -> Kind {
    let scheme = json!({
        "algorithm": "jwt", "body_bound": false,
        "signature": {"sources": ["header:authorization"], "prefix": "Bearer "},
        "jwt": {"algorithms": ["EdDSA"], "issuer": "provider.test"},
        "key_source": {"kind": "jwks", "url": key_set_url},
    });
    Kind {
        name: "JWT, keys fetched (JWKS)",
        source: v1::Source { scheme: structure(scheme).ok(), ..named() },
        secret: String::new(),
        basic: None,
        given: Given {
            headers: vec![("authorization".into(), format!("Bearer {TOKEN}"))],
            body: json_body(),
        },
    }
}

fn cel() -> Result<Kind> {
    let scheme = json!({
        "algorithm": "hmac-sha256", "content": "{body}",
        "signature": {"sources": ["header:x-signature"], "encoding": "hex"},
    });
    let like = signed("CEL, HMAC-SHA256 of the body", scheme, SECRET, json_body())?;
    let verify =
        "constant_time_eq(header('x-signature'), hex.encode(hmac_sha256(secret('default'), request.body)))";
    Ok(Kind { source: v1::Source { verify: verify.into(), ..named() }, ..like })
}

fn structure(json: Value) -> Result<prost_types::Struct> {
    let Value::Object(members) = json else { anyhow::bail!("a scheme is an object") };
    let fields = members.into_iter().map(|(name, value)| Ok((name, wire(value)?)));
    Ok(prost_types::Struct { fields: fields.collect::<Result<_>>()? })
}

fn wire(value: Value) -> Result<prost_types::Value> {
    let kind = match value {
        Value::Null => WireKind::NullValue(0),
        Value::Bool(flag) => WireKind::BoolValue(flag),
        Value::Number(number) => WireKind::NumberValue(number.as_f64().context("a number")?),
        Value::String(text) => WireKind::StringValue(text),
        Value::Array(items) => {
            let values = items.into_iter().map(wire).collect::<Result<_>>()?;
            WireKind::ListValue(prost_types::ListValue { values })
        }
        object @ Value::Object(_) => WireKind::StructValue(structure(object)?),
    };
    Ok(prost_types::Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_there_and_signs() {
        let kinds = all("http://127.0.0.1:9/keys").unwrap();
        assert_eq!(kinds[0].name, WITHOUT);
        for kind in &kinds[1..] {
            assert!(!kind.given.headers.is_empty(), "{}", kind.name);
            assert!(kind.source.scheme.is_some() || !kind.source.verify.is_empty(), "{}", kind.name);
        }
    }
}
