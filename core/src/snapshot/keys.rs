//! The keys of one source or endpoint, opened and decoded once and kept for a minute.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, TimeDelta, Utc};

use crate::id::SecretId;
use crate::scheme::{Key, KeyError, limits};
use crate::secrets::{Purpose, Secret, SecretError, StoredSecret, Vault};

/// After this the vault is asked again, so that an unsealing its log had no room for is told.
const KEPT_S: i64 = 60;

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
    /// The keys of the secrets that are valid at `now`, in their order. One that does not open is
    /// left out as long as another one does.
    pub(super) fn get(
        &self,
        secrets: &[Arc<StoredSecret>],
        vault: &Vault,
        purpose: Purpose,
        now: DateTime<Utc>,
        decode: impl Fn(&Secret) -> Result<Key, KeyError>,
    ) -> Result<Arc<[Key]>, KeysError> {
        if let Some(kept) = &*self.kept.load()
            && kept.from <= now
            && now < kept.until
        {
            return Ok(Arc::clone(&kept.keys));
        }
        let valid = |secret: &&Arc<StoredSecret>| secret.expires_at.is_none_or(|at| at > now);
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        let mut until = now + TimeDelta::seconds(KEPT_S);
        for stored in secrets.iter().filter(valid).take(limits::KEYS_MAX) {
            until = stored.expires_at.map_or(until, |at| until.min(at));
            let opened = vault.open(stored, purpose).map_err(KeysError::from);
            let key = opened
                .and_then(|secret| decode(&secret).map_err(|fault| KeysError::Key { id: stored.id, fault }));
            match key {
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
