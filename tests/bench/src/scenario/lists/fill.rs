//! A week of the log, by SQL: two attempts an event, of five hundred endpoints one that has a quarter of all, and one
//! attempt in a hundred that failed.

use anyhow::{Context, Result, anyhow};
use bowline_core::id::{DEFAULT_TENANT, EndpointId};
use bowline_tests::database;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use uuid::Uuid;

use super::super::{Bench, endpoint, rows};
use crate::rig::Rig;

pub(super) const COMMON_TYPE: &str = "order.created";
pub(super) const RARE_TYPE: &str = "order.refunded";
pub(super) const CHANNEL: &str = "shop-7";

const DAY: &str = include_str!("fill.sql");
const DAYS: u64 = 7;
/// The service makes yesterday's partition itself.
const NEWEST_DAYS_AGO: u64 = 2;
const ENDPOINTS: u64 = 500;
/// As many as there are processors to build indexes.
const SESSIONS: usize = 2;

/// What there is to ask for.
pub(super) struct Filled {
    /// It has a quarter of the attempts.
    pub(super) busy: String,
    pub(super) one_of_many: String,
    /// Of a day in the middle.
    pub(super) noon: DateTime<Utc>,
    pub(super) attempts: u64,
}

pub(super) async fn fill(bench: &Bench, rig: &Rig, attempts: u64) -> Result<Filled> {
    let (like, _) = rig.admin()?.endpoint(endpoint(bench.healthy("lists"), "lists", 1)).await;
    rows::endpoints(rig, &like, ENDPOINTS - 1).await?;
    rig.execute(
        "CREATE UNLOGGED TABLE spread AS
         SELECT (row_number() OVER (ORDER BY id) - 1)::int AS k, id FROM endpoints;
         ANALYZE spread;",
    )
    .await?;
    let newest = Utc::now().date_naive() - Days::new(NEWEST_DAYS_AGO);
    let days: Vec<(u64, NaiveDate)> =
        (0..DAYS).map(|number| (number, newest - Days::new(DAYS - 1 - number))).collect();
    let events = attempts / 2 / DAYS;
    try_join_all((0..SESSIONS).map(|session| {
        fill_days(rig, days.iter().skip(session).step_by(SESSIONS).copied().collect(), events)
    }))
    .await?;
    for statement in ["VACUUM (ANALYZE) queue, dead_letters", "DROP TABLE spread", "CHECKPOINT"] {
        rig.execute(statement).await?;
    }
    let found = |at: u64| async move {
        let sql = "SELECT endpoint_id FROM (SELECT endpoint_id, count(*) FROM attempts
                    WHERE event_id >= $1 GROUP BY 1 ORDER BY 2 DESC) AS busiest OFFSET $2 LIMIT 1";
        let row = rig.database.sql().query_one(sql, &[&first_id_of(newest), &(at as i64)]).await?;
        anyhow::Ok(EndpointId(row.try_get(0)?).to_string())
    };
    let noon = NaiveTime::from_hms_opt(12, 0, 0).context("noon")?;
    Ok(Filled {
        busy: found(0).await?,
        one_of_many: found(ENDPOINTS / 8).await?,
        noon: (newest - Days::new(DAYS / 2)).and_time(noon).and_utc(),
        attempts: events * 2 * DAYS,
    })
}

/// One after the other.
async fn fill_days(rig: &Rig, days: Vec<(u64, NaiveDate)>, events: u64) -> Result<()> {
    let client = database::connect(&rig.database.url).await?;
    for (number, day) in days {
        let name = day.format("%Y%m%d").to_string();
        let start = day.and_time(NaiveTime::MIN).and_utc();
        let mut statements = DAY.to_owned();
        for (from, to) in [
            ("{day}", name.clone()),
            ("{number}", number.to_string()),
            ("{events}", events.to_string()),
            ("{endpoints}", ENDPOINTS.to_string()),
            ("{start}", start.to_rfc3339()),
            ("{first}", first_id_of(day).to_string()),
            ("{last}", first_id_of((start + TimeDelta::days(1)).date_naive()).to_string()),
            ("{tenant}", DEFAULT_TENANT.0.to_string()),
            ("{source}", Uuid::from_u128(7).to_string()),
            ("{rare}", RARE_TYPE.to_owned()),
            ("{common}", COMMON_TYPE.to_owned()),
            ("{channel}", CHANNEL.to_owned()),
        ] {
            statements = statements.replace(from, &to);
        }
        let failed = |error: tokio_postgres::Error| anyhow!("filling {day}: {error:?}");
        client.batch_execute(&statements).await.map_err(failed)?;
        // As autovacuum leaves it.
        let vacuum = format!("VACUUM (ANALYZE) events_p{name}, attempts_p{name}");
        client.batch_execute(&vacuum).await.map_err(failed)?;
    }
    Ok(())
}

/// The least id of a day.
fn first_id_of(day: NaiveDate) -> Uuid {
    let unix_ms = day.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    Uuid::from_u128(u128::from(unix_ms.unsigned_abs()) << 80)
}
