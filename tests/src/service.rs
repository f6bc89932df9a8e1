//! One of the two services, as a process of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use ::http::Method;
use anyhow::{Context, Result, bail};
use bowline_cli::local::process::{Launch, Output, Process};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{BOUND, binaries, http};

/// Becomes the program that follows, with the file that comes first in place of `/etc/hosts`.
const OWN_HOSTS: [&str; 7] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "/bin/sh",
    "-c",
    "mount --bind \"$0\" /etc/hosts && exec \"$@\"",
];

/// Whether this system lets a service have [hosts of its own](Service::launch_with_hosts); says why not.
pub fn can_have_own_hosts() -> bool {
    let [program, arguments @ ..] = OWN_HOSTS;
    let tried = Command::new(program).args(arguments).args(["/etc/hosts", "true"]).output();
    let fault = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("skipped: no mount namespace of one's own is to be had here: {fault}");
    false
}

/// Environment of a service.
pub type Settings = Vec<(String, String)>;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ingest,
    Dispatcher,
}

impl Kind {
    pub fn binary(self) -> &'static str {
        match self {
            Self::Ingest => "bowline-ingest",
            Self::Dispatcher => "bowline-dispatcher",
        }
    }
}

/// A running service; killed when it is dropped.
#[derive(Debug)]
pub struct Service {
    process: Process,
    log: PathBuf,
    listen: Value,
}

impl Service {
    /// Starts one and waits until it is ready. Its log and ready file are `{name}.*` in `folder`.
    ///
    /// # Errors
    /// When it ends instead, or is not ready within [`BOUND`]; with its log.
    pub async fn start(kind: Kind, name: &str, settings: Settings, folder: &Path) -> Result<Self> {
        let mut service = Self::launch(kind, name, settings, folder)?;
        service.ready(BOUND).await?;
        Ok(service)
    }

    /// Starts one and does not wait: for those that cannot be ready yet, or must refuse to start.
    ///
    /// # Errors
    /// When it is not built or the system refuses.
    pub fn launch(kind: Kind, name: &str, settings: Settings, folder: &Path) -> Result<Self> {
        let program = binaries::find(kind.binary())?;
        Self::run(kind, name, settings, folder, vec![program.into()])
    }

    /// One for which names have the addresses that `hosts` says, as `/etc/hosts` does: in a mount namespace of its own.
    ///
    /// # Errors
    /// As [`launch`](Self::launch).
    pub fn launch_with_hosts(
        kind: Kind,
        name: &str,
        settings: Settings,
        folder: &Path,
        hosts: &str,
    ) -> Result<Self> {
        let file = folder.join(format!("{name}.hosts"));
        fs::write(&file, hosts).context("the hosts of a service")?;
        let mut command = OWN_HOSTS.map(OsString::from).to_vec();
        command.push(file.into());
        command.push(binaries::find(kind.binary())?.into());
        Self::run(kind, name, settings, folder, command)
    }

    fn run(
        kind: Kind,
        name: &str,
        settings: Settings,
        folder: &Path,
        command: Vec<OsString>,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut arguments = command.into_iter();
        let program = arguments.next().context("a program")?;
        let ready_file: [OsString; 2] = ["--ready-file".into(), folder.join(format!("{name}.ready")).into()];
        let process = Process::spawn(Launch {
            name: kind.binary(),
            program: program.into(),
            arguments: arguments.chain(ready_file).collect(),
            environment: settings,
            current_dir: folder.to_path_buf(),
            account: None,
            output: Output::File(File::create(&log).context("the log of a service")?),
            stop_signal: Signal::SIGTERM,
            leftover: None,
        })?;
        Ok(Self { process, log, listen: Value::Null })
    }

    /// Waits for the ready file.
    ///
    /// # Errors
    /// When the process ends or `within` passes first; with its log.
    pub async fn ready(&mut self, within: Duration) -> Result<()> {
        let start = Instant::now();
        let file = self.log.with_extension("ready");
        loop {
            if let Ok(text) = fs::read(&file) {
                let ready: Value = serde_json::from_slice(&text).context("a ready file")?;
                self.listen = ready["listen"].clone();
                return Ok(());
            }
            if let Some(status) = self.process.ended() {
                bail!("it ended before it was ready ({status}):\n{}", self.log());
            }
            if start.elapsed() > within {
                bail!("not ready within {} s:\n{}", within.as_secs(), self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where it takes webhooks.
    pub fn http_url(&self) -> String {
        self.url("http")
    }

    /// Where it serves gRPC.
    pub fn admin_url(&self) -> String {
        self.url("admin")
    }

    /// Where it tells how it is.
    pub fn ops_url(&self) -> String {
        self.url("ops")
    }

    /// What it tells of itself, in Prometheus' text format.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.ops_url());
        let answer = http::send(Method::GET, &url, &Vec::new(), "").await;
        answer.expect("its metrics").text()
    }

    fn url(&self, listener: &str) -> String {
        let address = self.listen[listener].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        format!("http://{}", address.unwrap_or_else(|| panic!("no address of {listener} in {}", self.listen)))
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Until it ends by itself.
    ///
    /// # Panics
    /// After [`BOUND`].
    pub async fn await_end(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(BOUND, self.process.wait()).await;
        ended.unwrap_or_else(|_| panic!("still running:\n{}", self.log())).expect("its exit status")
    }

    /// # Panics
    /// When the kernel refuses.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("SIGKILL");
    }

    /// SIGTERM, and waits for an orderly end.
    ///
    /// # Panics
    /// When it does not end within `bound`, or not with success.
    pub async fn terminate(&mut self, bound: Duration) {
        self.signal(Signal::SIGTERM);
        self.finish(bound).await;
    }

    /// Waits for the orderly end of one that has its SIGTERM: a second one would hurry it.
    ///
    /// # Panics
    /// When it does not end within `bound`, or not with success.
    pub async fn finish(&mut self, bound: Duration) {
        let ended = tokio::time::timeout(bound, self.process.wait()).await;
        let ended =
            ended.unwrap_or_else(|_| panic!("still running after {} s:\n{}", bound.as_secs(), self.log()));
        let status = ended.expect("its exit status");
        assert!(status.success(), "{status}:\n{}", self.log());
    }

    /// # Panics
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal).expect("a signal");
    }

    /// SIGSTOP; returns once every thread has stopped, since the signal reaches them one by one.
    pub fn pause(&mut self) {
        self.signal(Signal::SIGSTOP);
        let began = std::time::Instant::now();
        while !self.has_stopped() {
            assert!(began.elapsed() < std::time::Duration::from_secs(10), "not stopped by SIGSTOP");
            std::thread::yield_now();
        }
    }

    fn has_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return true };
        threads.flatten().all(|thread| {
            // "pid (name) state …"; a thread that has just ended counts as stopped.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't']))
        })
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The test is over: nothing it could still drain matters.
        let _ = self.process.signal(Signal::SIGKILL);
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            eprintln!("---- {}\n{}", self.log.display(), &log[from..]);
        }
    }
}
