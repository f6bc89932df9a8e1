//! From the text of a secret to the key material a scheme wants.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::asymmetric::{self, PrivateKey, PublicKey};
use super::compile::CompiledScheme;
use super::describe::{Algorithm, Derivation, Family, KeyEncoding, KeyPart, Normalization};
use super::jwt;
use super::mac::HmacState;
use super::readings::Reading;
use crate::secrets::Secret;

/// Pasted secrets lose their padding and keep stray bits; the key is the same.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
pub(super) const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A secret read by a scheme: every form its readings give it. Kept by callers, so that a secret is
/// decoded once.
#[derive(Clone)]
pub struct Key {
    pub(super) forms: Vec<KeyForm>,
    /// By which a sender says that it used this one.
    pub(super) id: Option<Box<str>>,
    /// The secret as it was given, for handshakes that send it.
    pub(super) text: Secret,
}

#[derive(Clone)]
pub(super) struct KeyForm {
    /// Place of the signature key in the scheme's list of labels.
    pub(super) label: usize,
    pub(super) algorithm: Algorithm,
    pub(super) material: Material,
}

#[derive(Clone)]
pub(super) enum Material {
    Hmac(Box<HmacState>),
    /// Goes into the content of a plain hash.
    Hash(Secret),
    Public(Arc<PublicKey>),
    Private(Arc<PrivateKey>),
    /// Verifies nothing: keys are fetched with it.
    Credential(Secret),
    /// What the provider said is true.
    Confirmed(Arc<str>),
    Ed25519Public(Box<VerifyingKey>),
    Ed25519Private(Box<SigningKey>),
    /// What is sent, and its SHA-256: comparing hashes hides the length too.
    Sent {
        text: Secret,
        hash: Zeroizing<[u8; 32]>,
    },
}

/// Why a secret is no key for this scheme. Says nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the secret is empty")]
    Empty,
    #[error("the secret does not start as secrets of this scheme do: {0}")]
    Prefix(String),
    #[error("the secret is not {0}")]
    Encoding(&'static str),
    #[error("the key has {got} bytes where this scheme wants {wanted}")]
    Length { got: usize, wanted: &'static str },
    #[error("the secret is no valid ed25519 key")]
    Ed25519,
    #[error("the key is no public key of the kind this scheme wants")]
    PublicKey,
    #[error("the key is no PKCS#8 private key of the kind this scheme wants")]
    PrivateKey,
    #[error("the certificate is not valid now")]
    NotValidNow,
    #[error("what was fetched is no set of keys that this scheme can use")]
    KeySet,
    #[error("the secret is not of the form `user:password`")]
    Basic,
}

impl Key {
    /// Whether it is the one of this id: one without an id may be any.
    pub(crate) fn may_be(&self, id: &str) -> bool {
        self.id.as_deref().is_none_or(|own| own == id)
    }

    /// Whether the secret is this text.
    pub(crate) fn is_text(&self, text: &[u8]) -> bool {
        self.text == Secret::new(text)
    }

    /// Signs a value with the first HMAC that this secret is a key of.
    pub(crate) fn mac(&self, value: &[u8]) -> Option<Vec<u8>> {
        self.forms.iter().find_map(|form| match &form.material {
            Material::Hmac(state) => {
                let mut mac = state.as_ref().clone();
                mac.update(value);
                Some(mac.finish().to_write().to_vec())
            }
            _ => None,
        })
    }
}

impl CompiledScheme {
    /// Reads a secret; the first fault counts when no reading fits.
    pub fn key(&self, secret: &Secret) -> Result<Key, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        let mut fault = None;
        let (mut forms, mut id) = (Vec::new(), None);
        for reading in self.readings.iter().filter(|reading| reading.applies(secret.expose())) {
            let (own_id, text) = reading.split_id(secret.expose());
            id = id.or(own_id);
            match self.read_forms(reading, text) {
                Ok(read) => forms.extend(read),
                Err(problem) => fault = fault.or(Some(problem)),
            }
        }
        if forms.is_empty() {
            return Err(fault.unwrap_or_else(|| KeyError::Prefix(self.prefixes())));
        }
        Ok(Key { forms, id, text: secret.clone() })
    }

    fn read_forms(&self, reading: &Reading, text: &[u8]) -> Result<Vec<KeyForm>, KeyError> {
        match (&self.jwt, reading.algorithm) {
            (Some(spec), Algorithm::Jwt) => jwt::read_secret(spec, &reading.decode(text)?),
            (_, algorithm) => {
                Ok(vec![KeyForm { label: reading.label, algorithm, material: reading.read(text)? }])
            }
        }
    }

    fn prefixes(&self) -> String {
        let known: Vec<&str> =
            self.readings.iter().flat_map(|reading| &reading.if_prefix).map(String::as_str).collect();
        known.join(", ")
    }
}

