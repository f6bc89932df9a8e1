//! Drops the bodies that a source's `max_stored_payloads` lets go, and all that a deleted source has
//! received.
//!
//! A body is dropped only while its event is locked and nothing needs it: no outbox row, no waiting and
//! no dead delivery. Whoever gives an old event a new delivery locks the event first and looks whether
//! its body is still there; so neither can miss the other.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Error;
use crate::id::SourceId;

/// Events of one sweep.
const BATCH: i64 = 500;
/// Chunks of the outbox that a sweep looks through; behind a longer backlog it waits.
const CHUNKS_MAX: i64 = 5000;
/// A chunk is made when its events are written, which may be long after they were received. What is
/// older than this was refused.
const CHUNK_LAG_MS: u128 = 3_600_000;
/// Events are not committed in the order of their ids: the newest ones swept are looked at again.
const LATE_MS: u128 = 15_000;
/// Of a deleted source, in one statement.
const ROWS: i64 = 5_000;
/// After this nothing that was verified before a source was deleted is committed any more.
const SETTLED_AFTER_S: f64 = 60.0;
/// One replica at a time.
const LOCK: i64 = 0x626f_776c_7377_6570;

/// What one sweep of a source has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    pub dropped: u64,
    /// Another sweep has something to do at once.
    pub more: bool,
}

/// A source with a limit, and its newest event. A deleted one has the limit 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub source_id: SourceId,
    pub payloads: i64,
    pub newest: Option<Uuid>,
    /// Bodies wait for deliveries.
    pub holds: bool,
    pub deleted: bool,
    /// It was deleted long ago: nothing more comes.
    pub settled: bool,
}

/// Sources with a limit of their own or, where they have none, of their preset; and those that are
/// deleted and not swept.
pub async fn limited(client: &impl GenericClient, presets: &[(&str, u32)]) -> Result<Vec<Limited>, Error> {
    const SQL: &str = "
        SELECT s.id, s.deleted_at IS NOT NULL AS deleted,
               coalesce(s.deleted_at < now() - make_interval(secs => $3), false) AS settled,
               CASE WHEN s.deleted_at IS NULL
                    THEN coalesce((s.spec->>'max_stored_payloads')::bigint, p.payloads) ELSE 0 END AS payloads,
               (SELECT e.id FROM events e WHERE e.source_id = s.id ORDER BY e.id DESC LIMIT 1) AS newest,
               EXISTS (SELECT 1 FROM payload_holds h WHERE h.source_id = s.id) AS holds
          FROM sources s LEFT JOIN unnest($1::text[], $2::bigint[]) AS p (preset, payloads)
                                ON p.preset = s.spec->>'preset'
         WHERE (s.deleted_at IS NULL
                AND coalesce((s.spec->>'max_stored_payloads')::bigint, p.payloads) > 0)
            OR (s.deleted_at IS NOT NULL AND s.swept_at IS NULL)";
    let names: Vec<&str> = presets.iter().map(|(name, _)| *name).collect();
    let limits: Vec<i64> = presets.iter().map(|(_, limit)| i64::from(*limit)).collect();
    let rows = client.query(SQL, &[&names, &limits, &SETTLED_AFTER_S]).await?;
    rows.iter()
        .map(|row| {
            Ok(Limited {
                source_id: SourceId(row.try_get("id")?),
                payloads: row.try_get("payloads")?,
                newest: row.try_get("newest")?,
                holds: row.try_get("holds")?,
                deleted: row.try_get("deleted")?,
                settled: row.try_get("settled")?,
            })
        })
        .collect()
}

/// Whether this transaction is the one that sweeps.
pub async fn begin(tx: &Transaction<'_>) -> Result<bool, Error> {
    Ok(tx.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.try_get(0)?)
}

/// Drops what one source has to let go, up to a batch.
pub async fn sweep(tx: &Transaction<'_>, source: &Limited) -> Result<Swept, Error> {
    let Some(last) = newest_beyond(tx, source).await? else { return Ok(Swept { dropped: 0, more: false }) };
    let swept_to = tx
        .query_opt("SELECT swept_to FROM payload_sweeps WHERE source_id = $1", &[&source.source_id.0])
        .await?
        .map_or(Ok(Uuid::nil()), |row| row.try_get(0))?;
    let begin = earlier(swept_to, LATE_MS);
    // Locked first, judged by the next statement: that one sees whatever was decided before the lock.
    let candidates = ids(
        tx,
        "SELECT id FROM events WHERE source_id = $1 AND id > $2 AND id <= $3 AND body_dropped_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM payload_holds h WHERE h.source_id = $1 AND h.event_id = events.id)
          ORDER BY id LIMIT $4 FOR UPDATE",
        &[&source.source_id.0, &begin, &last, &BATCH],
    )
    .await?;
    let held = ids(
        tx,
        "SELECT id FROM events WHERE id IN
            (SELECT event_id FROM payload_holds WHERE source_id = $1 AND event_id <= $2 ORDER BY random() LIMIT $3)
          ORDER BY id FOR UPDATE",
        &[&source.source_id.0, &last, &BATCH],
    )
    .await?;
    let looked_at: Vec<Uuid> = candidates.iter().chain(&held).copied().collect();
    let dropped = match looked_at.iter().min() {
        None => 0,
        Some(oldest) => {
            let oldest_chunk = earlier(*oldest, CHUNK_LAG_MS);
            drop_unneeded(tx, source, &looked_at, oldest_chunk).await?
        }
    };
    let full = candidates.len() as i64 == BATCH;
    let reached = if full { candidates.last().copied().unwrap_or(last) } else { last };
    tx.execute(
        "INSERT INTO payload_sweeps (source_id, swept_to) VALUES ($1, $2)
         ON CONFLICT (source_id) DO UPDATE SET swept_to = excluded.swept_to",
        &[&source.source_id.0, &reached.max(swept_to)],
    )
    .await?;
    Ok(Swept { dropped, more: full })
}

