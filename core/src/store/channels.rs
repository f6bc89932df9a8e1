//! Channels of ordered endpoints. A channel's deliveries wait in `queue` with a place each (`seq`); who owns
//! the channel's row sends them, the lowest first, one at a time.
//!
//! 1. Who adds a delivery raises `tail` under the row's lock and takes that place: the journal as it commits
//!    an event, [`enlist`] for everything else. So places are taken in the order of commits.
//! 2. [`claim`] makes a channel ours, [`next`] reads what waits there.
//! 3. [`release`] gives it back and says when to look at it again, by what waits then. A moment that is too
//!    early does no harm, so whoever changes what waits may [`hasten`] it.
//!
//! Who holds the lock of a channel's row waits for no row of the queue but new ones; rows of several
//! channels are locked in the order of their keys. So none of these deadlock.

use std::sync::LazyLock;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::deliveries::KeyArrays;
use super::queue::{self, ClaimedDelivery, USED, enqueue};
use super::{Connection, Error};
use crate::delivery::DeliveryKey;
use crate::id::{ChunkId, EndpointId, EventId, ReplicaId, TenantId};

/// Channels that the journal locks all the time are claimed one by one, so many at a time.
const BUSY_MAX: i64 = 8;
/// Locked together for a moment.
const ORPHANS_MAX: i64 = 16;

/// Which channel. Events without a channel share the one without a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey {
    pub endpoint_id: EndpointId,
    pub channel: String,
}

/// A channel that is ours now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedChannel {
    pub key: ChannelKey,
    /// Below it nothing waits.
    pub head: i64,
    /// Which of its claims this is.
    pub hold: i64,
}

/// What waits in a channel, in its place.
#[derive(Debug, Clone)]
pub struct Placed {
    pub seq: i64,
    pub is_due: bool,
    pub delivery: ClaimedDelivery,
}

/// A channel that is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub key: ChannelKey,
    pub hold: i64,
    /// Below it nothing waits.
    pub head: i64,
    /// It is not to be looked at before this is over.
    pub wait: Duration,
}

/// Endpoints with channels that are due and free, at most `limit`, those after `after` first.
pub async fn endpoints_with_due(
    client: &Connection,
    after: Uuid,
    limit: i64,
) -> Result<Vec<EndpointId>, Error> {
    const SQL: &str = "
        WITH RECURSIVE waiting AS (
            (SELECT endpoint_id, 1::bigint AS n FROM channels
              WHERE owner IS NULL AND due_at IS NOT NULL AND endpoint_id > $1 ORDER BY endpoint_id LIMIT 1)
            UNION ALL
            SELECT next.endpoint_id, waiting.n + 1
              FROM waiting
             CROSS JOIN LATERAL (
                   SELECT endpoint_id FROM channels
                    WHERE owner IS NULL AND due_at IS NOT NULL AND endpoint_id > waiting.endpoint_id
                    ORDER BY endpoint_id LIMIT 1) AS next
             WHERE waiting.n < $2::bigint
        )
        SELECT endpoint_id FROM waiting
         WHERE EXISTS (SELECT 1 FROM channels AS c
                        WHERE c.owner IS NULL AND c.endpoint_id = waiting.endpoint_id AND c.due_at <= now())";
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&after, &limit]).await?;
    rows.iter().map(|row| Ok(EndpointId(row.try_get(0)?))).collect()
}

