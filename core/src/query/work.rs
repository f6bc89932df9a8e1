//! Reading fields from bodies so that nobody else waits for it: what may take a while is done apart from the
//! threads that serve, on half of the processors, and one query has only so much time of them.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::QueryError;
use super::path::FieldPath;

/// Of reading, for one query; what it waits for does not count.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long it waits for a place.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bodies so small are read where they are: most often some milliseconds pass, and no thread is woken.
const STREAMED_AT_ONCE_BYTES: usize = 256 * 1024;
const PARSED_AT_ONCE_BYTES: usize = 16 * 1024;

/// Where queries have bodies read; one a process.
#[derive(Debug)]
pub(super) struct Workplace {
    places: Arc<Semaphore>,
    time_max: Duration,
    wait_max: Duration,
}

impl Workplace {
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        let places = Arc::new(Semaphore::new((processors / 2).max(1)));
        Self { places, time_max: TIME_MAX, wait_max: WAIT_MAX }
    }

    pub(super) fn begin(&self) -> Work<'_> {
        Work { workplace: self, left: self.time_max }
    }
}

/// That of one query.
#[derive(Debug)]
pub(super) struct Work<'w> {
    workplace: &'w Workplace,
    left: Duration,
}

impl Work<'_> {
    /// What the path leads to in each body, in their order; in fewer than there are where the time is over.
    pub(super) async fn read<T: Send + 'static>(
        &mut self,
        path: &FieldPath,
        bodies: Vec<Bytes>,
        read: fn(&FieldPath, &[u8]) -> T,
    ) -> Result<Vec<T>, QueryError> {
        let (bytes, parses, path) = (bodies.iter().map(Bytes::len).sum(), path.parses(), path.clone());
        self.run(bytes, parses, move |time| {
            let begun = Instant::now();
            // Between two bodies: one alone is limited by its size, and by what its path may cost. Where there is any
            // time the first is read, so that each query comes farther than the one before.
            let in_time = |at: usize| (at == 0 && !time.is_zero()) || begun.elapsed() < time;
            let each = bodies.iter().enumerate().take_while(|(at, _)| in_time(*at));
            each.map(|(_, body)| read(&path, body)).collect()
        })
        .await
    }

    /// Work over so many bytes, that is told how much time it has.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        bytes: usize,
        parses: bool,
        work: impl FnOnce(Duration) -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let left = self.left;
        let timed = move || {
            let begun = Instant::now();
            (work(left), begun.elapsed())
        };
        let at_once_bytes = if parses { PARSED_AT_ONCE_BYTES } else { STREAMED_AT_ONCE_BYTES };
        let (done, took) = if bytes <= at_once_bytes { timed() } else { self.apart(timed).await? };
        self.left = left.saturating_sub(took);
        Ok(done)
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let place = Arc::clone(&self.workplace.places).acquire_owned();
        let place = tokio::time::timeout(self.workplace.wait_max, place).await.ok().and_then(Result::ok);
        let place = place.ok_or(QueryError::Busy)?;
        let working = tokio::task::spawn_blocking(move || {
            let _held = place;
            work()
        });
        working.await.map_err(|failed| match failed.try_into_panic() {
            Ok(raised) => resume_unwind(raised),
            // The process ends.
            Err(_) => QueryError::Busy,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn bodies(count: usize, bytes: usize) -> Vec<Bytes> {
        vec![format!("[\"{}\"]", "a".repeat(bytes)).into(); count]
    }

    async fn threads(path: &str, bytes: usize) -> Vec<thread::ThreadId> {
        let workplace = Workplace::new();
        let path = FieldPath::parse(path).unwrap();
        workplace.begin().read(&path, bodies(2, bytes), |_, _| thread::current().id()).await.unwrap()
    }

    #[tokio::test]
    async fn only_large_bodies_are_read_on_another_thread() {
        let here = thread::current().id();
        for (path, bytes, is_here) in
            [("a", 100_000, true), ("$..a", 5000, true), ("a", 200_000, false), ("$..a", 20_000, false)]
        {
            let read_by = threads(path, bytes).await;
            assert_eq!(read_by.len(), 2);
            assert_eq!(read_by.iter().all(|thread| *thread == here), is_here, "{path} {bytes}");
        }
    }

    #[tokio::test]
    async fn a_query_without_time_left_reads_nothing_more() {
        let path = FieldPath::parse("$..a").unwrap();
        let workplace = Workplace { time_max: Duration::from_millis(50), ..Workplace::new() };
        let mut work = workplace.begin();
        let slow = |_: &FieldPath, _: &[u8]| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(30) {
                thread::yield_now();
            }
        };
        let read = work.read(&path, bodies(100, 1000), slow).await.unwrap().len();
        assert!((1..=2).contains(&read), "{read}");
        assert_eq!(work.read(&path, bodies(100, 1), slow).await.unwrap().len(), 0);
        assert!(
            !workplace.begin().read(&path, bodies(1, 1), slow).await.unwrap().is_empty(),
            "the next query"
        );
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told() {
        let workplace = Workplace { wait_max: Duration::from_millis(1), ..Workplace::new() };
        let all = workplace.places.available_permits() as u32;
        let _taken = workplace.places.acquire_many(all).await.unwrap();
        let path = FieldPath::parse("$..a").unwrap();
        let refused = workplace.begin().read(&path, bodies(1, 20_000), |_, _| ()).await.unwrap_err();
        assert!(matches!(refused, QueryError::Busy), "{refused}");
        assert_eq!(workplace.begin().read(&path, bodies(1, 100), |_, _| ()).await.unwrap(), [()]);
    }
}
