//! The keys of one source or endpoint, opened and decoded once and kept for a minute.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};

use crate::id::SecretId;
use crate::scheme::{Key, KeyError, limits};
use crate::secrets::{Purpose, Secret, SecretError, StoredSecret, Vault};

/// After this the vault is asked again, so that an unsealing its log had no room for is told.
pub(super) const KEPT_S: i64 = 60;

/// Why an owner that has secrets has no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("secret {id}: {fault}")]
    Key { id: SecretId, fault: KeyError },
}

#[derive(Debug, Default)]
pub(super) struct KeyCache {
    kept: ArcSwapOption<Kept>,
}

#[derive(Debug)]
struct Kept {
    keys: Arc<[Key]>,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl KeyCache {
    /// The keys of the secrets that are valid at `now`, in their order; of those with names of their own
    /// none. One that does not open is left out as long as another one does.
    pub(super) fn get(
        &self,
        secrets: &[Arc<StoredSecret>],
        now: DateTime<Utc>,
        open: impl Fn(&StoredSecret) -> Result<Key, KeysError>,
    ) -> Result<Arc<[Key]>, KeysError> {
        if let Some(kept) = &*self.kept.load()
            && kept.from <= now
            && now < kept.until
        {
            return Ok(Arc::clone(&kept.keys));
        }
        let valid =
            |secret: &&Arc<StoredSecret>| secret.is_signing() && secret.expires_at.is_none_or(|at| at > now);
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        let mut until = now + TimeDelta::seconds(KEPT_S);
        for stored in secrets.iter().filter(valid).take(limits::KEYS_MAX) {
            until = stored.expires_at.map_or(until, |at| until.min(at));
            match open(stored) {
                Ok(key) => keys.push(key),
                Err(fault) => faults.push(fault),
            }
        }
        if keys.is_empty()
            && let Some(fault) = faults.pop()
        {
            return Err(fault);
        }
        for error in faults {
            tracing::error!(%error, "a secret can't be used, the owner's other ones are");
        }
        let keys: Arc<[Key]> = keys.into();
        self.kept.store(Some(Arc::new(Kept { keys: Arc::clone(&keys), from: now, until })));
        Ok(keys)
    }
}

/// Opens a secret and reads it as a key.
pub(super) fn open(
    vault: &Vault,
    stored: &StoredSecret,
    purpose: Purpose,
    decode: impl Fn(&Secret) -> Result<Key, KeyError>,
) -> Result<Key, KeysError> {
    let secret = vault.open(stored, purpose)?;
    decode(&secret).map_err(|fault| KeysError::Key { id: stored.id, fault })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use uuid::Uuid;

    use super::*;
    use crate::format;
    use crate::id::DEFAULT_TENANT;
    use crate::secrets::Sealed;
    use crate::secrets::name::SIGNING;

    fn stored(number: u128, expires_at: Option<DateTime<Utc>>) -> Arc<StoredSecret> {
        Arc::new(StoredSecret {
            id: SecretId(Uuid::from_u128(number)),
            tenant_id: DEFAULT_TENANT,
            owner: Uuid::from_u128(1),
            name: SIGNING.into(),
            sealed: Sealed { key_id: "a".into(), bytes: Vec::new() },
            create_time: DateTime::UNIX_EPOCH,
            expires_at,
            public_key: None,
        })
    }

    #[test]
    fn keys_are_kept_until_one_expires_and_never_for_long() {
        let start = DateTime::UNIX_EPOCH;
        let at = |seconds| start + TimeDelta::seconds(seconds);
        let secrets = [stored(3, None), stored(2, Some(at(10))), stored(1, Some(at(0)))];
        let cache = KeyCache::default();
        let opened = Cell::new(0);
        let count = |now| {
            let open = |_: &StoredSecret| {
                opened.set(opened.get() + 1);
                let secret = Secret::from("bowline-test-key");
                format::find("rkt").unwrap().key(&secret).map_err(|_| unreachable!("any text is a key"))
            };
            (cache.get(&secrets, now, open).unwrap().len(), opened.get())
        };
        assert_eq!(count(at(0)), (2, 2), "an expiry is the first moment without");
        assert_eq!(count(at(9)), (2, 2), "kept");
        assert_eq!(count(at(10)), (1, 3));
        assert_eq!(count(at(69)), (1, 3));
        assert_eq!(count(at(70)), (1, 4), "a minute later the vault is asked again");
        assert_eq!(count(at(5)), (2, 6), "a clock that went back");
    }

    #[test]
    fn a_secret_that_does_not_open_fails_alone() {
        let broken = SecretId(Uuid::from_u128(2));
        let fault = || KeysError::Key { id: broken, fault: KeyError::Empty };
        let open = |stored: &StoredSecret| {
            if stored.id == broken {
                return Err(fault());
            }
            let secret = Secret::from("bowline-test-key");
            format::find("rkt").unwrap().key(&secret).map_err(|_| unreachable!("any text is a key"))
        };
        let now = DateTime::UNIX_EPOCH;
        let named = Arc::new(StoredSecret { name: "verify_token".into(), ..(*stored(1, None)).clone() });
        assert!(KeyCache::default().get(&[named], now, open).unwrap().is_empty(), "no key of a scheme");
        let both = [stored(2, None), stored(1, None)];
        assert_eq!(KeyCache::default().get(&both, now, open).unwrap().len(), 1);
        assert_eq!(KeyCache::default().get(&both[..1], now, open).unwrap_err(), fault());
        assert!(KeyCache::default().get(&[], now, open).unwrap().is_empty());
    }
}
