//! The configuration as one process has it in memory: read without locks, replaced as a whole.
//!
//! 1. [`Snapshot::load`] reads everything this process has [`Need`] of, [`Snapshot::refresh`] what changed since
//!    (`config_version > applied`, tombstones included), of one moment of the database.
//! 2. [`Snapshot::follow`] hears of writes by NOTIFY, and polls in any case.
//! 3. [`Snapshot::catch_up`] is for whoever holds work of a newer version: matching uses a
//!    configuration no older than the event's commit (invariant 11).
//! 4. [`LiveSource`] and [`LiveEndpoint`] are rows made ready for use; [`TenantEndpoints`] finds the
//!    endpoints an event is for.

mod configuration;
mod credentials;
mod endpoints;
mod follow;
mod keys;
mod live;
mod ordered;
mod receiver_tls;
mod refused;
mod sharded;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_postgres::Object;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::catalog::Catalog;
use crate::id::{EndpointId, SourceId, TenantId};
use crate::store::snapshots::{self, Changes};
use crate::store::{self, Pool};

use configuration::Configuration;

pub use crate::store::snapshots::Need;
pub use credentials::CredentialError;
pub use endpoints::TenantEndpoints;
pub use keys::KeysError;
pub use live::{ExpressionFault, LiveEndpoint, LiveSource, Selection, SourceExpressions};
pub use ordered::OrderedEndpoints;
pub use refused::{Failing, Refused};

/// A first look reads everything; 100,000 endpoints take a few seconds of it.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an unknown name is taken to stay unknown.
const UNKNOWN_KEPT: Duration = Duration::from_millis(250);
const UNKNOWN_MAX: u64 = 10_000;

/// The configuration of this process.
pub struct Snapshot {
    pool: Pool,
    need: Need,
    current: ArcSwap<Configuration>,
    versions: watch::Sender<i64>,
    /// Looks that have begun, to tell whether one began after a caller asked.
    begun: AtomicU64,
    /// Held while looking: the number of the last look that succeeded.
    looked: Mutex<u64>,
    unknown: moka::sync::Cache<u64, ()>,
    unknown_hasher: RandomState,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Reads the whole configuration, as far as it is needed.
    pub async fn load(pool: Pool, need: Need) -> Result<Arc<Self>, store::Error> {
        let snapshot = Self {
            pool,
            need,
            current: ArcSwap::default(),
            versions: watch::Sender::new(0),
            begun: AtomicU64::new(0),
            looked: Mutex::new(0),
            unknown: moka::sync::Cache::builder()
                .max_capacity(UNKNOWN_MAX)
                .time_to_live(UNKNOWN_KEPT)
                .build(),
            unknown_hasher: RandomState::new(),
        };
        snapshot.refresh().await?;
        Ok(Arc::new(snapshot))
    }

    /// The version that is in use.
    pub fn version(&self) -> i64 {
        self.current.load().version
    }

    /// Tells of each new version.
    pub fn versions(&self) -> watch::Receiver<i64> {
        self.versions.subscribe()
    }

    /// Makes sure that everything committed before this call is in use; returns the version. Calls
    /// share a look that begins after they came, so any number of them costs two.
    pub async fn refresh(&self) -> Result<i64, store::Error> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut looked = self.looked.lock().await;
        if *looked <= asked {
            let this = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            if let Some(changes) = self.read().await? {
                self.apply(changes);
            }
            *looked = this;
        }
        Ok(self.version())
    }

    /// Makes sure that the version in use is at least this one; returns at once if it is. A lower
    /// one in return is all the database has (it was restored from a backup).
    pub async fn catch_up(&self, at_least: i64) -> Result<i64, store::Error> {
        let version = self.version();
        if version >= at_least {
            return Ok(version);
        }
        let version = self.refresh().await?;
        if version < at_least {
            tracing::error!(version, at_least, "the database's configuration is older than its own work");
        }
        Ok(version)
    }

    /// For a name that is not in the snapshot: makes sure that the database does not have it either.
    /// Asks for the same name at most once in 250 ms.
    pub async fn refresh_for_unknown(&self, key: &str) -> Result<(), store::Error> {
        // The hash alone is kept: names come from outside and may be long.
        let key = self.unknown_hasher.hash_one(key);
        if self.unknown.contains_key(&key) {
            return Ok(());
        }
        self.refresh().await?;
        self.unknown.insert(key, ());
        Ok(())
    }

    /// Of a process that needs sources.
    pub fn source(&self, id: SourceId) -> Option<Arc<LiveSource>> {
        self.current.load().sources.get(&id).cloned()
    }

    /// By the whole custom path, such as `/webhooks/stripe`.
    pub fn source_by_path(&self, path: &str) -> Option<Arc<LiveSource>> {
        let current = self.current.load();
        let id = current.paths.get(path)?;
        current.sources.get(id).cloned()
    }

    /// Of a process that needs endpoints.
    pub fn endpoint(&self, id: EndpointId) -> Option<Arc<LiveEndpoint>> {
        self.current.load().endpoints.get(&id).cloned()
    }

    /// What a tenant says of event types; `None`: nothing.
    pub fn catalog(&self, tenant: TenantId) -> Option<Arc<Catalog>> {
        self.current.load().catalogs.get(&tenant).cloned()
    }

    pub fn endpoints_of(&self, tenant: TenantId) -> Arc<TenantEndpoints> {
        self.current.load().tenants.get(&tenant).cloned().unwrap_or_default()
    }

    /// The ordered endpoints as they are known now.
    pub fn ordered(&self) -> OrderedEndpoints {
        OrderedEndpoints::of(self.current.load_full())
    }

    async fn read(&self) -> Result<Option<Changes>, store::Error> {
        let mut client = self.pool.get().await?;
        let changes = snapshots::changes(&mut client, self.need, self.version());
        let Ok(changes) = timeout(READ_TIMEOUT, changes).await else {
            // A statement still runs on this connection: nobody else should wait behind it.
            drop(Object::take(client));
            return Err(store::Error::TimedOut(READ_TIMEOUT));
        };
        changes
    }

    /// Only while `looked` is held: there is one writer.
    fn apply(&self, changes: Changes) {
        let before = self.version();
        if changes.version == before && !changes.complete {
            return;
        }
        let next = Configuration::after(&self.current.load(), changes);
        let version = next.version;
        tracing::debug!(
            version,
            sources = next.sources.len(),
            endpoints = next.endpoints.len(),
            "configuration in use"
        );
        self.current.store(Arc::new(next));
        metrics::gauge!("bowline_core_config_version").set(version as f64);
        // What was unknown a moment ago may be known now.
        self.unknown.invalidate_all();
        self.versions.send_if_modified(|known| std::mem::replace(known, version) != version);
    }
}
