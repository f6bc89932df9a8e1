//! The way of one request: its head, route, receive, admit, verify, commit, answer.
//!
//! The future of a request is moved into its connection, and costs that as many bytes as its longest way. What
//! few requests await (a look into Postgres, a stranger's keys, a handshake's deeds) is boxed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::fetched_keys::FetchedKeys;
use bowline_core::inbound::{
    Judge, RETRY_LATER, Received, Refusal, Verdict, refuse_journal, refuse_verification,
};
use bowline_core::journal::{Journal, Permit};
use bowline_core::scheme::Key;
use bowline_core::secrets::Vault;
use bowline_core::snapshot::{LiveSource, Snapshot};
use bowline_core::store::Pool;
use bytes::Bytes;
use chrono::Utc;
use futures_util::FutureExt;
use http::request::Parts;
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::answer::{self, Reply};
use crate::arrivals::{Arrivals, Full};
use crate::drain;
use crate::edge::Heard;
use crate::failing::FailingSources;
use crate::handshake::Deeds;
use crate::head;
use crate::public_keys;
use crate::rate::Rates;
use crate::receive::{self, BodyLimits, Pace};
use crate::reject::Rejections;
use crate::route::{self, Route};
use crate::server::Connection;

/// A source that changes while a request is verified has it verified again, so often.
const VERIFICATIONS_MAX: usize = 3;
/// From here on verifying takes so long that the other requests of the thread are moved away first.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// What requests are taken with.
pub(crate) struct Intake {
    pub(crate) journal: Journal,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) rejections: Rejections,
    pub(crate) failing: FailingSources,
    pub(crate) keys: FetchedKeys,
    /// For secrets that come by a handshake.
    pub(crate) pool: Pool,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) rates: Arc<Rates>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) public_url: String,
    pub(crate) pace: Pace,
    pub(crate) request_timeout: Duration,
}

/// What is known of a request so far: what is needed to refuse it well.
#[derive(Default)]
struct Seen {
    live: Option<Arc<LiveSource>>,
    /// The body was asked for.
    reading: bool,
    body: Bytes,
    /// A token of the source's rate was taken.
    counted: bool,
}

/// A request apart from its body.
struct Asked {
    head: Parts,
    /// A proxy's address, where one stands before that is not trusted.
    remote: IpAddr,
}

impl Asked {
    fn with<'a>(&'a self, body: &'a Bytes) -> Received<'a> {
        Received {
            method: &self.head.method,
            path_and_query: self.head.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &self.head.headers,
            body,
            remote: self.remote,
        }
    }
}

