//! Keys of tokens: a shared secret, PEM, one JSON Web Key or a set of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::Signature;
use serde::Deserialize;

use super::{JwtAlgorithm, JwtSpec};
use crate::scheme::asymmetric::{self, EcdsaForm};
use crate::scheme::der::Spki;
use crate::scheme::describe::{Algorithm, Family};
use crate::scheme::key::{Key, KeyError, KeyForm, Material};
use crate::scheme::limits;
use crate::scheme::mac::HmacState;
use crate::secrets::Secret;

/// RFC 7517. Members of no use here are left out.
#[derive(Deserialize)]
struct JsonWebKey {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

#[derive(Deserialize)]
struct JsonWebKeySet {
    keys: Vec<serde_json::Value>,
}

/// The forms of a secret as it was given: what it is shows in its text.
pub(in crate::scheme) fn read_secret(spec: &JwtSpec, text: &[u8]) -> Result<Vec<KeyForm>, KeyError> {
    let trimmed = text.trim_ascii();
    if trimmed.starts_with(b"-----BEGIN ") {
        let material = asymmetric::read(trimmed, Family::Jwt)?;
        return forms(spec, &material, None).ok_or(KeyError::PublicKey);
    }
    if trimmed.starts_with(b"{") {
        let keys = read_set(spec, trimmed)?;
        return Ok(keys.into_iter().flat_map(|key| key.forms).collect());
    }
    let shared: Vec<KeyForm> = spec
        .algorithms
        .iter()
        .filter_map(|algorithm| {
            let algorithm = algorithm.algorithm();
            let state = HmacState::new(algorithm, text)?;
            Some(KeyForm { label: 0, algorithm, material: Material::Hmac(Box::new(state)) })
        })
        .collect();
    if shared.is_empty() {
        // Nothing is verified with it, but keys may be fetched.
        let material = Material::Credential(Secret::new(text));
        return Ok(vec![KeyForm { label: 0, algorithm: Algorithm::Jwt, material }]);
    }
    Ok(shared)
}

/// One key or a set. Keys of other kinds than the scheme's algorithms are left out.
pub(in crate::scheme) fn read_set(spec: &JwtSpec, json: &[u8]) -> Result<Vec<Key>, KeyError> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|_| KeyError::KeySet)?;
    let list = match serde_json::from_value::<JsonWebKeySet>(value.clone()) {
        Ok(set) => set.keys,
        Err(_) => vec![value],
    };
    let keys: Vec<Key> = list
        .into_iter()
        .filter_map(|key| serde_json::from_value::<JsonWebKey>(key).ok())
        .filter_map(|key| {
            let forms = forms(spec, &key.material()?, key.alg.as_deref())?;
            Some(Key { forms, id: key.kid.map(String::into_boxed_str), text: Secret::new(Vec::new()) })
        })
        .take(limits::FETCHED_KEYS_MAX)
        .collect();
    if keys.is_empty() { Err(KeyError::KeySet) } else { Ok(keys) }
}

/// One form for each algorithm of the scheme that goes with this kind of key.
fn forms(spec: &JwtSpec, material: &Material, only: Option<&str>) -> Option<Vec<KeyForm>> {
    let named = |algorithm: JwtAlgorithm| {
        only.is_none_or(|name| serde_json::to_value(algorithm).is_ok_and(|value| value == name))
    };
    let forms: Vec<KeyForm> = spec
        .algorithms
        .iter()
        .filter(|algorithm| named(**algorithm))
        .map(|algorithm| algorithm.algorithm())
        .filter(|algorithm| match material {
            Material::Public(key) => key.fits(*algorithm),
            Material::Ed25519Public(_) => *algorithm == Algorithm::Ed25519,
            _ => false,
        })
        .map(|algorithm| KeyForm { label: 0, algorithm, material: material.clone() })
        .collect();
    (!forms.is_empty()).then_some(forms)
}

impl JsonWebKey {
    fn material(&self) -> Option<Material> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?.trim_end_matches('=')).ok();
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n)?, bytes(&self.e)?);
                let unsigned = |number: &[u8]| number.iter().position(|byte| *byte != 0);
                let key = Spki::Rsa { n: &n[unsigned(&n)?..], e: &e[unsigned(&e)?..] };
                asymmetric::of_spki(&key, Family::Jwt).ok()
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                let right = x.len() == 32 && y.len() == 32;
                right.then(|| asymmetric::of_spki(&Spki::P256(&point), Family::Jwt).ok()).flatten()
            }
            ("OKP", Some("Ed25519")) => {
                asymmetric::of_spki(&Spki::Ed25519(&bytes(&self.x)?), Family::Jwt).ok()
            }
            _ => None,
        }
    }
}

pub(super) fn verifies(form: &KeyForm, message: &[u8], signature: &[u8]) -> bool {
    match &form.material {
        Material::Hmac(state) => {
            let mut mac = state.as_ref().clone();
            mac.update(message);
            mac.finish().is_bytes(signature)
        }
        Material::Public(key) => key.verify(form.algorithm, EcdsaForm::Fixed, message, signature),
        Material::Ed25519Public(key) => Signature::from_slice(signature)
            .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        _ => false,
    }
}
