//! Cuts a batch into chunks: one outbox row and one stream entry each.

use std::collections::HashMap;

use crate::defaults::{CHUNK_EVENTS_MAX, CHUNK_INLINE_BYTES_MAX};
use crate::event::Event;
use crate::id::{ChunkId, TenantId};
use crate::streams::{ChunkEntry, Class, EntryEvent, StreamId};

/// Where an event of a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) chunk: ChunkId,
    pub(super) stream: StreamId,
    /// Headers and body travel in the stream entry.
    pub(super) inline: bool,
}

#[derive(Debug)]
struct Open {
    id: ChunkId,
    events: usize,
    inline_bytes: usize,
}

/// The shard of a tenant: the same in every process. A `UUIDv7` ends in random bits.
pub(super) fn shard_of(tenant: TenantId, shards: u16) -> u16 {
    (tenant.0.as_u128() % u128::from(shards.max(1))) as u16
}

/// Places each event, in order: a chunk has one shard, at most 64 events and 256 KiB inline. What is larger by itself is not inline and takes none of those bytes.
pub(super) fn place<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    shards: u16,
    class: Class,
) -> Vec<Placement> {
    let mut open: HashMap<StreamId, Open> = HashMap::new();
    events
        .into_iter()
        .map(|event| {
            let stream = StreamId { shard: shard_of(event.tenant_id, shards), class };
            let size = event.body.len() + event.headers.len();
            let inline = size <= CHUNK_INLINE_BYTES_MAX;
            let inline_bytes = if inline { size } else { 0 };
            let fresh = || Open { id: ChunkId::new(), events: 0, inline_bytes: 0 };
            let chunk = open.entry(stream).or_insert_with(fresh);
            if chunk.events >= CHUNK_EVENTS_MAX || chunk.inline_bytes + inline_bytes > CHUNK_INLINE_BYTES_MAX
            {
                *chunk = fresh();
            }
            chunk.events += 1;
            chunk.inline_bytes += inline_bytes;
            Placement { chunk: chunk.id, stream, inline }
        })
        .collect()
}

/// The stream entries of what was stored, each event with its place.
pub(super) fn entries<'a>(
    stored: impl IntoIterator<Item = (&'a Event, Placement)>,
    config_version: i64,
) -> Vec<(StreamId, ChunkEntry)> {
    let mut index: HashMap<ChunkId, usize> = HashMap::new();
    let mut entries: Vec<(StreamId, ChunkEntry)> = Vec::new();
    for (event, placement) in stored {
        let at = *index.entry(placement.chunk).or_insert_with(|| {
            let (id, class) = (placement.chunk, placement.stream.class);
            entries.push((placement.stream, ChunkEntry { id, config_version, class, events: Vec::new() }));
            entries.len() - 1
        });
        entries[at].1.events.push(EntryEvent { event: event.clone(), inline: placement.inline });
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use chrono::Utc;

    use super::*;
    use crate::id::EventId;

    fn event(tenant: TenantId, bytes: usize) -> Event {
        Event {
            id: EventId::new(),
            tenant_id: tenant,
            source_id: None,
            event_type: "order.created".into(),
            channel: None,
            content_type: "application/json".into(),
            headers: Bytes::new(),
            body: vec![b' '; bytes].into(),
            time: Utc::now(),
        }
    }

    fn sizes(placements: &[Placement]) -> Vec<usize> {
        let mut sizes: BTreeMap<ChunkId, usize> = BTreeMap::new();
        for placement in placements {
            *sizes.entry(placement.chunk).or_default() += 1;
        }
        sizes.into_values().collect()
    }

    #[test]
    fn a_chunk_closes_at_its_events_or_its_bytes() {
        let tenant = TenantId::new();
        let small: Vec<Event> = (0..130).map(|_| event(tenant, 10)).collect();
        assert_eq!(sizes(&place(&small, 1, Class::Events)), [64, 64, 2]);
        let large: Vec<Event> = (0..5).map(|_| event(tenant, 100 * 1024)).collect();
        assert_eq!(sizes(&place(&large, 1, Class::Events)), [2, 2, 1]);
    }

    #[test]
    fn a_body_over_the_limit_is_not_inline_and_takes_no_room() {
        let tenant = TenantId::new();
        let events = [
            event(tenant, CHUNK_INLINE_BYTES_MAX),
            event(tenant, CHUNK_INLINE_BYTES_MAX + 1),
            event(tenant, 1),
        ];
        let placements = place(&events, 1, Class::Events);
        assert_eq!(placements.iter().map(|p| p.inline).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(sizes(&placements), [2, 1]);
    }

    #[test]
    fn shards_do_not_mix_and_entries_hold_what_was_stored() {
        let tenants: Vec<TenantId> = (0..8).map(|_| TenantId::new()).collect();
        let events: Vec<Event> = tenants.iter().cycle().take(80).map(|tenant| event(*tenant, 5)).collect();
        let placements = place(&events, 3, Class::Bulk);
        for (event, placement) in events.iter().zip(&placements) {
            assert_eq!(placement.stream.shard, shard_of(event.tenant_id, 3));
            assert_eq!(placement.stream.class, Class::Bulk);
        }
        let stored = events.iter().zip(placements.iter().copied()).step_by(2);
        let entries = entries(stored, 9);
        assert_eq!(entries.iter().map(|(_, entry)| entry.events.len()).sum::<usize>(), 40);
        for (stream, entry) in &entries {
            assert_eq!((entry.class, entry.config_version), (stream.class, 9));
            assert!(entry.events.iter().all(|e| shard_of(e.event.tenant_id, 3) == stream.shard));
        }
    }
}
