//! How long the disk lets a commit wait, watched beside what is measured.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// As much as Postgres writes at least.
const PAGE_BYTES: usize = 8192;
/// Often enough that no stall that matters falls between two syncs, seldom enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(40);

/// Syncs a page now and then, on the file system that Postgres has its data on.
#[derive(Debug)]
pub(crate) struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Duration>>,
}

impl Watch {
    pub(crate) fn start() -> Result<Self> {
        let file = tempfile::tempfile()?;
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        Ok(Self { ends, thread: std::thread::spawn(move || longest_sync(&file, &seen)) })
    }

    /// The longest sync since the start.
    pub(crate) fn end(self) -> Result<Duration> {
        self.ends.store(true, Ordering::Relaxed);
        let longest = self.thread.join().map_err(|_| anyhow!("watching the disk panicked"))?;
        Ok(longest?)
    }
}

fn longest_sync(file: &File, ends: &AtomicBool) -> io::Result<Duration> {
    let page = [0; PAGE_BYTES];
    // From here on its size stays, as that of a file of Postgres' log does.
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    let mut longest = Duration::ZERO;
    while !ends.load(Ordering::Relaxed) {
        let begun = Instant::now();
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
        longest = longest.max(begun.elapsed());
        std::thread::sleep(PAUSE);
    }
    Ok(longest)
}
