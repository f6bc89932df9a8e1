//! The rate of a source, over all replicas together: within a tenth of it over any ten seconds.
//!
//! One bucket in Redis holds the tokens of a source; a replica takes a few at a time, so that a busy
//! source costs some fifty questions a second and a request mostly none. A bucket holds the tokens of
//! half a second: however the senders spread over the replicas, the sum is right. Without Redis each
//! replica accepts its part, the rate divided by the replicas that live.
//!
//! Only events that are verified use up tokens: nobody can use up a source's rate from outside.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_core::bootstrap::Service;
use bowline_core::id::SourceId;
use bowline_core::store::{Pool, replicas};
use bowline_core::streams::{Lease, Streams};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use bowline_core::inbound::Refusal;

/// What a bucket holds when it is full, and what a replica takes at a time, as the time they last.
const BURST_S: f64 = 0.5;
const LEASE_S: f64 = 0.02;
/// Tokens that a replica has not used by then are void.
const LEASE_KEPT: Duration = Duration::from_secs(1);
/// Over the rate, Redis is not asked more often.
const DRY_MIN: Duration = Duration::from_millis(10);
const ASK_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the replicas are counted, and what nobody has used for a while is forgotten.
const COUNT_PERIOD: Duration = Duration::from_secs(2);
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);
const FORGET_AFTER: Duration = Duration::from_secs(60);
const SHARDS: usize = 16;

/// The rates of all sources that have one.
#[derive(Debug)]
pub(crate) struct Rates {
    streams: Option<Streams>,
    replicas: AtomicUsize,
    sources: [Mutex<HashMap<SourceId, Arc<SourceRate>>>; SHARDS],
}

#[derive(Debug)]
struct SourceRate {
    tokens: Mutex<Tokens>,
    /// Held by the one that asks Redis for the others.
    asking: tokio::sync::Mutex<()>,
}

/// What this replica knows of one source.
#[derive(Debug)]
struct Tokens {
    leased: u32,
    leased_at: Instant,
    /// Nothing is left before then.
    dry_until: Option<Instant>,
    /// For the time without Redis: what has gathered, and when that was.
    own: f64,
    own_at: Instant,
    used_at: Instant,
}

impl Tokens {
    fn new(now: Instant) -> Self {
        Self { leased: 0, leased_at: now, dry_until: None, own: f64::MAX, own_at: now, used_at: now }
    }

    /// How long there is nothing.
    fn dry(&self, now: Instant) -> Option<Duration> {
        self.dry_until.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// What can be said without asking.
    fn take(&mut self, now: Instant) -> Option<Result<(), Duration>> {
        self.used_at = now;
        if self.leased > 0 && now.duration_since(self.leased_at) < LEASE_KEPT {
            self.leased -= 1;
            return Some(Ok(()));
        }
        self.dry(now).map(Err)
    }

    fn lease(&mut self, lease: Lease, now: Instant) -> Result<(), Duration> {
        if lease.tokens == 0 {
            let wait = lease.wait.max(DRY_MIN);
            self.dry_until = Some(now + wait);
            return Err(wait);
        }
        self.leased = lease.tokens - 1;
        self.leased_at = now;
        Ok(())
    }

    /// Out of this replica's own part.
    fn take_own(&mut self, rate_per_s: f64, now: Instant) -> Result<(), Duration> {
        let gathered = now.duration_since(self.own_at).as_secs_f64() * rate_per_s;
        self.own = (self.own + gathered).min(burst(rate_per_s));
        self.own_at = now;
        if self.own >= 1.0 {
            self.own -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - self.own) / rate_per_s);
        self.dry_until = Some(now + wait);
        Err(wait)
    }
}

fn burst(rate_per_s: f64) -> f64 {
    (rate_per_s * BURST_S).max(1.0)
}

