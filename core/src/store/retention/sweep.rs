//! Rows that nothing needs any more, a bounded batch at a time. What another session has locked is left for
//! the next round, so no sweep ever waits for the hot path, nor deadlocks with it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Session, chunks_below, id_at};
use crate::store::Error;

/// Rows of one statement.
pub const BATCH: i64 = 1000;

/// What is swept, one table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    RequestIds,
    Operations,
    AuditLog,
    Rejections,
    Outbox,
    Stats,
    Channels,
}

impl Sweep {
    pub const ALL: [Self; 7] = [
        Self::RequestIds,
        Self::Operations,
        Self::AuditLog,
        Self::Rejections,
        Self::Outbox,
        Self::Stats,
        Self::Channels,
    ];

    pub fn table(self) -> &'static str {
        match self {
            Self::RequestIds => "request_ids",
            Self::Operations => "operations",
            Self::AuditLog => "audit_log",
            Self::Rejections => "rejections",
            Self::Outbox => "outbox",
            Self::Stats => "stats_minute",
            Self::Channels => "channels",
        }
    }

    /// Which rows may go, oldest first.
    fn condition(self, cutoff: DateTime<Utc>) -> String {
        let (time, first_id) = (cutoff.to_rfc3339(), id_at(cutoff));
        match self {
            Self::RequestIds => "expires_at < now() ORDER BY expires_at".into(),
            Self::Operations => format!("end_time < '{time}' ORDER BY end_time"),
            Self::AuditLog | Self::Rejections => format!("id < '{first_id}' ORDER BY id"),
            // Nobody will ever ask for a chunk of which no event is left.
            Self::Outbox => format!(
                "id < '{first_id}'
                 AND NOT EXISTS (SELECT 1 FROM replicas AS r WHERE r.id = t.owner AND r.dead_at IS NULL)
                 AND NOT EXISTS (SELECT 1 FROM events AS e WHERE e.id = ANY(t.event_ids))
                 AND NOT EXISTS (SELECT 1 FROM events_kept AS e WHERE e.id = ANY(t.event_ids))
                 AND NOT EXISTS (SELECT 1 FROM retired_partitions) ORDER BY id"
            ),
            Self::Stats => format!("minute < '{time}' ORDER BY minute"),
            // Nothing waits there: the next event of such a channel begins it anew.
            Self::Channels => "owner IS NULL AND due_at IS NULL AND NOT EXISTS (
                     SELECT 1 FROM queue AS q
                      WHERE q.endpoint_id = t.endpoint_id AND q.channel = t.channel AND q.seq IS NOT NULL)"
                .into(),
        }
    }
}

impl Session {
    /// Deletes a batch of what is older than `cutoff` (or expired by itself); returns how many rows.
    pub async fn sweep(&self, sweep: Sweep, cutoff: DateTime<Utc>) -> Result<u64, Error> {
        let (table, condition) = (sweep.table(), sweep.condition(cutoff));
        let sql = format!(
            "DELETE FROM {table} WHERE ctid = ANY(ARRAY(
                SELECT t.ctid FROM {table} AS t WHERE {condition} LIMIT $1 FOR UPDATE SKIP LOCKED))"
        );
        Ok(self.client.execute(&sql, &[&BATCH]).await?)
    }

    /// Forgets a batch of kept events, and their attempts, that nothing refers to any more. Gives how many
    /// rows went, and where the next batch begins; `None` after the last.
    pub async fn sweep_kept(&mut self, after: Uuid) -> Result<(u64, Option<Uuid>), Error> {
        // Locked in a statement of its own: the deletes see what was referred to before the lock was had.
        const LOOK: &str = "
            SELECT event_id FROM (
                (SELECT id AS event_id FROM events_kept WHERE id > $1 ORDER BY id LIMIT $2)
                UNION
                (SELECT DISTINCT event_id FROM attempts_kept WHERE event_id > $1 ORDER BY event_id LIMIT $2)) AS kept
             ORDER BY event_id LIMIT $2";
        const LOCK: &str = "SELECT id FROM events_kept WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";
        const NEEDLESS: &str = "
            SELECT k.id FROM unnest($1::uuid[]) AS k (id)
             WHERE NOT EXISTS (SELECT 1 FROM queue WHERE event_id = k.id)
               AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE event_id = k.id)
               AND NOT EXISTS (SELECT 1 FROM outbox WHERE id < $2 AND event_ids @> ARRAY[k.id])
               AND (k.id = ANY($3) OR NOT EXISTS (SELECT 1 FROM events_kept WHERE events_kept.id = k.id))";
        const EVENTS: &str = "DELETE FROM events_kept WHERE id = ANY($1)";
        const ATTEMPTS: &str = "DELETE FROM attempts_kept WHERE event_id = ANY($1)";
        let transaction = self.client.transaction().await?;
        let rows = transaction.query(LOOK, &[&after, &BATCH]).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let Some(last) = ids.last().copied() else { return Ok((0, None)) };
        let rows = transaction.query(LOCK, &[&ids]).await?;
        let locked: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let rows = transaction.query(NEEDLESS, &[&ids, &chunks_below(last), &locked]).await?;
        let needless: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let swept = transaction.execute(EVENTS, &[&needless]).await?
            + transaction.execute(ATTEMPTS, &[&needless]).await?;
        transaction.commit().await?;
        Ok((swept, (ids.len() as i64 == BATCH).then_some(last)))
    }
}
