//! What a watch asks of the database before it reads: how far transactions have ended, whose rows are new, what
//! is still there. The rows themselves are read by [`events`](super::events) and [`deliveries`](super::deliveries).

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use super::events::IdRange;
use super::partitions::day_of_partition;
use super::strays::ids_between;
use crate::id::TenantId;
use crate::tenant::TenantSettings;

/// How far the transactions of this cluster have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Every transaction below it has ended, and whoever looks later sees what it wrote.
    pub ended_below: u64,
    /// The next number to be given, read after `low`.
    pub next: u64,
    /// The database's clock, before the look and after it.
    pub low: DateTime<Utc>,
    pub high: DateTime<Utc>,
}

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Events,
    Attempts,
}

/// Transactions that have ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// 0 for everything there is: then `low` is the time from which it is asked for.
    pub from: u64,
    /// Not part of it.
    pub until: u64,
    /// See [`strays`](super::strays).
    pub low: DateTime<Utc>,
    pub high: DateTime<Utc>,
}

impl Span {
    /// Between these are the ids of what is no stray.
    pub(super) fn ids(&self) -> IdRange {
        ids_between(self.low, self.high)
    }

    /// The time from which rows are asked for, where they are not asked for by their transactions.
    pub(super) fn since(&self) -> Option<DateTime<Utc>> {
        (self.from == 0).then_some(self.low)
    }
}

/// Which rows of a span, from which on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<K> {
    /// By transaction and key, after these.
    Strays(Option<(u64, K)>),
    /// All the others: by key, after this one.
    Others(Option<K>),
}

/// A look into a span.
#[derive(Debug, Clone, Copy)]
pub struct Reading<K> {
    pub span: Span,
    /// What transactions below this one wrote is known, and of itself the rows up to this key; of a span that is not
    /// from a time the transaction is `span.from`.
    pub known: Option<(u64, K)>,
    pub part: Part<K>,
    pub limit: i64,
}

impl<K: Copy> Reading<K> {
    /// Transaction and key that a row must be above; `least` is below every key.
    pub(super) fn above(&self, least: K) -> (String, K) {
        let (tx, key) = match self.part {
            Part::Strays(Some(after)) => after,
            Part::Strays(None) | Part::Others(_) => self.known.unwrap_or((self.span.from, least)),
        };
        (tx.to_string(), key)
    }

    /// The ids of events in question; those of strays tell nothing.
    pub(super) fn ids(&self) -> IdRange {
        match self.part {
            Part::Strays(_) => IdRange::default(),
            Part::Others(_) => self.span.ids(),
        }
    }

    /// The condition that a row is of this part.
    pub(super) fn is_part(&self) -> &'static str {
        match self.part {
            Part::Strays(_) => "stray",
            Part::Others(_) => "stray IS NOT TRUE",
        }
    }
}

/// A row of a span, before it is read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<K> {
    pub tx: u64,
    pub key: K,
    /// About what reading it takes.
    pub bytes: u64,
    /// It is what the filter asks for. The others tell how far the look has come: a filter that matches
    /// little must not make one statement read the whole log.
    pub wanted: bool,
}

/// Numbers of transactions have no type of their own here: they go as text.
pub(super) fn number(row: &tokio_postgres::Row, column: &str) -> Result<u64, Error> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| Error::Row { table: "pg_current_snapshot", problem: format!("tx {text}") })
}

pub async fn look(client: &impl GenericClient) -> Result<Look, Error> {
    // `age` counts from the next number to be given; in 32 bits, which the snapshot completes.
    const SQL: &str = "
        SELECT pg_snapshot_xmin(s)::text AS xmin, pg_snapshot_xmax(s)::text AS xmax, age('3'::xid) AS next,
               now() AS low, clock_timestamp() AS high
          FROM (SELECT pg_current_snapshot() AS s) AS taken";
    let row = client.query_one(&client.prepare_cached(SQL).await?, &[]).await?;
    Ok(Look {
        ended_below: number(&row, "xmin")?,
        next: next_of(number(&row, "xmax")?, row.try_get("next")?),
        low: row.try_get("low")?,
        high: row.try_get("high")?,
    })
}

