//! Workers that do not die silently: restarted with backoff, or the process ends with them.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Shutdown;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A worker that ran this long had recovered: the next restart is prompt again.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// Runs a worker for the life of the process. When it fails, panics or returns before the shutdown,
/// it is started anew after a pause of 100 ms that doubles up to 15 s. The worker itself watches the
/// shutdown; the handle ends when the worker has.
///
/// Aborting the handle aborts the worker.
pub fn supervise<F, Fut, E>(name: &'static str, shutdown: &Shutdown, mut worker: F) -> JoinHandle<()>
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let mut backoff = BACKOFF_MIN;
        while !shutdown.is_requested() {
            let began = Instant::now();
            let ended = AbortOnDropHandle::new(tokio::spawn(worker())).await;
            if shutdown.is_requested() {
                report_last(name, ended);
                return;
            }
            if began.elapsed() >= SOUND_AFTER {
                backoff = BACKOFF_MIN;
            }
            metrics::counter!("bowline_process_worker_restarts_total", "worker" => name).increment(1);
            tracing::error!(
                worker = name,
                error = describe(ended),
                pause_ms = backoff.as_millis() as u64,
                "worker ended, starting it again"
            );
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    })
}

/// Runs a worker without which the process must not go on: when it fails, panics or returns before
/// the shutdown, the process shuts down with an error.
pub fn essential<Fut, E>(name: &'static str, shutdown: &Shutdown, worker: Fut) -> JoinHandle<()>
where
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let ended = AbortOnDropHandle::new(tokio::spawn(worker)).await;
        if shutdown.is_requested() {
            report_last(name, ended);
            return;
        }
        let error = describe(ended);
        tracing::error!(worker = name, error, "essential worker ended: shutting down");
        shutdown.fail(format!("{name}: {error}"));
    })
}

fn describe<E: Display>(ended: Result<Result<(), E>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "returned although nobody asked it to".into(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// During a shutdown only a real error is worth a line.
fn report_last<E: Display>(name: &'static str, ended: Result<Result<(), E>, JoinError>) {
    if !matches!(ended, Ok(Ok(()))) {
        tracing::warn!(worker = name, error = describe(ended), "worker failed while shutting down");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn errors_returns_and_panics_are_survived() {
        let shutdown = Shutdown::new();
        let runs = Arc::new(AtomicU32::new(0));
        let (counter, token) = (Arc::clone(&runs), shutdown.token());
        let handle = supervise("test", &shutdown, move || {
            let run = counter.fetch_add(1, Ordering::SeqCst);
            let token = token.clone();
            async move {
                match run {
                    0 => Err("failed".to_owned()),
                    1 => Ok(()),
                    2 => panic!("for the test"),
                    _ => {
                        token.cancel();
                        Ok(())
                    }
                }
            }
        });
        handle.await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 4);
        assert_eq!(shutdown.failure(), None);
    }

    #[tokio::test]
    async fn a_shutdown_waits_for_the_worker_to_finish() {
        let shutdown = Shutdown::new();
        let finished = Arc::new(AtomicU32::new(0));
        let started = Arc::new(tokio::sync::Notify::new());
        let (counter, token, starting) = (Arc::clone(&finished), shutdown.token(), Arc::clone(&started));
        let handle = supervise("test", &shutdown, move || {
            let (counter, token, starting) = (Arc::clone(&counter), token.clone(), Arc::clone(&starting));
            async move {
                starting.notify_one();
                token.cancelled().await;
                tokio::task::yield_now().await;
                counter.store(1, Ordering::SeqCst);
                Ok::<(), String>(())
            }
        });
        started.notified().await;
        shutdown.request();
        handle.await.unwrap();
        assert_eq!(finished.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_end_of_an_essential_worker_is_the_end_of_the_process() {
        for ending in [Ok(()), Err("lost")] {
            let shutdown = Shutdown::new();
            essential("lease", &shutdown, async move { ending }).await.unwrap();
            assert!(shutdown.failure().unwrap().starts_with("lease: "));
        }
        let shutdown = Shutdown::new();
        shutdown.request();
        essential("lease", &shutdown, async { Ok::<(), String>(()) }).await.unwrap();
        assert_eq!(shutdown.failure(), None);
    }
}
