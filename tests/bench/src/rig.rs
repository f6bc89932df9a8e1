//! The stack under test: private stores, and services as processes over a database of their own.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bowline_cli::local::{Home, PrivatePostgres, PrivateRedis};
use bowline_tests::admin::{Admin, KEY};
use bowline_tests::database::{self, Database};
use bowline_tests::service::{Kind, Service, Settings};
use bowline_tests::stack::base_settings;
use tempfile::TempDir;

use crate::{procfs, statements};

const LOG_LINES_SHOWN: usize = 20;
const ASK_EVERY: Duration = Duration::from_millis(5);
/// What a source is given and its senders sign with; the text says what it is.
pub(crate) const SOURCE_SECRET: &str = "bowline-bench-github-secret";

/// One Postgres and one Redis for the whole run.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) postgres: PrivatePostgres,
    pub(crate) redis: PrivateRedis,
}

impl Stores {
    /// With `statements`, Postgres keeps count of what each statement takes.
    pub(crate) async fn start(statements: bool) -> Result<Self> {
        let (mut postgres, redis) = tokio::try_join!(
            PrivatePostgres::start(&Home::Temporary),
            PrivateRedis::start(&Home::Temporary)
        )?;
        if statements {
            statements::enable(&mut postgres).await?;
        }
        database::prepare(&postgres.url()).await?;
        recycle_wal(&postgres).await?;
        Ok(Self { postgres, redis })
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.redis.stop().await?;
        self.postgres.stop().await?;
        Ok(())
    }
}

/// Puts Postgres where it is after some hours of work: its log goes into files that are there already.
/// A new server makes and zero-fills each of them while every commit waits.
async fn recycle_wal(postgres: &PrivatePostgres) -> Result<()> {
    const FILES: usize = 60;
    let client = database::connect(&postgres.url()).await?;
    client.batch_execute("ALTER SYSTEM SET min_wal_size = '1GB'").await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    for _ in 0..FILES {
        client.batch_execute("SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()").await?;
    }
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// Services over a fresh database. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) ingest: Option<Service>,
    pub(crate) dispatcher: Option<Service>,
    pub(crate) database: Database,
    server_url: String,
    settings: Settings,
    folder: TempDir,
}

impl Rig {
    /// One of each service.
    pub(crate) async fn start(stores: &Stores) -> Result<Self> {
        let mut rig = Self::start_ingest(stores).await?;
        rig.start_dispatcher().await?;
        Ok(rig)
    }

    pub(crate) async fn start_ingest(stores: &Stores) -> Result<Self> {
        let server_url = stores.postgres.url();
        let database = Database::create(&server_url).await?;
        let mut settings = base_settings(&database, &stores.redis.url());
        // As one would run it: the pool of its default size, and no more logged than that.
        settings.retain(|(name, _)| name != "BOWLINE_POSTGRES_POOL_SIZE" && name != "BOWLINE_LOG_FILTER");
        let folder = TempDir::with_prefix("bowline-bench-")?;
        let ingest = Service::start(Kind::Ingest, "ingest", settings.clone(), folder.path()).await?;
        Ok(Self { ingest: Some(ingest), dispatcher: None, database, server_url, settings, folder })
    }

    pub(crate) async fn start_dispatcher(&mut self) -> Result<()> {
        let settings = self.settings.clone();
        let service = Service::start(Kind::Dispatcher, "dispatcher", settings, self.folder.path()).await?;
        self.dispatcher = Some(service);
        Ok(())
    }

    /// Another process in its place, which knows only what the database says.
    pub(crate) async fn restart_ingest(&mut self) -> Result<()> {
        if let Some(mut old) = self.ingest.take() {
            old.kill().await;
        }
        let settings = self.settings.clone();
        let service = Service::start(Kind::Ingest, "ingest-again", settings, self.folder.path()).await?;
        self.ingest = Some(service);
        Ok(())
    }

    pub(crate) fn admin(&self) -> Result<Admin> {
        let service = self.ingest.as_ref().or(self.dispatcher.as_ref()).context("a service that runs")?;
        Ok(Admin::new(&service.admin_url(), Some(KEY)))
    }

