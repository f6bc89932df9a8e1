//! Where a retry is decided: a pure function from what came back to what happens next.

use std::time::Duration;

use bowline_core::defaults::RETRY_AFTER_CAP;
use bowline_core::delivery::DeadReason;
use bowline_core::endpoint::{Backoff, RetryPolicy, StatusAction};

/// Until a proxy that stood in the way is tried again, on average; uses up no attempt (invariant 10). Where
/// it refuses one receiver, that endpoint's breaker makes this longer and longer.
const PROXY_PAUSE: Duration = Duration::from_secs(10);

/// What came back of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Status {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// Timeout, connect, TLS, DNS or protocol error.
    Nothing,
    /// No retry can help: refused by the egress guard, secret missing, not to be formatted.
    Impossible(DeadReason),
    /// The forward proxy of this deployment fails, whatever is sent: the receiver was not asked.
    ProxyFault,
    /// The forward proxy will not connect to this receiver, which was not asked.
    ProxyRefused,
}

impl Answer {
    /// Whether a request may have reached the receiver.
    pub(crate) fn is_of_receiver(self) -> bool {
        matches!(self, Self::Status { .. } | Self::Nothing)
    }

    /// Whether it can be mended by whoever runs this deployment alone, and the delivery waits for that.
    pub(crate) fn is_of_proxy(self) -> bool {
        matches!(self, Self::ProxyFault | Self::ProxyRefused)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    Done,
    Retry { after: Duration },
    Dead { reason: DeadReason, disable: bool },
}

/// Decides about the `used`-th attempt (1 for the first) of a budget. `random` is uniform in [0, 1).
pub(crate) fn decide(answer: Answer, used: u32, policy: &RetryPolicy, random: f64) -> Next {
    let own = match answer {
        Answer::ProxyFault | Answer::ProxyRefused => {
            return Next::Retry { after: PROXY_PAUSE.mul_f64(0.5 + random) };
        }
        Answer::Status { status: 200..=299, .. } => return Next::Done,
        Answer::Status { status, .. } => policy.overrides.iter().find(|one| one.names(status)),
        Answer::Nothing | Answer::Impossible(_) => None,
    };
    if own.is_some_and(|own| own.then == StatusAction::Dead) {
        return Next::Dead { reason: DeadReason::NotRetried, disable: false };
    }
    let asked = match answer {
        Answer::Status { status: 410, .. } if own.is_none() => {
            return Next::Dead { reason: DeadReason::Gone, disable: true };
        }
        Answer::Impossible(reason) => return Next::Dead { reason, disable: false },
        Answer::Status { status: 429 | 503, retry_after } => retry_after,
        Answer::Status { .. } | Answer::Nothing | Answer::ProxyFault | Answer::ProxyRefused => None,
    };
    if used >= policy.max_attempts {
        return Next::Dead { reason: DeadReason::AttemptsExhausted, disable: false };
    }
    let wait = match own.map(|own| own.then) {
        Some(StatusAction::Retry { wait: Some(wait) }) => wait,
        _ => wait(used, &policy.backoff, random),
    };
    let asked = asked.unwrap_or_default().min(RETRY_AFTER_CAP);
    Next::Retry { after: wait.max(asked) }
}

/// The wait after the `used`-th failure.
fn wait(used: u32, backoff: &Backoff, random: f64) -> Duration {
    match backoff {
        Backoff::Schedule { waits, jitter } => {
            let at = (used.saturating_sub(1) as usize).min(waits.len().saturating_sub(1));
            let base = waits.get(at).copied().unwrap_or_default();
            shifted(base, *jitter, random)
        }
        Backoff::Fixed { wait, jitter } => shifted(*wait, *jitter, random),
        Backoff::Exponential { initial, factor, max } => {
            let steps = i32::try_from(used.saturating_sub(1)).unwrap_or(i32::MAX);
            let grown = initial.as_secs_f64() * factor.powi(steps);
            Duration::from_secs_f64(grown.clamp(0.0, max.as_secs_f64()) * random)
        }
    }
}

/// By up to `jitter` of itself, either way.
fn shifted(wait: Duration, jitter: f64, random: f64) -> Duration {
    wait.mul_f64((1.0 + jitter * (2.0 * random - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use bowline_core::endpoint::StatusOverride;

    use super::*;

    fn status(status: u16) -> Answer {
        Answer::Status { status, retry_after: None }
    }

    fn seconds(next: Next) -> f64 {
        match next {
            Next::Retry { after } => after.as_secs_f64(),
            other => panic!("expected a retry, got {other:?}"),
        }
    }

    #[test]
    fn what_a_status_means() {
        let policy = RetryPolicy::default();
        for ok in [200, 201, 204, 299] {
            assert_eq!(decide(status(ok), 1, &policy, 0.5), Next::Done);
        }
        assert_eq!(
            decide(status(410), 1, &policy, 0.5),
            Next::Dead { reason: DeadReason::Gone, disable: true }
        );
        for retried in [100, 301, 302, 400, 401, 404, 429, 500, 503] {
            assert!((seconds(decide(status(retried), 1, &policy, 0.5)) - 5.0).abs() < 1e-9, "{retried}");
        }
        assert!((seconds(decide(Answer::Nothing, 2, &policy, 0.5)) - 300.0).abs() < 1e-9);
        let refused = Answer::Impossible(DeadReason::EgressRefused);
        assert_eq!(
            decide(refused, 1, &policy, 0.5),
            Next::Dead { reason: DeadReason::EgressRefused, disable: false }
        );
    }

    #[test]
    fn a_proxy_in_the_way_uses_up_nothing() {
        let policy = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
        for answer in [Answer::ProxyFault, Answer::ProxyRefused] {
            assert!((seconds(decide(answer, 1, &policy, 0.0)) - 5.0).abs() < 1e-9);
            assert!(seconds(decide(answer, 99, &policy, 0.999)) <= 15.0);
            assert!(answer.is_of_proxy() && !answer.is_of_receiver());
        }
    }

    #[test]
    fn attempts_are_used_up_after_ten() {
        let policy = RetryPolicy::default();
        assert!(matches!(decide(status(500), 9, &policy, 0.5), Next::Retry { .. }));
        assert_eq!(
            decide(status(500), 10, &policy, 0.5),
            Next::Dead { reason: DeadReason::AttemptsExhausted, disable: false }
        );
    }

    #[test]
    fn retry_after_is_a_floor_and_capped() {
        let policy = RetryPolicy::default();
        let asked =
            |status, seconds| Answer::Status { status, retry_after: Some(Duration::from_secs(seconds)) };
        assert!((seconds(decide(asked(429, 60), 1, &policy, 0.5)) - 60.0).abs() < 1e-9);
        assert!((seconds(decide(asked(503, 1), 1, &policy, 0.5)) - 5.0).abs() < 1e-9);
        assert!((seconds(decide(asked(503, 10_000_000), 1, &policy, 0.5)) - 86_400.0).abs() < 1e-9);
        assert!((seconds(decide(asked(500, 60), 1, &policy, 0.5)) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        let policy = RetryPolicy::default();
        assert!((seconds(decide(status(500), 1, &policy, 0.0)) - 4.0).abs() < 1e-9);
        assert!(seconds(decide(status(500), 1, &policy, 0.999_999)) <= 6.0);
        let backoff = Backoff::Exponential {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(10),
        };
        let policy = RetryPolicy { max_attempts: 100, backoff, ..RetryPolicy::default() };
        assert!((seconds(decide(status(500), 3, &policy, 0.5)) - 2.0).abs() < 1e-9);
        assert!(seconds(decide(status(500), 90, &policy, 0.999)) <= 10.0);
    }

    #[test]
    fn a_fixed_wait_is_the_same_after_each_failure() {
        let backoff = Backoff::Fixed { wait: Duration::from_millis(250), jitter: 0.0 };
        let policy = RetryPolicy { max_attempts: 5, backoff, ..RetryPolicy::default() };
        for used in 1..5 {
            assert!((seconds(decide(status(500), used, &policy, 0.9)) - 0.25).abs() < 1e-9);
        }
        assert!(matches!(decide(status(500), 5, &policy, 0.9), Next::Dead { .. }));
    }

    #[test]
    fn a_status_means_what_the_endpoint_says() {
        let own = |statuses: &[(u16, u16)], then| StatusOverride { statuses: statuses.to_vec(), then };
        let wait = |seconds| StatusAction::Retry { wait: Some(Duration::from_secs(seconds)) };
        let policy = RetryPolicy {
            overrides: vec![
                own(&[(404, 404), (500, 504)], wait(7)),
                own(&[(400, 499)], StatusAction::Dead),
                own(&[(200, 299)], StatusAction::Dead),
            ],
            ..RetryPolicy::default()
        };
        let dead = Next::Dead { reason: DeadReason::NotRetried, disable: false };
        for (answer, next) in [(400, dead), (410, dead), (429, dead), (200, Next::Done)] {
            assert_eq!(decide(status(answer), 1, &policy, 0.5), next, "{answer}");
        }
        for (answer, waits) in [(404, 7.0), (503, 7.0), (505, 5.0), (302, 5.0)] {
            assert!((seconds(decide(status(answer), 1, &policy, 0.5)) - waits).abs() < 1e-9, "{answer}");
        }
        // A receiver's wish for more time stands, and so does the number of attempts.
        let asked = Answer::Status { status: 503, retry_after: Some(Duration::from_secs(60)) };
        assert!((seconds(decide(asked, 1, &policy, 0.5)) - 60.0).abs() < 1e-9);
        assert!(matches!(decide(status(404), 10, &policy, 0.5), Next::Dead { .. }));
        let again =
            RetryPolicy { overrides: vec![own(&[(410, 410)], StatusAction::Retry { wait: None })], ..policy };
        assert!((seconds(decide(status(410), 1, &again, 0.5)) - 5.0).abs() < 1e-9, "nothing is disabled");
    }
}
