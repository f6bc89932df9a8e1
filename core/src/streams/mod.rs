//! Redis streams: hints to dispatchers that a chunk has been committed.
//!
//! Postgres is the truth (invariant 2): nothing here waits for Redis at start, nothing fails because
//! of it, and whatever gets lost is found by the scan of the outbox. Each shard has two streams,
//! `{prefix}:{n}:events` and `{prefix}:{n}:bulk` (with the braces around n: one hash slot a shard),
//! and one consumer group.
//!
//! 1. The journal's publisher adds [`ChunkEntry`]s with [`Streams::add`].
//! 2. A dispatcher has a [`BlockingReader`] a stream, each on a connection of its own, and hands back
//!    what it has claimed with [`Streams::settle`].

mod entry;
mod lease;
mod notices;
mod read;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::time::Instant;

use crate::bootstrap::config::RedisConfig;
pub use entry::{ChunkEntry, ENTRY_BYTES_MAX, EntryError, EntryEvent, FIELD};
pub use lease::Lease;
pub use notices::Notices;
pub use read::{AUTOCLAIM_IDLE, BlockingReader, Reclaimed, StreamEntry};

/// Every dispatcher reads through this group, made at `0`.
pub const GROUP: &str = "dispatchers";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For everything but a blocking read.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Which of a shard's two streams, and the `class` of an outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Events,
    /// Of tenants above their fair rate: read when `events` is empty, with a guaranteed minimum.
    Bulk,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Events, Self::Bulk];

    /// As the outbox has it.
    pub fn number(self) -> i16 {
        match self {
            Self::Events => 0,
            Self::Bulk => 1,
        }
    }

    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.number() == number)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bulk => "bulk",
        }
    }
}

/// One stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub shard: u16,
    pub class: Class,
}

/// Why Redis did not do it. None of these is an error of the event.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("redis is away; it is tried again in a moment")]
    Away,
    #[error("redis did not answer in time")]
    TimedOut,
    /// Its memory is used up and its policy is `noeviction`.
    #[error("redis is out of memory")]
    Full,
    #[error("redis: {0}")]
    Redis(RedisError),
}

/// The streams of a deployment, over one shared connection that is made anew whenever it is lost.
#[derive(Debug, Clone)]
pub struct Streams {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    prefix: String,
    shards: u16,
    max_entries: [usize; 2],
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    away: AtomicBool,
    backoff: Mutex<Backoff>,
}

#[derive(Debug)]
struct Backoff {
    next: Duration,
    until: Option<Instant>,
}

impl Streams {
    /// Opens nothing yet; `None` where no Redis is configured.
    pub fn connect(config: &RedisConfig) -> Option<Self> {
        let client = match Client::open(config.url_str()?) {
            Ok(client) => client,
            Err(error) => {
                // The configuration has checked the URL with the same parser.
                tracing::error!(%error, "redis.url cannot be used: going on without Redis");
                return None;
            }
        };
        Some(Self {
            shared: Arc::new(Shared {
                client,
                prefix: config.prefix.clone(),
                shards: u16::try_from(config.shards).unwrap_or(u16::MAX),
                max_entries: [config.stream_max_entries, config.bulk_max_entries],
                connection: tokio::sync::Mutex::new(None),
                away: AtomicBool::new(false),
                backoff: Mutex::new(Backoff { next: BACKOFF_MIN, until: None }),
            }),
        })
    }

    /// Whether Redis failed to answer when it was asked last.
    pub fn is_away(&self) -> bool {
        self.shared.away.load(Ordering::Relaxed)
    }

    /// Every stream there is.
    pub fn all(&self) -> impl Iterator<Item = StreamId> + use<> {
        (0..self.shared.shards)
            .flat_map(|shard| Class::ALL.into_iter().map(move |class| StreamId { shard, class }))
    }

    pub fn key(&self, stream: StreamId) -> String {
        format!("{}:{{{}}}:{}", self.shared.prefix, stream.shard, stream.class.as_str())
    }

    /// Entries this stream may hold.
    pub fn max_entries(&self, stream: StreamId) -> usize {
        match stream.class {
            Class::Events => self.shared.max_entries[0],
            Class::Bulk => self.shared.max_entries[1],
        }
    }

    /// Adds entries to one stream and says how long it is then.
    pub async fn add(&self, stream: StreamId, entries: &[Vec<u8>]) -> Result<usize, StreamError> {
        let key = self.key(stream);
        let mut pipe = redis::pipe();
        for entry in entries {
            pipe.cmd("XADD").arg(&key).arg("*").arg(FIELD).arg(entry.as_slice()).ignore();
        }
        pipe.cmd("XLEN").arg(&key);
        let (length,): (usize,) = self.pipeline(&pipe).await?;
        Ok(length)
    }

    /// Entries the stream holds.
    pub async fn length(&self, stream: StreamId) -> Result<usize, StreamError> {
        self.command(redis::cmd("XLEN").arg(self.key(stream))).await
    }

    async fn command<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, StreamError> {
        let mut connection = self.connection().await?;
        let reply = within(REPLY_TIMEOUT, command.query_async(&mut connection)).await;
        self.judge(reply).await
    }

