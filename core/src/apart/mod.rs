//! Work that may take a while, apart from the threads that serve: no more of it at a time than leaves half of
//! the processors to everything else, and no tenant keeps the others waiting for longer than one piece of its work
//! takes.

mod lines;

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::id::TenantId;
pub use lines::Lines;

/// Nothing is begun any more.
#[derive(Debug, thiserror::Error)]
#[error("the process stops")]
pub struct Stopping;

/// Places for work, which are given out in the order they are asked for. Each tenant has a line of its own before
/// them, and only the first few of a line ask: the tenants have turns, however long their lines are.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    /// Of half as many places each, so that two tenants cannot fill them.
    lines: Lines,
}

/// One of them, until dropped.
#[derive(Debug)]
#[allow(dead_code, reason = "held until dropped")]
pub struct Place {
    // Given back in this order: who has the place next finds the line of this tenant moved up.
    turn: OwnedSemaphorePermit,
    place: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, NonZero::get) / 2)
    }
}

impl Places {
    fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count.max(1))), lines: Lines::new(count / 2) }
    }

    /// Waits for one.
    pub async fn take(&self, tenant: TenantId) -> Result<Place, Stopping> {
        let turn = self.lines.turn(tenant).await?;
        let place = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Stopping)?;
        Ok(Place { turn, place })
    }
}

impl Place {
    /// What has begun is finished, even if nobody waits for it any more.
    pub async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let working = tokio::task::spawn_blocking(move || {
            let _held = self;
            work()
        });
        working.await.map_err(|failed| match failed.try_into_panic() {
            Ok(raised) => resume_unwind(raised),
            Err(_) => Stopping,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use futures_util::future::join_all;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), Stopping>> + 'a>>;

    /// The tenants in the order in which their work was done, where each of these asked in this order while all
    /// places were taken.
    async fn order(places: &Places, asked: &[u128]) -> Vec<u128> {
        let tenant = |number| TenantId(uuid::Uuid::from_u128(number));
        let done = Arc::new(Mutex::new(Vec::new()));
        let (begin, start) = mpsc::channel::<()>();
        let first = async move {
            places.take(tenant(asked[0])).await?.work(move || start.recv().unwrap_or_default()).await
        };
        let mut waiting: Vec<Waiting<'_>> = vec![Box::pin(first)];
        for number in &asked[1..] {
            let (number, done) = (*number, Arc::clone(&done));
            let work = move || done.lock().unwrap().push(number);
            waiting.push(Box::pin(async move { places.take(tenant(number)).await?.work(work).await }));
        }
        let mut asking = Context::from_waker(Waker::noop());
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut asking).is_pending());
        }
        drop(begin);
        join_all(waiting).await.into_iter().for_each(|done| done.unwrap());
        Arc::into_inner(done).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn tenants_have_turns_however_long_their_lines() {
        let places = Places::new(1);
        assert_eq!(order(&places, &[1, 1, 1, 1, 1, 2, 2, 3]).await, [2, 3, 1, 2, 1, 1, 1]);
        // Nothing is left of it.
        assert_eq!(order(&places, &[1, 1, 2]).await, [2, 1]);
    }

    #[tokio::test]
    async fn a_tenant_alone_has_half_of_the_places() {
        for (count, of_tenant) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (32, 16)] {
            let places = Places::new(count);
            assert_eq!(
                (places.lines.of_tenant(), places.free.available_permits()),
                (of_tenant, count.max(1))
            );
        }
    }

    #[tokio::test]
    #[should_panic(expected = "the work's own panic")]
    async fn a_panic_is_the_callers() {
        let place = Places::new(1).take(TenantId::new()).await.unwrap();
        let _ = place.work(|| panic!("the work's own panic")).await;
    }
}
