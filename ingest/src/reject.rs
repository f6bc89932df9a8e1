//! What is refused, why, and the keeping of it for whoever has to mend it.
//!
//! Keeping never delays an answer and never fills a disk: a few a second of each source, through a
//! bounded queue, and of each source only the newest stay.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::defaults;
use bowline_core::id::{RejectionId, SourceId};
use bowline_core::journal::JournalError;
use bowline_core::scheme::Source;
use bowline_core::snapshot::LiveSource;
use bowline_core::store::rejections::{self, Rejection};
use bowline_core::store::{self, Pool};
use bytes::Bytes;
use chrono::Utc;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::verify::{Received, headers_kept, secret_sources};

/// For failures that no one knows the length of.
pub(crate) const RETRY_LATER: Duration = Duration::from_secs(5);
/// For load, which passes quickly.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(1);

const KEPT_PER_SOURCE_PER_S: u32 = 10;
/// Sources whose rate is remembered, before those of earlier seconds are forgotten.
const RATES_MAX: usize = 10_000;
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
const BATCH_MAX: usize = 32;
/// Of a longer body the beginning is kept.
const BODY_KEPT_BYTES_MAX: usize = 1024 * 1024;
const PATH_KEPT_BYTES_MAX: usize = 2048;

/// Why a request is not taken, and what its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// A stable name of the check that failed.
    pub(crate) code: &'static str,
    pub(crate) message: Cow<'static, str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) www_authenticate: Option<&'static str>,
    pub(crate) allow: Option<String>,
    /// The connection is of no more use: a part of the request is still on its way.
    pub(crate) close: bool,
    /// The sender could not show who it is; a preset may word this one.
    pub(crate) is_of_verification: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            www_authenticate: None,
            allow: None,
            close: false,
            is_of_verification: false,
        }
    }

    /// The fault is on our side, and the same request may be taken later.
    pub(crate) fn unavailable(
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        retry_after: Duration,
    ) -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        refusal.retry_after = Some(retry_after);
        refusal
    }

    /// Whether what the sender still sends is taken for a moment, so that the answer reaches it. One that
    /// sends too slowly is not waited for again.
    pub(crate) fn is_worth_draining(&self) -> bool {
        !self.close || self.status == StatusCode::PAYLOAD_TOO_LARGE
    }

    /// Kept are those that someone has to mend; the others pass by themselves.
    fn is_to_be_kept(&self) -> bool {
        let of_the_sender = [
            StatusCode::BAD_REQUEST,
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::PAYLOAD_TOO_LARGE,
        ];
        of_the_sender.contains(&self.status)
            || self.is_of_verification
            || matches!(self.code, "no_usable_secret" | "no_scheme")
    }
}

/// What the journal says, in the words of HTTP.
pub(crate) fn refuse_journal(error: JournalError) -> Refusal {
    match error {
        JournalError::Overloaded { retry_after } => {
            Refusal::unavailable("overloaded", "too much is in flight; send it again later", retry_after)
        }
        JournalError::Unavailable { retry_after } => Refusal::unavailable(
            "unavailable",
            "the event cannot be stored now; send it again later",
            retry_after,
        ),
        // The caller verifies again; this is what is left when that has no end.
        JournalError::Stale => Refusal::unavailable(
            "source_changing",
            "the source changes faster than requests are verified; send it again later",
            RETRY_LATER,
        ),
        JournalError::Poison { message } => Refusal::new(
            StatusCode::BAD_REQUEST,
            "unstorable",
            format!("the event cannot be stored: {message}"),
        ),
        JournalError::KeyReused => Refusal::new(
            StatusCode::BAD_REQUEST,
            "dedup_key_reused",
            "the deduplication key was used for another event before",
        ),
    }
}

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
        let secrets = secret_sources(live);
        let body = body_kept(received.body, secrets);
        let headers = headers_kept(received.headers, live, &[]);
        let path = path_kept(received.path_and_query, secrets);
        // What an expression verifies by may stand in the query.
        let whole = !live.expressions.verify_looks_at.query;
        let path = path.split_once('?').filter(|_| !whole).map_or(path, |(path, _)| path);
        let held = body.len() + headers.len() + path.len() + refusal.message.len();
        let Ok(bytes) = Arc::clone(&self.room).try_acquire_many_owned(held as u32) else { return false };
        let rejection = Rejection {
            id: RejectionId::new(),
            tenant_id: live.source.tenant_id,
            source_id: live.source.id,
            code: refusal.code,
            message: refusal.message.to_string(),
            method: received.method.to_string(),
            path: path.to_owned(),
            headers,
            // A copy: a slice would hold the whole of a larger body in memory, beyond what is counted.
            body: Bytes::copy_from_slice(body),
            remote_addr: received.remote.to_string(),
            time: Utc::now(),
        };
        self.queue.try_send(Waiting { rejection, bytes }).is_ok()
    }
}

