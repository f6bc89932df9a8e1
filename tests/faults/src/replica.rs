//! One replica of a service: its process, its links, and the memory it takes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bowline_tests::service::{Kind, Service, Settings};
use bowline_tests::{BOUND, stores};

use crate::clock::now_s;
use crate::link::Link;

/// Where the library lies that shows a process another clock (Debian's package `faketime`).
const FAKETIME: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The library that can move a process's clock, if this machine has it.
pub fn faketime() -> Option<&'static str> {
    FAKETIME.iter().copied().find(|path| Path::new(path).is_file())
}

/// Memory of one process, from its start to its end.
#[derive(Debug)]
pub struct Life {
    pub name: String,
    pub samples: Vec<(f64, u64)>,
}

#[derive(Debug)]
pub struct Replica {
    pub kind: Kind,
    pub name: String,
    pub service: Option<Service>,
    pub is_ready: bool,
    pub postgres: Link,
    pub redis: Link,
    pub http: Link,
    pub admin: Link,
    pub lives: Vec<Life>,
    /// Moves its clock, where that can be done.
    clock: Option<PathBuf>,
    settings: Settings,
    folder: PathBuf,
}

impl Replica {
    /// Its links; nothing runs yet.
    ///
    /// # Errors
    /// When no port is free or a file cannot be written.
    pub async fn prepare(
        kind: Kind,
        index: usize,
        base: &Settings,
        folder: &Path,
        has_clock: bool,
    ) -> Result<Self> {
        let name = format!("{}-{index}", if kind == Kind::Ingest { "ingest" } else { "dispatcher" });
        let mut settings = base.clone();
        let postgres = through("BOWLINE_POSTGRES_URL", &mut settings).await?;
        let redis = through("BOWLINE_REDIS_URL", &mut settings).await?;
        let clock = if let (true, Some(library)) = (has_clock, faketime()) {
            let file = folder.join(format!("{name}.clock"));
            fs::write(&file, "+0\n")?;
            settings.extend([
                ("LD_PRELOAD".to_owned(), library.to_owned()),
                ("FAKETIME_TIMESTAMP_FILE".to_owned(), file.display().to_string()),
                ("FAKETIME_CACHE_DURATION".to_owned(), "1".to_owned()),
                // A wall clock is set; time itself does not jump.
                ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
            ]);
            Some(file)
        } else {
            None
        };
        let (http, admin) = (Link::start(None).await?, Link::start(None).await?);
        Ok(Self {
            kind,
            name,
            service: None,
            is_ready: false,
            postgres,
            redis,
            http,
            admin,
            lives: Vec::new(),
            clock,
            settings,
            folder: folder.to_path_buf(),
        })
    }

    /// Starts the next process; [`await_ready`](Self::await_ready) waits for it.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch(&mut self) -> Result<()> {
        let life = format!("{}.{}", self.name, self.lives.len() + 1);
        self.service = Some(Service::launch(self.kind, &life, self.settings.clone(), &self.folder)?);
        self.is_ready = false;
        self.lives.push(Life { name: life, samples: Vec::new() });
        Ok(())
    }

    /// # Errors
    /// When it ends, or is not ready within the bound; with its log.
    pub async fn await_ready(&mut self) -> Result<()> {
        let Some(service) = self.service.as_mut().filter(|_| !self.is_ready) else { return Ok(()) };
        service.ready(BOUND).await.with_context(|| self.name.clone())?;
        let address = |url: String| stores::address(&url).map(Some);
        if self.kind == Kind::Ingest {
            self.http.lead_to(address(service.http_url())?);
        }
        self.admin.lead_to(address(service.admin_url())?);
        self.is_ready = true;
        Ok(())
    }

    /// Nobody gets through to it any more; its process is the caller's.
    pub fn take(&mut self) -> Option<Service> {
        self.http.lead_to(None);
        self.admin.lead_to(None);
        self.is_ready = false;
        self.service.take()
    }

    /// Sets the wall clock of the process off by so much.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn shift_clock(&self, shift_s: i64) -> Result<()> {
        let file = self.clock.as_ref().context("this replica's clock cannot be moved")?;
        // Renamed into place: it is read at any moment.
        let next = file.with_extension("next");
        fs::write(&next, format!("{shift_s:+}\n"))?;
        fs::rename(next, file).context("the clock file")
    }

    /// Notes how much memory it takes; how it ended, if nobody asked it to.
    pub fn look(&mut self) -> Option<String> {
        let service = self.service.as_mut()?;
        if let Some(status) = service.ended() {
            let log = tail(&service.log());
            self.take();
            return Some(format!("{} ended by itself ({status}):\n{log}", self.name));
        }
        let rss_kib = rss_kib(service.pid());
        if let (Some(life), Some(rss_kib)) = (self.lives.last_mut(), rss_kib) {
            life.samples.push((now_s(), rss_kib));
        }
        None
    }
}

/// A link in front of the server that a setting names, put in its place.
async fn through(name: &str, settings: &mut Settings) -> Result<Link> {
    let (_, url) =
        settings.iter_mut().find(|(known, _)| known == name).with_context(|| format!("{name} is set"))?;
    let server: SocketAddr = stores::address(url)?;
    let link = Link::start(Some(server)).await?;
    *url = url.replace(&server.to_string(), &link.address().to_string());
    Ok(link)
}

pub fn rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Until SIGTERM has ended it; a drain waits for the longest request.
pub const TERM_WITHIN: Duration = Duration::from_secs(75);
