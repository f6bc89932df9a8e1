//! Private servers: a Postgres and a Redis of our own, for one machine, from the system's binaries.
//!
//! 1. [`binaries`] finds the programs, [`account`] whom they run as, [`port`] where they listen.
//! 2. [`process`] runs a program so that it cannot outlive the one who started it; `readiness` waits
//!    until it answers.
//! 3. `server` is one that runs; [`postgres`] and [`redis`] are the two. `bowline dev` and the tests stand on them.

pub mod account;
pub mod binaries;
mod cluster;
mod folder;
pub mod port;
pub mod postgres;
pub mod process;
mod readiness;
pub mod redis;
mod server;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use folder::Home;
pub use postgres::PrivatePostgres;
pub use redis::PrivateRedis;

/// How long a server may take from its start until it answers.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the making of a database may take: thousands of files, once, on a disk that others may use too.
pub const MADE_WITHIN: Duration = Duration::from_secs(300);
/// How long a server may take to stop before it is killed.
pub const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Why a private server is not there.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("{program} was not found on PATH nor in the usual places: install {package}, then try again")]
    Missing { program: &'static str, package: &'static str },
    #[error("{program} does not run as root, and there is no unprivileged account to run it as ({tried})")]
    NoAccount { program: &'static str, tried: String },
    #[error(
        "the account {account} cannot enter {path}: choose a folder it can reach, such as one under /var/tmp"
    )]
    OutOfReach { account: String, path: PathBuf },
    #[error(
        "{path} holds data of Postgres {found}, and only Postgres {installed} is installed: install {found} or choose another folder"
    )]
    OtherVersion { path: PathBuf, found: String, installed: String },
    #[error("cannot {what} {path}: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start {program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("cannot signal {program}: {source}")]
    Signal { program: String, source: io::Error },
    #[error("no free port was found on 127.0.0.1 after {tried} tries")]
    NoPort { tried: u32 },
    #[error("{program} ended while it started ({status}); its last words: {last_words}")]
    Ended { program: &'static str, status: String, last_words: String },
    #[error("{program} did not answer within {within_s} s ({cause}); its last words: {last_words}")]
    Silent { program: &'static str, within_s: u64, cause: String, last_words: String },
    #[error(
        "{program} did not end within {within_s} s: this machine may be busy; run the same command again, it \
         begins anew (its last words: {last_words})"
    )]
    Unfinished { program: &'static str, within_s: u64, last_words: String },
    #[error("{program} refused what it was asked: {message}")]
    Refused { program: &'static str, message: String },
}

impl LocalError {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
