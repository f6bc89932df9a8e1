//! The gRPC admin API of Bowline: any replica of either service answers any call.
//!
//! Nouns: a *caller* is who a key says it is; a *fault* is why a call failed; a *draft* is a resource
//! as a caller wants it, checked but not stored.
//!
//! The way of a call:
//!
//! 1. [`server`] takes the connection, bounded in number and in what it may carry.
//! 2. [`gate`] gives the call an id and a deadline, and [`auth`] says who calls and whether the role
//!    allows the [`method`]. It waits in the line of its tenant.
//! 3. One file a service ([`source_service`], [`endpoint_service`], [`event_service`],
//!    [`delivery_service`], [`dead_letter_service`], [`payload_service`], [`binding_service`],
//!    [`event_type_service`], [`operation_service`]) does the work: [`validate`] and [`mask`] judge what was
//!    sent, `bowline_core::store` writes and reads, [`present`] and [`convert`] answer.
//! 4. A write goes through [`change`]: configuration version, request id and audit row in the same
//!    transaction. An [`etag`] keeps it from undoing another one. Its secrets are made, checked and sealed in
//!    [`signing`].
//! 5. What may take long is done [`apart`]; [`fault`] says what went wrong, for every method in the one place; [`page`] makes pages,
//!    [`watch`] streams. [`streaming`] sends what is much for as long as somebody reads, and a watch for as long as the
//!    key allows.
//!
//! Reads go to Postgres, so that a write is readable at once on every replica.

mod apart;
mod api_key_service;
mod audit_service;
mod auth;
mod binding_service;
mod call;
mod change;
mod confirm;
mod convert;
mod dead_letter_service;
mod delivery_service;
mod endpoint_service;
mod etag;
mod event_service;
mod event_type_service;
mod fault;
mod gate;
mod mask;
mod method;
mod operation_service;
mod page;
mod payload_service;
mod present;
mod quota;
mod sealing;
mod server;
mod signing;
mod source_service;
mod streaming;
mod tenant_service;
mod validate;
mod watch;

use std::fmt;
use std::sync::Arc;

use bowline_core::egress::EgressPolicy;
use bowline_core::fetched_keys::FetchedKeys;
use bowline_core::journal::Journal;
use bowline_core::secrets::{Secret, Vault};
use bowline_core::snapshot::Snapshot;
use bowline_core::store::{self, Pool};
use deadpool_postgres::Object;

use fault::Fault;
pub use server::{ServeError, serve};

/// What the admin API stands on.
#[derive(Clone)]
pub struct AdminContext {
    pub pool: Pool,
    pub journal: Journal,
    pub vault: Arc<Vault>,
    pub snapshot: Arc<Snapshot>,
    /// For what is verified again by keys that a provider publishes.
    pub keys: FetchedKeys,
    /// Judges the URLs of endpoints.
    pub egress: Arc<EgressPolicy>,
    /// Scheme and authority under which ingest is reached, such as `https://hooks.example.com`.
    pub public_url: String,
    /// A key that may do everything, from the environment; `None`: only stored keys.
    pub bootstrap_key: Option<Secret>,
    /// Reflection without a key.
    pub open_reflection: bool,
}

impl AdminContext {
    async fn client(&self) -> Result<Object, Fault> {
        Ok(self.pool.get().await.map_err(store::Error::from)?)
    }
}

impl fmt::Debug for AdminContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminContext")
            .field("public_url", &self.public_url)
            .field("open_reflection", &self.open_reflection)
            .finish_non_exhaustive()
    }
}
