//! Takes a day's partition away without anybody waiting for it, and without an event that is still needed.
//!
//! 1. What `queue`, `dead_letters` and `outbox` refer to is copied to `events_kept` and `attempts_kept`.
//! 2. The partition is renamed and listed, so that a late attempt of that day gets a new partition instead of
//!    attaching this one again.
//! 3. It is detached CONCURRENTLY: neither reads nor writes of the others wait. A detaching that was cut off is
//!    finished first.
//! 4. It is copied from once more, and after a while, for what was referred to meanwhile, a last time.
//! 5. It is dropped.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Session, chunks_below};
use crate::store::Error;
use crate::store::partitions::{TABLES, first_id_of};

/// A step of the copying.
const BATCH: i64 = 500;

/// A partition that is on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    pub name: String,
    parent: String,
    day: NaiveDate,
    stage: Stage,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Attached,
    /// A detaching was cut off between its two transactions.
    Pending,
    Detached,
    /// Copied from after the detaching, so long ago.
    Copied {
        ago: Duration,
    },
    /// Dropped, and still listed.
    Gone,
}

impl Retired {
    pub fn stage(&self) -> Stage {
        self.stage
    }
}

impl Session {
    /// The attached partitions of days that ended before `cutoff`: name, table, day.
    pub async fn partitions_before(
        &self,
        cutoff: DateTime<Utc>,
    ) -> Result<Vec<(String, &'static str, NaiveDate)>, Error> {
        const SQL: &str = "
            SELECT c.relname::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
             WHERE i.inhparent = to_regclass($1) AND NOT i.inhdetachpending ORDER BY c.relname";
        let mut found = Vec::new();
        for table in TABLES {
            for row in self.client.query(SQL, &[&table]).await? {
                let name: String = row.try_get(0)?;
                let day = name.strip_prefix(table).and_then(|rest| rest.strip_prefix("_p"));
                let Some(day) = day.and_then(|day| NaiveDate::parse_from_str(day, "%Y%m%d").ok()) else {
                    continue;
                };
                let end = (day + Days::new(1)).and_time(chrono::NaiveTime::MIN).and_utc();
                if end <= cutoff {
                    found.push((name, table, day));
                }
            }
        }
        Ok(found)
    }

    /// The first id that an attached partition of `attempts` can hold.
    pub(super) async fn first_attached(&self) -> Result<Uuid, Error> {
        let all = self.partitions_before(DateTime::<Utc>::MAX_UTC).await?;
        let days = all.iter().filter(|(_, table, _)| *table == "attempts").map(|(_, _, day)| *day);
        Ok(days.min().map_or(Uuid::max(), first_id_of))
    }

    /// Begins: copies, renames and lists.
    pub async fn begin_retirement(
        &self,
        partition: &str,
        parent: &str,
        day: NaiveDate,
    ) -> Result<u64, Error> {
        let copied = self.copy_referred(parent, partition, day).await?;
        let retired = format!("retired_{partition}_{:x}", Utc::now().timestamp_millis());
        // Statements sent together are one transaction: listed if renamed.
        self.client
            .batch_execute(&format!(
                "ALTER TABLE {partition} RENAME TO {retired};
                 INSERT INTO retired_partitions (name, parent, day) VALUES ('{retired}', '{parent}', '{day}')"
            ))
            .await?;
        Ok(copied)
    }

    /// Everything that is on its way out.
    pub async fn retired(&self) -> Result<Vec<Retired>, Error> {
        const SQL: &str = "
            SELECT r.name, r.parent, r.day, to_regclass(r.name) IS NOT NULL AS there, i.inhdetachpending AS pending,
                   extract(epoch FROM now() - r.detached_at)::float8 AS ago_s
              FROM retired_partitions AS r
              LEFT JOIN pg_inherits AS i ON i.inhrelid = to_regclass(r.name)
             ORDER BY r.name";
        self.client.query(SQL, &[]).await?.iter().map(read).collect()
    }

    /// Takes it off its table.
    pub async fn detach(&self, retired: &Retired) -> Result<(), Error> {
        let how = if retired.stage == Stage::Pending { "FINALIZE" } else { "CONCURRENTLY" };
        let sql = format!("ALTER TABLE {} DETACH PARTITION {} {how}", retired.parent, retired.name);
        Ok(self.client.batch_execute(&sql).await?)
    }

