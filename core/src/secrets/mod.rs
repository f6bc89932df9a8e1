//! What must not be read by anyone who reads the database, a log or a core dump.
//!
//! 1. [`Secret`] holds plain bytes in memory: wiped when dropped, redacted in `Debug`, compared in
//!    constant time.
//! 2. [`Keyring`] seals and unseals with AES-256-GCM; several keys live side by side so that the
//!    sealing key can be changed without downtime.
//! 3. [`is_same`] is how secrets and signatures are compared, everywhere.
//! 4. [`Vault`] is the keyring at work: it opens a [`StoredSecret`] for a [`Purpose`], remembers what
//!    it opened, and tells [`UnsealLog`] of every first opening, for the audit log (invariant 8).

mod audit;
mod keyring;
pub mod name;
mod same;
mod vault;

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

pub use audit::{Purpose, UnsealLog, Unsealing};
pub use keyring::{Keyring, KeyringError, Sealed};
pub use same::is_same;
pub use vault::{NewSecret, SECRET_BYTES_MAX, SecretError, StoredSecret, Vault};

/// Bytes that are never shown: wiped on drop, redacted in `Debug`, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// 256 random bits, as text.
    pub fn generate() -> Self {
        Self::new(hex::encode(rand::random::<[u8; 32]>()))
    }

    /// The plain bytes. Whoever calls this answers for where they go.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The plain bytes as text, when they are UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Constant time for equal lengths; the length itself is not hidden.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        is_same(&self.0, &other.0)
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Read from configuration; there is no `Serialize` on purpose.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("bowline-test-hush");
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
        assert_eq!(secret.expose_str(), Some("bowline-test-hush"));
        assert_eq!((secret.len(), secret.is_empty()), (17, false));
    }

    #[test]
    fn equality_is_of_the_bytes() {
        assert_eq!(Secret::new("a"), Secret::new(vec![b'a']));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
        assert_eq!(Secret::new(vec![0xff]).expose_str(), None);
    }
}