/// Claims due channels, up to each endpoint's own limit, those that wait for longest first.
///
/// A channel whose row is locked just now is passed over, and one that many events come for may be locked
/// whenever somebody looks: some of those are then waited for, each by itself.
pub async fn claim(
    client: &Connection,
    owner: ReplicaId,
    endpoints: &[EndpointId],
    limits: &[i64],
) -> Result<Vec<ClaimedChannel>, Error> {
    const FREE: &str = "
        UPDATE channels AS c SET owner = $1, holds = c.holds + 1
         WHERE c.ctid = ANY(ARRAY(
               SELECT row.ctid
                 FROM unnest($2::uuid[], $3::bigint[]) AS wanted (endpoint_id, most)
                CROSS JOIN LATERAL (
                      SELECT c.ctid FROM channels AS c
                       WHERE c.endpoint_id = wanted.endpoint_id AND c.owner IS NULL AND c.due_at <= now()
                       ORDER BY c.due_at LIMIT wanted.most FOR UPDATE SKIP LOCKED) AS row))
           AND c.owner IS NULL
        RETURNING c.endpoint_id, c.channel, c.head, c.holds";
    const PASSED_OVER: &str = "
        SELECT row.endpoint_id, row.channel
          FROM unnest($1::uuid[], $2::bigint[]) AS wanted (endpoint_id, most)
         CROSS JOIN LATERAL (
               SELECT c.endpoint_id, c.channel FROM channels AS c
                WHERE c.endpoint_id = wanted.endpoint_id AND c.owner IS NULL AND c.due_at <= now()
                ORDER BY c.due_at LIMIT wanted.most) AS row
         LIMIT $3";
    const BUSY: &str = "
        UPDATE channels SET owner = $1, holds = holds + 1
         WHERE endpoint_id = $2 AND channel = $3 AND owner IS NULL AND due_at <= now()
        RETURNING endpoint_id, channel, head, holds";
    let ids: Vec<Uuid> = endpoints.iter().map(|id| id.0).collect();
    let rows = client.query(&client.prepare_cached(FREE).await?, &[&owner.0, &ids, &limits]).await?;
    let mut claimed = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let (mut open, mut left) = (Vec::new(), Vec::new());
    for (id, most) in endpoints.iter().zip(limits) {
        let have = claimed.iter().filter(|one| one.key.endpoint_id == *id).count() as i64;
        if have < *most {
            open.push(id.0);
            left.push(most - have);
        }
    }
    if open.is_empty() {
        return Ok(claimed);
    }
    let busy = client.query(&client.prepare_cached(PASSED_OVER).await?, &[&open, &left, &BUSY_MAX]).await?;
    for row in busy {
        let (endpoint, channel): (Uuid, String) = (row.try_get(0)?, row.try_get(1)?);
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&owner.0, &endpoint, &channel];
        let row = client.query_opt(&client.prepare_cached(BUSY).await?, &values).await?;
        claimed.extend(row.as_ref().map(read).transpose()?);
    }
    Ok(claimed)
}

fn read(row: &tokio_postgres::Row) -> Result<ClaimedChannel, Error> {
    Ok(ClaimedChannel {
        key: ChannelKey { endpoint_id: EndpointId(row.try_get(0)?), channel: row.try_get(1)? },
        head: row.try_get(2)?,
        hold: row.try_get(3)?,
    })
}

/// What waits in channels that are ours, up to `limit` of each, in order: one list a channel.
pub async fn next(
    client: &Connection,
    channels: &[ClaimedChannel],
    limit: i64,
) -> Result<Vec<Vec<Placed>>, Error> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT k.at, q.seq, q.event_id, q.endpoint_id, q.run, q.tenant_id, q.attempt, q.due_at,
                    q.due_at <= now() AS is_due, {USED} AS used,
                    extract(epoch FROM now() - q.budget_from)::float8 AS waited_s
               FROM unnest($1::uuid[], $2::text[], $3::bigint[]) WITH ORDINALITY AS k (endpoint_id, channel, head, at)
              CROSS JOIN LATERAL (
                    SELECT * FROM queue AS q
                     WHERE q.endpoint_id = k.endpoint_id AND q.channel = k.channel
                       AND q.seq IS NOT NULL AND q.seq >= k.head
                     ORDER BY q.seq LIMIT $4) AS q
              ORDER BY k.at, q.seq"
        )
    });
    let endpoints: Vec<Uuid> = channels.iter().map(|one| one.key.endpoint_id.0).collect();
    let names: Vec<&str> = channels.iter().map(|one| one.key.channel.as_str()).collect();
    let heads: Vec<i64> = channels.iter().map(|one| one.head).collect();
    let rows =
        client.query(&client.prepare_cached(&SQL).await?, &[&endpoints, &names, &heads, &limit]).await?;
    let mut waiting: Vec<Vec<Placed>> = channels.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let at: i64 = row.try_get("at")?;
        let placed =
            Placed { seq: row.try_get("seq")?, is_due: row.try_get("is_due")?, delivery: queue::read(&row)? };
        if let Some(list) = waiting.get_mut(at as usize - 1) {
            list.push(placed);
        }
    }
    Ok(waiting)
}

