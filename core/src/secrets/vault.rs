//! The keyring at work: seals what is saved, opens what is used, remembers what it opened.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use uuid::Uuid;

use super::Secret;
use super::audit::{Ledger, Purpose, UnsealLog, Unsealing};
use super::keyring::{Keyring, Sealed, UnsealFault};
use crate::id::{SecretId, TenantId};

/// A secret is refused beyond this; the longest real ones are PEM keys of a few KiB.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Opened secrets kept in memory; beyond, the least used are opened again when needed.
const OPENED_MAX: u64 = 131_072;

/// A row of `secrets`: one version of one named secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    pub id: SecretId,
    pub tenant_id: TenantId,
    /// The source or endpoint it belongs to.
    pub owner: Uuid,
    pub name: String,
    pub sealed: Sealed,
    pub create_time: DateTime<Utc>,
    /// When it stops being accepted; `None`: it is current.
    pub expires_at: Option<DateTime<Utc>>,
    /// Of an ed25519 key that signs: what anybody may verify by.
    pub public_key: Option<[u8; 32]>,
}

/// What is to be sealed for the first time.
#[derive(Debug, Clone)]
pub struct NewSecret {
    pub tenant_id: TenantId,
    /// The source or endpoint it belongs to.
    pub owner: Uuid,
    pub name: String,
    pub value: Secret,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret is empty")]
    Empty,
    #[error("the secret has {len_bytes} bytes; at most {SECRET_BYTES_MAX} are kept")]
    TooLarge { len_bytes: usize },
    #[error("secret {id} was sealed by the key `{key_id}`, which is not in secrets.keyring: add it back")]
    UnknownKey { id: SecretId, key_id: String },
    #[error(
        "secret {id} does not open: it was changed, moved from another owner, or the key `{key_id}` of \
         secrets.keyring is not the one that sealed it"
    )]
    Unopenable { id: SecretId, key_id: String },
}

struct Opened {
    owner: Uuid,
    tenant_id: TenantId,
    sealed: Sealed,
    secret: Arc<Secret>,
    /// One bit a [`Purpose`] that the ledger knows of: spares the hot path its lock.
    told: AtomicU8,
}

impl Opened {
    /// The row may have been changed or moved since: a cached secret stands only for the very same row.
    fn is_of(&self, stored: &StoredSecret) -> bool {
        self.owner == stored.owner && self.tenant_id == stored.tenant_id && self.sealed == stored.sealed
    }
}

struct Inner {
    keyring: Keyring,
    opened: Cache<SecretId, Arc<Opened>>,
    ledger: Arc<Ledger>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ledger.close();
    }
}

/// Seals and opens; cheap to clone.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keyring", &self.inner.keyring).finish_non_exhaustive()
    }
}

impl Vault {
    /// The log must be drained by whoever keeps the audit log.
    pub fn new(keyring: Keyring) -> (Self, UnsealLog) {
        let ledger = Ledger::new();
        let log = UnsealLog::new(Arc::clone(&ledger));
        let inner = Inner { keyring, opened: Cache::new(OPENED_MAX), ledger };
        (Self { inner: Arc::new(inner) }, log)
    }

    /// Seals a new secret under a new id, bound to that id, its tenant and its owner.
    pub fn seal(&self, new: NewSecret) -> Result<StoredSecret, SecretError> {
        let len_bytes = new.value.len();
        if len_bytes == 0 {
            return Err(SecretError::Empty);
        }
        if len_bytes > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge { len_bytes });
        }
        let id = SecretId::new();
        let sealed = self
            .inner
            .keyring
            .seal(new.value.expose(), &binding(id, new.tenant_id, new.owner))
            .ok_or(SecretError::TooLarge { len_bytes })?;
        Ok(StoredSecret {
            id,
            tenant_id: new.tenant_id,
            owner: new.owner,
            name: new.name,
            sealed,
            create_time: Utc::now(),
            expires_at: new.expires_at,
            public_key: None,
        })
    }

    /// Opens a secret for a purpose. The first opening for each purpose in this process goes to the
    /// [`UnsealLog`]; later ones are served from memory without decrypting.
    pub fn open(&self, stored: &StoredSecret, purpose: Purpose) -> Result<Arc<Secret>, SecretError> {
        let opened = match self.inner.opened.get(&stored.id) {
            Some(opened) if opened.is_of(stored) => opened,
            _ => {
                let opened = Arc::new(self.unseal(stored)?);
                self.inner.opened.insert(stored.id, Arc::clone(&opened));
                opened
            }
        };
        self.tell(&opened, stored, purpose);
        Ok(Arc::clone(&opened.secret))
    }

    /// The same secret under the key that seals now; `None` when it already is.
    pub fn reseal(&self, stored: &StoredSecret) -> Result<Option<Sealed>, SecretError> {
        if stored.sealed.key_id == self.inner.keyring.sealing_key_id() {
            return Ok(None);
        }
        let opened = self.unseal(stored)?;
        let bound_to = binding(stored.id, stored.tenant_id, stored.owner);
        let len_bytes = opened.secret.len();
        let sealed = self.inner.keyring.seal(opened.secret.expose(), &bound_to);
        sealed.map(Some).ok_or(SecretError::TooLarge { len_bytes })
    }

    /// Drops a secret from memory, as when its row is deleted.
    pub fn forget(&self, id: SecretId) {
        self.inner.opened.invalidate(&id);
    }

    fn unseal(&self, stored: &StoredSecret) -> Result<Opened, SecretError> {
        let bound_to = binding(stored.id, stored.tenant_id, stored.owner);
        let secret = self.inner.keyring.unseal(&stored.sealed, &bound_to).map_err(|fault| {
            let (id, key_id) = (stored.id, stored.sealed.key_id.clone());
            match fault {
                UnsealFault::UnknownKey => SecretError::UnknownKey { id, key_id },
                UnsealFault::Mismatch => SecretError::Unopenable { id, key_id },
            }
        })?;
        Ok(Opened {
            owner: stored.owner,
            tenant_id: stored.tenant_id,
            sealed: stored.sealed.clone(),
            secret: Arc::new(secret),
            told: AtomicU8::new(0),
        })
    }

    fn tell(&self, opened: &Opened, stored: &StoredSecret, purpose: Purpose) {
        // Relaxed: the bit only saves a second look; the ledger itself decides under its lock.
        if purpose != Purpose::Reveal && opened.told.load(Ordering::Relaxed) & purpose.bit() != 0 {
            return;
        }
        let told = self.inner.ledger.tell(Unsealing {
            secret_id: stored.id,
            tenant_id: stored.tenant_id,
            owner: stored.owner,
            purpose,
            at: Utc::now(),
        });
        if told {
            opened.told.fetch_or(purpose.bit(), Ordering::Relaxed);
        }
    }
}

