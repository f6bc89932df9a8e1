//! Claims chunks and reads what is in them. A row of `outbox` has one owner at a time; only the end
//! of that owner's life makes it free again (invariant 3).

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Connection, Error};
use crate::event::Event;
use crate::id::{ChunkId, EndpointId, EventId, ReplicaId, SourceId, TenantId};

/// A chunk that is ours now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedChunk {
    pub id: ChunkId,
    pub event_ids: Vec<EventId>,
    /// Matching needs a configuration at least this new, and leaves out endpoints made later.
    pub config_version: i64,
    /// How often an owner died while it held this chunk.
    pub takeovers: i32,
    /// What the journal has put into the queue of ordered endpoints already.
    pub ordered: Vec<(EventId, EndpointId)>,
}

pub(super) fn read(row: &Row) -> Result<ClaimedChunk, Error> {
    Ok(ClaimedChunk {
        id: ChunkId(row.try_get(0)?),
        event_ids: row.try_get::<_, Vec<Uuid>>(1)?.into_iter().map(EventId).collect(),
        config_version: row.try_get(2)?,
        takeovers: row.try_get(3)?,
        ordered: pairs(row.try_get(4)?),
    })
}

/// Events, then as many endpoints.
fn pairs(ids: Option<Vec<Uuid>>) -> Vec<(EventId, EndpointId)> {
    let ids = ids.unwrap_or_default();
    let (events, endpoints) = ids.split_at(ids.len() / 2);
    events.iter().zip(endpoints).map(|(event, endpoint)| (EventId(*event), EndpointId(*endpoint))).collect()
}

/// Claims the named chunks ([`ClaimSession`](super::claim_session::ClaimSession)).
pub(super) const CLAIM: &str = "
    UPDATE outbox AS o
       SET owner = $1, takeovers = o.takeovers + (o.owner IS NOT NULL)::int
     WHERE o.id = ANY($2)
       AND (o.owner IS NULL
            OR NOT EXISTS (SELECT 1 FROM replicas AS r WHERE r.id = o.owner AND r.dead_at IS NULL))
    RETURNING o.id, o.event_ids, o.config_version, o.takeovers, o.ordered";

/// Claims up to `limit` chunks of a class that nobody has taken for `unowned_for`, oldest first.
pub async fn claim_unowned(
    client: &Connection,
    owner: ReplicaId,
    class: i16,
    unowned_for: Duration,
    limit: i64,
) -> Result<Vec<ClaimedChunk>, Error> {
    const SQL: &str = "
        UPDATE outbox AS o SET owner = $1
         WHERE o.id = ANY(ARRAY(
               SELECT id FROM outbox
                WHERE class = $2 AND owner IS NULL
                  AND created_at <= now() - $3::float8 * interval '1 second'
                ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED))
        RETURNING o.id, o.event_ids, o.config_version, o.takeovers, o.ordered";
    let rows = client
        .query(&client.prepare_cached(SQL).await?, &[&owner.0, &class, &unowned_for.as_secs_f64(), &limit])
        .await?;
    rows.iter().map(read).collect()
}

/// Claims up to `limit` chunks whose owner is dead.
pub async fn claim_orphaned(
    client: &Connection,
    owner: ReplicaId,
    limit: i64,
) -> Result<Vec<ClaimedChunk>, Error> {
    const SQL: &str = "
        UPDATE outbox AS o SET owner = $1, takeovers = o.takeovers + 1
         WHERE o.id = ANY(ARRAY(
               SELECT orphan.id FROM replicas AS r
                 JOIN outbox AS orphan ON orphan.owner = r.id
                WHERE r.dead_at IS NOT NULL
                ORDER BY orphan.id LIMIT $2 FOR UPDATE OF orphan SKIP LOCKED))
        RETURNING o.id, o.event_ids, o.config_version, o.takeovers, o.ordered";
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&owner.0, &limit]).await?;
    rows.iter().map(read).collect()
}

/// Everything in `outbox` that this life owns, to be compared with what it has in memory.
pub async fn owned(client: &Connection, owner: ReplicaId) -> Result<Vec<ClaimedChunk>, Error> {
    const SQL: &str = "SELECT id, event_ids, config_version, takeovers, ordered FROM outbox WHERE owner = $1 ORDER BY id LIMIT 50000";
    let rows = client.query(SQL, &[&owner.0]).await?;
    rows.iter().map(read).collect()
}

