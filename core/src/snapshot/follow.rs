//! Keeps the snapshot fresh: NOTIFY hastens it, polling makes it certain.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Snapshot;
use crate::store::snapshots;

const POLL: Duration = Duration::from_millis(500);
/// With a connection that hears of writes.
const POLL_WHILE_LISTENING: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What the listening half tells the polling one.
#[derive(Default)]
struct Hints {
    written: Notify,
    listening: AtomicBool,
}

impl Snapshot {
    /// Follows the database until the shutdown. An error is logged and survived.
    ///
    /// `direct_url` leads past any pooler; without it there is only polling.
    pub async fn follow(
        self: Arc<Self>,
        direct_url: Option<String>,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        let hints = Hints::default();
        let listening = async {
            match &direct_url {
                Some(url) => listen(url, &hints).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            never = self.poll(&hints) => match never {},
            never = listening => match never {},
        }
    }

    async fn poll(&self, hints: &Hints) -> Infallible {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.refresh().await {
                Ok(_) => {
                    if backoff > BACKOFF_MIN {
                        tracing::info!(version = self.version(), "configuration is followed again");
                    }
                    backoff = BACKOFF_MIN;
                    let listening = hints.listening.load(Ordering::Relaxed);
                    let pause = if listening { POLL_WHILE_LISTENING } else { POLL };
                    tokio::select! {
                        () = hints.written.notified() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, version = self.version(), "configuration can't be followed");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
}

async fn listen(direct_url: &str, hints: &Hints) -> Infallible {
    let mut backoff = BACKOFF_MIN;
    loop {
        match snapshots::listen(direct_url).await {
            Ok(mut listener) => {
                backoff = BACKOFF_MIN;
                hints.listening.store(true, Ordering::Relaxed);
                // Of writes before the LISTEN nothing was heard.
                hints.written.notify_one();
                while let Some(()) = listener.heard().await {
                    hints.written.notify_one();
                }
                hints.listening.store(false, Ordering::Relaxed);
                // The poll that runs may be one of the long pauses.
                hints.written.notify_one();
                tracing::warn!("connection that hears of configuration writes is lost, polling meanwhile");
            }
            Err(error) => {
                tracing::warn!(%error, "configuration writes can't be heard of, polling meanwhile");
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
