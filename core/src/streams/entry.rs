//! A stream entry: one chunk, with what a dispatcher needs to deliver it without asking Postgres.
//!
//! The form is protobuf, so that services of different versions read each other's entries: fields
//! are added, never renumbered. It is not signed and not trusted: an entry that does not decode is
//! left to the outbox row of the same chunk.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;
use uuid::Uuid;

use super::Class;
use crate::event::Event;
use crate::id::{ChunkId, EventId, SourceId, TenantId};

/// The field of the stream entry that holds the chunk.
pub const FIELD: &str = "c";
/// A full chunk with all its names stays far below.
pub const ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Room for later versions with larger chunks.
const EVENTS_MAX: usize = 1024;

/// One committed chunk as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEntry {
    pub id: ChunkId,
    /// Match with a configuration no older than this (invariant 11).
    pub config_version: i64,
    pub class: Class,
    pub events: Vec<EntryEvent>,
}

/// One event of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryEvent {
    /// Without headers and body where they are not inline.
    pub event: Event,
    /// Headers and body travel along; otherwise they are read from Postgres.
    pub inline: bool,
}

/// Why an entry is no chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("the entry has {0} bytes, more than {ENTRY_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the entry lacks its field `{FIELD}`")]
    NoField,
    #[error("the entry is no chunk: {0}")]
    Encoding(#[from] prost::DecodeError),
    #[error("the entry's `{0}` is not what it must be")]
    Value(&'static str),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireChunk {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(int64, tag = "2")]
    config_version: i64,
    #[prost(int32, tag = "3")]
    class: i32,
    #[prost(message, repeated, tag = "4")]
    events: Vec<WireEvent>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireEvent {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    tenant_id: Bytes,
    #[prost(bytes = "bytes", optional, tag = "3")]
    source_id: Option<Bytes>,
    #[prost(string, tag = "4")]
    event_type: String,
    #[prost(string, optional, tag = "5")]
    channel: Option<String>,
    #[prost(string, tag = "6")]
    content_type: String,
    #[prost(bytes = "bytes", tag = "7")]
    headers: Bytes,
    #[prost(bytes = "bytes", optional, tag = "8")]
    body: Option<Bytes>,
    /// Since the epoch; microseconds, as Postgres keeps them.
    #[prost(int64, tag = "9")]
    time_us: i64,
}

impl ChunkEntry {
    pub fn encode(&self) -> Vec<u8> {
        WireChunk {
            id: Bytes::copy_from_slice(self.id.0.as_bytes()),
            config_version: self.config_version,
            class: self.class.number().into(),
            events: self.events.iter().map(EntryEvent::wire).collect(),
        }
        .encode_to_vec()
    }

    /// Never panics, whatever the bytes; headers and bodies are slices of them.
    pub fn decode(bytes: Bytes) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge(bytes.len()));
        }
        let chunk = WireChunk::decode(bytes)?;
        if chunk.events.is_empty() || chunk.events.len() > EVENTS_MAX {
            return Err(EntryError::Value("events"));
        }
        Ok(Self {
            id: ChunkId(uuid(&chunk.id, "id")?),
            config_version: chunk.config_version,
            class: i16::try_from(chunk.class)
                .ok()
                .and_then(Class::from_number)
                .ok_or(EntryError::Value("class"))?,
            events: chunk.events.into_iter().map(EntryEvent::read).collect::<Result<_, _>>()?,
        })
    }
}

impl EntryEvent {
    fn wire(&self) -> WireEvent {
        let event = &self.event;
        WireEvent {
            id: Bytes::copy_from_slice(event.id.0.as_bytes()),
            tenant_id: Bytes::copy_from_slice(event.tenant_id.0.as_bytes()),
            source_id: event.source_id.map(|source| Bytes::copy_from_slice(source.0.as_bytes())),
            event_type: event.event_type.clone(),
            channel: event.channel.clone(),
            content_type: event.content_type.clone(),
            headers: if self.inline { event.headers.clone() } else { Bytes::new() },
            body: self.inline.then(|| event.body.clone()),
            time_us: event.time.timestamp_micros(),
        }
    }

    fn read(wire: WireEvent) -> Result<Self, EntryError> {
        let source = wire.source_id.map(|source| uuid(&source, "events.source_id")).transpose()?;
        let time = DateTime::<Utc>::from_timestamp_micros(wire.time_us);
        Ok(Self {
            inline: wire.body.is_some(),
            event: Event {
                id: EventId(uuid(&wire.id, "events.id")?),
                tenant_id: TenantId(uuid(&wire.tenant_id, "events.tenant_id")?),
                source_id: source.map(SourceId),
                event_type: wire.event_type,
                channel: wire.channel,
                content_type: wire.content_type,
                headers: wire.headers,
                body: wire.body.unwrap_or_default(),
                time: time.ok_or(EntryError::Value("events.time_us"))?,
            },
        })
    }
}

fn uuid(bytes: &[u8], field: &'static str) -> Result<Uuid, EntryError> {
    Uuid::from_slice(bytes).map_err(|_| EntryError::Value(field))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(body: &[u8], inline: bool) -> ChunkEntry {
        ChunkEntry {
            id: ChunkId::new(),
            config_version: 7,
            class: Class::Bulk,
            events: vec![EntryEvent {
                inline,
                event: Event {
                    id: EventId::new(),
                    tenant_id: TenantId::new(),
                    source_id: Some(SourceId::new()),
                    event_type: "order.created".into(),
                    channel: Some("shop-1".into()),
                    content_type: "application/json".into(),
                    headers: if inline { Bytes::from_static(b"x-a: 1\n") } else { Bytes::new() },
                    body: Bytes::copy_from_slice(body),
                    time: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
                },
            }],
        }
    }

    #[test]
    fn a_chunk_survives_with_and_without_its_bodies() {
        for (body, inline) in [(&b"{\"a\": 1}\xff\0"[..], true), (b"", true), (b"", false)] {
            let entry = entry(body, inline);
            assert_eq!(ChunkEntry::decode(entry.encode().into()), Ok(entry));
        }
    }

    #[test]
    fn what_is_no_chunk_says_why() {
        let empty = ChunkEntry { events: Vec::new(), ..entry(b"", true) };
        assert_eq!(ChunkEntry::decode(empty.encode().into()), Err(EntryError::Value("events")));
        let wire = WireChunk { class: 9, ..WireChunk::decode(&entry(b"", true).encode()[..]).unwrap() };
        assert_eq!(ChunkEntry::decode(wire.encode_to_vec().into()), Err(EntryError::Value("class")));
        let large = Bytes::from(vec![0; ENTRY_BYTES_MAX + 1]);
        assert_eq!(ChunkEntry::decode(large), Err(EntryError::TooLarge(ENTRY_BYTES_MAX + 1)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_do_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ChunkEntry::decode(bytes.into());
        }

        #[test]
        fn a_changed_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut encoded = entry(b"{}", true).encode();
            let at = at.index(encoded.len());
            encoded[at] = byte;
            let _ = ChunkEntry::decode(encoded.into());
        }
    }
}
