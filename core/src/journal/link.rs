//! A writer's connection to Postgres: counted while it is there, made anew once it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::gather::Writing;
use crate::store;
use crate::store::journal::Connection;

/// A little more than what the server allows a statement.
const REPLY_TIMEOUT: Duration = Duration::from_secs(35);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One that counts as long as it is kept.
#[derive(Debug)]
struct Counted {
    connection: Connection,
    writing: Arc<Writing>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.writing.has_lost_connection();
    }
}

#[derive(Debug)]
pub(super) struct Link {
    writing: Arc<Writing>,
    open: Option<Counted>,
    pause: Duration,
}

impl Link {
    /// Without a connection yet.
    pub(super) fn new(writing: Arc<Writing>) -> Self {
        Self { writing, open: None, pause: PAUSE_MIN }
    }

    /// Makes sure there is a connection; gives what tells of its end.
    pub(super) async fn connect(&mut self) -> Option<CancellationToken> {
        if self.connection().is_some_and(Connection::is_closed) {
            self.close();
        }
        if let Some(connection) = self.connection() {
            return Some(connection.lost());
        }
        match answered(Connection::open(&self.writing.url)).await {
            Ok(connection) => {
                self.writing.has_connected();
                self.is_well();
                let lost = connection.lost();
                self.open = Some(Counted { connection, writing: Arc::clone(&self.writing) });
                Some(lost)
            }
            Err(error) => {
                self.writing.has_failed_to_connect(&error);
                None
            }
        }
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.open.as_ref().map(|open| &open.connection)
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Closes what has ended, or may still be at the statement that failed.
    pub(super) fn close_after(&mut self, error: &store::Error) {
        let ended = self.connection().is_some_and(Connection::is_closed);
        if ended || matches!(error, store::Error::TimedOut(_)) {
            self.close();
        }
    }

    /// Waits before the next try, each time for longer until it [`is_well`](Self::is_well) again.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    pub(super) fn is_well(&mut self) {
        self.pause = PAUSE_MIN;
    }
}

/// What Postgres answers within its time.
pub(super) async fn answered<T>(
    reply: impl Future<Output = Result<T, store::Error>>,
) -> Result<T, store::Error> {
    tokio::time::timeout(REPLY_TIMEOUT, reply).await.unwrap_or(Err(store::Error::TimedOut(REPLY_TIMEOUT)))
}
