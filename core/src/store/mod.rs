//! All SQL of Bowline, one file a table group, and the pool it runs on.
//!
//! The hot path: [`journal`] writes events, [`chunks`] claims them, [`record`] writes what became of
//! them, [`queue`] hands out what waits, [`channels`] what waits in order. [`replicas`] is who lives. The others are configuration and
//! the lists of the admin API.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

pub mod api_keys;
pub mod audit;
pub mod audit_log;
pub mod bindings;
pub mod channels;
pub mod chunks;
pub mod claim_session;
pub mod config_writes;
pub mod dead_letters;
pub mod dedup_keys;
pub mod deliveries;
pub mod endpoints;
pub mod event_types;
pub mod events;
pub mod health;
pub mod journal;
pub mod operations;
pub mod own_events;
pub mod partitions;
pub mod payload_sweeps;
pub mod payloads;
pub mod queue;
pub mod receipts;
pub mod record;
pub mod rejections;
pub mod replays;
pub mod replicas;
pub mod resources;
pub mod retention;
pub mod snapshots;
pub mod sources;
pub mod stats;
pub mod stored_secrets;
pub mod strays;
pub mod tenants;
pub mod test_events;
pub mod unmatched;
pub mod unsealings;
pub mod watching;

pub use deadpool_postgres::Transaction;

pub type Pool = deadpool_postgres::Pool;
/// A connection of the pool. What runs all the time keeps its prepared statements there.
pub type Connection = deadpool_postgres::ClientWrapper;

/// No statement of ours runs longer.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The oldest schema this build can work with.
pub const MIN_SCHEMA: i32 = 74;
/// Serialises migrations of one deployment.
const MIGRATION_LOCK: i64 = 0x626f_776c_696e_6531;

mod embedded {
    refinery::embed_migrations!("src/store/migrations");
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("postgres: {}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("no connection to postgres: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    #[error("the postgres URL is not one: {0}")]
    Url(String),
    #[error("migration failed: {0}")]
    Migration(#[from] refinery::Error),
    #[error("the database has schema {found}, this build needs at least {needed}: run `bowline migrate`")]
    Schema { found: i32, needed: i32 },
    #[error("a row of {table} can't be read: {problem}")]
    Row { table: &'static str, problem: String },
    #[error(
        "the janitor's session does not hold its lock: a pooler stands before Postgres, set postgres.direct_url"
    )]
    NotTheJanitor,
    #[error("postgres did not answer within {0:?}")]
    TimedOut(Duration),
}

/// tokio-postgres says only "db error"; the server's message is one level down.
fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

impl Error {
    fn postgres(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Postgres(error) | Self::Pool(deadpool_postgres::PoolError::Backend(error)) => Some(error),
            _ => None,
        }
    }

    pub fn code(&self) -> Option<&SqlState> {
        self.postgres().and_then(tokio_postgres::Error::code)
    }

    /// A row for which no partition has been made. No row of a partitioned table breaks a CHECK of its
    /// own, and without a constraint's name it is the partition.
    pub fn is_missing_partition(&self) -> bool {
        let refusal = self.postgres().and_then(tokio_postgres::Error::as_db_error);
        refusal.is_some_and(|db| *db.code() == SqlState::CHECK_VIOLATION && db.constraint().is_none())
    }

    /// A row that is there already.
    pub fn is_repeated_row(&self) -> bool {
        self.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    /// Every connection of the pool was in use for as long as one is waited for.
    pub fn is_crowded(&self) -> bool {
        use deadpool_postgres::{PoolError, TimeoutType};

        matches!(self, Self::Pool(PoolError::Timeout(TimeoutType::Wait)))
    }

    /// Postgres is away, shutting down, out of connections or too slow: the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Pool(deadpool_postgres::PoolError::Backend(_)) | Self::Postgres(_) => match self.code() {
                Some(code) => matches!(&code.code()[..2], "08" | "53" | "57"),
                None => true,
            },
            Self::TimedOut(_) | Self::Pool(_) => true,
            _ => false,
        }
    }
}

