//! From a signal to the end of the process.
//!
//! The first SIGTERM or SIGINT asks: stop the intake, finish what is out, flush, release. A second
//! one insists: end now. A failure of something the process cannot do without asks too, and makes
//! the exit code say so.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether, and how urgently, the process is to end. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    force: CancellationToken,
    failure: Arc<Mutex<Option<String>>>,
}

impl Shutdown {
    /// One that nothing but its own methods triggers, as for tests and for use within a process.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT trigger. Needs a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if told.is_requested() {
                    told.force.cancel();
                } else {
                    tracing::info!(signal = name, "shutting down; a second signal ends at once");
                    told.stop.cancel();
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks for the shutdown.
    pub fn request(&self) {
        self.stop.cancel();
    }

    /// Asks for the shutdown because of a failure; the process will exit with an error. The first
    /// failure is kept.
    pub fn fail(&self, why: impl Into<String>) {
        self.failure.lock().get_or_insert_with(|| why.into());
        self.stop.cancel();
    }

    /// What [`Shutdown::fail`] was told.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    pub fn is_requested(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves when the shutdown is asked for.
    pub async fn requested(&self) {
        self.stop.cancelled().await;
    }

    /// Resolves when a second signal insists.
    pub async fn forced(&self) {
        self.force.cancelled().await;
    }

    /// For what takes a token: cancelled when the shutdown is asked for. Cancelling it asks, too.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_is_kept_and_ends() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested());
        shutdown.fail("lease lost");
        shutdown.clone().fail("and more");
        shutdown.requested().await;
        assert_eq!(shutdown.failure().as_deref(), Some("lease lost"));
        assert!(!shutdown.force.is_cancelled());
    }
}
