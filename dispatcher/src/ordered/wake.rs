//! When to look for channels that are due.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::soon::Soon;

/// Tells that a channel may be due. A hint: every second somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    now: Notify,
    soon: Soon,
}

impl Wake {
    pub(crate) fn now(&self) {
        self.now.notify_one();
    }

    pub(super) fn due_in(&self, wait: Duration) {
        if wait.is_zero() { self.now() } else { self.soon.due_in(wait) }
    }

    pub(super) async fn wait(&self, earliest: Instant, latest: Instant) {
        tokio::select! {
            () = self.now.notified() => tokio::time::sleep_until(earliest).await,
            () = self.soon.wait(earliest, latest) => {}
        }
    }
}
