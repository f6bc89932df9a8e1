//! The public keys of endpoints, for anybody who wants to verify what they are sent: a JSON Web Key Set
//! (RFC 7517, RFC 8037) at `/endpoints/{endpoint_id}/jwks.json`.

use bowline_core::id::{EndpointId, SecretId};
use bowline_core::inbound::{RETRY_LATER, Refusal};
use bowline_core::scheme::base64url;
use bowline_core::store::{self, Pool, stored_secrets};
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::answer::{self, Reply};

/// A rotation with an overlap of an hour is seen in time by whoever keeps a set for so long.
pub(crate) const CACHED_FOR_S: u32 = 300;

/// Connections that strangers may take from events.
static LOOKS: Semaphore = Semaphore::const_new(2);

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

/// Newest first, those of a rotation's overlap too. Anybody may ask: a few at a time ask Postgres, the others are
/// told to come again.
pub(crate) async fn answer(pool: &Pool, id: EndpointId, method: &Method) -> Result<Reply, Refusal> {
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "public keys are read with GET",
        );
        refusal.allow = Some("GET, HEAD".into());
        return Err(refusal);
    }
    let Ok(_look) = LOOKS.try_acquire() else { return Err(busy()) };
    let read = async { stored_secrets::public_keys(&pool.get().await?, id).await };
    let found = read.await.map_err(|error: store::Error| {
        tracing::warn!(%error, "public keys cannot be read");
        busy()
    })?;
    if found.is_empty() {
        // Whether the endpoint exists is nobody's business.
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown_keys",
            "there are no public keys here; compare the path with the endpoint's jwks_url",
        ));
    }
    let keys = found.into_iter().map(|(kid, key)| PublicKey {
        kty: "OKP",
        crv: "Ed25519",
        alg: "EdDSA",
        used_to: "sig",
        kid,
        x: base64url(&key),
    });
    Ok(answer::public(&KeySet { keys: keys.collect() }, "application/jwk-set+json", CACHED_FOR_S))
}

fn busy() -> Refusal {
    Refusal::unavailable("unavailable", "public keys cannot be read now; ask again later", RETRY_LATER)
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
