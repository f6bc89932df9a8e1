//! JSON Web Tokens as signatures: the token is signed, and its claims bind the request.
//!
//! 1. [`JwtSpec`] is the description: which algorithms a token may have, and what it must claim.
//! 2. [`keys`] reads secrets, PEM and key sets into the forms that verify.
//! 3. [`claims`] checks what a token says once its signature is known to be right; [`mod@sign`] makes one.
//!
//! The algorithm comes from the scheme: a token only chooses among those, and a key is used with the
//! algorithms of its own kind alone.

mod claims;
mod keys;
mod sign;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::compile::CompiledScheme;
use super::describe::{Algorithm, Encoding, is_default};
use super::error::{TokenFault, VerifyError};
use super::key::Key;
use super::request::InboundRequest;
use super::sent::strip_any_case;
use super::source::Source;
use super::verify::Verified;

pub(super) use keys::{read_secret, read_set};
pub(super) use sign::sign;

/// What a token has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    pub algorithms: Vec<JwtAlgorithm>,
    /// `iss`; empty: anyone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// One of `aud`; empty: for anyone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub audience: String,
    /// Claims with exactly these values; `true` and numbers as they are written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub equal: BTreeMap<String, String>,
    /// Claims that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// How far the clocks may differ for `exp` and `nbf`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub leeway_s: u32,
    /// The oldest `iat`, which must be there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
    /// The claim that binds the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hash: Option<HashClaim>,
    /// The claim that binds the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_hash: Option<UrlClaim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl JwtAlgorithm {
    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HmacSha256,
            Self::Hs384 => Algorithm::HmacSha384,
            Self::Hs512 => Algorithm::HmacSha512,
            Self::Rs256 => Algorithm::RsaSha256,
            Self::Ps256 => Algorithm::RsaPssSha256,
            Self::Es256 => Algorithm::EcdsaP256Sha256,
            Self::EdDsa => Algorithm::Ed25519,
        }
    }
}

/// SHA-256 of the body under `claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashClaim {
    pub claim: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// A request without a body has no claim, and the other way round.
    #[serde(default, skip_serializing_if = "is_default")]
    pub absent_when_empty: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlClaim {
    pub claim: String,
    pub of: UrlForm,
}

/// What of the URL is hashed with SHA-256 and written in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UrlForm {
    /// The whole URL as the caller saw it.
    Url,
    /// Method, path and ordered query, as Atlassian's `qsh`.
    AtlassianRequest,
}

#[derive(Deserialize)]
struct Header {
    alg: JwtAlgorithm,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood: none are.
    #[serde(default)]
    crit: Option<Value>,
}

/// A token taken apart; nothing of it is believed yet.
struct Token<'t> {
    header: Header,
    signed: &'t str,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    fn parse(text: &'t str) -> Result<Self, TokenFault> {
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Form);
        let header: Map<String, Value> =
            serde_json::from_slice(&decode(header)?).map_err(|_| TokenFault::Form)?;
        let header: Header =
            serde_json::from_value(Value::Object(header)).map_err(|_| TokenFault::Algorithm)?;
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenFault::Form)?;
        Ok(Self { header, signed, claims, signature: decode(signature)? })
    }
}

impl CompiledScheme {
    /// The key id a token names, before anything of it is believed.
    pub(super) fn token_key_id(&self, value: &str) -> Option<String> {
        let text = strip_any_case(value, &self.prefix)?;
        Token::parse(text.trim()).ok()?.header.kid
    }

    pub(super) fn verify_token(
        &self,
        request: &InboundRequest<'_>,
        (at, value): (&Source, &str),
        keys: &[Key],
        now: DateTime<Utc>,
    ) -> Result<Verified, VerifyError> {
        let spec = self.jwt.as_ref().ok_or(VerifyError::NoUsableSecret)?;
        let refuse = |fault| VerifyError::Token { at: at.clone(), fault };
        let text = strip_any_case(value, &self.prefix).ok_or_else(|| refuse(TokenFault::Form))?;
        let token = Token::parse(text.trim()).map_err(refuse)?;
        if token.header.crit.is_some() || !spec.algorithms.contains(&token.header.alg) {
            return Err(refuse(TokenFault::Algorithm));
        }
        let algorithm = token.header.alg.algorithm();
        let fits = |key: &Key| {
            let own = match (&token.header.kid, &key.id) {
                (Some(wanted), Some(id)) => **wanted == **id,
                _ => true,
            };
            let mut forms = key.forms.iter().filter(|form| form.algorithm == algorithm);
            own && forms.any(|form| keys::verifies(form, token.signed.as_bytes(), &token.signature))
        };
        let Some(key_index) = keys.iter().position(fits) else {
            return Err(VerifyError::SignatureMismatch {
                at: at.clone(),
                signatures: 1,
                secrets: keys.len(),
            });
        };
        claims::check(spec, &token.claims, request, now).map_err(refuse)?;
        let time = token.claims.get("iat").and_then(Value::as_i64);
        Ok(Verified { key_index, timestamp: time.and_then(|time| DateTime::from_timestamp(time, 0)) })
    }
}
