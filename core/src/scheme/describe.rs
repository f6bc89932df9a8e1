//! The description of a signature as it is written down in TOML or JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// False says out loud that the signature does not cover the body.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub body_bound: bool,
    pub signature: SignatureSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampSpec>,
    /// Where `{id}` is read; the first that is there counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_id: Vec<Source>,
    /// Headers that must have exactly this value before anything else is looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub require_headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    Ed25519,
    /// The secret itself is sent, alone or after `signature.prefix`.
    Token,
    /// The secret is `user:password`, sent as HTTP Basic.
    Basic,
}

impl Algorithm {
    /// Nothing is computed: the secret travels with the request.
    pub fn sends_the_secret(self) -> bool {
        matches!(self, Self::Token | Self::Basic)
    }

    pub fn is_hmac(self) -> bool {
        matches!(self, Self::HmacSha1 | Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512)
    }
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

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the shape serde calls")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
