//! What the writers share: the queue they take turns at, and whether Postgres is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Mutex, mpsc};

use super::fold::Request;
use super::intake::{Batch, Intake};
use super::publish::Publisher;
use crate::binding::Touched;
use crate::bootstrap::Config;
use crate::snapshot::Snapshot;
use crate::store;

/// What the writers share.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) url: String,
    intake: Mutex<Intake>,
    pub(super) shards: u16,
    pub(super) publisher: Option<Publisher>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) touched: Arc<Touched>,
    connected: AtomicUsize,
    away: AtomicBool,
}

impl Writing {
    pub(super) fn new(
        config: &Config,
        url: &str,
        requests: mpsc::Receiver<Request>,
        publisher: Option<Publisher>,
        snapshot: Arc<Snapshot>,
    ) -> Self {
        let intake = Intake::new(requests, config.ingest.batch_events_max, config.ingest.batch_bytes_max);
        Self {
            url: url.to_owned(),
            intake: Mutex::new(intake),
            shards: u16::try_from(config.redis.shards).unwrap_or(u16::MAX),
            publisher,
            snapshot,
            touched: Arc::default(),
            connected: AtomicUsize::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// No writer has a connection, and the last try to get one failed.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(super) fn has_connected(&self) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("the journal has a connection to postgres again");
        }
    }

    pub(super) fn has_lost_connection(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn has_failed_to_connect(&self, error: &store::Error) {
        if self.connected.load(Ordering::Relaxed) == 0 && !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the journal has no connection to postgres: requests are shed");
        }
    }

    pub(super) async fn flush(&self) {
        if let Some(publisher) = &self.publisher {
            publisher.flush().await;
        }
    }

    /// All that has gathered, up to the limits; `None` when nothing will come any more.
    pub(super) async fn take(&self) -> Option<Batch> {
        self.intake.lock().await.take().await
    }
}
