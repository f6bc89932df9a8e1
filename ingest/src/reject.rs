//! The keeping of what is refused, for whoever has to mend it.
//!
//! Keeping never delays an answer and never fills a disk: a few a second of each source, through a
//! bounded queue, and of each source only the newest stay.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::defaults;
use bowline_core::id::{RejectionId, SourceId};
use bowline_core::inbound::{KeptRequest, Received, Refusal};
use bowline_core::snapshot::LiveSource;
use bowline_core::store::rejections::{self, Rejection};
use bowline_core::store::{self, Pool};
use chrono::Utc;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const KEPT_PER_SOURCE_PER_S: u32 = 10;
/// Sources whose rate is remembered, before those of earlier seconds are forgotten.
const RATES_MAX: usize = 10_000;
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
const BATCH_MAX: usize = 32;

/// A rejection on its way to the database, and its part of what may wait.
#[derive(Debug)]
struct Waiting {
    rejection: Rejection,
    bytes: OwnedSemaphorePermit,
}

/// Where refused requests are handed in.
#[derive(Debug)]
pub(crate) struct Rejections {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    rates: Mutex<HashMap<SourceId, Rate>>,
}

/// How many a source had in the second that began at `since`.
#[derive(Debug, Clone, Copy)]
struct Rate {
    since: Instant,
    count: u32,
}

/// The other end of the queue; clones share it, so that a writer that failed can be started anew.
#[derive(Debug, Clone)]
pub(crate) struct RejectionWriter {
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Waiting>>>,
    pool: Pool,
}

impl Rejections {
    pub(crate) fn new(pool: Pool) -> (Self, RejectionWriter) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
        let rejections = Self { queue: sender, room, rates: Mutex::default() };
        (rejections, RejectionWriter { queue: Arc::new(tokio::sync::Mutex::new(receiver)), pool })
    }

    /// Logs a refusal, and keeps it if there is something to mend; at once, whatever happens to it later.
    pub(crate) fn refuse(&self, refusal: &Refusal, received: Received<'_>, live: &LiveSource) {
        if !self.is_within_rate(live.source.id, Instant::now()) {
            metrics::counter!("bowline_ingest_rejections_dropped_total", "reason" => "rate").increment(1);
            return;
        }
        tracing::info!(
            source_id = %live.source.id,
            tenant_id = %live.source.tenant_id,
            status = refusal.status.as_u16(),
            code = refusal.code,
            reason = %refusal.message,
            method = %received.method,
            remote = %received.remote,
            body_bytes = received.body.len(),
            "request refused"
        );
        if refusal.is_to_be_kept() && !self.keep(refusal, received, live) {
            metrics::counter!("bowline_ingest_rejections_dropped_total", "reason" => "queue").increment(1);
        }
    }

    fn is_within_rate(&self, source: SourceId, now: Instant) -> bool {
        let is_over = |rate: &Rate| now.duration_since(rate.since) >= Duration::from_secs(1);
        let mut rates = self.rates.lock();
        if rates.len() >= RATES_MAX {
            rates.retain(|_, rate| !is_over(rate));
        }
        let rate = rates.entry(source).or_insert(Rate { since: now, count: 0 });
        if is_over(rate) {
            *rate = Rate { since: now, count: 0 };
        }
        rate.count = rate.count.saturating_add(1);
        rate.count <= KEPT_PER_SOURCE_PER_S
    }

    fn keep(&self, refusal: &Refusal, received: Received<'_>, live: &LiveSource) -> bool {
        let request = KeptRequest::of(received, live);
        let held = request.bytes() + refusal.message.len();
        let Ok(bytes) = Arc::clone(&self.room).try_acquire_many_owned(held as u32) else { return false };
        let rejection = Rejection {
            id: RejectionId::new(),
            tenant_id: live.source.tenant_id,
            source_id: live.source.id,
            code: refusal.code.into(),
            message: refusal.message.to_string(),
            request,
            time: Utc::now(),
        };
        self.queue.try_send(Waiting { rejection, bytes }).is_ok()
    }
}

impl RejectionWriter {
    /// Writes what is handed in until `stop`, and then what is left. What a failure meets is lost, and
    /// counted.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), store::Error> {
        let mut queue = self.queue.lock().await;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let stopping = tokio::select! {
                _ = queue.recv_many(&mut batch, BATCH_MAX) => false,
                () = stop.cancelled() => true,
            };
            while stopping && let Ok(waiting) = queue.try_recv() {
                batch.push(waiting);
            }
            if batch.is_empty() {
                // Without a stop: whoever hands in is gone, and the stop follows.
                stop.cancelled().await;
                return Ok(());
            }
            let lost = batch.len() as u64;
            self.write(std::mem::take(&mut batch)).await.inspect_err(|_| {
                metrics::counter!("bowline_ingest_rejections_dropped_total", "reason" => "store")
                    .increment(lost);
            })?;
            if stopping {
                return Ok(());
            }
        }
    }

    /// The permits are given back when the bytes are.
    async fn write(&self, batch: Vec<Waiting>) -> Result<(), store::Error> {
        let (rows, _held): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.rejection, waiting.bytes)).unzip();
        // In order: two replicas that delete from the same sources do not wait for each other in a ring.
        let mut sources: Vec<SourceId> = rows.iter().map(|row| row.source_id).collect();
        sources.sort_unstable();
        sources.dedup();
        let client = self.pool.get().await?;
        rejections::insert(&client, &rows).await?;
        rejections::trim(&client, &sources, defaults::REJECTIONS_KEPT_PER_SOURCE).await?;
        metrics::counter!("bowline_ingest_rejections_kept_total").increment(rows.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejections() -> Rejections {
        let pool = store::connect("postgres://nobody@localhost/none", 2).unwrap();
        Rejections::new(pool).0
    }

    #[test]
    fn noise_is_bounded_a_source_and_a_second() {
        let (rejections, one, other) = (rejections(), SourceId::new(), SourceId::new());
        let within = |source, now| (0..100).filter(|_| rejections.is_within_rate(source, now)).count();
        let now = Instant::now();
        assert_eq!((within(one, now), within(one, now), within(other, now)), (10, 0, 10));
        assert_eq!(within(one, now + Duration::from_secs(1)), 10);
    }
}
