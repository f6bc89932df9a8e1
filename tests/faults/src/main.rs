//! What Bowline survives, proven in one run on one machine.
//!
//! 1. [`plan`] makes a course of [`fault`]s from a seed.
//! 2. [`site`] starts stores, two [`replica`]s of each service and the customers ([`sink`]), all behind
//!    [`link`]s; Postgres on a small [`disk`] where one may be mounted.
//! 3. [`traffic`] sends numbered events of the [`catalog`] throughout and remembers what was acknowledged.
//! 4. [`drive`] lets the faults happen ([`inflict`]), heals them, and waits until all has settled.
//! 5. [`check`] judges the [`evidence`]; [`report`] prints the table of faults survived.
//!
//! Beside that, [`hostile`] sends bad input at volume.

#![allow(unreachable_pub, reason = "a binary: its modules are its own public")]

mod catalog;
mod check;
mod clock;
mod disk;
mod drive;
mod evidence;
mod fault;
mod hostile;
mod inflict;
mod link;
mod plan;
mod replica;
mod report;
mod sink;
mod site;
mod traffic;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use fault::{FAULTS, Fault};
use site::Means;

/// Lets faults happen to a whole Bowline under load, and proves that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "tests/faults/run")]
struct Cli {
    /// Makes the course of faults; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults go on.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only these, by name; may be repeated.
    #[arg(long)]
    fault: Vec<String>,
    /// Events sent a second.
    #[arg(long, default_value_t = 60)]
    rate: u32,
    /// Names the faults, and why one cannot happen here.
    #[arg(long)]
    list: bool,
    /// Sends hostile requests instead.
    #[arg(long)]
    hostile: bool,
    /// How many hostile HTTP requests.
    #[arg(long, default_value_t = 100_000)]
    http: u64,
    /// How many hostile gRPC requests.
    #[arg(long, default_value_t = 10_000)]
    grpc: u64,
    /// Set by `tests/faults/run` when it has made a mount namespace.
    #[arg(long, hide = true)]
    may_mount: bool,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let means = Means { may_mount: cli.may_mount, can_move_clocks: true };
    if cli.list {
        for fault in FAULTS {
            let skipped = fault.skipped(means).map(|why| format!("  skipped: {why}"));
            println!("{:<22}{}", fault.name(), skipped.unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut asked_to_stop = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = run(cli, means) => ended,
            _ = asked_to_stop.recv() => Ok(stopped()),
            _ = tokio::signal::ctrl_c() => Ok(stopped()),
        }
    })
}

/// Dropping the run ends what it started.
fn stopped() -> ExitCode {
    eprintln!("stopped before its end: nothing is proven");
    ExitCode::from(130)
}

async fn run(cli: Cli, mut means: Means) -> Result<ExitCode> {
    let seed = cli.seed.unwrap_or_else(rand::random);
    let status = |is_kept| if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if cli.hostile {
        return hostile::run(hostile::Volume { seed, http: cli.http, grpc: cli.grpc }).await.map(status);
    }
    let named: Vec<Fault> = cli
        .fault
        .iter()
        .map(|name| Fault::named(name).with_context(|| format!("no fault is named {name}: see --list")))
        .collect::<Result<_>>()?;
    let wanted = if named.is_empty() { FAULTS.to_vec() } else { named };
    let mut faults = Vec::new();
    for fault in wanted {
        match fault.skipped(means) {
            None => faults.push(fault),
            Some(why) => println!("skipped {fault}: {why}"),
        }
    }
    // A disk is made and clocks are made movable only where that is used.
    means.may_mount &= faults.contains(&Fault::PostgresFull);
    means.can_move_clocks &= faults.contains(&Fault::ClockIngest) || faults.contains(&Fault::ClockDispatcher);
    let order = drive::Order { seed, seconds: (cli.minutes * 60.0) as u32, per_second: cli.rate, faults };
    drive::run(order, means).await.map(status)
}
