//! Bowline ingest: takes webhooks, verifies them, and acknowledges what is committed.

use std::process::ExitCode;

use bowline_core::bootstrap::{self, Service};
use clap::Parser;

/// Takes webhooks in, verifies and stores them.
#[derive(Debug, Parser)]
#[command(name = "bowline-ingest", version)]
struct Cli {
    #[command(flatten)]
    args: bootstrap::Args,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    bootstrap::run(Service::Ingest, &cli.args, bowline_ingest::run)
}