/// The next number is not below the snapshot's `xmax`, and less than 2^31 above it.
fn next_of(xmax: u64, age_of_3: i32) -> u64 {
    let next = age_of_3.cast_unsigned().wrapping_add(3);
    xmax + u64::from(next.wrapping_sub(xmax as u32))
}

/// Which of these tenants have rows in the span.
pub async fn news(
    client: &impl GenericClient,
    log: Log,
    tenants: &[TenantId],
    span: &Span,
) -> Result<HashSet<TenantId>, Error> {
    // Each looks for one row, tenant by tenant. By tenant and id together, so that only the index of both will
    // do; from the newest on, as what is older has been seen.
    const STRAYS: &str = "
        EXISTS (SELECT 1 FROM (SELECT 1 FROM {log}
                 WHERE tenant_id = t.id AND stray AND tx >= $2::text::xid8 AND tx < $3::text::xid8 LIMIT 1) AS one)";
    const EVENTS: &str = "
        EXISTS (SELECT 1 FROM (SELECT 1 FROM events
                 WHERE (tenant_id, id) >= (t.id, $4) AND (tenant_id, id) < (t.id, $5)
                   AND stray IS NOT TRUE AND tx >= $2::text::xid8 AND tx < $3::text::xid8
                 ORDER BY tenant_id DESC, id DESC LIMIT 1) AS newest)";
    const ATTEMPTS: &str = "
        EXISTS (SELECT 1 FROM (SELECT 1 FROM events AS e CROSS JOIN LATERAL (
                       SELECT 1 FROM attempts AS a
                        WHERE a.event_id = e.id AND a.event_id >= $4 AND a.event_id < $5 AND a.stray IS NOT TRUE
                          AND a.tx >= $2::text::xid8 AND a.tx < $3::text::xid8 LIMIT 1) AS made
                 WHERE (e.tenant_id, e.id) >= (t.id, $4) AND (e.tenant_id, e.id) < (t.id, $5)
                 ORDER BY e.tenant_id DESC, e.id DESC LIMIT 1) AS newest)";
    let (name, others) = match log {
        Log::Events => ("events", EVENTS),
        Log::Attempts => ("attempts", ATTEMPTS),
    };
    let strays = STRAYS.replace("{log}", name);
    let sql = format!("SELECT t.id FROM unnest($1::uuid[]) AS t (id) WHERE {strays} OR {others}");
    let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let between = span.ids();
    let rows = client
        .query(
            &client.prepare_cached(&sql).await?,
            &[&ids, &span.from.to_string(), &span.until.to_string(), &between.from, &between.until],
        )
        .await?;
    rows.iter().map(|row| Ok(TenantId(row.try_get(0)?))).collect()
}

/// What is older may be gone: days that are taken away, and what the tenant keeps for a shorter time.
pub async fn kept_since(
    client: &impl GenericClient,
    log: Log,
    tenant: TenantId,
) -> Result<DateTime<Utc>, Error> {
    const DAYS: &str = "
        SELECT min(c.relname::text) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
         WHERE i.inhparent = to_regclass($1) AND NOT i.inhdetachpending AND c.relname ~ ('^' || $1 || '_p\\d{8}$')";
    const SETTINGS: &str = "SELECT settings, now() AS now FROM tenants WHERE id = $1";
    let table = match log {
        Log::Events => "events",
        Log::Attempts => "attempts",
    };
    let first: Option<String> = client.query_one(DAYS, &[&table]).await?.try_get(0)?;
    let first = first.and_then(|name| day_of_partition(table, &name)).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let Some(row) = client.query_opt(SETTINGS, &[&tenant.0]).await? else { return Ok(first) };
    let (Json(settings), now): (Json<TenantSettings>, DateTime<Utc>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(settings.retention.map_or(first, |retention| first.max(now - retention)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_goes_on_where_32_bits_end() {
        let next = |xmax: u64, next: u32| next_of(xmax, next.wrapping_sub(3).cast_signed());
        assert_eq!(next(750, 750), 750);
        assert_eq!(next(750, 757), 757);
        assert_eq!(next((7 << 32) + 5, 9), (7 << 32) + 9);
        // Numbers below 3 are never given; the snapshot's may be the last before.
        assert_eq!(next((7 << 32) | 0xffff_fffe, 4), (8 << 32) + 4);
        assert_eq!(next(3_000_000_000, 3_000_000_001), 3_000_000_001);
    }
}
