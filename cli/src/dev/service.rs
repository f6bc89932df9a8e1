//! One service process: started, awaited until ready, started again when it dies, stopped when asked.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::logs::{forward, say};
use super::ready::{Board, Ready};
use crate::local::process::{Launch, Output, Process, Stopped, in_words};

/// A service may have to wait for a server that is not ours.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Longer than the dispatcher's drain bound: what is out gets its time.
const STOP_WITHIN: Duration = Duration::from_secs(75);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// One that lived this long did not die of how it was started.
const STEADY_AFTER: Duration = Duration::from_secs(10);
const STARTS_BEFORE_READY: u32 = 3;
/// `EX_CONFIG` of sysexits: another start would end the same way.
const CONFIGURATION_EXIT: i32 = 64;
const POLL: Duration = Duration::from_millis(20);

/// What a service is and where its process id is to be told.
#[derive(Debug)]
pub(super) struct Plan {
    /// `ingest-1`
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) environment: Vec<(String, String)>,
    /// The service writes it once it is ready.
    pub(super) ready_file: PathBuf,
    pub(super) restart: bool,
    pub(super) set_pid: fn(&mut Ready, usize, u32),
    pub(super) index: usize,
}

/// Runs a service until `stop`. `ready` hears of the first time it was ready, or why it never was.
pub(super) async fn supervise(
    plan: Plan,
    board: Arc<Board>,
    stop: CancellationToken,
    ready: oneshot::Sender<anyhow::Result<()>>,
) {
    let mut ready = Some(ready);
    let mut backoff = BACKOFF_MIN;
    let mut starts = 0;
    while !stop.is_cancelled() {
        starts += 1;
        let started = Instant::now();
        let ended = run_once(&plan, &board, &stop, &mut ready).await;
        let why = match ended {
            Ok(Ended::Stopped) => return,
            Ok(Ended::ByItself { how, code }) => {
                if let Some(ready) =
                    ready.take_if(|_| starts >= STARTS_BEFORE_READY || code == Some(CONFIGURATION_EXIT))
                {
                    // Nobody listens any more when the whole start was given up.
                    let _ = ready.send(Err(anyhow::anyhow!(
                        "{} ended before it was ready ({how}): see its lines above",
                        plan.name
                    )));
                    return;
                }
                how
            }
            Err(error) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(Err(error));
                    return;
                }
                format!("{error:#}")
            }
        };
        if !plan.restart {
            say(&format!("{} ended ({why}) and stays down (--no-restart)", plan.name));
            stop.cancelled().await;
            return;
        }
        if started.elapsed() > STEADY_AFTER {
            backoff = BACKOFF_MIN;
        }
        say(&format!("{} ended ({why}): starting it again in {} ms", plan.name, backoff.as_millis()));
        // Asked to stop meanwhile, the loop's condition ends it.
        let _ = timeout(backoff, stop.cancelled()).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

enum Ended {
    Stopped,
    ByItself { how: String, code: Option<i32> },
}

async fn run_once(
    plan: &Plan,
    board: &Board,
    stop: &CancellationToken,
    ready: &mut Option<oneshot::Sender<anyhow::Result<()>>>,
) -> anyhow::Result<Ended> {
    if plan.ready_file.exists() {
        fs::remove_file(&plan.ready_file)
            .with_context(|| format!("cannot remove {}", plan.ready_file.display()))?;
    }
    let mut process = launch(plan)?;
    let outputs = process.take_output().map(|(out, err)| {
        [tokio::spawn(forward(plan.name.clone(), out)), tokio::spawn(forward(plan.name.clone(), err))]
    });
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = until_ended(plan, board, &mut process, ready) => Some(ended?),
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        say_how_stopped(&plan.name, process.stop(STOP_WITHIN).await?);
        Ended::Stopped
    };
    for output in outputs.into_iter().flatten() {
        // Its last lines; a grandchild that holds the pipe open must not hold us up.
        let _ = timeout(Duration::from_secs(1), output).await;
    }
    Ok(ended)
}

fn launch(plan: &Plan) -> anyhow::Result<Process> {
    let process = Process::spawn(Launch {
        name: "service",
        program: plan.program.clone(),
        arguments: vec!["--ready-file".into(), plan.ready_file.clone().into()],
        environment: plan.environment.clone(),
        current_dir: PathBuf::from("/"),
        account: None,
        output: Output::Piped,
        stop_signal: Signal::SIGTERM,
        leftover: plan.ready_file.parent().map(PathBuf::from),
    });
    process.with_context(|| format!("cannot start {}", plan.name))
}

async fn until_ended(
    plan: &Plan,
    board: &Board,
    process: &mut Process,
    ready: &mut Option<oneshot::Sender<anyhow::Result<()>>>,
) -> anyhow::Result<Ended> {
    let deadline = Instant::now() + READY_WITHIN;
    while !plan.ready_file.exists() {
        if let Some(status) = process.ended() {
            return Ok(Ended::ByItself { how: in_words(status), code: status.code() });
        }
        if Instant::now() > deadline {
            process.kill().await?;
            bail!("{} was not ready within {} s", plan.name, READY_WITHIN.as_secs());
        }
        sleep(POLL).await;
    }
    board.change(|file| (plan.set_pid)(file, plan.index, process.pid()))?;
    match ready.take() {
        Some(ready) => {
            say(&format!("{} is up, process {}", plan.name, process.pid()));
            // Nobody listens any more when the whole start was given up.
            drop(ready.send(Ok(())));
        }
        None => say(&format!("{} is back, process {}", plan.name, process.pid())),
    }
    let status = process.wait().await?;
    Ok(Ended::ByItself { how: in_words(status), code: status.code() })
}

pub(super) fn say_how_stopped(name: &str, stopped: Stopped) {
    match stopped {
        Stopped::Asked(status) if status.success() => say(&format!("{name} stopped")),
        Stopped::Asked(status) => say(&format!("{name} stopped with {}", in_words(status))),
        Stopped::Killed => say(&format!("{name} did not stop in time and was killed")),
    }
}
