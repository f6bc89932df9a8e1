//! Runs a command with a private Postgres and a private Redis, which end with it.
//!
//! `with-stores COMMAND [ARGUMENT...]`: the tests find both by the environment.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bowline_tests::{database, stores};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("usage: with-stores COMMAND [ARGUMENT...]")?;
    let mut asked_to_stop = signal(SignalKind::terminate())?;
    let stores = stores::Stores::start().await?;
    database::prepare(&stores.postgres_url).await?;
    let mut command = Command::new(&program)
        .args(arguments)
        .env(stores::POSTGRES, &stores.postgres_url)
        .env(stores::REDIS, &stores.redis_url)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let status = tokio::select! {
        status = command.wait() => Some(status?),
        _ = asked_to_stop.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    drop(command);
    stores.stop().await?;
    let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
