//! The demonstration: real webhooks through all of a running `bowline dev`, over real sockets.
//!
//! 1. [`stage`] knows the deployment, makes sources and endpoints in it, and sends requests.
//! 2. [`signature`] signs as the providers and checks as the customers do, by hand; [`payload`] is
//!    what the providers themselves publish; [`receiver`] is a customer's server.
//! 3. Each module of [`step`] shows one thing; [`report`] prints a line for each check.
//! 4. [`live`] stays up afterwards, prints what arrives and commands to try.

mod live;
mod payload;
mod receiver;
mod report;
mod signature;
mod stage;
mod step;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use report::Report;
use stage::Stage;
use step::{Cast, accept, fault, refuse, retry};

/// Shows what Bowline does, in a deployment that `bowline dev` runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The ready file of `bowline dev`
    #[arg(long, value_name = "PATH")]
    ready_file: PathBuf,
    /// Afterwards, stay up with a receiver that prints what arrives
    #[arg(long)]
    stay: bool,
    /// How the commands to try call the CLI
    #[arg(long, default_value = "bowline", value_name = "PATH")]
    cli: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The demonstration could not go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let stage = Stage::new(arguments.ready_file.clone())?;
    let started = Instant::now();
    let mut report = Report::default();
    let cast = Cast::assemble(&stage, &mut report).await?;
    let accepted = accept::run(&stage, &cast, &mut report).await;
    if let Some(accepted) = &accepted {
        accept::repeat(&stage, &cast, accepted, &mut report).await;
    }
    // A step that cannot go on is a failed check; the ones after it are still worth seeing.
    let step = |outcome: anyhow::Result<()>, report: &mut Report| {
        if let Err(error) = outcome {
            report.check(Instant::now(), Err(error));
        }
    };
    step(refuse::run(&stage, &cast, &mut report).await, &mut report);
    step(retry::flaky(&stage, &cast, &mut report).await, &mut report);
    step(retry::dead(&stage, &cast, &mut report).await, &mut report);
    step(fault::dispatcher_killed(&stage, &cast, &mut report).await, &mut report);
    step(fault::redis_emptied(&stage, &cast, &mut report).await, &mut report);
    step(fault::redis_stopped(&stage, &cast, &mut report).await, &mut report);
    if let Some(accepted) = &accepted {
        accept::still_once(&cast, accepted, &mut report);
    }
    let good = report.end(started.elapsed());
    if arguments.stay {
        live::run(&stage, &arguments.cli).await?;
    }
    Ok(good)
}
