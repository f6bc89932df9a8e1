//! The stores of a run: one Postgres and one Redis for all tests, or a test's own.
//!
//! `tests/run` starts them once (see the binary `with-stores`) and names them in the environment.
//! Where it has not, the first test of each process starts them, and they end with the process.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bowline_cli::local::{Home, PrivatePostgres, PrivateRedis};
use tokio::sync::OnceCell;

/// Names the shared Postgres (its superuser and the database to start from).
pub const POSTGRES: &str = "BOWLINE_TEST_POSTGRES_URL";
/// Names the shared Redis.
pub const REDIS: &str = "BOWLINE_TEST_REDIS_URL";

/// The stores that all tests share.
#[derive(Debug)]
pub struct Stores {
    pub postgres_url: String,
    pub redis_url: String,
    /// What this process started itself.
    own: Option<(PrivatePostgres, PrivateRedis)>,
}

impl Stores {
    /// Private ones.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub async fn start() -> Result<Self> {
        let (postgres, redis) = tokio::try_join!(
            PrivatePostgres::start(&Home::Temporary),
            PrivateRedis::start(&Home::Temporary)
        )?;
        Ok(Self { postgres_url: postgres.url(), redis_url: redis.url(), own: Some((postgres, redis)) })
    }

    /// Those of the environment, else private ones.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn found() -> Result<Self> {
        match (std::env::var(POSTGRES), std::env::var(REDIS)) {
            (Ok(postgres_url), Ok(redis_url)) => Ok(Self { postgres_url, redis_url, own: None }),
            _ => Self::start().await,
        }
    }

    /// Stops what was started here.
    ///
    /// # Errors
    /// When a server cannot be signalled.
    pub async fn stop(self) -> Result<()> {
        if let Some((mut postgres, mut redis)) = self.own {
            redis.stop().await?;
            postgres.stop().await?;
        }
        Ok(())
    }
}

/// The shared stores, with the template for the tests' databases in place.
///
/// # Panics
/// When they do not start: no test can say anything then.
pub async fn shared() -> &'static Stores {
    static STORES: OnceCell<Stores> = OnceCell::const_new();
    STORES
        .get_or_init(|| async {
            let stores = Stores::found().await.expect("Postgres and Redis for the tests");
            crate::database::prepare(&stores.postgres_url).await.expect("a migrated template database");
            stores
        })
        .await
}

/// Where the server behind `url` listens.
///
/// # Errors
/// When the URL names no address.
pub fn address(url: &str) -> Result<SocketAddr> {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).context("a URL")?;
    let address = authority.rsplit('@').next().unwrap_or(authority);
    address.parse().with_context(|| format!("{address} is not ADDRESS:PORT"))
}
