//! Tells that a source fails: verification refuses all that comes. What a request costs is a count; the telling is
//! done aside, and through the journal, as any event.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::inbound::Refusal;
use bowline_core::journal::{Journal, JournalError};
use bowline_core::own_event;
use bowline_core::snapshot::{Failing, LiveSource};
use chrono::Utc;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// Sources that wait to be told of; those beyond are told of a little later.
const WAITING_MAX: usize = 64;
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What is to be told of one source.
#[derive(Debug)]
struct News {
    live: Arc<LiveSource>,
    failing: Failing,
    /// Of the newest refusal.
    code: &'static str,
    message: Cow<'static, str>,
}

/// Counts what is refused.
#[derive(Debug)]
pub(crate) struct FailingSources {
    lasting: Duration,
    queue: mpsc::Sender<News>,
}

/// The other end of the queue; clones share it, so that a teller that failed can be started anew.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    queue: Arc<Mutex<mpsc::Receiver<News>>>,
    journal: Journal,
}

impl FailingSources {
    /// A source fails when its requests have been refused for as long as `lasting`.
    pub(crate) fn new(lasting: Duration, journal: Journal) -> (Self, Teller) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self { lasting, queue: sender }, Teller { queue: Arc::new(Mutex::new(receiver)), journal })
    }

    pub(crate) fn refused(&self, refusal: &Refusal, live: &Arc<LiveSource>) {
        if !refusal.is_of_verification {
            return;
        }
        let now = Utc::now();
        let Some(failing) = live.refused.add(now, self.lasting) else { return };
        let message = refusal.message.clone();
        let news = News { live: Arc::clone(live), failing, code: refusal.code, message };
        if self.queue.try_send(news).is_err() {
            live.refused.quiet_until(now + TRY_AGAIN);
        }
    }
}

impl Teller {
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut queue = self.queue.lock().await;
        loop {
            let news = tokio::select! {
                news = queue.recv() => news,
                () = stop.cancelled() => return Ok(()),
            };
            let Some(news) = news else {
                // Whoever hands in is gone, and the stop follows.
                stop.cancelled().await;
                return Ok(());
            };
            self.tell(&news).await;
        }
    }

    async fn tell(&self, news: &News) {
        let source = &news.live.source;
        let outcome = match self.commit(news).await {
            Ok(true) => "told",
            Ok(false) => "told_before",
            Err(error) => {
                tracing::debug!(%error, source_id = %source.id, "that a source fails could not be told yet");
                news.live.refused.quiet_until(Utc::now() + TRY_AGAIN);
                "failed"
            }
        };
        metrics::counter!("bowline_ingest_sources_failing_total", "outcome" => outcome).increment(1);
        tracing::warn!(
            source_id = %source.id,
            tenant_id = %source.tenant_id,
            code = news.code,
            refused_count = news.failing.refused_count,
            failing_since = %news.failing.since,
            outcome,
            "a source fails: every request to it is refused"
        );
    }

    /// Whether it was news: another replica may have told it within the hour.
    async fn commit(&self, news: &News) -> Result<bool, JournalError> {
        let event =
            own_event::source_failing(&news.live.source, news.failing, (news.code, news.message.as_ref()));
        let permit = self.journal.admit_with(event.event.tenant_id, event.event.body.len())?;
        Ok(!self.journal.commit(&permit, event).await?.duplicate)
    }
}
