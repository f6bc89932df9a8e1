//! The whole, started and stopped in order.

use std::fs::DirBuilder;
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::addresses::{Addresses, Wanted};
use super::hold::Hold;
use super::keys::KeyPlaces;
use super::logs::say;
use super::ready::{Board, Ready};
use super::service::{self, Plan};
use super::wiring::{Wiring, program};
use super::{DevArguments, keys, stores};
use crate::failure::Failure;
use crate::local::{Home, LocalError, PrivatePostgres, PrivateRedis};

/// What has been started so far, so that it can be stopped at any point.
#[derive(Default)]
pub(super) struct Running {
    board: Option<Arc<Board>>,
    postgres: Option<stores::Kept>,
    redis: Option<stores::Kept>,
    ingest: Tier,
    dispatchers: Tier,
    /// Holds the services' own ready files, and the admin key where nothing else keeps it.
    scratch: Option<Scratch>,
    /// Dropped last: the data folder is in use until everything has stopped.
    hold: Option<Hold>,
}

/// All processes of one service.
#[derive(Default)]
struct Tier {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Running {
    pub(super) async fn start(&mut self, arguments: &DevArguments) -> Result<(), Failure> {
        say("for one machine only: no replicas, no TLS, loopback receivers allowed, open reflection");
        let programs = if arguments.stores_only {
            None
        } else {
            Some((program("bowline-ingest")?, program("bowline-dispatcher")?))
        };
        if let Some(folder) = &arguments.data {
            // Before anything is touched: what is there may be in use.
            self.hold = Some(Hold::take(folder)?);
        }
        let board = self.start_stores(arguments).await?;
        if let Some(programs) = programs {
            self.start_services(arguments, &board, &programs).await?;
        }
        let ready = board.publish()?;
        for (name, urls) in
            [("webhooks", &ready.ingest_urls), ("admin", &ready.admin_urls), ("ops", &ready.ops_urls)]
        {
            for url in urls {
                say(&format!("{name:9}{url}"));
            }
        }
        if !arguments.stores_only {
            say_key(&ready);
        }
        say("ready");
        Ok(())
    }

    /// Stores, schema and keys; the board knows them afterwards.
    async fn start_stores(&mut self, arguments: &DevArguments) -> Result<Arc<Board>, Failure> {
        let mut ready = Ready::default();
        ready.pids.dev = std::process::id();
        let board = Arc::new(Board::new(arguments.ready_file.clone(), ready));
        self.board = Some(board.clone());
        // A file of an earlier run must not be taken for ours.
        board.withdraw();
        let scratch = &self.scratch.insert(Scratch::new()?).path;
        let places = KeyPlaces {
            file: arguments.bootstrap_key_file.as_deref(),
            given: std::env::var("BOWLINE_DEV_ADMIN_KEY").ok().filter(|key| !key.is_empty()),
            data: arguments.data.as_deref(),
            scratch,
        };
        let key = places.admin_key().map_err(|error| Failure::Configuration(format!("{error:#}")))?;
        let postgres_url = self.postgres_url(arguments, &board).await?;
        let redis_url = self.redis_url(arguments, &board).await?;
        bowline_core::store::migrate(&postgres_url).await.context("cannot migrate the schema")?;
        board.change(|ready| {
            ready.admin_key = key.text;
            ready.admin_key_file = key.file;
            ready.postgres_url = postgres_url;
            ready.redis_url = redis_url;
        })?;
        Ok(board)
    }

    async fn postgres_url(
        &mut self,
        arguments: &DevArguments,
        board: &Arc<Board>,
    ) -> Result<String, LocalError> {
        if let Some(url) = &arguments.postgres_url {
            return Ok(url.clone());
        }
        let home = home(arguments);
        if !PrivatePostgres::is_made(&home) {
            let how_long =
                if arguments.data.is_some() { "once" } else { "for this run alone: --data keeps it" };
            say(&format!("making the database, {how_long}"));
        }
        let server = PrivatePostgres::start(&home).await?;
        let url = server.url();
        say(&format!("postgres on port {}, process {}", server.port(), server.pid()));
        self.postgres = Some(stores::keep_postgres(server, board.clone(), !arguments.no_restart));
        Ok(url)
    }

