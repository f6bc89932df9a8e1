//! From the text of a secret to the key material a scheme wants.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::compile::{CompiledScheme, Reading};
use super::describe::{Algorithm, KeyEncoding, KeyPart};
use super::mac::HmacState;
use crate::secrets::Secret;

/// Pasted secrets lose their padding and keep stray bits; the key is the same.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A secret read by a scheme: every form its readings give it. Kept by callers, so that a secret is
/// decoded once.
#[derive(Clone)]
pub struct Key {
    pub(super) forms: Vec<KeyForm>,
}

#[derive(Clone)]
pub(super) struct KeyForm {
    /// Place of the signature key in the scheme's list of labels.
    pub(super) label: usize,
    pub(super) material: Material,
}

#[derive(Clone)]
pub(super) enum Material {
    Hmac(Box<HmacState>),
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
    #[error("the secret is not of the form `user:password`")]
    Basic,
}

impl CompiledScheme {
    /// Reads a secret; the first fault counts when no reading fits.
    pub fn key(&self, secret: &Secret) -> Result<Key, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        let mut fault = None;
        let mut forms = Vec::new();
        for reading in self.readings.iter().filter(|reading| reading.applies(secret.expose())) {
            match reading.read(secret) {
                Ok(material) => forms.push(KeyForm { label: reading.label, material }),
                Err(problem) => fault = fault.or(Some(problem)),
            }
        }
        if forms.is_empty() {
            return Err(fault.unwrap_or_else(|| KeyError::Prefix(self.prefixes())));
        }
        Ok(Key { forms })
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

    fn read(&self, secret: &Secret) -> Result<Material, KeyError> {
        let bytes = self.decode(secret.expose())?;
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        match self.algorithm {
            Algorithm::Ed25519 => self.read_ed25519(&bytes),
            Algorithm::Token => Ok(sent(&bytes)),
            Algorithm::Basic if bytes.contains(&b':') => Ok(sent(&bytes)),
            Algorithm::Basic => Err(KeyError::Basic),
            Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
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
            KeyEncoding::Utf8 => Ok(text.to_vec()),
            KeyEncoding::Hex => hex::decode(text).map_err(|_| KeyError::Encoding("hex")),
            KeyEncoding::Base64 => BASE64.decode(text).map_err(|_| KeyError::Encoding("base64")),
            KeyEncoding::Base64url => BASE64URL.decode(text).map_err(|_| KeyError::Encoding("base64url")),
        };
        decoded.map(Zeroizing::new)
    }
}

fn sent(text: &[u8]) -> Material {
    Material::Sent { text: Secret::new(text), hash: Zeroizing::new(Sha256::digest(text).into()) }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}