    /// Where gRPC is served.
    pub(crate) fn admin_url(&self) -> Result<String> {
        Ok(self.ingest.as_ref().context("an ingest")?.admin_url())
    }

    /// A new source; where its provider posts.
    pub(crate) async fn source(&self) -> Result<String> {
        let id = self.admin()?.source("github", SOURCE_SECRET).await;
        self.inbound(&id)
    }

    pub(crate) fn inbound(&self, source_id: &str) -> Result<String> {
        let ingest = self.ingest.as_ref().context("an ingest")?;
        Ok(format!("{}/in/{source_id}", ingest.http_url()))
    }

    /// Fails with its last lines where a service has ended.
    pub(crate) fn alive(&mut self) -> Result<()> {
        for service in self.ingest.iter_mut().chain(&mut self.dispatcher) {
            if let Some(status) = service.ended() {
                bail!("a service ended ({status}); its last lines:\n{}", last_lines(service));
            }
        }
        Ok(())
    }

    /// Asks until `condition` gives a value.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        bound: Duration,
        mut condition: impl AsyncFnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            self.alive()?;
            if let Some(value) = condition(self).await? {
                return Ok(value);
            }
            if start.elapsed() > bound {
                bail!("{what}: not within {} s; {}", bound.as_secs(), self.state().await);
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Waits until every outcome is in Postgres: an outbox row goes in the commit that records its last
    /// delivery, a queue row in the one that records its own.
    pub(crate) async fn recorded(&mut self, bound: Duration) -> Result<()> {
        const SQL: &str = "SELECT NOT EXISTS (SELECT 1 FROM outbox) AND NOT EXISTS (SELECT 1 FROM queue)";
        self.until("everything recorded", bound, async |rig| {
            let row = rig.database.sql().query_one(SQL, &[]).await?;
            Ok(row.get::<_, bool>(0).then_some(()))
        })
        .await
    }

    /// What the services warned of, the latest lines of it.
    pub(crate) fn complaints(&self) -> String {
        let logs: Vec<String> = self.ingest.iter().chain(&self.dispatcher).map(Service::log).collect();
        let bad = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let lines: Vec<&str> = logs.iter().flat_map(|log| log.lines().filter(bad)).collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// The one number that `query` gives.
    pub(crate) async fn number(&self, query: &str) -> Result<i64> {
        let row = self.database.sql().query_one(query, &[]).await;
        Ok(row.map_err(|error| anyhow!("{query}: {error:?}"))?.try_get(0)?)
    }

    pub(crate) async fn execute(&self, statements: &str) -> Result<()> {
        let done = self.database.sql().batch_execute(statements).await;
        done.map_err(|error| anyhow!("{statements}: {error:?}"))
    }

    /// Ends the services and removes the database, so that nothing of it disturbs what comes next.
    pub(crate) async fn end(mut self) -> Result<()> {
        for mut service in self.ingest.take().into_iter().chain(self.dispatcher.take()) {
            if service.ended().is_none() {
                service.kill().await;
            }
        }
        let server = database::connect(&self.server_url).await?;
        server.batch_execute(&format!("DROP DATABASE \"{}\" WITH (FORCE)", self.database.name)).await?;
        Ok(())
    }

    async fn state(&mut self) -> String {
        let mut text = String::new();
        for table in ["outbox", "queue", "attempts", "dead_letters"] {
            let count = self.number(&format!("SELECT count(*) FROM {table}")).await.unwrap_or(-1);
            // Writing to a text cannot fail.
            let _ = write!(text, "{table} {count}, ");
        }
        for service in self.ingest.iter().chain(&self.dispatcher) {
            let cpu_s = procfs::cpu(service.pid()).map_or(0.0, |cpu| cpu.as_secs_f64());
            let _ = write!(text, "\n{cpu_s:.1} s of CPU; last lines:\n{}", last_lines(service));
        }
        text
    }
}

fn last_lines(service: &Service) -> String {
    let log = service.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
