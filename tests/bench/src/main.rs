//! Measures Bowline on this machine, and beside it what the machine itself can do.
//!
//! 1. [`arguments`] says what can be asked; [`suite`] runs the scenarios that were, one after another,
//!    over one set of private stores ([`rig`]).
//! 2. Each file of [`scenario`] is one scenario: it makes loads ([`load`], in processes of their own)
//!    against the services and against bare servers ([`server`]), and gives metrics.
//! 3. [`report`] holds metrics against limits and budgets and shows them; [`machine`] says where.
//!
//! [`child`] starts the processes, [`wire`] is what they say, [`payload`] what a numbered body carries,
//! [`procfs`] what the kernel knows, [`statements`] what Postgres knows, [`disk`] how long it let a commit wait.

mod arguments;
mod child;
mod disk;
mod http;
mod load;
mod machine;
mod payload;
mod procfs;
mod progress;
mod report;
mod rig;
mod scenario;
mod server;
mod statements;
mod suite;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::arguments::{Arguments, Role};

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Serve { kind }) => server::serve(kind).map(|()| ExitCode::SUCCESS),
        Some(Role::Load { spec }) => {
            let spec = serde_json::from_str(&spec).context("the description of a load")?;
            let report = load::run(spec)?;
            std::io::stdout().write_all(&serde_json::to_vec(&report)?)?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(suite::run(&arguments))
        }
    }
}