    async fn redis_url(
        &mut self,
        arguments: &DevArguments,
        board: &Arc<Board>,
    ) -> Result<String, LocalError> {
        if let Some(url) = &arguments.redis_url {
            return Ok(url.clone());
        }
        let server = PrivateRedis::start(&home(arguments)).await?;
        let url = server.url();
        say(&format!("redis on port {}, process {}", server.port(), server.pid()));
        let pause = (!arguments.no_restart).then_some(arguments.redis_restart_after);
        self.redis = Some(stores::keep_redis(server, board.clone(), pause));
        Ok(url)
    }

    async fn start_services(
        &mut self,
        arguments: &DevArguments,
        board: &Arc<Board>,
        programs: &(PathBuf, PathBuf),
    ) -> Result<(), Failure> {
        let scratch = self.scratch.as_ref().context("made with the stores")?.path.clone();
        let wanted = Wanted {
            ingest: arguments.ingest,
            dispatchers: arguments.dispatchers,
            http: arguments.ingest_listen,
            admin: arguments.admin_listen,
        };
        let wiring = Wiring {
            addresses: Addresses::choose(wanted, arguments.data.as_deref())?,
            keyring: keys::keyring(arguments.data.as_deref())?,
            scratch,
            restart: !arguments.no_restart,
        };
        let mut plans = (Vec::new(), Vec::new());
        board.change(|ready| {
            wiring.addresses.tell(ready);
            plans = (wiring.ingest(ready, &programs.0), wiring.dispatchers(ready, &programs.1));
        })?;
        let mut waiting: Vec<_> = plans.0.into_iter().map(|plan| self.ingest.start(plan, board)).collect();
        waiting.extend(plans.1.into_iter().map(|plan| self.dispatchers.start(plan, board)));
        for ready in waiting {
            ready.await.context("a service's watch ended before it said anything")??;
        }
        Ok(())
    }

    /// Stops what was started, in order; what was not is passed over.
    pub(super) async fn stop(&mut self) {
        if let Some(board) = &self.board {
            board.withdraw();
        }
        self.ingest.stop().await;
        self.dispatchers.stop().await;
        if let Some(redis) = self.redis.take() {
            redis.stop().await;
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await;
        }
    }
}

/// How to use the deployment from another terminal. A log that others read, or that is kept, gets the
/// place of the key; a person at a terminal the key too.
fn say_key(ready: &Ready) {
    if std::io::stdout().is_terminal() {
        say(&format!("admin key {}", ready.admin_key));
    }
    say(&format!("the admin key is in {}", ready.admin_key_file.display()));
    let url = ready.admin_urls.first().map(String::as_str).unwrap_or_default();
    say(&format!(
        "use it: export BOWLINE_ADMIN_URL={url} BOWLINE_ADMIN_KEY_FILE='{}'",
        ready.admin_key_file.display()
    ));
}

fn home(arguments: &DevArguments) -> Home {
    arguments.data.clone().map_or(Home::Temporary, Home::Kept)
}

impl Tier {
    fn start(&mut self, plan: Plan, board: &Arc<Board>) -> oneshot::Receiver<anyhow::Result<()>> {
        let (sender, receiver) = oneshot::channel();
        self.tasks.spawn(service::supervise(plan, board.clone(), self.stop.clone(), sender));
        receiver
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                say(&format!("what watched a service failed: {error}"));
            }
        }
    }
}

/// A folder of this run alone.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let name = format!("bowline-dev-{}", hex::encode(rand::random::<[u8; 8]>()));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on what stays behind.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
