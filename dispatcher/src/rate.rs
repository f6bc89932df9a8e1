//! The rate of an endpoint, over all dispatchers together: within a tenth of it over any ten seconds.
//!
//! One bucket in Redis holds the tokens of an endpoint, a request's worth each; a dispatcher takes as many
//! as it could use now. Without Redis each has its part, the rate divided by the dispatchers that live.
//! A lane that has work and no token is rationed: a task of its own asks, waits as long as it is told, and
//! ends with the work. Nobody else waits, and waiting uses up no attempt (invariant 10).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bowline_core::bootstrap::Service;
use bowline_core::id::EndpointId;
use bowline_core::store::{self, Pool, replicas};
use bowline_core::streams::Streams;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// What a bucket holds when it is full, and what is taken at a time, as the time they last.
const BURST_S: f64 = 0.5;
const LEASE_S: f64 = 0.02;
/// Redis is not asked more often for one endpoint.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// A rate may change meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_millis(100);
const COUNT_PERIOD: Duration = Duration::from_secs(2);
const FORGET_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Rates {
    streams: Option<Streams>,
    dispatchers: AtomicUsize,
    /// Own parts, for the time without Redis.
    own: Mutex<HashMap<EndpointId, Part>>,
}

#[derive(Debug)]
struct Part {
    tokens: f64,
    at: Instant,
}

impl Part {
    fn take(&mut self, rate_per_s: f64, wanted: u32, now: Instant) -> Result<u32, Duration> {
        let gathered = now.duration_since(self.at).as_secs_f64() * rate_per_s;
        self.tokens = (self.tokens + gathered).min(burst(rate_per_s));
        self.at = now;
        let given = self.tokens.floor().min(f64::from(wanted));
        if given < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / rate_per_s));
        }
        self.tokens -= given;
        Ok(given as u32)
    }
}

fn burst(rate_per_s: f64) -> f64 {
    (rate_per_s * BURST_S).max(1.0)
}

impl Rates {
    pub(crate) fn new(streams: Option<Streams>) -> Self {
        Self { streams, dispatchers: AtomicUsize::new(1), own: Mutex::default() }
    }

    /// Up to `usable` tokens, at least one, or how long there is none.
    pub(crate) async fn take(
        &self,
        endpoint: EndpointId,
        rate_per_s: f64,
        usable: usize,
    ) -> Result<u32, Duration> {
        let wanted = ((rate_per_s * LEASE_S).max(1.0) as u32).min(u32::try_from(usable).unwrap_or(u32::MAX));
        let taken = if let Some(taken) = self.ask(endpoint, rate_per_s, wanted).await {
            taken
        } else {
            let part = rate_per_s / self.dispatchers.load(Ordering::Relaxed) as f64;
            let now = Instant::now();
            let mut own = self.own.lock();
            own.entry(endpoint).or_insert(Part { tokens: 0.0, at: now }).take(part, wanted, now)
        };
        taken.map_err(|wait| wait.clamp(WAIT_MIN, WAIT_MAX))
    }

    /// `None` without Redis.
    async fn ask(&self, endpoint: EndpointId, rate_per_s: f64, wanted: u32) -> Option<Result<u32, Duration>> {
        let streams = self.streams.as_ref()?;
        let name = endpoint.to_string();
        let asked = streams.lease(&name, (rate_per_s, burst(rate_per_s)), wanted);
        match timeout(ASK_TIMEOUT, asked).await {
            Ok(Ok(lease)) if lease.tokens == 0 => Some(Err(lease.wait)),
            Ok(Ok(lease)) => Some(Ok(lease.tokens)),
            Ok(Err(error)) => {
                tracing::debug!(%error, %endpoint, "the rate of an endpoint is kept by this dispatcher alone");
                None
            }
            Err(_) => None,
        }
    }

    /// Counts the dispatchers for the time without Redis; a worker.
    pub(crate) async fn follow(&self, pool: &Pool) -> Result<(), store::Error> {
        loop {
            let parts = {
                let mut own = self.own.lock();
                own.retain(|_, part| part.at.elapsed() < FORGET_AFTER);
                own.len()
            };
            // Without rates there is nothing to divide.
            if parts > 0 {
                let client = pool.get().await?;
                let count = replicas::count(&client, Service::Dispatcher.as_str()).await?;
                self.dispatchers.store(count.max(1), Ordering::Relaxed);
            }
            tokio::time::sleep(COUNT_PERIOD).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatcher_alone_keeps_to_the_rate() {
        for (rate_per_s, least, most) in [(100.0, 985, 1051), (25.0, 245, 264), (2.0, 19, 21), (0.25, 2, 3)] {
            let began = Instant::now();
            let mut part = Part { tokens: 0.0, at: began };
            let passed: u32 = (0..10_000)
                .map(|ms| part.take(rate_per_s, 16, began + Duration::from_millis(ms)).unwrap_or_default())
                .sum();
            assert!((least..=most).contains(&passed), "{rate_per_s}: {passed}");
        }
    }

    #[tokio::test]
    async fn without_tokens_it_says_how_long_and_no_longer_than_a_second() {
        let rates = Rates::new(None);
        let id = EndpointId::new();
        assert_eq!(rates.take(id, 0.01, 1).await, Err(WAIT_MAX));
        assert_eq!(rates.take(id, 0.01, 1).await, Err(WAIT_MAX));
    }
}