impl Reading {
    fn applies(&self, secret: &[u8]) -> bool {
        let starts = |prefixes: &[String]| prefixes.iter().any(|p| secret.starts_with(p.as_bytes()));
        (self.if_prefix.is_empty() || starts(&self.if_prefix)) && !starts(&self.unless_prefix)
    }

    /// The id and the secret itself, where one text holds both.
    fn split_id<'t>(&self, text: &'t [u8]) -> (Option<Box<str>>, &'t [u8]) {
        let Some(separator) = &self.id_sep else { return (None, text) };
        let at = text.windows(separator.len()).position(|window| window == separator.as_bytes());
        match at.and_then(|at| Some((std::str::from_utf8(&text[..at]).ok()?, at))) {
            Some((id, at)) => (Some(id.into()), &text[at + separator.len()..]),
            None => (None, text),
        }
    }

    fn read(&self, text: &[u8]) -> Result<Material, KeyError> {
        let mut bytes = self.decode(text)?;
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if let Some(hash) = self.derive {
            bytes = Zeroizing::new(match hash {
                Derivation::Sha1 => Sha1::digest(&bytes).to_vec(),
                Derivation::Sha256 => Sha256::digest(&bytes).to_vec(),
            });
        }
        match self.algorithm.family() {
            Family::Ed25519 if matches!(self.decode, KeyEncoding::SpkiBase64 | KeyEncoding::Pem) => {
                asymmetric::read(&bytes, Family::Ed25519)
            }
            Family::Ed25519 => self.read_ed25519(&bytes),
            family @ (Family::Ecdsa | Family::Rsa) => asymmetric::read(&bytes, family),
            Family::Sent if self.algorithm == Algorithm::Basic && !bytes.contains(&b':') => {
                Err(KeyError::Basic)
            }
            Family::Sent => Ok(sent(&bytes)),
            Family::Hash => Ok(Material::Hash(Secret::new(bytes.as_slice()))),
            Family::Jwt | Family::FetchBack => Ok(Material::Credential(Secret::new(bytes.as_slice()))),
            Family::Hmac => {
                let state = HmacState::new(self.algorithm, &bytes)
                    .unwrap_or_else(|| unreachable!("the arm names the HMACs"));
                Ok(Material::Hmac(Box::new(state)))
            }
        }
    }

    fn read_ed25519(&self, bytes: &[u8]) -> Result<Material, KeyError> {
        let got = bytes.len();
        match self.part {
            KeyPart::Public => {
                let bytes = bytes.try_into().map_err(|_| KeyError::Length { got, wanted: "32" })?;
                let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Ed25519)?;
                Ok(Material::Ed25519Public(Box::new(key)))
            }
            KeyPart::Private => {
                let key = if let Ok(seed) = bytes.try_into() {
                    SigningKey::from_bytes(seed)
                } else {
                    let pair = bytes.try_into().map_err(|_| KeyError::Length { got, wanted: "32 or 64" })?;
                    SigningKey::from_keypair_bytes(pair).map_err(|_| KeyError::Ed25519)?
                };
                Ok(Material::Ed25519Private(Box::new(key)))
            }
        }
    }

    fn decode(&self, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let text = self
            .strip_prefix
            .iter()
            .find_map(|prefix| secret.strip_prefix(prefix.as_bytes()))
            .unwrap_or(secret);
        let decoded = match self.decode {
            KeyEncoding::Utf8 => Ok(match (self.normalize, std::str::from_utf8(text)) {
                (Some(Normalization::Nfkd), Ok(text)) => text.nfkd().collect::<String>().into_bytes(),
                _ => text.to_vec(),
            }),
            KeyEncoding::Pem => Ok(text.to_vec()),
            // People paste what they have: PEM says what it is.
            KeyEncoding::SpkiBase64 if text.starts_with(b"-----BEGIN ") => Ok(text.to_vec()),
            KeyEncoding::SpkiBase64 => {
                let unbroken: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                BASE64.decode(unbroken).map_err(|_| KeyError::Encoding("base64"))
            }
            KeyEncoding::Hex => hex::decode(text).map_err(|_| KeyError::Encoding("hex")),
            KeyEncoding::Base64 => BASE64.decode(text).map_err(|_| KeyError::Encoding("base64")),
            KeyEncoding::Base64url => BASE64URL.decode(text).map_err(|_| KeyError::Encoding("base64url")),
        };
        decoded.map(Zeroizing::new)
    }
}

pub(super) fn sent(text: &[u8]) -> Material {
    Material::Sent { text: Secret::new(text), hash: Zeroizing::new(Sha256::digest(text).into()) }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}
