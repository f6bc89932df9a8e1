//! The places of connections: so many are open, and no more (invariant 7).
//!
//! Who connects when all are taken gets the place of a connection that has been quiet for the longest:
//! idle, or with a request that does not come to its end. Slow senders can so hold every place there
//! is, and none from a sender that sends. A connection whose request is being stored is never closed.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So many give way at a time, as a part of all: looking for them costs more than closing them.
const GIVE_WAY_PART: usize = 100;
const MAKE_ROOM_PERIOD: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Places {
    began: Instant,
    max: usize,
    free: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<Line>>>,
    next: AtomicU64,
}

/// What is known of one open connection.
#[derive(Debug)]
pub(crate) struct Line {
    began: Instant,
    /// Requests that are all there and not answered yet.
    storing: AtomicU32,
    /// When it last was of use, in milliseconds.
    quiet_since_ms: AtomicU64,
    gives_way: Notify,
}

/// A taken place.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    line: Arc<Line>,
    _permit: OwnedSemaphorePermit,
}

/// A request is all there; until this is dropped.
#[derive(Debug)]
pub(crate) struct Storing<'a>(&'a Line);

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            max,
            free: Arc::new(Semaphore::new(max)),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        })
    }

    /// A place, for which another may have given way; `None` only when nothing is accepted any more.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            permit
        } else {
            self.wait().await?
        };
        let line = Arc::new(Line {
            began: self.began,
            storing: AtomicU32::new(0),
            quiet_since_ms: AtomicU64::new(since(self.began)),
            gives_way: Notify::new(),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(number, Arc::clone(&line));
        Some(Place { places: Arc::clone(self), number, line, _permit: permit })
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let mut free = pin!(Arc::clone(&self.free).acquire_owned());
        loop {
            self.make_room();
            // Where all are of use now, one may be quiet in a moment.
            if let Ok(permit) = tokio::time::timeout(MAKE_ROOM_PERIOD, &mut free).await {
                return permit.ok();
            }
        }
    }

    fn make_room(&self) {
        let mut quiet: Vec<(u64, Arc<Line>)> = {
            let open = self.open.lock();
            let quiet = open.values().filter(|line| line.storing.load(Ordering::Relaxed) == 0);
            quiet.map(|line| (line.quiet_since_ms.load(Ordering::Relaxed), Arc::clone(line))).collect()
        };
        let going = (self.max / GIVE_WAY_PART).max(1).min(quiet.len());
        if going == 0 {
            return;
        }
        quiet.select_nth_unstable_by_key(going - 1, |(since, _)| *since);
        metrics::counter!("bowline_ingest_connections_gave_way_total").increment(going as u64);
        for (_, line) in &quiet[..going] {
            line.gives_way.notify_one();
        }
    }
}

impl Line {
    /// Resolves when another needs the place.
    pub(crate) async fn gives_way(&self) {
        loop {
            self.gives_way.notified().await;
            // It may have become of use since.
            if self.storing.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    pub(crate) fn storing(&self) -> Storing<'_> {
        self.storing.fetch_add(1, Ordering::Relaxed);
        Storing(self)
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.0.quiet_since_ms.store(since(self.0.began), Ordering::Relaxed);
        self.0.storing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.lock().remove(&self.number);
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_millis(1), place.line().gives_way()).await.is_ok()
    }

    #[tokio::test]
    async fn the_one_that_is_quiet_for_the_longest_gives_way() {
        let places = Places::new(3);
        let [first, second, third] =
            [places.take().await.unwrap(), places.take().await.unwrap(), places.take().await.unwrap()];
        for (place, since_ms) in [(&first, 3), (&second, 1), (&third, 2)] {
            place.line().quiet_since_ms.store(since_ms, Ordering::Relaxed);
        }
        let storing = second.line().storing();
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        third.line().gives_way().await;
        assert_eq!((asked(&first).await, asked(&second).await), (false, false));
        assert!(!waiting.is_finished());
        drop(third);
        assert!(waiting.await.unwrap().is_some());
        drop(storing);
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new(1);
        for _ in 0..3 {
            drop(places.take().await.unwrap());
        }
        assert_eq!((places.open.lock().len(), places.free.available_permits()), (0, 1));
    }
}