/// What a sealed secret is bound to: a row copied to another id, tenant or owner does not open.
fn binding(id: SecretId, tenant_id: TenantId, owner: Uuid) -> Vec<u8> {
    const DOMAIN: &[u8] = b"bowline/secret/1";
    [DOMAIN, id.0.as_bytes(), tenant_id.0.as_bytes(), owner.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_TENANT;

    fn keyring(ids: &[&str]) -> Keyring {
        let texts: Vec<String> = ids
            .iter()
            .map(|id| {
                use base64::Engine as _;
                let key = [id.as_bytes()[0]; 32];
                format!("{id}:{}", base64::engine::general_purpose::STANDARD.encode(key))
            })
            .collect();
        Keyring::parse(&Secret::from(texts.join(","))).unwrap()
    }

    fn new_secret(value: impl Into<Vec<u8>>) -> NewSecret {
        NewSecret {
            tenant_id: DEFAULT_TENANT,
            owner: Uuid::from_u128(7),
            name: "signing".into(),
            value: Secret::new(value),
            expires_at: None,
        }
    }

    #[test]
    fn opens_what_it_sealed_and_tells_once_a_purpose() {
        let (vault, mut log) = Vault::new(keyring(&["a"]));
        let stored = vault.seal(new_secret("hush")).unwrap();
        for _ in 0..3 {
            assert_eq!(vault.open(&stored, Purpose::Sign).unwrap().expose(), b"hush");
        }
        vault.forget(stored.id);
        vault.open(&stored, Purpose::Sign).unwrap();
        vault.open(&stored, Purpose::Test).unwrap();
        let told: Vec<_> = log.try_batch(10).iter().map(|told| (told.secret_id, told.purpose)).collect();
        assert_eq!(told, [(stored.id, Purpose::Sign), (stored.id, Purpose::Test)]);
    }

    #[test]
    fn a_row_moved_elsewhere_does_not_open_even_from_memory() {
        let (vault, mut log) = Vault::new(keyring(&["a"]));
        let stored = vault.seal(new_secret("hush")).unwrap();
        vault.open(&stored, Purpose::Sign).unwrap();
        let refused = SecretError::Unopenable { id: stored.id, key_id: "a".into() };
        let moved = StoredSecret { owner: Uuid::from_u128(8), ..stored.clone() };
        assert_eq!(vault.open(&moved, Purpose::Sign), Err(refused.clone()));
        let moved = StoredSecret { tenant_id: TenantId::new(), ..stored.clone() };
        assert_eq!(vault.open(&moved, Purpose::Sign), Err(refused));
        let moved = StoredSecret { id: SecretId::new(), ..stored };
        assert!(matches!(vault.open(&moved, Purpose::Sign), Err(SecretError::Unopenable { .. })));
        assert_eq!(log.try_batch(10).len(), 1);
    }

    #[test]
    fn a_key_change_is_a_reseal() {
        let (before, _log) = Vault::new(keyring(&["a"]));
        let (after, _log) = Vault::new(keyring(&["b", "a"]));
        let (without, _log) = Vault::new(keyring(&["b"]));
        let mut stored = before.seal(new_secret("hush")).unwrap();
        assert_eq!(before.reseal(&stored), Ok(None));
        let unknown = SecretError::UnknownKey { id: stored.id, key_id: "a".into() };
        assert_eq!(without.open(&stored, Purpose::Sign), Err(unknown));
        stored.sealed = after.reseal(&stored).unwrap().unwrap();
        assert_eq!(without.open(&stored, Purpose::Sign).unwrap().expose(), b"hush");
    }

    #[test]
    fn size_has_limits() {
        let (vault, _log) = Vault::new(keyring(&["a"]));
        assert_eq!(vault.seal(new_secret("")), Err(SecretError::Empty));
        assert!(vault.seal(new_secret(vec![1; SECRET_BYTES_MAX])).is_ok());
        let len_bytes = SECRET_BYTES_MAX + 1;
        assert_eq!(vault.seal(new_secret(vec![1; len_bytes])), Err(SecretError::TooLarge { len_bytes }));
    }
}
