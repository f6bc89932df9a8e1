//! The bench's own processes: this binary again, as a server or as a load generator.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bowline_cli::local::process::{Launch, Output, Process};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::time::timeout;

use crate::http;
use crate::server::Kind;
use crate::wire::{LoadReport, LoadSpec, Pace, SinkReport};

const START_WITHIN: Duration = Duration::from_secs(20);
/// Beyond what a load is meant to take: signing, connecting, and the last answers.
const LOAD_SLACK: Duration = Duration::from_secs(90);
/// No service that works is slower than this, in requests a second.
const SLOWEST_PER_S: f64 = 200.0;
const STDERR_BYTES_MAX: u64 = 64 * 1024;

fn spawn(name: &'static str, arguments: Vec<String>) -> Result<Process> {
    Ok(Process::spawn(Launch {
        name,
        program: std::env::current_exe().context("where this program is")?,
        arguments: arguments.into_iter().map(Into::into).collect(),
        environment: Vec::new(),
        current_dir: PathBuf::from("/"),
        account: None,
        output: Output::Piped,
        // They have nothing to finish.
        stop_signal: Signal::SIGKILL,
        leftover: None,
    })?)
}

/// A server; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    url: String,
    // Kept open, so that it can go on writing.
    _output: (BufReader<ChildStdout>, ChildStderr),
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        let value = kind.to_possible_value().context("a kind that has a name")?;
        let mut process = spawn("bench-server", vec!["serve".to_owned(), value.get_name().to_owned()])?;
        let (stdout, mut stderr) = process.take_output().context("the output of a server")?;
        let mut stdout = BufReader::new(stdout);
        let mut url = String::new();
        let read = timeout(START_WITHIN, stdout.read_line(&mut url)).await;
        if !matches!(read, Ok(Ok(bytes)) if bytes > 0) {
            process.kill().await?;
            bail!("the server `{}` did not start: {}", value.get_name(), last_words(&mut stderr).await);
        }
        Ok(Self { process, url: url.trim().to_owned(), _output: (stdout, stderr) })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What this sink saw of that run.
    pub(crate) async fn seen(&self, run: u32) -> Result<SinkReport> {
        let body = http::get(&format!("{}/runs/{run}", self.url)).await.context("asking the sink")?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.signal(Signal::SIGKILL);
    }
}

/// A load under way; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    process: Process,
    output: (ChildStdout, ChildStderr),
    within: Duration,
}

impl Load {
    pub(crate) fn start(spec: &LoadSpec) -> Result<Self> {
        let mut process = spawn("bench-load", vec!["load".to_owned(), serde_json::to_string(spec)?])?;
        let output = process.take_output().context("the output of a load")?;
        Ok(Self { process, output, within: longest(spec.pace) + LOAD_SLACK })
    }

    pub(crate) async fn report(mut self) -> Result<LoadReport> {
        let (mut text, mut error) = (Vec::new(), Vec::new());
        let (stdout, stderr) = &mut self.output;
        let mut stderr = stderr.take(STDERR_BYTES_MAX);
        let both = async { tokio::try_join!(stdout.read_to_end(&mut text), stderr.read_to_end(&mut error)) };
        let read = timeout(self.within, both).await;
        ensure!(read.is_ok(), "a load did not end within {} s", self.within.as_secs());
        let status = self.process.wait().await?;
        ensure!(status.success(), "a load failed ({status}): {}", String::from_utf8_lossy(&error).trim());
        serde_json::from_slice(&text).context("the report of a load")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.process.signal(Signal::SIGKILL);
    }
}

/// Makes a load to its end.
pub(crate) async fn load(spec: &LoadSpec) -> Result<LoadReport> {
    Load::start(spec)?.report().await
}

fn longest(pace: Pace) -> Duration {
    match pace {
        Pace::ClosedFor { ms } => Duration::from_millis(ms),
        Pace::Closed { requests } => Duration::from_secs_f64(requests as f64 / SLOWEST_PER_S),
        Pace::Open { rate_per_s, requests } => Duration::from_secs_f64(requests as f64 / rate_per_s),
    }
}

async fn last_words(stderr: &mut ChildStderr) -> String {
    let mut text = Vec::new();
    // What can be read is shown.
    let _ = timeout(Duration::from_secs(2), stderr.take(STDERR_BYTES_MAX).read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).trim().to_owned()
}