/// The beginning of a body; nothing of one in which a secret may stand.
fn body_kept<'b>(body: &'b [u8], secrets: &[Source]) -> &'b [u8] {
    let in_body = secrets.iter().any(|source| !matches!(source, Source::Header(_) | Source::Query(_)));
    if in_body { &[] } else { &body[..body.len().min(BODY_KEPT_BYTES_MAX)] }
}

/// A query in which a secret may stand is not kept.
fn path_kept<'p>(path_and_query: &'p str, secrets: &[Source]) -> &'p str {
    let in_query = secrets.iter().any(|source| matches!(source, Source::Query(_)));
    let kept = match path_and_query.split_once('?') {
        Some((path, _)) if in_query => path,
        _ => path_and_query,
    };
    let mut end = kept.len().min(PATH_KEPT_BYTES_MAX);
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    &kept[..end]
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
            // Empty without a stop: whoever hands in is gone.
            if batch.is_empty() {
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

    #[test]
    fn a_token_in_the_query_is_not_kept() {
        let query = [Source::Query("token".into())];
        assert_eq!(path_kept("/in/src_1?token=bowline-test-token", &query), "/in/src_1");
        assert_eq!(path_kept("/in/src_1?page=1", &[]), "/in/src_1?page=1");
        assert_eq!(
            path_kept(&format!("/{}é", "x".repeat(PATH_KEPT_BYTES_MAX - 2)), &[]).len(),
            PATH_KEPT_BYTES_MAX - 1
        );
    }

    #[test]
    fn a_body_with_a_token_in_it_is_not_kept() {
        let body = br#"{"token":"bowline-test-token"}"#;
        assert_eq!(body_kept(body, &["json:/token".parse().unwrap()]), b"");
        assert_eq!(body_kept(body, &[Source::Query("token".into())]), body);
        assert_eq!(body_kept(&vec![0; BODY_KEPT_BYTES_MAX + 1], &[]).len(), BODY_KEPT_BYTES_MAX);
    }

    #[test]
    fn the_journals_answers_as_statuses() {
        let wait = Duration::from_secs(3);
        for (error, status, retry_after) in [
            (JournalError::Overloaded { retry_after: wait }, 503, Some(wait)),
            (JournalError::Unavailable { retry_after: wait }, 503, Some(wait)),
            (JournalError::Stale, 503, Some(RETRY_LATER)),
            (JournalError::Poison { message: "a NUL".into() }, 400, None),
            (JournalError::KeyReused, 400, None),
        ] {
            let refusal = refuse_journal(error);
            assert_eq!((refusal.status.as_u16(), refusal.retry_after), (status, retry_after), "{refusal:?}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_not_kept() {
        let of = |status| Refusal::new(status, "some_code", "why");
        for status in [400, 401, 403, 405, 413] {
            assert!(of(StatusCode::from_u16(status).unwrap()).is_to_be_kept(), "{status}");
        }
        for status in [404, 408, 429, 503] {
            assert!(!of(StatusCode::from_u16(status).unwrap()).is_to_be_kept(), "{status}");
        }
        assert!(Refusal::unavailable("no_usable_secret", "none", RETRY_LATER).is_to_be_kept());
    }
}
