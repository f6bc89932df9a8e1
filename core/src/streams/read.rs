//! The dispatcher's side of the streams.

use std::time::Duration;

use bytes::Bytes;
use redis::FromRedisValue as _;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId as Found, StreamReadReply};

use super::{ChunkEntry, EntryError, FIELD, GROUP, StreamError, StreamId, Streams, within};

/// Entries that a consumer has had for this long without settling them go to another one.
pub const AUTOCLAIM_IDLE: Duration = Duration::from_secs(60);
/// What a blocking read may take longer than it was asked to block.
const BLOCK_SLACK: Duration = Duration::from_secs(1);
/// The longest block; the reader's connection is given up a second later.
const BLOCK_MAX: Duration = Duration::from_secs(10);

/// An entry as it was read. One that is no chunk is to be settled like the others: its outbox row
/// brings the events.
#[derive(Debug)]
pub struct StreamEntry {
    pub id: String,
    pub chunk: Result<ChunkEntry, EntryError>,
}

/// What was taken from consumers that did not settle it.
#[derive(Debug)]
pub struct Reclaimed {
    pub entries: Vec<StreamEntry>,
    /// Where to go on; `None` when all have been looked at.
    pub next: Option<String>,
}

/// Reads one stream on a connection of its own: a blocking read holds up what comes after it.
#[derive(Debug)]
pub struct BlockingReader {
    stream: StreamId,
    consumer: String,
    connection: Option<MultiplexedConnection>,
    grouped: bool,
}

impl BlockingReader {
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// What it reads is given to this consumer from now on.
    pub fn rename(&mut self, consumer: impl Into<String>) {
        self.consumer = consumer.into();
    }
}

impl Streams {
    /// A reader for `consumer`; opens nothing yet.
    pub fn reader(&self, stream: StreamId, consumer: impl Into<String>) -> BlockingReader {
        BlockingReader { stream, consumer: consumer.into(), connection: None, grouped: false }
    }

    /// Makes the group, and the stream with it; one that is there already is fine.
    pub async fn ensure_group(&self, stream: StreamId) -> Result<(), StreamError> {
        let key = self.key(stream);
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(key).arg(GROUP).arg("0").arg("MKSTREAM");
        match self.command::<()>(&command).await {
            Err(StreamError::Redis(error)) if error.code() == Some("BUSYGROUP") => Ok(()),
            other => other,
        }
    }

    /// Up to `count` new entries, waiting up to `block` (at most 10 s; zero: not at all) for the
    /// first. None is no error.
    ///
    /// Dropping the future may leave entries with the consumer that nobody has seen: they come back
    /// by [`Streams::autoclaim`], and their chunks by the scan of the outbox.
    pub async fn read(
        &self,
        reader: &mut BlockingReader,
        count: usize,
        block: Duration,
    ) -> Result<Vec<StreamEntry>, StreamError> {
        if !reader.grouped {
            self.ensure_group(reader.stream).await?;
            reader.grouped = true;
        }
        match self.read_once(reader, count, block).await {
            Err(StreamError::Redis(error)) if error.code() == Some("NOGROUP") => {
                // Redis has lost its data meanwhile.
                self.ensure_group(reader.stream).await?;
                self.read_once(reader, count, block).await
            }
            other => other,
        }
    }

    async fn read_once(
        &self,
        reader: &mut BlockingReader,
        count: usize,
        block: Duration,
    ) -> Result<Vec<StreamEntry>, StreamError> {
        let block = block.min(BLOCK_MAX);
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&reader.consumer).arg("COUNT").arg(count);
        if !block.is_zero() {
            // Zero milliseconds would mean for ever.
            command.arg("BLOCK").arg((block.as_millis() as u64).max(1));
        }
        command.arg("STREAMS").arg(self.key(reader.stream)).arg(">");
        let mut connection = if let Some(connection) = reader.connection.take() {
            connection
        } else {
            // The shared connection paces how often a server that is away is asked.
            self.connection().await?;
            self.open(BLOCK_MAX + BLOCK_SLACK).await.inspect_err(|error| self.mark_away(error))?
        };
        let reply: Result<Option<StreamReadReply>, _> =
            within(block + BLOCK_SLACK, command.query_async(&mut connection)).await;
        let reply = self.judge(reply).await;
        if !matches!(&reply, Err(error) if error.is_loss()) {
            reader.connection = Some(connection);
        }
        let keys = reply?.map(|reply| reply.keys).unwrap_or_default();
        Ok(keys.into_iter().flat_map(|key| key.ids).map(entry).collect())
    }

    /// Acknowledges and deletes, in one transaction: a stream holds only what nobody has claimed.
    pub async fn settle(&self, stream: StreamId, ids: &[String]) -> Result<(), StreamError> {
        if ids.is_empty() {
            return Ok(());
        }
        let key = self.key(stream);
        let mut pipe = redis::pipe();
        pipe.atomic();
        pipe.cmd("XACK").arg(&key).arg(GROUP).arg(ids).ignore();
        pipe.cmd("XDEL").arg(&key).arg(ids).ignore();
        self.pipeline::<()>(&pipe).await
    }

    /// Takes up to `count` entries that others have had for [`AUTOCLAIM_IDLE`], from `from` on
    /// (`None`: from the first).
    pub async fn autoclaim(
        &self,
        stream: StreamId,
        consumer: &str,
        from: Option<&str>,
        count: usize,
    ) -> Result<Reclaimed, StreamError> {
        const START: &str = "0-0";
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(self.key(stream)).arg(GROUP).arg(consumer).arg(AUTOCLAIM_IDLE.as_millis() as u64);
        command.arg(from.unwrap_or(START)).arg("COUNT").arg(count);
        match self.command::<StreamAutoClaimReply>(&command).await {
            Ok(reply) => Ok(Reclaimed {
                entries: reply.claimed.into_iter().map(entry).collect(),
                next: (reply.next_stream_id != START).then_some(reply.next_stream_id),
            }),
            Err(StreamError::Redis(error)) if error.code() == Some("NOGROUP") => {
                Ok(Reclaimed { entries: Vec::new(), next: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a consumer that has stopped, unless entries are still with it: Redis would forget
    /// them. Says whether it is gone.
    pub async fn remove_consumer(&self, stream: StreamId, consumer: &str) -> Result<bool, StreamError> {
        let key = self.key(stream);
        let mut pending = redis::cmd("XPENDING");
        pending.arg(&key).arg(GROUP).arg("-").arg("+").arg(1).arg(consumer);
        match self.command::<Vec<redis::Value>>(&pending).await {
            Ok(held) if !held.is_empty() => return Ok(false),
            Err(StreamError::Redis(error)) if error.code() == Some("NOGROUP") => return Ok(true),
            other => other?,
        };
        let mut remove = redis::cmd("XGROUP");
        remove.arg("DELCONSUMER").arg(&key).arg(GROUP).arg(consumer);
        self.command::<i64>(&remove).await?;
        Ok(true)
    }
}

fn entry(mut found: Found) -> StreamEntry {
    let chunk = found
        .map
        .remove(FIELD)
        .and_then(|value| Vec::<u8>::from_redis_value(value).ok())
        .ok_or(EntryError::NoField)
        .and_then(|bytes| ChunkEntry::decode(Bytes::from(bytes)));
    StreamEntry { id: found.id, chunk }
}
