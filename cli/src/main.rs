//! The command `bowline`.

use std::process::ExitCode;

use bowline_cli::arguments::Arguments;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bowline: {failure}");
            failure.exit_code()
        }
    }
}
