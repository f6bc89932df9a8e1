//! Runs the scenarios, shows each as it ends, and leaves nothing behind.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Arguments, Scenario};
use crate::progress::Progress;
use crate::report::{self, Report};
use crate::rig::Stores;
use crate::scenario::{self, Bench};
use crate::{machine, procfs, statements};

/// As a shell says it of what was interrupted.
const INTERRUPTED: u8 = 130;
/// How long the machine is watched before anything starts.
const BUSY_SAMPLE: Duration = Duration::from_secs(2);
/// A machine that does more than this besides is not quiet.
const BUSY_MAX: f64 = 0.1;

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut asked_to_stop = signal(SignalKind::terminate())?;
    // Our processes do not see Ctrl-C: each ends because what we hold of it is dropped here.
    tokio::select! {
        outcome = measure(arguments) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        _ = asked_to_stop.recv() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

async fn measure(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = if arguments.scenarios.is_empty() {
        Scenario::value_variants().to_vec()
    } else {
        arguments.scenarios.clone()
    };
    let busy = procfs::busy(BUSY_SAMPLE).await?;
    let stores = Stores::start(arguments.statements).await?;
    let mut report = Report {
        machine: format!("{}, {:.0} % busy before the start", machine::line(&stores).await?, busy * 100.0),
        commit: machine::commit(),
        scenarios: Vec::with_capacity(wanted.len()),
    };
    println!("{}\ncommit {}", report.machine, report.commit);
    if busy > BUSY_MAX {
        println!("NOTE: other work takes much of this machine: the numbers are lower than it could do");
    }
    if arguments.quick {
        println!("quick: one short round of each, smaller tables; take the numbers as a smoke test");
    }
    println!();
    let bench = Bench::start(stores, arguments.quick, Progress::new(wanted.len())).await?;
    let mut failed = 0;
    for which in wanted {
        bench.progress.begin(which.name());
        match scenario::run(&bench, which).await {
            Ok(metrics) => {
                let metrics = metrics.iter().map(report::Metric::summary).collect();
                let scenario = report::Scenario { name: which.name(), metrics };
                bench.progress.end(&scenario.table());
                if arguments.statements {
                    println!("{}", statements::longest(&bench.stores).await?);
                }
                report.scenarios.push(scenario);
            }
            // The others still have something to say.
            Err(error) => {
                failed += 1;
                bench.progress.end(&format!("{}: FAILED: {error:#}\n", which.name()));
            }
        }
    }
    bench.progress.clear();
    bench.stores.stop().await?;
    if let Some(path) = &arguments.json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    let missed: usize = report.scenarios.iter().map(report::Scenario::missed).sum();
    println!("{missed} budgets missed, {failed} scenarios failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