/// A request that ends well: the name of its outcome in the metrics, and its answer.
type Taken = (&'static str, Reply);

impl Intake {
    /// Answers any request; never fails.
    pub(crate) async fn answer(&self, arrived: Heard, connection: &Connection) -> Reply {
        let began = Instant::now();
        let awaits_continue = drain::awaits_continue(&arrived.request);
        let (head, mut body) = arrived.request.into_parts();
        let remote = head::sender(connection.peer, &head.headers, &self.trusted_proxies);
        let asked = Asked { head, remote };
        let mut seen = Seen::default();
        let taken = match arrived.verdict {
            Ok(()) => self.take(connection, &asked, &mut body, &mut seen).await,
            Err(refusal) => Err(refusal),
        };
        let (outcome, reply) = match taken {
            Ok(taken) => taken,
            Err(refusal) => {
                if (!awaits_continue || seen.reading) && refusal.is_worth_draining() {
                    drain::drain(body, asked.head.version);
                }
                self.refuse(&refusal, &asked, &seen)
            }
        };
        metrics::counter!("bowline_ingest_requests_total", "outcome" => outcome).increment(1);
        metrics::histogram!("bowline_ingest_request_seconds").record(began.elapsed());
        reply
    }

    async fn take(
        &self,
        connection: &Connection,
        asked: &Asked,
        body: &mut Incoming,
        seen: &mut Seen,
    ) -> Result<Taken, Refusal> {
        if let Some(endpoint) = public_keys::wanted(asked.head.uri.path()) {
            let keys = Box::pin(public_keys::answer(&self.pool, endpoint, &asked.head.method));
            return Ok(("public_keys", self.in_time(keys).await?));
        }
        let route = Route::of(asked.head.uri.path()).ok_or_else(route::unknown_source)?;
        let live = self.in_time(route.find(&self.snapshot)).await?;
        seen.live = Some(Arc::clone(&live));
        route::check_method(&asked.head.method, &live.preset)?;
        let source = &live.source;
        head::check_sender(&source.spec, asked.remote)?;
        let limits = BodyLimits::of(&source.spec, &live.preset, self.pace);
        limits.check_announced(body)?;
        // Whatever is in the way of every request is in the way of this one before its body is read.
        self.rates.check(source.id, source.spec.rate_per_s)?;
        self.journal.check().map_err(refuse_journal)?;
        seen.reading = true;
        let enter = |bytes| self.arrivals.enter(source.tenant_id, source.id, bytes);
        seen.body = receive::receive(body, limits, enter).await?;
        let _storing = connection.line.storing();
        self.in_time(self.commit(&route, asked, seen)).await
    }

    /// Verifies and commits; once more, where the source changed in between.
    async fn commit(&self, route: &Route, asked: &Asked, seen: &mut Seen) -> Result<Taken, Refusal> {
        use bowline_core::journal::JournalError::Stale;

        let mut permit = None;
        for _ in 0..VERIFICATIONS_MAX {
            let live = match seen.live.take() {
                Some(live) => live,
                None => route.find(&self.snapshot).await?,
            };
            let live = Arc::clone(seen.live.insert(live));
            let fetched = self.fetch_keys(asked.with(&seen.body), &live).await?;
            // Only now it counts as in flight: slow senders hold no place of those that send, nor do
            // requests that wait for a stranger's keys.
            let permit = self.admit(&live, &seen.body, &mut permit)?;
            let event = match self.judge(asked.with(&seen.body), &live, &fetched)? {
                Verdict::Handshake(answer) => {
                    Box::pin(self.deeds().done(&live, &answer)).await?;
                    return Ok(("handshake", answer::handshake(answer)));
                }
                Verdict::Event(event) => event,
            };
            if !std::mem::replace(&mut seen.counted, true) {
                self.rates.take(live.source.id, live.source.spec.rate_per_s).await?;
            }
            match self.journal.commit(permit, *event).await {
                Ok(committed) => {
                    live.refused.end();
                    let outcome = if committed.duplicate { "duplicate" } else { "accepted" };
                    let answers = live.preset.answers();
                    return Ok((outcome, answer::accepted(answers, committed.id, committed.duplicate)));
                }
                Err(Stale) => {
                    seen.live = None;
                    Box::pin(self.snapshot.refresh())
                        .await
                        .map_err(|error| route::unreadable_source(&error))?;
                }
                Err(error) => return Err(refuse_journal(error)),
            }
        }
        Err(refuse_journal(Stale))
    }

    fn admit<'p>(
        &self,
        live: &LiveSource,
        body: &Bytes,
        held: &'p mut Option<Permit>,
    ) -> Result<&'p Permit, Refusal> {
        if let Some(permit) = held {
            return Ok(permit);
        }
        let permit = self.journal.admit_with(live.source.tenant_id, body.len()).map_err(refuse_journal)?;
        Ok(held.insert(permit))
    }

    fn deeds(&self) -> Deeds<'_> {
        Deeds { pool: &self.pool, vault: &self.vault, snapshot: &self.snapshot, keys: &self.keys }
    }

    fn judge_with<'a>(&'a self, fetched: &'a [Key]) -> Judge<'a> {
        let now = Utc::now();
        Judge { vault: &self.vault, public_url: &self.public_url, fetched, now, received_at: now }
    }

    /// The provider's own keys, where the source verifies by these.
    async fn fetch_keys(&self, received: Received<'_>, live: &LiveSource) -> Result<Vec<Key>, Refusal> {
        let judge = self.judge_with(&[]);
        let (Some(scheme), Some(fetch)) = (&live.scheme, judge.key_fetch(received, live)?) else {
            return Ok(Vec::new());
        };
        // It waits as those do whose bodies are still arriving: whoever it is, it is not known yet.
        let source = &live.source;
        let waiting = self.arrivals.enter(source.tenant_id, source.id, received.body.len());
        let mut waiting = waiting.map_err(|Full| receive::gave_way())?;
        let fetched = tokio::select! {
            fetched = Box::pin(self.keys.keys(scheme, &fetch, judge.now)) => fetched,
            () = waiting.gives_way() => return Err(receive::gave_way()),
        };
        fetched.map_err(|fault| refuse_verification(&fault, scheme.www_authenticate()))
    }

    fn judge(&self, received: Received<'_>, live: &LiveSource, fetched: &[Key]) -> Result<Verdict, Refusal> {
        let judge = self.judge_with(fetched);
        if received.body.len() < LARGE_BODY_BYTES {
            return judge.judge(received, live);
        }
        tokio::task::block_in_place(|| judge.judge(received, live))
    }

    // Not an `async fn`: that would hold `work` twice.
    fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> impl Future<Output = Result<T, Refusal>> {
        let seconds = self.request_timeout.as_secs();
        tokio::time::timeout(self.request_timeout, work).map(move |done| {
            done.unwrap_or_else(|_| {
                // The event may be committed all the same: the sender's next attempt is then a duplicate.
                let text = format!("no answer within {seconds} s; send it again later");
                Err(Refusal::unavailable("request_timeout", text, RETRY_LATER))
            })
        })
    }

    fn refuse(&self, refusal: &Refusal, asked: &Asked, seen: &Seen) -> Taken {
        if let Some(live) = &seen.live {
            self.failing.refused(refusal, live);
            self.rejections.refuse(refusal, asked.with(&seen.body), live);
        }
        let answers = seen.live.as_ref().map(|live| live.preset.answers());
        (refusal.code, answer::refused(refusal, answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_future_of_a_request_stays_small() {
        // Each request moves it into its connection: with 14.8 KB that took a twelfth of the processors.
        let bytes = future_bytes(Intake::answer);
        assert!(bytes <= 4096, "{bytes} bytes: what is rarely awaited belongs into a box");
    }
}
