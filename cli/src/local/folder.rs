//! Where a private server keeps its data: for good, or until it is dropped.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::{LocalError, port};

const PORT: &str = "port";

/// Where a server's folder is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// A new folder among the system's temporary ones, gone with the server.
    Temporary,
    /// A folder of the server's name within this one, found again at the next start.
    Kept(PathBuf),
}

/// The folder of one server; nobody but its account (and root) may enter it.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    temporary: bool,
}

impl Folder {
    pub(super) fn make(home: &Home, server: &str, account: Option<&Account>) -> Result<Self, LocalError> {
        let (path, temporary) = match home {
            Home::Temporary => {
                let name = format!("bowline-{server}-{}", hex::encode(rand::random::<[u8; 8]>()));
                (env::temp_dir().join(name), true)
            }
            Home::Kept(parent) => {
                let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
                made.map_err(LocalError::file("make the folder", parent))?;
                let parent = parent.canonicalize().map_err(LocalError::file("find", parent))?;
                (parent.join(server), false)
            }
        };
        if temporary || !path.is_dir() {
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(LocalError::file("make the folder", &path))?;
        }
        if let Some(account) = account {
            account.own(&path)?;
        }
        Ok(Self { path, temporary })
    }

    /// What a server's keeper has to remove when we could not.
    pub(super) fn leftover(&self) -> Option<PathBuf> {
        self.temporary.then(|| self.path.clone())
    }

    /// The server still runs and its keeper is about to end it: removing the folder is its work then.
    pub(super) fn leave_to_keeper(&mut self) {
        self.temporary = false;
    }

    /// Where its server listened the last time, if nobody else does now.
    pub(super) fn kept_port(&self) -> Option<u16> {
        let text = fs::read_to_string(self.path.join(PORT)).ok()?;
        text.trim().parse().ok().filter(|port| port::is_free(*port))
    }

    /// For the next time; a temporary folder has none.
    pub(super) fn keep_port(&self, port: u16) {
        if !self.temporary {
            // Without it the server listens elsewhere the next time, which is all there is to it.
            let _ = fs::write(self.path.join(PORT), format!("{port}\n"));
        }
    }

    /// The last lines of a file within, for an error message.
    pub(super) fn last_words(&self, file: &str) -> String {
        last_lines(&self.path.join(file))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing can be done about a folder that stays behind, and nothing depends on it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn last_lines(path: &Path) -> String {
    const LINES: usize = 5;
    const CHARACTERS_MAX: usize = 1_000;
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut lines: Vec<&str> =
        text.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    lines.reverse();
    if lines.is_empty() {
        return "none".to_owned();
    }
    lines.join(" | ").chars().take(CHARACTERS_MAX).collect()
}
