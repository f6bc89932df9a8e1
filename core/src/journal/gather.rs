//! What the writers share: the queue they take turns at, its limits, and whether Postgres is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fair::Rates;
use super::fold::{Group, Request};
use super::publish::Publisher;
use crate::binding::Touched;
use crate::bootstrap::Config;
use crate::id::TenantId;
use crate::store;
use crate::streams::Class;

/// What the writers share.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) url: String,
    requests: tokio::sync::Mutex<mpsc::Receiver<Request>>,
    events_max: usize,
    bytes_max: usize,
    pub(super) shards: u16,
    rates: Mutex<Rates>,
    pub(super) publisher: Option<Publisher>,
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
    ) -> Self {
        Self {
            url: url.to_owned(),
            requests: tokio::sync::Mutex::new(requests),
            events_max: config.ingest.batch_events_max,
            bytes_max: config.ingest.batch_bytes_max,
            shards: u16::try_from(config.redis.shards).unwrap_or(u16::MAX),
            rates: Mutex::new(Rates::new(Instant::now())),
            publisher,
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
    pub(super) async fn take(&self) -> Option<Vec<Request>> {
        let mut requests = self.requests.lock().await;
        let first = requests.recv().await?;
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < self.events_max && bytes < self.bytes_max {
            let Ok(request) = requests.try_recv() else { break };
            bytes += request.bytes();
            batch.push(request);
        }
        Some(batch)
    }

    pub(super) fn classes(&self, groups: &[Group]) -> HashMap<TenantId, Class> {
        let mut counts: HashMap<TenantId, u64> = HashMap::new();
        for group in groups {
            *counts.entry(group.event().tenant_id).or_default() += 1;
        }
        let (mut rates, now) = (self.rates.lock(), Instant::now());
        counts.into_iter().map(|(tenant, events)| (tenant, rates.classify(tenant, events, now))).collect()
    }
}
