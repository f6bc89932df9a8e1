//! Who calls, and what they may do: a layer in front of every service.
//!
//! 1. `grpc.health.v1` is open; reflection is where the deployment says so; all else needs a key.
//! 2. The bootstrap key is compared in constant time; any other is looked up by its SHA-256.
//! 3. The role must allow the method; the handler finds the [`Caller`] in the request's extensions.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::TenantId;
use bowline_core::secrets::{Secret, is_same};
use bowline_core::store::{self, Pool, api_keys};
use http::HeaderValue;
use moka::future::Cache;
use sha2::{Digest, Sha256};

use crate::fault::Fault;
use crate::method::{Access, Method};

const KEY_BYTES_MAX: usize = 512;
/// How long a looked-up key is believed: a revoked one works no longer than this.
const KEY_CACHE_TTL: Duration = Duration::from_secs(1);
/// Unknown keys are kept too, so that a flood of them costs Postgres one look a second each.
const KEY_CACHE_MAX: u64 = 10_000;

type KeyHash = [u8; 32];

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Admin,
    /// All but keys, tenants and secrets.
    Operator,
    /// Publish only.
    Publisher,
    /// Read only.
    Viewer,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::Operator, Self::Publisher, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// `bootstrap`, or the id of the key: as the audit log has it.
    pub(crate) actor: Arc<str>,
    pub(crate) role: Role,
    /// The tenant the key is bound to; `None`: all of them.
    pub(crate) tenant: Option<TenantId>,
}

/// Tells callers apart.
pub(crate) struct Gate {
    pool: Pool,
    bootstrap: Option<KeyHash>,
    open_reflection: bool,
    known: Cache<KeyHash, Option<Caller>>,
}

impl Gate {
    pub(crate) fn new(pool: Pool, bootstrap_key: Option<&Secret>, open_reflection: bool) -> Self {
        Self {
            pool,
            bootstrap: bootstrap_key.map(|key| hash(key.expose())),
            open_reflection,
            known: Cache::builder().max_capacity(KEY_CACHE_MAX).time_to_live(KEY_CACHE_TTL).build(),
        }
    }

    /// `Ok(None)` for open methods.
    pub(crate) async fn admit(
        &self,
        method: Method,
        authorization: Option<&HeaderValue>,
    ) -> Result<Option<Caller>, Denied> {
        let Method { access, name, .. } = method;
        if access == Access::Open || access == Access::Reflection && self.open_reflection {
            return Ok(None);
        }
        let key = bearer(authorization).map_err(Denied::unknown)?;
        let caller = self.caller(hash(key)).await.map_err(Denied::unknown)?;
        if access.allows(caller.role) {
            return Ok(Some(caller));
        }
        let method = name.unwrap_or("this method");
        let fault = Fault::RoleInsufficient { role: caller.role.as_str(), method };
        Err(Denied { caller: Some(caller), fault })
    }

    async fn caller(&self, key: KeyHash) -> Result<Caller, Fault> {
        if self.bootstrap.is_some_and(|bootstrap| is_same(&bootstrap, &key)) {
            return Ok(Caller { actor: "bootstrap".into(), role: Role::Admin, tenant: None });
        }
        let found = self.known.try_get_with(key, self.look_up(key)).await;
        match found {
            Ok(Some(caller)) => Ok(caller),
            Ok(None) => Err(Fault::KeyInvalid),
            // Shared between those who waited for one look: said again in words of its own.
            Err(error) if error.is_crowded() => Err(Fault::Crowded),
            Err(error) if error.is_unavailable() => Err(Fault::StoreAway),
            Err(error) => Err(Fault::Unreadable(error.to_string())),
        }
    }

    async fn look_up(&self, key: KeyHash) -> Result<Option<Caller>, store::Error> {
        let client = self.pool.get().await?;
        let Some(found) = api_keys::find_active(&client, &key).await? else { return Ok(None) };
        let Some(role) = Role::parse(&found.role) else {
            tracing::error!(key_id = %found.id, role = found.role, "api key has a role this version does not know");
            return Ok(None);
        };
        if let Err(error) = api_keys::used(&client, found.id).await {
            tracing::debug!(%error, key_id = %found.id, "when a key was used was not kept");
        }
        Ok(Some(Caller { actor: found.id.to_string().into(), role, tenant: found.tenant_id }))
    }
}

/// A call that was not let through, and by whom it was if that is known.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) caller: Option<Caller>,
    pub(crate) fault: Fault,
}

impl Denied {
    fn unknown(fault: Fault) -> Self {
        Self { caller: None, fault }
    }
}

/// Hashing first makes the comparison independent of length and content.
fn hash(key: &[u8]) -> KeyHash {
    Sha256::digest(key).into()
}

fn bearer(authorization: Option<&HeaderValue>) -> Result<&[u8], Fault> {
    let value = authorization.ok_or(Fault::KeyMissing)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7).ok_or(Fault::KeyMissing)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(Fault::KeyMissing);
    }
    let key = key.trim_ascii();
    if key.is_empty() || key.len() > KEY_BYTES_MAX { Err(Fault::KeyInvalid) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_headers() {
        let read = |value: &str| bearer(Some(&value.parse().unwrap())).map(<[u8]>::to_vec);
        assert_eq!(read("Bearer bwl_test").unwrap(), b"bwl_test");
        assert_eq!(read("bearer  bwl_test ").unwrap(), b"bwl_test");
        assert!(matches!(read("Basic bwl_test"), Err(Fault::KeyMissing)));
        assert!(matches!(read("Bear"), Err(Fault::KeyMissing)));
        assert!(matches!(read("Bearer "), Err(Fault::KeyMissing | Fault::KeyInvalid)));
        assert!(matches!(read(&format!("Bearer {}", "x".repeat(600))), Err(Fault::KeyInvalid)));
        assert!(matches!(bearer(None), Err(Fault::KeyMissing)));
    }
}