/// The newest event whose body the source does not keep.
async fn newest_beyond(tx: &Transaction<'_>, source: &Limited) -> Result<Option<Uuid>, Error> {
    const SQL: &str = "SELECT id FROM events WHERE source_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1";
    let row = tx.query_opt(SQL, &[&source.source_id.0, &source.payloads]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Of locked events: what nothing needs is dropped, the rest is held.
async fn drop_unneeded(
    tx: &Transaction<'_>,
    source: &Limited,
    ids: &[Uuid],
    oldest_chunk: Uuid,
) -> Result<u64, Error> {
    const SQL: &str = "
        WITH chunks AS MATERIALIZED (
            SELECT event_ids FROM outbox WHERE id >= $3 ORDER BY id LIMIT $4
        ), looked_at AS MATERIALIZED (
            SELECT c.id,
                   EXISTS (SELECT 1 FROM queue q WHERE q.event_id = c.id)
                   OR EXISTS (SELECT 1 FROM dead_letters d WHERE d.event_id = c.id)
                   OR c.id IN (SELECT unnest(event_ids) FROM chunks)
                   OR (SELECT count(*) FROM chunks) >= $4 AS needed
              FROM unnest($2::uuid[]) AS c (id)
        ), held AS (
            INSERT INTO payload_holds (source_id, event_id)
            SELECT $1, id FROM looked_at WHERE needed ORDER BY id ON CONFLICT DO NOTHING
        ), let_go AS (
            DELETE FROM payload_holds
             WHERE source_id = $1 AND event_id IN (SELECT id FROM looked_at WHERE NOT needed)
        )
        UPDATE events SET body = '', headers = CASE WHEN $5 THEN '' ELSE headers END, body_dropped_at = now()
         WHERE id = ANY(ARRAY(SELECT id FROM looked_at WHERE NOT needed)) AND id BETWEEN $6 AND $7";
    let (Some(least), Some(most)) = (ids.iter().min(), ids.iter().max()) else { return Ok(0) };
    let values: [&(dyn ToSql + Sync); 7] =
        [&source.source_id.0, &ids, &oldest_chunk, &CHUNKS_MAX, &source.deleted, least, most];
    Ok(tx.execute(SQL, &values).await?)
}

/// Forgets what a deleted source has besides: keys and rejections. True once nothing of it is left, so
/// that it need not be looked at again.
pub async fn forget(tx: &Transaction<'_>, source: &Limited) -> Result<bool, Error> {
    const KEYS: &str = "
        DELETE FROM dedup_keys WHERE (scope_id, key_hash) IN
            (SELECT scope_id, key_hash FROM dedup_keys WHERE scope_id = $1 LIMIT $2)";
    const REJECTIONS: &str = "DELETE FROM rejections WHERE source_id = $1";
    const SWEPT: &str = "
        UPDATE sources SET swept_at = now()
         WHERE id = $1 AND deleted_at IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM payload_holds WHERE source_id = $1)
           AND NOT EXISTS (SELECT 1 FROM dedup_keys WHERE scope_id = $1)";
    const SWEEP: &str = "DELETE FROM payload_sweeps WHERE source_id = $1";
    let id = source.source_id.0;
    tx.execute(KEYS, &[&id, &ROWS]).await?;
    tx.execute(REJECTIONS, &[&id]).await?;
    let swept = source.settled && tx.execute(SWEPT, &[&id]).await? > 0;
    if swept {
        tx.execute(SWEEP, &[&id]).await?;
    }
    Ok(swept)
}

async fn ids(tx: &Transaction<'_>, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Uuid>, Error> {
    let rows = tx.query(sql, values).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The smallest id made so long before this one.
fn earlier(id: Uuid, ms: u128) -> Uuid {
    Uuid::from_u128(((id.as_u128() >> 80).saturating_sub(ms)) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_ids() {
        let id = Uuid::now_v7();
        let before = earlier(id, 1000);
        assert_eq!((id.as_u128() >> 80) - (before.as_u128() >> 80), 1000);
        assert!(before < id && earlier(id, 0) <= id);
        assert_eq!(earlier(Uuid::nil(), 1000), Uuid::nil());
    }
}
