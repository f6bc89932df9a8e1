//! Reading fields from bodies so that nobody else waits for it: what may take a while is done [apart](crate::apart),
//! a little at a time, so that tenants have their turns, and one query has only so much time of it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::QueryError;
use super::path::FieldPath;
use crate::apart::Places;
use crate::id::TenantId;

/// Of reading, for one query; what it waits for does not count.
const TIME_MAX: Duration = Duration::from_secs(5);
/// After so much of it the next has its turn.
const TURN_MAX: Duration = Duration::from_millis(500);
/// How long it waits for a place, each time.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bodies so small are read where they are: most often some milliseconds pass, and no thread is woken.
const STREAMED_AT_ONCE_BYTES: usize = 256 * 1024;
const PARSED_AT_ONCE_BYTES: usize = 16 * 1024;

/// Where queries have bodies read; one a process.
#[derive(Debug)]
pub(super) struct Workplace {
    places: Places,
    time_max: Duration,
    wait_max: Duration,
}

impl Workplace {
    pub(super) fn new() -> Self {
        Self { places: Places::default(), time_max: TIME_MAX, wait_max: WAIT_MAX }
    }

    pub(super) fn begin(&self, tenant: TenantId) -> Work<'_> {
        Work { workplace: self, tenant, left: self.time_max }
    }
}

/// That of one query.
#[derive(Debug)]
pub(super) struct Work<'w> {
    workplace: &'w Workplace,
    tenant: TenantId,
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
        let mut values = Vec::new();
        while values.len() < bodies.len() {
            match self.turn(path, bodies[values.len()..].to_vec(), read).await {
                Ok(turn) if turn.is_empty() => break,
                Ok(turn) => values.extend(turn),
                // What has been read is kept.
                Err(_) if !values.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }

    /// As much of it as there is time for in one turn.
    async fn turn<T: Send + 'static>(
        &mut self,
        path: &FieldPath,
        bodies: Vec<Bytes>,
        read: fn(&FieldPath, &[u8]) -> T,
    ) -> Result<Vec<T>, QueryError> {
        let (bytes, parses, path) = (bodies.iter().map(Bytes::len).sum(), path.parses(), path.clone());
        self.run(bytes, parses, move |left| {
            let (begun, time) = (Instant::now(), left.min(TURN_MAX));
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
        let place = self.workplace.places.take(self.tenant);
        let place =
            tokio::time::timeout(self.workplace.wait_max, place).await.map_err(|_| QueryError::Busy)?;
        Ok(place?.work(work).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::FutureExt as _;

    use super::*;

    fn bodies(count: usize, bytes: usize) -> Vec<Bytes> {
        vec![format!("[\"{}\"]", "a".repeat(bytes)).into(); count]
    }

    async fn threads(path: &str, bytes: usize) -> Vec<thread::ThreadId> {
        let workplace = Workplace::new();
        let path = FieldPath::parse(path).unwrap();
        workplace
            .begin(TenantId::new())
            .read(&path, bodies(2, bytes), |_, _| thread::current().id())
            .await
            .unwrap()
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
        let mut work = workplace.begin(TenantId::new());
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
            !workplace.begin(TenantId::new()).read(&path, bodies(1, 1), slow).await.unwrap().is_empty(),
            "the next query"
        );
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told() {
        let workplace = Workplace { wait_max: Duration::from_millis(1), ..Workplace::new() };
        // Somebody has each.
        let mut taken = Vec::new();
        while let Some(place) = workplace.places.take(TenantId::new()).now_or_never() {
            taken.push(place.unwrap());
        }
        let path = FieldPath::parse("$..a").unwrap();
        let refused =
            workplace.begin(TenantId::new()).read(&path, bodies(1, 20_000), |_, _| ()).await.unwrap_err();
        assert!(matches!(refused, QueryError::Busy), "{refused}");
        assert_eq!(
            workplace.begin(TenantId::new()).read(&path, bodies(1, 100), |_, _| ()).await.unwrap(),
            [()]
        );
    }
}
