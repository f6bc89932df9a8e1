//! What the processes of the bench tell each other: a load to make, what came of it, what a sink saw.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Anything slower counts as this slow: ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoadSpec {
    pub(crate) target: Target,
    pub(crate) connections: usize,
    pub(crate) body_bytes: usize,
    pub(crate) pace: Pace,
    /// Tells the deliveries of one load from those of another, and its ids from all others.
    pub(crate) run: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Target {
    /// POST, signed as `GitHub` signs; the event types take turns.
    Signed { url: String, secret: String, event_types: Vec<String> },
    /// POST with these headers, besides those that all have; without a body, numbered ones.
    Given { url: String, headers: Vec<(String, String)>, body: String },
    /// gRPC `PublishEvent`.
    Publish { url: String, key: String, event_type: String },
    /// POST by reqwest, unsigned, to each URL in turn: what a delivery would cost without Bowline.
    Client { urls: Vec<String> },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Each connection sends its next request when it has an answer. All bodies are alike.
    ClosedFor { ms: u64 },
    /// The same, with so many numbered bodies.
    Closed { requests: u64 },
    /// Each request has its time, whatever became of those before it; bodies are numbered.
    Open { rate_per_s: f64, requests: u64 },
}

impl Pace {
    /// How many numbered bodies there are.
    pub(crate) fn numbered(self) -> Option<u64> {
        match self {
            Self::ClosedFor { .. } => None,
            Self::Closed { requests } | Self::Open { requests, .. } => Some(requests),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// Answered with success.
    pub(crate) ok: u64,
    /// What else came back, by kind.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) started_unix_ns: u64,
    pub(crate) elapsed_us: u64,
    pub(crate) latency: Quantiles,
}

impl LoadReport {
    pub(crate) fn ok_per_s(&self) -> f64 {
        per_second(self.ok, Duration::from_micros(self.elapsed_us))
    }
}

/// What a sink saw of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SinkReport {
    /// Different numbers, by endpoint.
    pub(crate) distinct: BTreeMap<String, u64>,
    /// Requests with a number that endpoint had seen.
    pub(crate) duplicates: u64,
    pub(crate) first_unix_ns: u64,
    pub(crate) last_unix_ns: u64,
    /// From the intended moment to the arrival.
    pub(crate) latency: Quantiles,
}

impl SinkReport {
    pub(crate) fn total(&self) -> u64 {
        self.distinct.values().sum()
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

/// Latencies, true to one per cent, in memory that does not grow.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are constants that the crate accepts.
        #[expect(clippy::expect_used)]
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("constant bounds"))
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_micros().try_into().unwrap_or(LATENCY_MAX_US));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Quantiles {
            count: self.0.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
        }
    }
}

pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// All processes are on one machine and share this clock.
pub(crate) fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