    /// Copies what was referred to meanwhile, and keeps when that was first done.
    pub async fn copy_detached(&self, retired: &Retired) -> Result<u64, Error> {
        const SQL: &str =
            "UPDATE retired_partitions SET detached_at = coalesce(detached_at, now()) WHERE name = $1";
        let copied = self.copy_referred(&retired.parent, &retired.name, retired.day).await?;
        self.client.execute(SQL, &[&retired.name]).await?;
        Ok(copied)
    }

    pub async fn drop_retired(&self, retired: &Retired) -> Result<(), Error> {
        self.client.batch_execute(&format!("DROP TABLE IF EXISTS {}", retired.name)).await?;
        self.client.execute("DELETE FROM retired_partitions WHERE name = $1", &[&retired.name]).await?;
        Ok(())
    }

    /// What waits, is dead or is not settled of that day, from the partition to the kept ones.
    async fn copy_referred(&self, parent: &str, partition: &str, day: NaiveDate) -> Result<u64, Error> {
        let columns = self.common_columns(&format!("{parent}_kept"), partition).await?;
        let key = if parent == "events" { "id" } else { "event_id" };
        let sql = format!(
            "WITH referred AS MATERIALIZED (
                SELECT event_id FROM (
                    (SELECT DISTINCT event_id FROM queue
                      WHERE event_id > $1 AND event_id < $2 ORDER BY event_id LIMIT $4)
                    UNION
                    (SELECT DISTINCT event_id FROM dead_letters
                      WHERE event_id > $1 AND event_id < $2 ORDER BY event_id LIMIT $4)
                    UNION
                    (SELECT event_id FROM (SELECT unnest(event_ids) AS event_id FROM outbox WHERE id < $3) AS open
                      WHERE event_id > $1 AND event_id < $2 ORDER BY event_id LIMIT $4)) AS found
                 ORDER BY event_id LIMIT $4),
             copied AS (
                INSERT INTO {parent}_kept ({columns})
                SELECT {columns} FROM {partition} WHERE {key} IN (SELECT event_id FROM referred)
                ON CONFLICT DO NOTHING RETURNING 1)
             SELECT (SELECT array_agg(event_id ORDER BY event_id) FROM referred), (SELECT count(*) FROM copied)"
        );
        let (mut from, until) = (first_id_of(day), first_id_of(day + Days::new(1)));
        let mut copied = 0;
        loop {
            let row = self.client.query_one(&sql, &[&from, &until, &chunks_below(until), &BATCH]).await?;
            copied += u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default();
            let ids: Vec<Uuid> = row.try_get::<_, Option<Vec<Uuid>>>(0)?.unwrap_or_default();
            match ids.last() {
                Some(last) if ids.len() as i64 == BATCH => from = *last,
                _ => return Ok(copied),
            }
        }
    }

    /// Columns that both have: a table made by an older version may lack one.
    async fn common_columns(&self, kept: &str, partition: &str) -> Result<String, Error> {
        const SQL: &str = "
            SELECT string_agg(quote_ident(k.attname), ', ' ORDER BY k.attnum)
              FROM pg_attribute AS k
              JOIN pg_attribute AS p ON p.attname = k.attname AND p.attrelid = to_regclass($2)
             WHERE k.attrelid = to_regclass($1) AND k.attnum > 0
               AND NOT k.attisdropped AND NOT p.attisdropped";
        Ok(self.client.query_one(SQL, &[&kept, &partition]).await?.try_get(0)?)
    }
}

fn read(row: &Row) -> Result<Retired, Error> {
    let ago: Option<f64> = row.try_get("ago_s")?;
    let stage = match (row.try_get::<_, bool>("there")?, row.try_get::<_, Option<bool>>("pending")?, ago) {
        (false, ..) => Stage::Gone,
        (true, Some(true), _) => Stage::Pending,
        (true, Some(false), _) => Stage::Attached,
        (true, None, None) => Stage::Detached,
        (true, None, Some(ago_s)) => Stage::Copied { ago: Duration::from_secs_f64(ago_s.max(0.0)) },
    };
    Ok(Retired {
        name: row.try_get("name")?,
        parent: row.try_get("parent")?,
        day: row.try_get("day")?,
        stage,
    })
}
