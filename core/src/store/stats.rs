//! What happened to the deliveries of one endpoint lately.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;

use super::Error;
use super::events::IdRange;
use crate::id::EndpointId;

/// Attempts that are looked at, newest first; and rows that are counted.
pub const ATTEMPTS_MAX: i64 = 100_000;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointStats {
    pub delivered: i64,
    pub failed: i64,
    pub dead: i64,
    pub median: Option<Duration>,
    pub p95: Option<Duration>,
    pub last_success: Option<DateTime<Utc>>,
    pub last_failure: Option<DateTime<Utc>>,
    pub truncated: bool,
    pub waiting: i64,
    pub due_since: Option<DateTime<Utc>>,
    pub dead_letters: i64,
    pub consecutive_failures: i32,
    pub failing_since: Option<DateTime<Utc>>,
}

/// Of the attempts of events in `range`; tests do not count.
pub async fn of_endpoint(
    client: &impl GenericClient,
    endpoint: EndpointId,
    range: IdRange,
) -> Result<EndpointStats, Error> {
    const ATTEMPTS: &str = "
        SELECT count(*) FILTER (WHERE kind = 'request' AND decision = 'delivered') AS delivered,
               count(*) FILTER (WHERE kind = 'request' AND decision <> 'delivered') AS failed,
               count(*) FILTER (WHERE decision = 'dead') AS dead,
               (percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_us)
                   FILTER (WHERE kind = 'request'))::bigint AS median_us,
               (percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_us)
                   FILTER (WHERE kind = 'request'))::bigint AS p95_us,
               max(recorded_at) FILTER (WHERE decision = 'delivered') AS last_success,
               max(recorded_at) FILTER (WHERE kind = 'request' AND decision <> 'delivered') AS last_failure,
               count(*) AS looked_at
          FROM (SELECT kind, decision, duration_us, recorded_at FROM attempts AS a
                 WHERE endpoint_id = $1 AND event_id >= $2 AND event_id < $3
                   AND NOT EXISTS (SELECT 1 FROM events WHERE id = a.event_id AND id >= $2 AND id < $3 AND test)
                 ORDER BY event_id DESC LIMIT $4) AS recent";
    const NOW: &str = "
        SELECT (SELECT count(*) FROM (SELECT 1 FROM queue
                                       WHERE endpoint_id = $1 AND owner IS NULL AND priority <> -1 LIMIT $2) AS w)
                   AS waiting,
               least((SELECT min(due_at) FROM queue WHERE endpoint_id = $1 AND owner IS NULL AND priority = 0),
                     (SELECT min(due_at) FROM queue WHERE endpoint_id = $1 AND owner IS NULL AND priority = 1),
                     (SELECT min(due_at) FROM queue WHERE endpoint_id = $1 AND owner IS NULL AND priority = -2))
                   AS due_since,
               now() AS now,
               (SELECT count(*) FROM (SELECT 1 FROM dead_letters WHERE endpoint_id = $1 LIMIT $2) AS d)
                   AS dead_letters,
               coalesce((SELECT failures FROM endpoint_health WHERE endpoint_id = $1), 0) AS failures,
               (SELECT failing_since FROM endpoint_health WHERE endpoint_id = $1) AS failing_since";
    let recent = client.query_one(ATTEMPTS, &[&endpoint.0, &range.from, &range.until, &ATTEMPTS_MAX]).await?;
    let now = client.query_one(NOW, &[&endpoint.0, &ATTEMPTS_MAX]).await?;
    let duration = |us: Option<i64>| us.and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros);
    let time: DateTime<Utc> = now.try_get("now")?;
    Ok(EndpointStats {
        delivered: recent.try_get("delivered")?,
        failed: recent.try_get("failed")?,
        dead: recent.try_get("dead")?,
        median: duration(recent.try_get("median_us")?),
        p95: duration(recent.try_get("p95_us")?),
        last_success: recent.try_get("last_success")?,
        last_failure: recent.try_get("last_failure")?,
        truncated: recent.try_get::<_, i64>("looked_at")? >= ATTEMPTS_MAX,
        waiting: now.try_get("waiting")?,
        due_since: now.try_get::<_, Option<DateTime<Utc>>>("due_since")?.filter(|due| *due <= time),
        dead_letters: now.try_get("dead_letters")?,
        consecutive_failures: now.try_get("failures")?,
        failing_since: now.try_get("failing_since")?,
    })
}
