//! Fresh secrets in the form a scheme's users expect.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::compile::CompiledScheme;
use super::describe::{Algorithm, Family, KeyEncoding, KeyPart};
use super::key::Material;
use super::readings::Reading;
use crate::secrets::Secret;

const KEY_BYTES: usize = 32;

/// As JSON Web Keys write bytes.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A secret nobody has seen yet.
#[derive(Debug, Clone)]
pub struct GeneratedSecret {
    pub secret: Secret,
    /// What the other side needs, for asymmetric schemes.
    pub public: Option<String>,
}

impl CompiledScheme {
    /// Whether a secret of ours is of use: not where the provider has its own key pair, or the account's.
    pub fn issues_secrets(&self) -> bool {
        match (&self.jwt, self.algorithm.family()) {
            (Some(spec), _) => spec.algorithms.iter().any(|one| one.algorithm().is_hmac()),
            (None, Family::Hmac | Family::Hash | Family::Sent) => true,
            (None, _) => {
                self.readings.iter().any(|one| one.algorithm.is_hmac() || one.part == KeyPart::Private)
            }
        }
    }

    /// A secret of the scheme's own algorithm that this side can sign with.
    pub fn generate_secret(&self) -> GeneratedSecret {
        let reading = self.readings.iter().find(|reading| reading.can_issue()).unwrap_or(&self.readings[0]);
        self.issue(reading)
    }

    /// A secret of another algorithm the scheme knows, such as ed25519 for `standard`.
    pub fn generate_secret_for(&self, algorithm: Algorithm) -> Option<GeneratedSecret> {
        let reading =
            self.readings.iter().find(|reading| reading.algorithm == algorithm && reading.can_issue())?;
        Some(self.issue(reading))
    }

    /// The public half of an ed25519 secret that signs; `None` for any other.
    pub fn public_key(&self, secret: &Secret) -> Option<[u8; 32]> {
        self.key(secret).ok()?.forms.iter().find_map(|form| match &form.material {
            Material::Ed25519Private(key) => Some(key.verifying_key().to_bytes()),
            _ => None,
        })
    }

    /// A public key as receivers of this scheme are told it: `whpk_...` for `standard`.
    pub fn write_public_key(&self, key: &[u8; 32]) -> Option<String> {
        let public = |one: &&Reading| one.algorithm == Algorithm::Ed25519 && one.part == KeyPart::Public;
        self.readings.iter().find(public).map(|reading| reading.write(key))
    }

    fn issue(&self, reading: &Reading) -> GeneratedSecret {
        let random = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
        match reading.algorithm {
            Algorithm::Ed25519 => {
                let key = SigningKey::from_bytes(&random);
                let pair = Zeroizing::new(key.to_keypair_bytes());
                let public = self
                    .readings
                    .iter()
                    .find(|other| other.algorithm == Algorithm::Ed25519 && other.part == KeyPart::Public)
                    .unwrap_or(reading);
                GeneratedSecret {
                    secret: Secret::new(reading.write(pair.as_slice())),
                    public: Some(public.write(key.verifying_key().as_bytes())),
                }
            }
            Algorithm::Basic => GeneratedSecret {
                secret: Secret::new(format!("webhook:{}", reading.write(random.as_slice()))),
                public: None,
            },
            _ => GeneratedSecret { secret: Secret::new(reading.write(random.as_slice())), public: None },
        }
    }
}

impl Reading {
    fn can_issue(&self) -> bool {
        self.algorithm != Algorithm::Ed25519 || self.part == KeyPart::Private
    }

    /// The inverse of decoding, with the prefix people know the secret by.
    fn write(&self, bytes: &[u8]) -> String {
        let prefix = self.issue_prefix.as_deref().or(self.strip_prefix.first().map(String::as_str));
        let text = match self.decode {
            KeyEncoding::Utf8 | KeyEncoding::Hex | KeyEncoding::SpkiBase64 | KeyEncoding::Pem => {
                hex::encode(bytes)
            }
            KeyEncoding::Base64 => STANDARD.encode(bytes),
            KeyEncoding::Base64url => URL_SAFE_NO_PAD.encode(bytes),
        };
        format!("{}{text}", prefix.unwrap_or_default())
    }
}
