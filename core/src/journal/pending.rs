//! Counts what is not finished yet, and lets one wait until nothing is.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(super) struct Pending {
    count: Arc<watch::Sender<usize>>,
}

/// One that is not finished; dropping it finishes it.
#[derive(Debug)]
pub(super) struct Entered {
    count: Arc<watch::Sender<usize>>,
}

impl Default for Pending {
    fn default() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }
}

impl Pending {
    pub(super) fn enter(&self) -> Entered {
        // Nobody waits for more: only the way down is told.
        self.count.send_if_modified(|count| {
            *count += 1;
            false
        });
        Entered { count: Arc::clone(&self.count) }
    }

    /// Resolves when nothing is pending.
    pub(super) async fn none(&self) {
        let mut count = self.count.subscribe();
        // The sender is alive: it is ours.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.count.send_if_modified(|count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn waits_for_the_last_one() {
        let pending = Pending::default();
        pending.none().await;
        let (first, second) = (pending.enter(), pending.enter());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_millis(5), pending.none()).await.is_err());
        drop(second);
        pending.none().await;
    }
}