/// Gives channels back, each due when its first delivery is; returns in how long the first of them is.
/// What was given back before, or taken by another meanwhile, stays as it is.
pub async fn release(
    client: &mut Connection,
    owner: ReplicaId,
    releases: &[Release],
) -> Result<Option<Duration>, Error> {
    // What waits is looked for by a statement of its own: it sees whatever came before the lock was had.
    const LOCK: &str = "
        SELECT 1 FROM channels
         WHERE (endpoint_id, channel) IN (SELECT * FROM unnest($1::uuid[], $2::text[])) AND owner = $3
         ORDER BY endpoint_id, channel FOR UPDATE";
    const FREE: &str = "
        UPDATE channels AS c
           SET owner = NULL, head = coalesce(u.first, c.tail + 1),
               due_at = CASE WHEN u.first IS NOT NULL
                             THEN greatest(u.first_due, now() + u.wait_ms * interval '1 millisecond') END
          FROM (SELECT k.*, q.seq AS first, q.due_at AS first_due
                  FROM unnest($1::uuid[], $2::text[], $4::bigint[], $5::bigint[], $6::bigint[])
                    AS k (endpoint_id, channel, hold, head, wait_ms)
                  LEFT JOIN LATERAL (
                       SELECT seq, due_at FROM queue
                        WHERE endpoint_id = k.endpoint_id AND channel = k.channel
                          AND seq IS NOT NULL AND seq >= k.head
                        ORDER BY seq LIMIT 1) AS q ON true) AS u
         WHERE c.endpoint_id = u.endpoint_id AND c.channel = u.channel AND c.owner = $3 AND c.holds = u.hold
        RETURNING extract(epoch FROM c.due_at - now())::float8";
    let endpoints: Vec<Uuid> = releases.iter().map(|one| one.key.endpoint_id.0).collect();
    let names: Vec<&str> = releases.iter().map(|one| one.key.channel.as_str()).collect();
    let holds: Vec<i64> = releases.iter().map(|one| one.hold).collect();
    let heads: Vec<i64> = releases.iter().map(|one| one.head).collect();
    let waits: Vec<i64> = releases.iter().map(|one| one.wait.as_millis() as i64).collect();
    let transaction = client.transaction().await?;
    let (lock, free) = (transaction.prepare_cached(LOCK).await?, transaction.prepare_cached(FREE).await?);
    transaction.query(&lock, &[&endpoints, &names, &owner.0]).await?;
    let rows = transaction.query(&free, &[&endpoints, &names, &owner.0, &holds, &heads, &waits]).await?;
    crate::crash::point("ordered_before_release_commit");
    transaction.commit().await?;
    let mut soonest: Option<Duration> = None;
    for row in rows {
        let Some(due_in_s) = row.try_get::<_, Option<f64>>(0)? else { continue };
        let due_in = Duration::from_secs_f64(due_in_s.max(0.0));
        soonest = Some(soonest.map_or(due_in, |other| other.min(due_in)));
    }
    Ok(soonest)
}

/// Frees channels whose owner is dead, or not known any more; returns how many.
pub async fn free_orphaned(client: &Connection) -> Result<u64, Error> {
    const SQL: &str = "
        WITH orphaned AS MATERIALIZED (
            SELECT c.endpoint_id, c.channel, c.owner FROM channels AS c
             WHERE c.owner IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM replicas AS r WHERE r.id = c.owner AND r.dead_at IS NULL)
             ORDER BY c.endpoint_id, c.channel LIMIT $1 FOR UPDATE OF c)
        UPDATE channels AS c SET owner = NULL, due_at = now()
          FROM orphaned AS o
         WHERE c.endpoint_id = o.endpoint_id AND c.channel = o.channel AND c.owner = o.owner";
    Ok(client.execute(&client.prepare_cached(SQL).await?, &[&ORPHANS_MAX]).await?)
}

/// The channels that this life owns, to be compared with what it has in memory.
pub async fn owned(client: &Connection, owner: ReplicaId) -> Result<Vec<ClaimedChannel>, Error> {
    const SQL: &str = "SELECT endpoint_id, channel, head, holds FROM channels WHERE owner = $1 LIMIT 50000";
    client.query(SQL, &[&owner.0]).await?.iter().map(read).collect()
}

/// Has a channel looked at now. One that is owned may be on its way back with another moment: it is waited for.
/// Several are hastened in the order of their keys.
pub(super) const HASTEN: &str = "
    UPDATE channels SET due_at = now()
     WHERE endpoint_id = $1 AND channel = $2 AND due_at IS NOT NULL AND (due_at > now() OR owner IS NOT NULL)";

/// Has a channel looked at now, because what waits in it has changed.
pub async fn hasten(client: &impl GenericClient, key: &ChannelKey) -> Result<(), Error> {
    client.execute(HASTEN, &[&key.endpoint_id.0, &key.channel]).await?;
    Ok(())
}