impl Rates {
    pub(crate) fn new(streams: Option<Streams>) -> Arc<Self> {
        Arc::new(Self {
            streams,
            replicas: AtomicUsize::new(1),
            sources: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// Whether it is of use to read a request; uses up nothing.
    pub(crate) fn check(&self, source: SourceId, rate_per_s: Option<f64>) -> Result<(), Refusal> {
        if rate_per_s.is_none() {
            return Ok(());
        }
        let known = self.shard(source).lock().get(&source).cloned();
        let dry = known.and_then(|known| known.tokens.lock().dry(Instant::now()));
        dry.map_or(Ok(()), |wait| Err(over(wait)))
    }

    /// Takes one token.
    pub(crate) async fn take(&self, source: SourceId, rate_per_s: Option<f64>) -> Result<(), Refusal> {
        let Some(rate_per_s) = rate_per_s else { return Ok(()) };
        let known = self.of(source);
        let now = Instant::now();
        if let Some(taken) = known.tokens.lock().take(now) {
            return taken.map_err(over);
        }
        let _asking = known.asking.lock().await;
        let now = Instant::now();
        if let Some(taken) = known.tokens.lock().take(now) {
            return taken.map_err(over);
        }
        let lease = Box::pin(self.ask(source, rate_per_s)).await;
        let mut tokens = known.tokens.lock();
        let taken = match lease {
            Some(lease) => tokens.lease(lease, now),
            None => tokens.take_own(rate_per_s / self.replicas.load(Ordering::Relaxed) as f64, now),
        };
        taken.map_err(over)
    }

    /// `None` without Redis.
    async fn ask(&self, source: SourceId, rate_per_s: f64) -> Option<Lease> {
        let streams = self.streams.as_ref()?;
        let wanted = (rate_per_s * LEASE_S).max(1.0) as u32;
        let name = source.to_string();
        let asked = streams.lease(&name, (rate_per_s, burst(rate_per_s)), wanted);
        match timeout(ASK_TIMEOUT, asked).await {
            Ok(Ok(lease)) => Some(lease),
            Ok(Err(error)) => {
                tracing::debug!(%error, %source, "the rate of a source is taken by this replica alone");
                None
            }
            Err(_) => None,
        }
    }

    fn of(&self, source: SourceId) -> Arc<SourceRate> {
        let mut sources = self.shard(source).lock();
        let known = sources.entry(source).or_insert_with(|| {
            Arc::new(SourceRate {
                tokens: Mutex::new(Tokens::new(Instant::now())),
                asking: tokio::sync::Mutex::default(),
            })
        });
        Arc::clone(known)
    }

    fn shard(&self, source: SourceId) -> &Mutex<HashMap<SourceId, Arc<SourceRate>>> {
        // The end of an id is random.
        &self.sources[source.0.as_bytes()[15] as usize % SHARDS]
    }

    /// Counts the replicas until `stop`, for the time when Redis is away.
    pub(crate) async fn follow(
        self: Arc<Self>,
        pool: Pool,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        loop {
            // Without rates there is nothing to divide.
            if self.forget(Instant::now()) > 0 {
                match timeout(COUNT_TIMEOUT, count(&pool)).await {
                    Ok(Ok(count)) => self.replicas.store(count.max(1), Ordering::Relaxed),
                    Ok(Err(error)) => tracing::debug!(%error, "the replicas could not be counted"),
                    Err(_) => tracing::debug!("the replicas could not be counted in time"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(COUNT_PERIOD) => {}
            }
        }
    }

    /// Says how many sources are left.
    fn forget(&self, now: Instant) -> usize {
        let mut left = 0;
        for shard in &self.sources {
            let mut sources = shard.lock();
            sources.retain(|_, known| now.duration_since(known.tokens.lock().used_at) < FORGET_AFTER);
            left += sources.len();
        }
        left
    }
}

async fn count(pool: &Pool) -> Result<usize, bowline_core::store::Error> {
    replicas::count(&pool.get().await?, Service::Ingest.as_str()).await
}

fn over(wait: Duration) -> Refusal {
    let mut refusal = Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_exceeded",
        "the source's rate is exceeded; send it again later",
    );
    refusal.retry_after = Some(wait);
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a thousand a second pass in ten seconds.
    fn passed(rate_per_s: f64) -> u32 {
        let began = Instant::now();
        let mut tokens = Tokens::new(began);
        let taken = (0..10_000).filter(|ms| {
            let now = began + Duration::from_millis(*ms);
            tokens.take(now).unwrap_or_else(|| tokens.take_own(rate_per_s, now)).is_ok()
        });
        taken.count() as u32
    }

    #[test]
    fn a_replica_alone_accepts_the_rate() {
        for (rate_per_s, least, most) in [(100.0, 990, 1055), (25.0, 248, 265), (2.0, 20, 21), (0.25, 3, 4)] {
            let passed = passed(rate_per_s);
            assert!((least..=most).contains(&passed), "{rate_per_s}: {passed}");
        }
    }

    #[tokio::test]
    async fn over_the_rate_says_when_to_come_again() {
        let (rates, source) = (Rates::new(None), SourceId::new());
        assert_eq!(rates.check(source, Some(0.1)), Ok(()));
        assert_eq!(rates.take(source, Some(0.1)).await, Ok(()));
        let refusal = rates.take(source, Some(0.1)).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        let wait = refusal.retry_after.unwrap();
        assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(10), "{wait:?}");
        assert!(rates.check(source, Some(0.1)).is_err());
        assert_eq!(rates.check(source, None), Ok(()), "no rate any more");
    }

    #[test]
    fn what_was_leased_is_used_first_and_not_kept_for_ever() {
        let now = Instant::now();
        let mut tokens = Tokens::new(now);
        assert_eq!(tokens.take(now), None);
        assert_eq!(tokens.lease(Lease { tokens: 2, wait: Duration::ZERO }, now), Ok(()));
        assert_eq!(tokens.take(now), Some(Ok(())));
        assert_eq!(tokens.take(now), None);
        assert_eq!(tokens.lease(Lease { tokens: 2, wait: Duration::ZERO }, now), Ok(()));
        assert_eq!(tokens.take(now + LEASE_KEPT), None);
        let later = now + 2 * LEASE_KEPT;
        assert_eq!(tokens.lease(Lease { tokens: 0, wait: Duration::from_millis(1) }, later), Err(DRY_MIN));
        assert_eq!(tokens.take(later), Some(Err(DRY_MIN)));
        assert_eq!(tokens.take(later + DRY_MIN), None);
    }

    #[tokio::test]
    async fn sources_that_nobody_uses_are_forgotten() {
        let rates = Rates::new(None);
        rates.take(SourceId::new(), Some(1.0)).await.unwrap();
        assert_eq!(rates.forget(Instant::now()), 1);
        assert_eq!(rates.forget(Instant::now() + FORGET_AFTER), 0);
    }
}