    async fn pipeline<T: redis::FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, StreamError> {
        let mut connection = self.connection().await?;
        let reply = within(REPLY_TIMEOUT, pipe.query_async(&mut connection)).await;
        self.judge(reply).await
    }

    /// The shared connection. Fails at once while Redis is away and its pause is not over.
    async fn connection(&self) -> Result<MultiplexedConnection, StreamError> {
        let mut slot = self.shared.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        if self.shared.backoff.lock().until.is_some_and(|until| Instant::now() < until) {
            return Err(StreamError::Away);
        }
        let opened = self.open(REPLY_TIMEOUT).await;
        match opened {
            Ok(mut connection) => {
                warn_of_eviction(&mut connection).await;
                *slot = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                self.mark_away(&error);
                Err(error)
            }
        }
    }

    async fn open(&self, reply_timeout: Duration) -> Result<MultiplexedConnection, StreamError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(reply_timeout));
        let opening = self.shared.client.get_multiplexed_async_connection_with_config(&config);
        within(CONNECT_TIMEOUT, opening).await
    }

    /// Keeps the connection while it works, gives it up when it does not.
    async fn judge<T>(&self, reply: Result<T, StreamError>) -> Result<T, StreamError> {
        match &reply {
            Err(error) if error.is_loss() => {
                *self.shared.connection.lock().await = None;
                self.mark_away(error);
            }
            // It answered, if only with an error.
            Ok(_) | Err(_) => self.mark_back(),
        }
        reply
    }

    fn mark_away(&self, error: &StreamError) {
        let mut backoff = self.shared.backoff.lock();
        backoff.until = Some(Instant::now() + backoff.next);
        backoff.next = (backoff.next * 2).min(BACKOFF_MAX);
        if !self.shared.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "redis is away: chunks go through Postgres alone");
        }
    }

    fn mark_back(&self) {
        if self.shared.away.swap(false, Ordering::Relaxed) {
            *self.shared.backoff.lock() = Backoff { next: BACKOFF_MIN, until: None };
            tracing::info!("redis is back");
        }
    }
}

impl StreamError {
    /// The connection is of no more use.
    fn is_loss(&self) -> bool {
        match self {
            Self::TimedOut | Self::Away => true,
            Self::Full => false,
            // A server that is loading, or a replica after a failover, is left for another try.
            Self::Redis(error) => {
                error.is_io_error()
                    || error.is_unrecoverable_error()
                    || matches!(error.code(), Some("LOADING" | "READONLY" | "MASTERDOWN"))
            }
        }
    }
}

impl From<RedisError> for StreamError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            Self::TimedOut
        } else if error.code() == Some("OOM") {
            Self::Full
        } else {
            Self::Redis(error)
        }
    }
}

async fn within<T>(
    limit: Duration,
    reply: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, StreamError> {
    match tokio::time::timeout(limit, reply).await {
        Ok(reply) => reply.map_err(StreamError::from),
        Err(_) => Err(StreamError::TimedOut),
    }
}

/// With another policy than `noeviction` Redis drops whole streams. Nothing is lost by that, only
/// late: a warning, no more.
async fn warn_of_eviction(connection: &mut MultiplexedConnection) {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let Ok(Ok(reply)) = tokio::time::timeout(REPLY_TIMEOUT, connection.req_packed_command(&info)).await
    else {
        return;
    };
    let text = match &reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        _ => return,
    };
    let policy = text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    if let Some(policy) = policy.map(str::trim)
        && policy != "noeviction"
    {
        tracing::warn!(policy, "redis may evict streams: set its maxmemory-policy to noeviction");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> Streams {
        Streams::connect(&RedisConfig {
            // Nothing listens there; nothing is opened either.
            url: Some("redis://127.0.0.1:1/0".into()),
            prefix: "bowline".into(),
            shards: 2,
            stream_max_entries: 100,
            bulk_max_entries: 10,
        })
        .unwrap()
    }

    #[test]
    fn streams_of_a_shard_share_a_hash_slot() {
        let keys: Vec<String> = streams().all().map(|stream| streams().key(stream)).collect();
        assert_eq!(
            keys,
            ["bowline:{0}:events", "bowline:{0}:bulk", "bowline:{1}:events", "bowline:{1}:bulk"]
        );
        assert_eq!(streams().max_entries(StreamId { shard: 0, class: Class::Bulk }), 10);
        assert!(Class::ALL.iter().all(|class| Class::from_number(class.number()) == Some(*class)));
        assert_eq!(Class::from_number(2), None);
    }

    #[tokio::test]
    async fn a_redis_that_is_not_there_is_away_and_not_asked_again_at_once() {
        let streams = streams();
        let stream = StreamId { shard: 0, class: Class::Events };
        // However long it takes from one line to the next.
        streams.shared.backoff.lock().next = Duration::from_secs(3600);
        assert!(!streams.is_away());
        assert!(streams.add(stream, &[vec![1]]).await.is_err());
        assert!(streams.is_away());
        assert!(matches!(streams.length(stream).await, Err(StreamError::Away)));
    }
}