/// Which first deliveries of these events are settled already: decided, waiting or dead.
pub async fn settled(
    client: &Connection,
    events: &[EventId],
) -> Result<HashSet<(EventId, EndpointId)>, Error> {
    const SQL: &str = "
        SELECT event_id, endpoint_id FROM attempts
         WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3 AND run = 0
           AND decision IN ('delivered', 'dead', 'cancelled', 'expired')
        UNION
        SELECT event_id, endpoint_id FROM attempts_kept
         WHERE event_id = ANY($1) AND run = 0 AND decision IN ('delivered', 'dead', 'cancelled', 'expired')
        UNION
        SELECT event_id, endpoint_id FROM queue WHERE event_id = ANY($1) AND run = 0
        UNION
        SELECT event_id, endpoint_id FROM dead_letters WHERE event_id = ANY($1) AND run = 0";
    let Some((ids, least, most)) = bounds(events) else { return Ok(HashSet::new()) };
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&ids, &least, &most]).await?;
    rows.iter().map(|row| Ok((EventId(row.try_get(0)?), EndpointId(row.try_get(1)?)))).collect()
}

/// Between which ids the chunks of these events are: a chunk's id is made after those of its events, within the
/// time a request may take. Clocks may be set meanwhile.
pub(super) fn chunks_of(least: Uuid, most: Uuid) -> (Uuid, Uuid) {
    const BEFORE_MS: u128 = 10_000;
    const AFTER_MS: u128 = 120_000;
    let shift = |ms: u128| ms << 80;
    let (least, most) = (least.as_u128(), most.as_u128());
    (
        Uuid::from_u128(least.saturating_sub(shift(BEFORE_MS))),
        Uuid::from_u128(most.saturating_add(shift(AFTER_MS))),
    )
}

/// The ids and their range: a plan prunes partitions by the range.
fn bounds(events: &[EventId]) -> Option<(Vec<Uuid>, Uuid, Uuid)> {
    let mut ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let (least, most) = (*ids.first()?, *ids.last()?);
    Some((ids, least, most))
}

/// Reads events whole, also those kept from partitions that are gone. Each is looked up in the partition
/// of its day: what was claimed together may be of many days.
pub async fn load(client: &Connection, events: &[EventId]) -> Result<Vec<Event>, Error> {
    const SQL: &str = "
        SELECT found.*
          FROM unnest($1::uuid[]) AS wanted (id)
         CROSS JOIN LATERAL (
               SELECT id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time
                 FROM events WHERE id = wanted.id AND id BETWEEN $2 AND $3 LIMIT 1) AS found
        UNION ALL
        SELECT id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time
          FROM events_kept WHERE id = ANY($1)";
    // Copied before their partition goes, some are in both for a moment.
    let mut seen = HashSet::new();
    let Some((ids, least, most)) = bounds(events) else { return Ok(Vec::new()) };
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&ids, &least, &most]).await?;
    let is_new = |row: &&Row| row.try_get::<_, Uuid>(0).map_or(true, |id| seen.insert(id));
    rows.iter().filter(is_new).map(read_event).collect()
}

/// As [`load`], from the first of them on up to the one with which their bodies come to `bytes_max`; in the order of
/// `events`, each of which stands there once. How large a body is Postgres knows without reading it.
pub async fn load_first(
    client: &Connection,
    events: &[EventId],
    bytes_max: usize,
) -> Result<Vec<Event>, Error> {
    const SQL: &str = "
        SELECT id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time
          FROM (SELECT found.*, at, sum(octet_length(body)) OVER (ORDER BY at ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (wanted_id, at)
                 CROSS JOIN LATERAL (
                       (SELECT id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time
                          FROM events WHERE id = wanted_id AND id BETWEEN $2 AND $3 LIMIT 1)
                        UNION ALL
                       (SELECT id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time
                          FROM events_kept WHERE id = wanted_id)
                        LIMIT 1) AS found) AS measured
         WHERE bytes - octet_length(body) < $4::bigint
         ORDER BY at";
    let Some((_, least, most)) = bounds(events) else { return Ok(Vec::new()) };
    let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    let bytes_max = bytes_max as i64;
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&ids, &least, &most, &bytes_max]).await?;
    rows.iter().map(read_event).collect()
}

fn read_event(row: &Row) -> Result<Event, Error> {
    Ok(Event {
        id: EventId(row.try_get(0)?),
        tenant_id: TenantId(row.try_get(1)?),
        source_id: row.try_get::<_, Option<Uuid>>(2)?.map(SourceId),
        event_type: row.try_get(3)?,
        channel: row.try_get(4)?,
        content_type: row.try_get(5)?,
        headers: Bytes::from(row.try_get::<_, Vec<u8>>(6)?),
        body: Bytes::from(row.try_get::<_, Vec<u8>>(7)?),
        time: row.try_get(8)?,
    })
}
