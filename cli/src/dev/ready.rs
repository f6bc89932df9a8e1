//! The ready file: where everything is, written whole once everything answers, and again whenever
//! a process was started anew.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What the ready file says. It holds the admin key and passwords: its mode is 0600.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The inbound URL of the first ingest.
    pub ingest_url: String,
    pub ingest_urls: Vec<String>,
    /// Of every ingest, then of every dispatcher.
    pub admin_urls: Vec<String>,
    pub admin_key: String,
    /// Holds the same key and nothing else.
    #[serde(default)]
    pub admin_key_file: PathBuf,
    pub ops_urls: Vec<String>,
    pub postgres_url: String,
    pub redis_url: String,
    pub pids: Pids,
}

/// The processes as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    pub dev: u32,
    pub ingest: Vec<u32>,
    pub dispatcher: Vec<u32>,
    /// `null` where the server is not ours.
    pub postgres: Option<u32>,
    pub redis: Option<u32>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("ingest_urls", &self.ingest_urls)
            .field("admin_urls", &self.admin_urls)
            .field("ops_urls", &self.ops_urls)
            .field("pids", &self.pids)
            .finish_non_exhaustive()
    }
}

impl Ready {
    /// # Errors
    /// When the file is not there or not one of ours.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read(path).with_context(|| format!("cannot read the ready file {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a ready file of `bowline dev`", path.display()))
    }
}

/// Keeps the ready file true.
#[derive(Debug)]
pub(super) struct Board {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ready: Ready,
    published: bool,
}

impl Board {
    pub(super) fn new(path: Option<PathBuf>, ready: Ready) -> Self {
        Self { path, state: Mutex::new(State { ready, published: false }) }
    }

    /// Changes what the file says; written if it has been published.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn change(&self, change: impl FnOnce(&mut Ready)) -> anyhow::Result<()> {
        // A panic between two writes of fields leaves nothing that a reader could not use.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.ready);
        if state.published { self.write(&state.ready) } else { Ok(()) }
    }

    /// Everything answers: the file may be there from now on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn publish(&self) -> anyhow::Result<Ready> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.published = true;
        self.write(&state.ready)?;
        Ok(state.ready.clone())
    }

    /// Nothing answers any more.
    pub(super) fn withdraw(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.published = false;
        if let Some(path) = &self.path {
            // It may not have been written yet.
            let _ = fs::remove_file(path);
        }
    }

    fn write(&self, ready: &Ready) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_string_pretty(ready)?;
        write_private(path, &text).with_context(|| format!("cannot write the ready file {}", path.display()))
    }
}

/// Writes a file that only we may read, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_appears_with_publish_follows_changes_and_goes() {
        let path = std::env::temp_dir().join(format!("bowline-ready-{:x}", rand::random::<u64>()));
        let board =
            Board::new(Some(path.clone()), Ready { admin_key: "bwl_visible".into(), ..Ready::default() });
        board.change(|ready| ready.pids.redis = Some(1)).unwrap();
        assert!(!path.exists());
        board.publish().unwrap();
        assert_eq!(Ready::read(&path).unwrap().pids.redis, Some(1));
        board.change(|ready| ready.pids.redis = Some(2)).unwrap();
        let read = Ready::read(&path).unwrap();
        assert_eq!(read.pids.redis, Some(2));
        assert!(!format!("{read:?}").contains("visible"));
        board.withdraw();
        assert!(!path.exists());
    }
}
