//! What a token says, once its signature is known to be right.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{HashClaim, JwtSpec, UrlClaim, UrlForm};
use crate::scheme::canonical;
use crate::scheme::error::TokenFault;
use crate::scheme::request::InboundRequest;
use crate::secrets::is_same;

type Claims = Map<String, Value>;

pub(super) fn check(
    spec: &JwtSpec,
    claims: &Claims,
    request: &InboundRequest<'_>,
    now: DateTime<Utc>,
) -> Result<(), TokenFault> {
    for name in &spec.required {
        if claims.get(name).is_none_or(Value::is_null) {
            return Err(TokenFault::Missing { claim: name.clone() });
        }
    }
    check_times(spec, claims, now)?;
    if !spec.issuer.is_empty() {
        check_equal(claims, "iss", &spec.issuer)?;
    }
    if !spec.audience.is_empty() {
        check_audience(claims, &spec.audience)?;
    }
    // One that a source leaves open is empty.
    for (name, wanted) in spec.equal.iter().filter(|(_, wanted)| !wanted.is_empty()) {
        check_equal(claims, name, wanted)?;
    }
    if let Some(hash) = &spec.body_hash {
        check_body(hash, claims, request)?;
    }
    if let Some(url) = &spec.url_hash {
        check_url(url, claims, request)?;
    }
    Ok(())
}

/// RFC 7519, 4.1.4 to 4.1.6: seconds, which may have a fraction.
fn check_times(spec: &JwtSpec, claims: &Claims, now: DateTime<Utc>) -> Result<(), TokenFault> {
    let seconds = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| TokenFault::Wrong { claim: name.to_owned() }),
    };
    let now = now.timestamp() as f64;
    let leeway = f64::from(spec.leeway_s);
    if seconds("exp")?.is_some_and(|end| end <= now - leeway) {
        return Err(TokenFault::Expired);
    }
    if seconds("nbf")?.is_some_and(|start| start > now + leeway) {
        return Err(TokenFault::NotYet);
    }
    if let Some(max_age_s) = spec.max_age_s {
        let issued = seconds("iat")?.ok_or_else(|| TokenFault::Missing { claim: "iat".to_owned() })?;
        if now - issued > f64::from(max_age_s) + leeway {
            return Err(TokenFault::Expired);
        }
        if issued > now + f64::from(max_age_s) + leeway {
            return Err(TokenFault::NotYet);
        }
    }
    Ok(())
}

fn check_equal(claims: &Claims, name: &str, wanted: &str) -> Result<(), TokenFault> {
    let value = claims.get(name).ok_or_else(|| TokenFault::Missing { claim: name.to_owned() })?;
    let text = match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(other.to_string()),
    };
    if text == wanted { Ok(()) } else { Err(TokenFault::Wrong { claim: name.to_owned() }) }
}

/// One text, or a list that holds it.
fn check_audience(claims: &Claims, wanted: &str) -> Result<(), TokenFault> {
    let fits = match claims.get("aud") {
        None => return Err(TokenFault::Missing { claim: "aud".to_owned() }),
        Some(Value::Array(list)) => list.iter().any(|one| one == wanted),
        Some(one) => one == wanted,
    };
    if fits { Ok(()) } else { Err(TokenFault::Wrong { claim: "aud".to_owned() }) }
}

fn check_body(hash: &HashClaim, claims: &Claims, request: &InboundRequest<'_>) -> Result<(), TokenFault> {
    let claimed = claims.get(&hash.claim).and_then(Value::as_str).unwrap_or_default();
    if hash.absent_when_empty && request.body().is_empty() && claimed.is_empty() {
        return Ok(());
    }
    if claimed.is_empty() {
        return Err(TokenFault::Missing { claim: hash.claim.clone() });
    }
    let own = hash.encoding.encode(&Sha256::digest(request.body()));
    let unexpected = hash.absent_when_empty && request.body().is_empty();
    if !unexpected && is_same(own.as_bytes(), claimed.as_bytes()) {
        return Ok(());
    }
    Err(TokenFault::Wrong { claim: hash.claim.clone() })
}

fn check_url(url: &UrlClaim, claims: &Claims, request: &InboundRequest<'_>) -> Result<(), TokenFault> {
    let missing = || TokenFault::Missing { claim: url.claim.clone() };
    let claimed = claims.get(&url.claim).and_then(Value::as_str).ok_or_else(missing)?;
    let text = match url.of {
        UrlForm::Url => [request.public_url().unwrap_or_default(), request.path_and_query()].concat(),
        UrlForm::AtlassianRequest => canonical::atlassian_request(request.method(), request.path_and_query()),
    };
    let own = hex::encode(Sha256::digest(text));
    if is_same(own.as_bytes(), claimed.as_bytes()) {
        return Ok(());
    }
    Err(TokenFault::Wrong { claim: url.claim.clone() })
}
