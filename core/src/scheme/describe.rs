//! The description of a signature as it is written down in TOML or JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::canonical::{JsonFieldsSpec, SignedHeadersSpec};
use super::jwt::JwtSpec;
use super::key_source::KeySourceSpec;
use super::source::Source;

/// What is signed, how, with which reading of the secret, and where the result stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    pub algorithm: Algorithm,
    /// How the text of a secret becomes a key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key: KeyReading,
    /// Template of the signed bytes, such as `{timestamp}.{body}`; see [`super::Content`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// Further readings of what is signed, tried when verifying only: those of which every part is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_also: Vec<String>,
    /// False says out loud that the signature does not cover the body.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub body_bound: bool,
    /// In place of the URL as it is: each of these is tried; signing takes the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub url_variants: Vec<UrlVariant>,
    /// The characters of which `{url_unescaped}` has no percent-escapes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url_unescape: String,
    /// In place of `algorithm`, by a value of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm_by: Option<AlgorithmBy>,
    /// What `{signed_headers}` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_headers: Option<SignedHeadersSpec>,
    /// What `{json_fields}` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_fields: Option<JsonFieldsSpec>,
    /// What a token has to say, for `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
    /// Where keys come from that no secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_source: Option<KeySourceSpec>,
    pub signature: SignatureSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampSpec>,
    /// Where `{id}` is read; the first that is there counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_id: Vec<Source>,
    /// Headers that must have exactly this value before anything else is looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub require_headers: BTreeMap<String, String>,
    /// Values of the request that must be equal to something made from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require_equal: Vec<RequireEqual>,
    /// Which secret the sender says it used; see [`KeyReading::id_sep`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyIdSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    HmacMd5,
    HmacSha1,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    /// A plain hash: the secret stands in the content.
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Ed25519,
    EcdsaP256Sha256,
    /// PKCS#1 v1.5.
    RsaSha1,
    RsaSha256,
    RsaPssSha256,
    /// The secret itself is sent, alone or after `signature.prefix`.
    Token,
    /// The secret is `user:password`, sent as HTTP Basic.
    Basic,
    /// A JSON Web Token; see [`Scheme::jwt`].
    Jwt,
    /// Nothing is signed: the provider is asked whether it is true.
    FetchBack,
}

/// What kind of work an algorithm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Hmac,
    Hash,
    Ed25519,
    Ecdsa,
    Rsa,
    Sent,
    Jwt,
    FetchBack,
}

impl Algorithm {
    /// Nothing is computed: the secret travels with the request.
    pub fn sends_the_secret(self) -> bool {
        self.family() == Family::Sent
    }

    pub fn is_hmac(self) -> bool {
        self.family() == Family::Hmac
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::HmacMd5 | Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => {
                Family::Hmac
            }
            Self::Md5 | Self::Sha1 | Self::Sha256 | Self::Sha512 => Family::Hash,
            Self::Ed25519 => Family::Ed25519,
            Self::EcdsaP256Sha256 => Family::Ecdsa,
            Self::RsaSha1 | Self::RsaSha256 | Self::RsaPssSha256 => Family::Rsa,
            Self::Token | Self::Basic => Family::Sent,
            Self::Jwt => Family::Jwt,
            Self::FetchBack => Family::FetchBack,
        }
    }
}

/// The algorithm that goes with a value of the request; another value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlgorithmBy {
    pub source: Source,
    pub values: BTreeMap<String, Algorithm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlVariant {
    WithoutPort,
    /// A port that is there stays.
    WithDefaultPort,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequireEqual {
    pub source: Source,
    /// A template, such as `{body_sha256_hex}`; an empty one asks for nothing.
    pub equals: String,
}

/// The first value that is there; with `item_sep` and `kv_sep` it is a list, and `key` names the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyIdSpec {
    pub sources: Vec<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_sep: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_sep: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One way to read the text of a secret. `also` holds further ones: a request is valid under any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyReading {
    /// This reading is for secrets that start with one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub if_prefix: Vec<String>,
    /// This reading is not for secrets that start with one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unless_prefix: Vec<String>,
    /// The first of these that is there is taken off before decoding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strip_prefix: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub decode: KeyEncoding,
    /// What stands before this in a secret is the id by which the sender names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_sep: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalization>,
    /// The key is this hash of what was decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derive: Option<Derivation>,
    /// Which half of an asymmetric pair the secret is.
    #[serde(skip_serializing_if = "is_default")]
    pub part: KeyPart,
    /// What a freshly generated secret starts with, where that is part of the key itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issue_prefix: Option<String>,
    /// In place of the scheme's algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// In place of the layout's `signature_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<KeyReading>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyEncoding {
    /// The bytes of the text as they are.
    #[default]
    Utf8,
    Hex,
    /// Padding may be missing: people lose it when they paste.
    Base64,
    Base64url,
    /// A public key as base64 of its `SubjectPublicKeyInfo`; PEM is read too.
    SpkiBase64,
    /// A public or private key, or a certificate.
    Pem,
}

/// Of the text, before it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    Nfkd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Derivation {
    Sha1,
    Sha256,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPart {
    /// Verifies only.
    #[default]
    Public,
    /// Signs and verifies: the 32-byte seed, or seed and public key in 64 bytes.
    Private,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureSpec {
    /// All that are there are read; signing writes the first.
    pub sources: Vec<Source>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// Taken off a value that has no layout, such as `sha256=`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Hex is lower case unless this says otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hex_case_insensitive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    #[default]
    Hex,
    Base64,
    Base64url,
    Base64urlNopad,
}

/// How one header holds several values: items split by `item_sep`, each split at its first
/// `kv_sep`. Items under another key are skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Layout {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_sep: Option<String>,
    /// In place of `item_sep`: any run of these characters separates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_sep_any: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_sep: Option<String>,
    /// `*` takes any key but that of the timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_key: Option<String>,
    /// In place of `timestamp_key`: the item at this place, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_index: Option<u8>,
    /// Written between items when signing, if not `item_sep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_sep: Option<String>,
    /// An item without `kv_sep` is a signature too.
    #[serde(skip_serializing_if = "is_default")]
    pub bare_ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampSpec {
    /// Empty: the layout holds it. Otherwise the first that is there counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    pub unit: TimestampUnit,
    /// An age equal to the window still passes.
    #[serde(default = "Tolerance::past_default")]
    pub tolerance_past_s: Tolerance,
    #[serde(default = "Tolerance::future_default")]
    pub tolerance_future_s: Tolerance,
    /// Earlier than this, in unix seconds, is refused whatever the windows are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_s: Option<i64>,
    /// False says out loud that the timestamp is not part of what is signed.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub signed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampUnit {
    S,
    Ms,
    Us,
    Rfc3339,
    /// Part of the content, of no stated form: never checked against the clock.
    Opaque,
}

/// A window in whole seconds, or the word `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    Seconds(u32),
    Unlimited,
}

impl Tolerance {
    fn past_default() -> Self {
        Self::Seconds(300)
    }

    fn future_default() -> Self {
        Self::Seconds(60)
    }
}

impl Serialize for Tolerance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Seconds(seconds) => serializer.serialize_u32(*seconds),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Tolerance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Seconds(u32),
            Word(String),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Seconds(seconds)) => Ok(Self::Seconds(seconds)),
            Ok(Written::Word(word)) if word == "unlimited" => Ok(Self::Unlimited),
            _ => Err(serde::de::Error::custom("expected a number of seconds or \"unlimited\"")),
        }
    }
}

pub(super) fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde calls")]
pub(super) fn is_yes(value: &bool) -> bool {
    *value
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
