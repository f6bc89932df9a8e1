//! A data folder belongs to one `bowline dev` at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

const LOCK: &str = "lock";

/// The folder is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(super) struct Hold {
    _lock: File,
}

impl Hold {
    /// Makes the folder where there is none, and takes it.
    ///
    /// # Errors
    /// When another has it, at once; or when the file system refuses.
    pub(super) fn take(folder: &Path) -> anyhow::Result<Self> {
        let cannot = |what: &str| format!("cannot {what} the data folder {}", folder.display());
        fs::create_dir_all(folder).with_context(|| cannot("make"))?;
        let path = folder.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| cannot("use"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "the data folder {} is in use by another `bowline dev` (process {}): stop that one, or give \
                     another folder by --data",
                    folder.display(),
                    holder.trim()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| cannot("lock")),
        }
        // For the message above, and for nothing else.
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| cannot("write to"))?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_holder_until_it_is_dropped() {
        let folder = std::env::temp_dir().join(format!("bowline-hold-{:x}", rand::random::<u64>()));
        let hold = Hold::take(&folder).unwrap();
        let refused = Hold::take(&folder).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()) && refused.contains("--data"), "{refused}");
        drop(hold);
        assert!(Hold::take(&folder).is_ok());
        fs::remove_dir_all(folder).unwrap();
    }
}
