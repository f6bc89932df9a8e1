//! Signed requests with verdicts, most of them judged by the providers' own SDKs.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::at;
use crate::preset;
use crate::scheme::{CompiledScheme, InboundRequest, Scheme};
use crate::secrets::Secret;

#[derive(Deserialize)]
struct Vector {
    id: String,
    scheme: String,
    expected: String,
    request: Request,
    secrets: Vec<String>,
    now: i64,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body_b64: String,
}

/// Schemes of presets are taken from the presets; the others are described beside the vectors.
fn compiled(name: &str, described: &BTreeMap<String, Scheme>) -> CompiledScheme {
    let preset_name = match name {
        "standard-webhooks" | "standard-webhooks-v1a" => "standard",
        other => other,
    };
    match preset::find(preset_name) {
        Some(preset) => preset.scheme().expect("the preset has a scheme").clone(),
        None => described[name].compile().unwrap_or_else(|fault| panic!("{name}: {fault}")),
    }
}

#[test]
fn every_vector_has_its_verdict() {
    let described: BTreeMap<String, Scheme> =
        serde_json::from_str(include_str!("../testdata/schemes.json")).unwrap();
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../testdata/vectors.json")).unwrap();
    let mut schemes: BTreeMap<String, CompiledScheme> = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let scheme =
            schemes.entry(vector.scheme.clone()).or_insert_with(|| compiled(&vector.scheme, &described));
        let mut headers = HeaderMap::new();
        for (name, value) in &vector.request.headers {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let body = STANDARD.decode(&vector.request.body_b64).unwrap();
        let authority_at = vector.request.url.find("://").unwrap() + 3;
        let path_at = authority_at + vector.request.url[authority_at..].find('/').unwrap();
        let (origin, path_and_query) = vector.request.url.split_at(path_at);
        let request = InboundRequest::new(&vector.request.method, path_and_query, &headers, &body)
            .with_public_url(origin);
        let keys: Vec<_> = vector
            .secrets
            .iter()
            .map(|secret| {
                scheme.key(&Secret::new(secret.as_str())).unwrap_or_else(|e| panic!("{}: {e}", vector.id))
            })
            .collect();
        let verdict = scheme.verify(&request, &keys, at(vector.now));
        let right = match vector.expected.as_str() {
            "valid" => verdict.is_ok(),
            "invalid" => verdict.is_err(),
            _ => true,
        };
        if !right {
            wrong.push(format!("{}: {verdict:?}", vector.id));
        }
    }
    assert!(vectors.len() > 600, "only {} vectors", vectors.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
