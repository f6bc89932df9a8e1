//! Hints committed chunks to the dispatchers. It may skip any of them: their outbox rows are there.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pending::{Entered, Pending};
use crate::bootstrap::{Shutdown, supervise};
use crate::streams::{ChunkEntry, StreamError, StreamId, Streams};

/// Chunks that wait to be sent: at most 256 KiB inline each, 32 MiB in all.
const QUEUE_CHUNKS: usize = 128;
/// Chunks of one round trip.
const BATCH_CHUNKS: usize = 32;
const FULL_RECHECK: Duration = Duration::from_millis(100);
const OUT_OF_MEMORY_RECHECK: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Publication {
    stream: StreamId,
    entry: ChunkEntry,
    _pending: Entered,
}

/// Where a writer drops off what it has committed.
#[derive(Debug)]
pub(super) struct Publisher {
    queue: mpsc::Sender<Publication>,
    pending: Pending,
}

impl Publisher {
    pub(super) fn start(streams: Streams, end: &Shutdown) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_CHUNKS);
        let receiver = Arc::new(Mutex::new(receiver));
        let token = end.token();
        supervise("journal publisher", end, move || {
            run(streams.clone(), Arc::clone(&receiver), token.clone())
        });
        Self { queue, pending: Pending::default() }
    }

    /// Never waits: what finds no room is left to the outbox.
    pub(super) fn offer(&self, stream: StreamId, entry: ChunkEntry) {
        let publication = Publication { stream, entry, _pending: self.pending.enter() };
        if self.queue.try_send(publication).is_err() {
            count("queue_full", 1);
        }
    }

    /// Waits until what was offered is published or skipped.
    pub(super) async fn flush(&self) {
        self.pending.none().await;
    }
}

async fn run(
    streams: Streams,
    queue: Arc<Mutex<mpsc::Receiver<Publication>>>,
    end: CancellationToken,
) -> Result<(), Infallible> {
    let mut queue = queue.lock().await;
    let mut gates = Gates::default();
    let mut batch = Vec::with_capacity(BATCH_CHUNKS);
    loop {
        tokio::select! {
            // What was offered goes out first.
            biased;
            taken = queue.recv_many(&mut batch, BATCH_CHUNKS) => {
                if taken == 0 {
                    return Ok(());
                }
            }
            () = end.cancelled() => return Ok(()),
        }
        let mut by_stream: BTreeMap<StreamId, Vec<Publication>> = BTreeMap::new();
        for publication in batch.drain(..) {
            by_stream.entry(publication.stream).or_default().push(publication);
        }
        for (stream, publications) in by_stream {
            publish(&streams, &mut gates, stream, &publications).await;
        }
    }
}

async fn publish(streams: &Streams, gates: &mut Gates, stream: StreamId, publications: &[Publication]) {
    let chunks = publications.len() as u64;
    match gates.state(stream, Instant::now()) {
        Gate::Open => {}
        Gate::Closed => return count("stream_full", chunks),
        Gate::Recheck => match streams.length(stream).await {
            Ok(length) if length < streams.max_entries(stream) => gates.open(stream),
            Ok(_) => {
                gates.close(stream, Instant::now() + FULL_RECHECK);
                return count("stream_full", chunks);
            }
            Err(_) => return count("redis_away", chunks),
        },
    }
    let entries: Vec<Vec<u8>> = publications.iter().map(|publication| publication.entry.encode()).collect();
    match streams.add(stream, &entries).await {
        Ok(length) => {
            count("published", chunks);
            if length >= streams.max_entries(stream) {
                gates.close(stream, Instant::now() + FULL_RECHECK);
            }
        }
        Err(StreamError::Full) => {
            gates.close(stream, Instant::now() + OUT_OF_MEMORY_RECHECK);
            count("out_of_memory", chunks);
        }
        // It may have been added all the same: a claim finds out.
        Err(error) => {
            tracing::debug!(%error, chunks, "chunks are left to the outbox");
            count("redis_away", chunks);
        }
    }
}

fn count(outcome: &'static str, chunks: u64) {
    metrics::counter!("bowline_journal_chunks_total", "outcome" => outcome).increment(chunks);
}

/// Which streams are full, and when to look again.
#[derive(Debug, Default)]
struct Gates {
    closed: HashMap<StreamId, Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Closed,
    Recheck,
}

impl Gates {
    fn state(&self, stream: StreamId, now: Instant) -> Gate {
        match self.closed.get(&stream) {
            None => Gate::Open,
            Some(until) if now < *until => Gate::Closed,
            Some(_) => Gate::Recheck,
        }
    }

    fn close(&mut self, stream: StreamId, until: Instant) {
        self.closed.insert(stream, until);
    }

    fn open(&mut self, stream: StreamId) {
        self.closed.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::Class;

    #[test]
    fn a_full_stream_is_left_alone_and_looked_at_again() {
        let (events, bulk) =
            (StreamId { shard: 0, class: Class::Events }, StreamId { shard: 0, class: Class::Bulk });
        let now = Instant::now();
        let mut gates = Gates::default();
        gates.close(bulk, now + FULL_RECHECK);
        assert_eq!((gates.state(events, now), gates.state(bulk, now)), (Gate::Open, Gate::Closed));
        assert_eq!(gates.state(bulk, now + FULL_RECHECK), Gate::Recheck);
        gates.open(bulk);
        assert_eq!(gates.state(bulk, now), Gate::Open);
    }
}
