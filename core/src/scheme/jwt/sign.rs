//! A token of our own, where the keys are shared secrets.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{JwtAlgorithm, JwtSpec, UrlForm};
use crate::scheme::canonical;
use crate::scheme::key::{KeyForm, Material};
use crate::scheme::request::InboundRequest;

/// How long a token is good for, unless its scheme is stricter.
const LIFE_S: i64 = 300;

/// `None` for a key that cannot sign.
pub(in crate::scheme) fn sign(
    spec: &JwtSpec,
    form: &KeyForm,
    request: &InboundRequest<'_>,
    origin: &str,
    now: DateTime<Utc>,
) -> Option<String> {
    let Material::Hmac(state) = &form.material else { return None };
    let fits = |one: &&JwtAlgorithm| one.algorithm() == form.algorithm;
    let algorithm = spec.algorithms.iter().find(fits)?;
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({"alg": algorithm, "typ": "JWT"}));
    let signed = format!("{header}.{}", part(&claims(spec, request, origin, now).into()));
    let mut mac = state.as_ref().clone();
    mac.update(signed.as_bytes());
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finish().to_write())))
}

fn claims(
    spec: &JwtSpec,
    request: &InboundRequest<'_>,
    origin: &str,
    now: DateTime<Utc>,
) -> Map<String, Value> {
    let at = now.timestamp();
    let mut claims = Map::new();
    for (name, time) in [("iat", at), ("nbf", at), ("exp", at + LIFE_S)] {
        claims.insert(name.to_owned(), time.into());
    }
    for (name, value) in [("iss", &spec.issuer), ("aud", &spec.audience)] {
        if !value.is_empty() {
            claims.insert(name.to_owned(), value.as_str().into());
        } else if spec.required.iter().any(|required| required == name) {
            claims.insert(name.to_owned(), "bowline".into());
        }
    }
    for (name, value) in spec.equal.iter().filter(|(_, value)| !value.is_empty()) {
        claims.insert(name.clone(), value.as_str().into());
    }
    if let Some(hash) =
        spec.body_hash.as_ref().filter(|hash| !(hash.absent_when_empty && request.body().is_empty()))
    {
        claims.insert(hash.claim.clone(), hash.encoding.encode(&Sha256::digest(request.body())).into());
    }
    if let Some(url) = &spec.url_hash {
        let text = match url.of {
            UrlForm::Url => [origin, request.path_and_query()].concat(),
            UrlForm::AtlassianRequest => {
                canonical::atlassian_request(request.method(), request.path_and_query())
            }
        };
        claims.insert(url.claim.clone(), hex::encode(Sha256::digest(text)).into());
    }
    claims
}
