//! The public keys of endpoints, for anybody who wants to verify what they are sent: a JSON Web Key Set
//! (RFC 7517, RFC 8037) at `/endpoints/{endpoint_id}/jwks.json`.

use bowline_core::id::{EndpointId, SecretId};
use bowline_core::snapshot::Snapshot;
use chrono::Utc;
use http::{Method, StatusCode};
use serde::Serialize;

use crate::answer::{self, Reply};
use crate::reject::Refusal;
use crate::route;

/// A rotation with an overlap of an hour is seen in time by whoever keeps a set for so long.
pub(crate) const CACHED_FOR_S: u32 = 300;

#[derive(Serialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

#[derive(Serialize)]
struct PublicKey {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    used_to: &'static str,
    kid: SecretId,
    x: String,
}

/// The endpoint whose keys a path is about.
pub(crate) fn wanted(path: &str) -> Option<EndpointId> {
    path.strip_prefix("/endpoints/")?.strip_suffix("/jwks.json")?.parse().ok()
}

/// Newest first, those of a rotation's overlap too.
pub(crate) async fn answer(snapshot: &Snapshot, id: EndpointId, method: &Method) -> Result<Reply, Refusal> {
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "public keys are read with GET",
        );
        refusal.allow = Some("GET, HEAD".into());
        return Err(refusal);
    }
    let mut live = snapshot.endpoint(id);
    if live.is_none() {
        let looked = snapshot.refresh_for_unknown(&id.to_string()).await;
        looked.map_err(|error| route::unreadable_source(&error))?;
        live = snapshot.endpoint(id);
    }
    let found = live.map(|live| live.public_keys(Utc::now())).unwrap_or_default();
    if found.is_empty() {
        // Whether the endpoint exists is nobody's business.
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown_keys",
            "there are no public keys here; compare the path with the endpoint's jwks_url",
        ));
    }
    let keys = found.into_iter().map(|(kid, x)| PublicKey {
        kty: "OKP",
        crv: "Ed25519",
        alg: "EdDSA",
        used_to: "sig",
        kid,
        x,
    });
    Ok(answer::public(&KeySet { keys: keys.collect() }, "application/jwk-set+json", CACHED_FOR_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_keys_of_one_endpoint() {
        let id = EndpointId::new();
        assert_eq!(wanted(&format!("/endpoints/{id}/jwks.json")), Some(id));
        for nothing in
            ["/endpoints/", "/endpoints//jwks.json", "/endpoints/src_x/jwks.json", "/in/x/jwks.json"]
        {
            assert_eq!(wanted(nothing), None, "{nothing}");
        }
    }
}
