//! `bowline dev`: all of Bowline on this machine, from one command.
//!
//! 1. [`running`] starts and stops the whole in order; [`hold`] keeps others from its data folder.
//! 2. [`stores`] are a private Postgres and a private Redis, or ones that exist; the schema is
//!    migrated; [`keys`] finds or makes the keyring and the admin key.
//! 3. [`addresses`] says where each process listens, [`wiring`] with which environment; [`service`]
//!    runs each `bowline-ingest` and `bowline-dispatcher` as a process of its own.
//! 4. [`ready`] writes the ready file; [`logs`] prints what everyone says.
//!
//! At SIGTERM, SIGINT or SIGHUP it stops in this order: ingest, dispatcher, redis, postgres.

mod addresses;
mod hold;
mod keys;
mod logs;
mod ready;
mod running;
mod service;
mod stores;
mod wiring;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use logs::say;
pub use ready::{Pids, Ready};
use running::Running;

#[derive(Args)]
pub struct DevArguments {
    /// Write where everything is as JSON, once everything answers (holds the admin key: mode 0600)
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Use this Postgres instead of a private one
    #[arg(long, env = "BOWLINE_POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    postgres_url: Option<String>,
    /// Use this Redis instead of a private one
    #[arg(long, env = "BOWLINE_REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<String>,
    /// Keep data, keys and ports in this folder over restarts; default: a temporary one
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// File with the admin key that the services are started with; made where there is none. Default:
    /// the environment's `BOWLINE_DEV_ADMIN_KEY` (the key itself), the one in the data folder, a new one
    #[arg(long, value_name = "PATH")]
    bootstrap_key_file: Option<PathBuf>,
    /// Where the first ingest takes webhooks, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS:PORT")]
    ingest_listen: Option<SocketAddr>,
    /// Where the first ingest serves the admin API, such as 127.0.0.1:8081
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<SocketAddr>,
    /// How many ingest processes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16), value_name = "N")]
    ingest: u16,
    /// How many dispatcher processes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16), value_name = "M")]
    dispatchers: u16,
    /// Leave a process that died where it is
    #[arg(long)]
    no_restart: bool,
    /// How long a private Redis that died stays away before it is started again, empty
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    redis_restart_after: Duration,
    /// Only Postgres (migrated) and Redis, no services
    #[arg(long)]
    stores_only: bool,
}

impl std::fmt::Debug for DevArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URLs hold passwords.
        f.debug_struct("DevArguments").field("data", &self.data).finish_non_exhaustive()
    }
}

/// Runs until a signal, or until something cannot be started.
///
/// # Errors
/// Why it could not start.
pub async fn run(arguments: DevArguments) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut running = Running::default();
    let started = tokio::select! {
        started = running.start(&arguments) => started,
        name = signals.next() => {
            say(&format!("{name} while starting: stopping"));
            running.stop().await;
            return Ok(());
        }
    };
    if let Err(error) = started {
        running.stop().await;
        return Err(error);
    }
    let name = signals.next().await;
    say(&format!("{name}: stopping in order; once more to kill at once"));
    tokio::select! {
        () = running.stop() => say("stopped, nothing is left running"),
        // Dropping what runs closes its lifelines: the keepers end every process.
        name = signals.next() => say(&format!("{name} again: killing what still runs")),
    }
    Ok(())
}

/// The signals that end us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
