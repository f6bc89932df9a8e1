//! Waiting for what the process cannot start without, and saying so: never a silent crash loop.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Condition, Shutdown};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const LOG_EVERY: Duration = Duration::from_secs(3);

/// A shutdown was asked for before what was waited for came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shut down while waiting")]
pub struct Stopped;

/// Calls `probe` until it succeeds; each attempt has 5 s. What is missing is logged every few
/// seconds and shown by `/readyz` under `condition`, which is set ready at the end.
///
/// `target` says what is waited for without its password, as [`super::config::PostgresConfig::target`].
pub async fn wait_for<T, E, F, Fut>(
    target: &str,
    condition: &Condition,
    shutdown: &Shutdown,
    mut probe: F,
) -> Result<T, Stopped>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Display,
{
    let began = Instant::now();
    let mut logged: Option<Instant> = None;
    let mut pause = PAUSE_MIN;
    loop {
        let attempt = tokio::select! {
            () = shutdown.requested() => return Err(Stopped),
            attempt = tokio::time::timeout(PROBE_TIMEOUT, probe()) => attempt,
        };
        let missing = match attempt {
            Ok(Ok(value)) => {
                condition.set_ready();
                if logged.is_some() {
                    let waited_ms = began.elapsed().as_millis() as u64;
                    tracing::info!(what = condition.name(), target, waited_ms, "it answers now");
                }
                return Ok(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PROBE_TIMEOUT.as_secs()),
        };
        condition.set_waiting(&missing);
        if logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            let waited_ms = began.elapsed().as_millis() as u64;
            tracing::warn!(what = condition.name(), target, waited_ms, missing, "waiting until it answers");
            logged = Some(Instant::now());
        }
        tokio::select! {
            () = shutdown.requested() => return Err(Stopped),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Readiness;

    #[tokio::test]
    async fn waits_through_errors_and_shows_them() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let condition = readiness.condition("postgres");
        let mut attempts = 0;
        let answer = wait_for("db:5432/x", &condition, &shutdown, || {
            attempts += 1;
            assert!(!readiness.is_ready());
            std::future::ready(if attempts < 3 { Err("refused") } else { Ok(attempts) })
        });
        assert_eq!(answer.await, Ok(3));
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_wait() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let condition = readiness.condition("postgres");
        let token = shutdown.token();
        let answer: Result<(), _> = wait_for("db:5432/x", &condition, &shutdown, || {
            token.cancel();
            std::future::ready(Err("refused"))
        })
        .await;
        assert_eq!(answer, Err(Stopped));
    }
}
