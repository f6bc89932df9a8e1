//! Whom a private server runs as: Postgres refuses root, and Redis does not need it.

use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::{Uid, User};

use super::LocalError;

/// An unprivileged account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl Account {
    /// The first of `names` that exists, when this process is root; `None` when it is not (the
    /// server then runs as whoever we are).
    ///
    /// # Errors
    /// When root finds none of the accounts.
    pub fn unprivileged(program: &'static str, names: &[&str]) -> Result<Option<Self>, LocalError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        names
            .iter()
            .filter_map(|name| User::from_name(name).ok().flatten())
            .find(|user| !user.uid.is_root())
            .map(|user| Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
            .ok_or_else(|| LocalError::NoAccount { program, tried: names.join(", ") })
    }

    pub(super) fn own(&self, path: &Path) -> Result<(), LocalError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(LocalError::file("hand over", path))
    }
}
