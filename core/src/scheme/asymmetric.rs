//! RSA and ECDSA keys: what they are read from, what they verify and sign.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED, EcdsaKeyPair,
    KeyPair, RsaKeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::der::{self, Spki};
use super::describe::{Algorithm, Family};
use super::key::{KeyError, Material};

/// How the two numbers of an ECDSA signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EcdsaForm {
    Asn1,
    /// One after the other, as in a JSON Web Token.
    Fixed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
}

/// Signs and verifies.
pub(super) enum PrivateKey {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl PublicKey {
    fn family(&self) -> Family {
        match self {
            Self::Rsa { .. } => Family::Rsa,
            Self::P256(_) => Family::Ecdsa,
        }
    }

    /// Whether this kind of key goes with the algorithm.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.family() == algorithm.family()
    }

    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        form: EcdsaForm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                rsa_parameters(algorithm)
                    .is_some_and(|parameters| key.verify(parameters, message, signature).is_ok())
            }
            Self::P256(point) if algorithm == Algorithm::EcdsaP256Sha256 => {
                let parameters = match form {
                    EcdsaForm::Asn1 => &ECDSA_P256_SHA256_ASN1,
                    EcdsaForm::Fixed => &ECDSA_P256_SHA256_FIXED,
                };
                UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok()
            }
            Self::P256(_) => false,
        }
    }
}

/// Some providers still sign with 1024 bits; the pinned key is the user's own choice.
fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RsaSha1 => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Algorithm::RsaSha256 => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        Algorithm::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
        _ => return None,
    })
}

impl PrivateKey {
    /// The other half, in the form that verifies.
    pub(super) fn public(&self) -> PublicKey {
        match self {
            Self::Rsa(pair) => {
                let components: RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
                PublicKey::Rsa { n: components.n, e: components.e }
            }
            Self::P256(pair) => PublicKey::P256(pair.public_key().as_ref().to_vec()),
        }
    }

    /// `None` for what this kind of key can't sign with, such as SHA-1.
    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match (self, algorithm) {
            (Self::Rsa(pair), Algorithm::RsaSha256 | Algorithm::RsaPssSha256) => {
                let padding: &'static dyn signature::RsaEncoding = match algorithm {
                    Algorithm::RsaPssSha256 => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            (Self::P256(pair), Algorithm::EcdsaP256Sha256) => {
                Some(pair.sign(&random, message).ok()?.as_ref().to_vec())
            }
            _ => None,
        }
    }
}

/// A key of PEM or DER that fits the algorithm's family.
pub(super) fn read(bytes: &[u8], family: Family) -> Result<Material, KeyError> {
    if !bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return of_spki(&der::spki(bytes).ok_or(KeyError::PublicKey)?, family);
    }
    let (label, der) = der::pem(bytes).ok_or(KeyError::Encoding("PEM"))?;
    match label {
        "PUBLIC KEY" => of_spki(&der::spki(&der).ok_or(KeyError::PublicKey)?, family),
        "RSA PUBLIC KEY" => of_spki(&der::rsa_public_key(&der).ok_or(KeyError::PublicKey)?, family),
        "CERTIFICATE" => of_spki(&der::certificate(&der).ok_or(KeyError::PublicKey)?.key, family),
        "PRIVATE KEY" => of_pkcs8(&der, family),
        _ => Err(KeyError::Encoding("a public key, a certificate or a PKCS#8 private key in PEM")),
    }
}

/// `family` is the one wanted; `Jwt` takes any.
pub(super) fn of_spki(key: &Spki<'_>, family: Family) -> Result<Material, KeyError> {
    let key = match key {
        Spki::Rsa { n, e } => PublicKey::Rsa { n: n.to_vec(), e: e.to_vec() },
        Spki::P256(point) => PublicKey::P256(point.to_vec()),
        Spki::Ed25519(bytes) => {
            let bytes = (*bytes).try_into().map_err(|_| KeyError::PublicKey)?;
            let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Ed25519)?;
            return match family {
                Family::Ed25519 | Family::Jwt => Ok(Material::Ed25519Public(Box::new(key))),
                _ => Err(KeyError::PublicKey),
            };
        }
    };
    if family != Family::Jwt && family != key.family() {
        return Err(KeyError::PublicKey);
    }
    if let PublicKey::Rsa { n, .. } = &key
        && !(128..=512).contains(&n.len())
    {
        return Err(KeyError::Length { got: n.len(), wanted: "128 to 512" });
    }
    Ok(Material::Public(key.into()))
}

fn of_pkcs8(der: &[u8], family: Family) -> Result<Material, KeyError> {
    let pair = match family {
        Family::Rsa => {
            PrivateKey::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::PrivateKey)?))
        }
        Family::Ecdsa => {
            let random = SystemRandom::new();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random);
            PrivateKey::P256(Box::new(pair.map_err(|_| KeyError::PrivateKey)?))
        }
        _ => return Err(KeyError::PrivateKey),
    };
    Ok(Material::Private(pair.into()))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}