/// Parses a URL and puts our session settings into it.
pub fn connection_config(url: &str) -> Result<tokio_postgres::Config, Error> {
    let mut config = tokio_postgres::Config::from_str(url).map_err(|error| Error::Url(error.to_string()))?;
    if config.get_application_name().is_none() {
        config.application_name("bowline");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(5));
    }
    config.keepalives_idle(Duration::from_secs(10));
    config.tcp_user_timeout(Duration::from_secs(10));
    Ok(config)
}

const PLANNED_ONCE: &str = "SET plan_cache_mode = force_generic_plan";
/// A plan is kept no longer: one that was made in a quiet hour, when Postgres knew a table to be empty, reads it from
/// end to end, for each row it is joined to, when a million deliveries wait in it. To plan takes a millisecond.
const PLANNED_FOR: Duration = Duration::from_secs(1);
/// The same, for sessions that look up rows by their keys and nothing else: their plans may be kept.
const BY_INDEX: &str = "SET enable_seqscan = off";
/// Postgres compiles a plan by what it is said to cost; for statements like ours that takes longer than to run them.
const NOT_COMPILED: &str = "SET jit = off";

/// What every session that writes begins with: an end to each statement, no compiling, and bodies compressed by the
/// faster of the two ways (a third of the time, for the same size), where the server was built with it.
fn session_settings() -> String {
    format!(
        "SET statement_timeout = {};
         {NOT_COMPILED};
         SELECT set_config(name, 'lz4', false) FROM pg_settings
          WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)",
        STATEMENT_TIMEOUT.as_millis()
    )
}

/// A pool of connections; none is opened yet.
pub fn connect(url: &str, size: usize) -> Result<Pool, Error> {
    pool(url, size, session_settings())
}

/// A pool for a few statements that run again and again over keys: each is planned once a second and connection.
/// Left to itself Postgres plans such a statement anew each time, because it takes what is in the arrays for cheaper
/// than what it assumes to be in them; planning then takes several times as long as doing it.
pub fn connect_planned_ahead(url: &str, size: usize) -> Result<Pool, Error> {
    pool(url, size, format!("{}; {PLANNED_ONCE}", session_settings()))
}

fn pool(url: &str, size: usize, settings: String) -> Result<Pool, Error> {
    let settings: Arc<str> = settings.into();
    let manager = Manager::from_config(
        connection_config(url)?,
        NoTls,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(5)))
        .create_timeout(Some(Duration::from_secs(5)))
        .post_create(Hook::async_fn(move |client, _| {
            let settings = Arc::clone(&settings);
            Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
        }))
        .pre_recycle(Hook::async_fn(|client, metrics| {
            let period =
                |time: Instant| time.duration_since(metrics.created).as_millis() / PLANNED_FOR.as_millis();
            let are_old = period(Instant::now()) != period(metrics.recycled.unwrap_or(metrics.created));
            Box::pin(async move {
                if are_old {
                    client.batch_execute("DISCARD PLANS").await.map_err(HookError::Backend)?;
                }
                Ok(())
            })
        }))
        .build()
        .map_err(|error| Error::Url(error.to_string()))
}

/// Whether the database answers, has our schema, and commits durably (invariant 1).
pub async fn check(pool: &Pool) -> Result<(), Error> {
    let client = pool.get().await?;
    let exists: bool =
        client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?.get(0);
    let found: i32 = if exists {
        client
            .query_one("SELECT coalesce(max(version), 0)::int FROM refinery_schema_history", &[])
            .await?
            .get(0)
    } else {
        0
    };
    if found < MIN_SCHEMA {
        return Err(Error::Schema { found, needed: MIN_SCHEMA });
    }
    Ok(())
}

/// Brings the database to the newest schema; safe to call from several places at once.
pub async fn migrate(url: &str) -> Result<(), Error> {
    let (mut client, connection) = connection_config(url)?.connect(NoTls).await?;
    let driver = tokio::spawn(connection);
    client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
    embedded::migrations::runner().run_async(&mut client).await?;
    partitions::ensure(&client, chrono::Utc::now().date_naive() - chrono::Days::new(1), 5).await?;
    client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
    drop(client);
    driver.await.map_err(|error| Error::Url(error.to_string()))??;
    Ok(())
}