/// Has every channel of an endpoint looked at now.
pub async fn hasten_all(client: &impl GenericClient, id: EndpointId) -> Result<(), Error> {
    const SQL: &str = "
        WITH late AS MATERIALIZED (
            SELECT endpoint_id, channel FROM channels
             WHERE endpoint_id = $1 AND channel > $2 AND due_at IS NOT NULL AND (due_at > now() OR owner IS NOT NULL)
             ORDER BY channel LIMIT 500 FOR UPDATE),
        hastened AS (
            UPDATE channels AS c SET due_at = now()
              FROM late WHERE c.endpoint_id = late.endpoint_id AND c.channel = late.channel)
        SELECT max(channel) FROM late";
    const UNNAMED: &str = "
        UPDATE channels SET due_at = now()
         WHERE endpoint_id = $1 AND channel = '' AND due_at IS NOT NULL AND (due_at > now() OR owner IS NOT NULL)";
    client.execute(UNNAMED, &[&id.0]).await?;
    let mut after = Some(String::new());
    while let Some(last) = after {
        after = client.query_one(SQL, &[&id.0, &last]).await?.try_get(0)?;
    }
    Ok(())
}

/// Gives deliveries that this transaction has put into the queue their places at the tails of their
/// channels, in the order of their events. Those of endpoints that are not ordered are left alone.
pub async fn enlist(client: &impl GenericClient, keys: &[DeliveryKey]) -> Result<(), Error> {
    const SQL: &str = "
        WITH added AS MATERIALIZED (
            SELECT q.event_id, q.endpoint_id, q.run,
                   CASE WHEN e.spec ->> 'ordering' = 'strict' THEN '' ELSE coalesce(v.channel, '') END AS channel
              FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS k (event_id, endpoint_id, run)
              JOIN endpoints AS e ON e.id = k.endpoint_id AND e.spec ? 'ordering' AND e.deleted_at IS NULL
              JOIN queue AS q ON q.event_id = k.event_id AND q.endpoint_id = k.endpoint_id AND q.run = k.run
              LEFT JOIN LATERAL (
                   SELECT channel FROM events WHERE id = k.event_id
                    UNION ALL
                   SELECT channel FROM events_kept WHERE id = k.event_id LIMIT 1) AS v ON true
             WHERE q.seq IS NULL AND q.owner IS NULL AND q.priority >= 0),
        raised AS (
            INSERT INTO channels AS c (endpoint_id, channel, tail, due_at)
            SELECT endpoint_id, channel, count(*), now() FROM added
             GROUP BY endpoint_id, channel ORDER BY endpoint_id, channel
            ON CONFLICT (endpoint_id, channel) DO UPDATE
               SET tail = c.tail + excluded.tail, due_at = coalesce(c.due_at, excluded.due_at)
            RETURNING endpoint_id, channel, tail)
        UPDATE queue AS q SET seq = n.seq, channel = n.channel, priority = -2
          FROM (SELECT a.*, r.tail + 1 - row_number() OVER (PARTITION BY a.endpoint_id, a.channel
                                                           ORDER BY a.event_id DESC, a.run DESC) AS seq
                  FROM added AS a JOIN raised AS r ON r.endpoint_id = a.endpoint_id AND r.channel = a.channel) AS n
         WHERE q.event_id = n.event_id AND q.endpoint_id = n.endpoint_id AND q.run = n.run
           AND q.seq IS NULL AND q.owner IS NULL";
    if keys.is_empty() {
        return Ok(());
    }
    let keys = KeyArrays::new(keys);
    client.execute(SQL, &[&keys.events, &keys.endpoints, &keys.runs]).await?;
    Ok(())
}

/// Puts first deliveries of a chunk that is ours at the tails of their channels; returns whether it still
/// is ours. For what the journal has not placed.
pub async fn append(
    client: &mut Connection,
    owner: ReplicaId,
    chunk: ChunkId,
    tenant: TenantId,
    deliveries: &[(EventId, EndpointId)],
) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    if !enqueue(&transaction, owner, chunk, tenant, deliveries).await? {
        return Ok(false);
    }
    let key = |(event_id, endpoint_id): &(EventId, EndpointId)| DeliveryKey {
        event_id: *event_id,
        endpoint_id: *endpoint_id,
        run: 0,
    };
    enlist(&transaction, &deliveries.iter().map(key).collect::<Vec<_>>()).await?;
    transaction.commit().await?;
    Ok(true)
}
