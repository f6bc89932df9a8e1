//! The keys that seal secrets at rest: AES-256-GCM, the first key seals, every key unseals.
//!
//! Changing the key: put a new one in front, restart everything, reseal what is stored
//! ([`super::Vault::reseal`]), drop the old one.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Secret;

const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const KEY_ID_LEN_MAX: usize = 32;
const KEYS_MAX: usize = 16;

/// A secret as the database sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which key of the keyring sealed it.
    pub key_id: String,
    /// Nonce (12 bytes), ciphertext, tag (16 bytes).
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({}, {} bytes)", self.key_id, self.bytes.len())
    }
}

/// Everything that is wrong with the text of a keyring; no fault repeats any of the text that could
/// be key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keyring is not usable: {}", faults.join("; "))]
pub struct KeyringError {
    pub faults: Vec<String>,
}

/// Why sealed bytes stay closed; the vault says for which secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnsealFault {
    /// No key of this id is in the keyring.
    UnknownKey,
    /// Wrong key, changed bytes, or bytes that belong to another row.
    Mismatch,
}

struct Key {
    id: String,
    cipher: Aes256Gcm,
}

/// One or more keys by id.
pub struct Keyring {
    /// Never empty: the first one seals.
    keys: Vec<Key>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl Keyring {
    /// Reads `id:base64,id2:base64`: ids are lower-case letters, digits, `-` and `_`; each key is the
    /// standard base64 of 32 bytes. All faults are reported at once.
    pub fn parse(text: &Secret) -> Result<Self, KeyringError> {
        let Some(text) = text.expose_str().map(str::trim) else {
            return Err(KeyringError { faults: vec!["it is not UTF-8 text".into()] });
        };
        let mut faults = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        for (index, entry) in text.split(',').enumerate() {
            let at = index + 1;
            if at > KEYS_MAX {
                faults.push(format!("more than {KEYS_MAX} keys: drop those that seal nothing any more"));
                break;
            }
            match parse_key(entry.trim()) {
                Ok(key) if keys.iter().any(|other| other.id == key.id) => {
                    faults.push(format!("key {at}: the id `{}` is there twice", key.id));
                }
                Ok(key) => keys.push(key),
                Err(fault) => faults.push(format!("key {at}: {fault}")),
            }
        }
        if faults.is_empty() { Ok(Self { keys }) } else { Err(KeyringError { faults }) }
    }

    /// The text of a keyring with one fresh key. `id` follows the rules of [`Keyring::parse`].
    pub fn generate_text(id: &str) -> Result<Secret, KeyringError> {
        if !is_key_id(id) {
            return Err(KeyringError { faults: vec![ID_RULE.into()] });
        }
        let key = Zeroizing::new(rand::random::<[u8; KEY_LEN]>());
        let encoded = Zeroizing::new(STANDARD.encode(key.as_slice()));
        Ok(Secret::new(format!("{id}:{}", encoded.as_str())))
    }

    /// The id of the key that seals.
    pub fn sealing_key_id(&self) -> &str {
        &self.keys[0].id
    }

    /// `None` only for a plaintext beyond what AES-GCM takes (64 GiB).
    pub(super) fn seal(&self, plain: &[u8], bound_to: &[u8]) -> Option<Sealed> {
        // `parse` lets no empty keyring through.
        let key = &self.keys[0];
        // A random 96-bit nonce: safe for 2^32 seals under one key, far beyond what is configured here.
        let nonce: [u8; NONCE_LEN] = rand::random();
        let ciphertext =
            key.cipher.encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: bound_to }).ok()?;
        let mut bytes = Vec::with_capacity(NONCE_LEN + ciphertext.len());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&ciphertext);
        Some(Sealed { key_id: key.id.clone(), bytes })
    }

    pub(super) fn unseal(&self, sealed: &Sealed, bound_to: &[u8]) -> Result<Secret, UnsealFault> {
        let key = self.keys.iter().find(|key| key.id == sealed.key_id).ok_or(UnsealFault::UnknownKey)?;
        let (nonce, ciphertext) =
            sealed.bytes.split_first_chunk::<NONCE_LEN>().ok_or(UnsealFault::Mismatch)?;
        if ciphertext.len() < TAG_LEN {
            return Err(UnsealFault::Mismatch);
        }
        key.cipher
            .decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad: bound_to })
            .map(Secret::new)
            .map_err(|_| UnsealFault::Mismatch)
    }
}

