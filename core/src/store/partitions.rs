//! The day partitions of `events` and `attempts`.
//!
//! Both are partitioned by the id of the event, whose first 48 bits are milliseconds: a partition
//! holds the ids made on one day (UTC). They are made ahead by [`make_ahead`]; the journal makes the
//! one it misses. There is no DEFAULT partition: it would have to be scanned for each new one.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Error, Pool};
use crate::bootstrap::Shutdown;

pub(super) const TABLES: [&str; 2] = ["events", "attempts"];
const DAYS_BEHIND: u64 = 1;
const DAYS_AHEAD: u64 = 3;
const CHECK_EVERY: Duration = Duration::from_secs(3600);
/// ATTACH waits behind whatever holds the parent, and everything else waits behind it: give up soon.
const LOCK_TIMEOUT_MS: u64 = 2000;
const TRIES: u32 = 3;

/// The smallest id that can be made on that day.
pub(super) fn first_id_of(day: NaiveDate) -> Uuid {
    let unix_ms = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    Uuid::from_u128(u128::try_from(unix_ms).unwrap_or(0) << 80)
}

/// The day inside an id; `None` where it is no `UUIDv7`.
pub fn day_of(id: Uuid) -> Option<NaiveDate> {
    if id.get_version_num() != 7 {
        return None;
    }
    let unix_ms = i64::try_from(id.as_u128() >> 80).ok()?;
    DateTime::<Utc>::from_timestamp_millis(unix_ms).map(|time| time.date_naive())
}

/// When the day of a partition of this name begins.
pub(super) fn day_of_partition(table: &str, name: &str) -> Option<DateTime<Utc>> {
    let day = name.strip_prefix(table)?.strip_prefix("_p")?;
    Some(NaiveDate::parse_from_str(day, "%Y%m%d").ok()?.and_time(chrono::NaiveTime::MIN).and_utc())
}

fn partition_name(table: &str, day: NaiveDate) -> String {
    format!("{table}_p{}", day.format("%Y%m%d"))
}

/// Makes sure that the partitions of `days` days are there, from `from_day` on. Others may do the
/// same at the same time.
pub async fn ensure(client: &Client, from_day: NaiveDate, days: u32) -> Result<(), Error> {
    for day in from_day.iter_days().take(days as usize) {
        for table in TABLES {
            ensure_one(client, table, day).await?;
        }
    }
    Ok(())
}

async fn ensure_one(client: &Client, table: &str, day: NaiveDate) -> Result<(), Error> {
    let name = partition_name(table, day);
    let mut tries = 0;
    while !is_attached(client, &name).await? {
        match create(client, table, &name, day).await {
            Ok(()) => tracing::info!(partition = name, "partition made"),
            Err(error) => {
                tries += 1;
                // Most often another process was faster; what counts is whether it is there now.
                if tries >= TRIES && !is_attached(client, &name).await? {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

async fn is_attached(client: &Client, name: &str) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass($1))";
    Ok(client.query_one(sql, &[&name]).await?.try_get(0)?)
}

async fn create(client: &Client, table: &str, name: &str, day: NaiveDate) -> Result<(), Error> {
    let (from, until) = (first_id_of(day), first_id_of(day + Days::new(1)));
    let made = client
        .batch_execute(&format!(
            "BEGIN;
             SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};
             CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING ALL);
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{until}');
             COMMIT"
        ))
        .await;
    if let Err(error) = made {
        client.batch_execute("ROLLBACK").await?;
        return Err(error.into());
    }
    Ok(())
}

/// Keeps the partitions of yesterday to three days from now in place; a worker for
/// [`crate::bootstrap::supervise`].
pub async fn make_ahead(pool: Pool, shutdown: Shutdown) -> Result<(), Error> {
    loop {
        let from = Utc::now().date_naive() - Days::new(DAYS_BEHIND);
        let client = pool.get().await?;
        ensure(&client, from, (DAYS_BEHIND + 1 + DAYS_AHEAD) as u32).await?;
        drop(client);
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_falls_between_the_bounds_of_its_day() {
        let id = Uuid::now_v7();
        let day = day_of(id).unwrap();
        assert!(first_id_of(day) <= id && id < first_id_of(day + Days::new(1)));
        assert_eq!(day_of(Uuid::from_u128(5)), None);
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        assert_eq!(partition_name("events", day), "events_p20261121");
        let begins = day.and_time(chrono::NaiveTime::MIN).and_utc();
        assert_eq!(day_of_partition("events", "events_p20261121"), Some(begins));
        assert_eq!(day_of(first_id_of(day)), None, "a bound is no id of its own");
    }
}
