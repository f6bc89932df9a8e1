//! Work that may take a while, apart from the threads that serve: no more of it at a time than leaves half of
//! the processors to everything else.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

use crate::fault::Fault;

static PLACES: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new((available_parallelism().map_or(1, NonZero::get) / 2).max(1)));

/// Waits for a place first. What has begun is finished, even if nobody waits for it any more.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let place = PLACES.acquire().await.map_err(|_| Fault::Stopping)?;
    let working = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    working.await.map_err(|failed| match failed.try_into_panic() {
        Ok(raised) => resume_unwind(raised),
        Err(_) => Fault::Stopping,
    })
}