const ID_RULE: &str = "the id must be 1 to 32 characters of a-z, 0-9, `-` and `_`";

fn is_key_id(id: &str) -> bool {
    (1..=KEY_ID_LEN_MAX).contains(&id.len())
        && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn parse_key(entry: &str) -> Result<Key, String> {
    let (id, encoded) = entry.split_once(':').ok_or("expected `id:base64 of 32 bytes`")?;
    if !is_key_id(id) {
        return Err(ID_RULE.into());
    }
    let decoded = STANDARD
        .decode(encoded)
        .map(Zeroizing::new)
        .map_err(|_| format!("what follows `{id}:` is not standard base64 with padding"))?;
    let key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(decoded.as_slice().try_into().map_err(|_| {
        format!("what follows `{id}:` decodes to {} bytes, a key has {KEY_LEN}", decoded.len())
    })?);
    Ok(Key { id: id.into(), cipher: Aes256Gcm::new((&*key).into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, fill: u8) -> String {
        format!("{id}:{}", STANDARD.encode([fill; 32]))
    }

    fn ring(text: &str) -> Keyring {
        Keyring::parse(&Secret::from(text)).unwrap()
    }

    #[test]
    fn the_first_key_seals_and_all_unseal() {
        let old = ring(&key("old", 1));
        let both = ring(&format!("{}, {}", key("new", 2), key("old", 1)));
        let sealed_by_old = old.seal(b"hush", b"row").unwrap();
        assert_eq!(both.unseal(&sealed_by_old, b"row").unwrap().expose(), b"hush");
        let sealed_by_new = both.seal(b"hush", b"row").unwrap();
        assert_eq!(sealed_by_new.key_id, "new");
        assert_eq!(old.unseal(&sealed_by_new, b"row"), Err(UnsealFault::UnknownKey));
    }

    #[test]
    fn the_same_secret_never_seals_to_the_same_bytes() {
        let ring = ring(&key("a", 1));
        assert_ne!(ring.seal(b"hush", b"").unwrap(), ring.seal(b"hush", b"").unwrap());
    }

    #[test]
    fn any_changed_bit_keeps_it_closed() {
        let ring = ring(&key("a", 1));
        let sealed = ring.seal(b"hush", b"row").unwrap();
        assert_eq!(ring.unseal(&sealed, b"other row"), Err(UnsealFault::Mismatch));
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[at] ^= 1;
            assert_eq!(ring.unseal(&changed, b"row"), Err(UnsealFault::Mismatch), "byte {at}");
        }
        for length in 0..sealed.bytes.len() {
            let short = Sealed { key_id: "a".into(), bytes: sealed.bytes[..length].to_vec() };
            assert_eq!(ring.unseal(&short, b"row"), Err(UnsealFault::Mismatch), "{length} bytes");
        }
    }

    #[test]
    fn generated_text_parses() {
        let text = Keyring::generate_text("k1").unwrap();
        assert_eq!(Keyring::parse(&text).unwrap().sealing_key_id(), "k1");
        assert_ne!(text, Keyring::generate_text("k1").unwrap());
        assert!(Keyring::generate_text("K 1").is_err());
    }

    #[test]
    fn every_fault_is_named_and_none_shows_the_key() {
        let good = STANDARD.encode([7; 32]);
        let text = format!("{good},UP:{good},a:???,b:{},c:{good},c:{good}", STANDARD.encode([7; 16]));
        let error = Keyring::parse(&Secret::from(text)).unwrap_err();
        assert_eq!(
            error.faults,
            [
                "key 1: expected `id:base64 of 32 bytes`",
                "key 2: the id must be 1 to 32 characters of a-z, 0-9, `-` and `_`",
                "key 3: what follows `a:` is not standard base64 with padding",
                "key 4: what follows `b:` decodes to 16 bytes, a key has 32",
                "key 6: the id `c` is there twice",
            ]
        );
        assert!(!error.to_string().contains(&good));
        assert!(Keyring::parse(&Secret::from("")).is_err());
    }
}
