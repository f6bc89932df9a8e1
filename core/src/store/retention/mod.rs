//! Taking away what is older than the retention: whole days ([`retire`]), rows that nothing needs any
//! more ([`sweep`], [`keys`]), the events of tenants that keep theirs for a shorter time ([`tenants`]), and deliveries
//! that waited for too long ([`expire`]).
//!
//! All of it runs on the one [`Session`] that holds the janitor's lock, so whoever loses the lock loses the
//! connection that would have done the work. Every step can be cut off anywhere and done again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::{Error, STATEMENT_TIMEOUT, connection_config};

pub mod expire;
mod keys;
pub mod retire;
pub mod sweep;
pub mod tenants;

/// Held by the one janitor of a deployment.
const JANITOR_LOCK: i64 = 0x626f_776c_6a61_6e69;
/// Whoever waits for a lock has others waiting behind it.
const LOCK_TIMEOUT_MS: u64 = 2000;
/// A chunk's id is made moments after those of its events; replicas' clocks may differ.
const CHUNK_AFTER_EVENTS: Duration = Duration::from_secs(24 * 3600);

/// A connection past any pooler. Its end, also that of its process or host, gives the lock free.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    pub async fn open(direct_url: &str) -> Result<Self, Error> {
        let mut config = connection_config(direct_url)?;
        config.application_name("bowline-janitor");
        let (client, connection) = config.connect(NoTls).await?;
        let session = Self { client, driver: tokio::spawn(connection) };
        // The server notices a dead host by itself. A sweep that is lost with the server is made again.
        let settings = format!(
            "SET statement_timeout = {}; SET lock_timeout = {LOCK_TIMEOUT_MS}; SET synchronous_commit = off;
             SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3",
            STATEMENT_TIMEOUT.as_millis()
        );
        session.client.batch_execute(&settings).await?;
        Ok(session)
    }

    /// Whether this session is the janitor's now.
    pub async fn try_lock(&self) -> Result<bool, Error> {
        Ok(self.client.query_one("SELECT pg_try_advisory_lock($1)", &[&JANITOR_LOCK]).await?.try_get(0)?)
    }

    /// Whether it still is. A pooler that gives each statement another session would make it untrue.
    pub async fn holds(&self) -> Result<bool, Error> {
        const SQL: &str = "
            SELECT EXISTS (SELECT 1 FROM pg_locks
                            WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
                              AND (classid::bigint << 32 | objid::bigint) = $1 AND objsubid = 1)";
        Ok(self.client.query_one(SQL, &[&JANITOR_LOCK]).await?.try_get(0)?)
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// The smallest id that can be made at this time: what is below was made before.
pub fn id_at(time: DateTime<Utc>) -> Uuid {
    let unix_ms = u128::try_from(time.timestamp_millis()).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(unix_ms << 80)
}

/// Ids of chunks below it may hold events below `event`.
fn chunks_below(event: Uuid) -> Uuid {
    Uuid::from_u128(event.as_u128().saturating_add(CHUNK_AFTER_EVENTS.as_millis() << 80))
}

impl Error {
    /// Somebody holds what a step needs: the next round comes again.
    pub fn is_lock_timeout(&self) -> bool {
        self.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
    }
}
