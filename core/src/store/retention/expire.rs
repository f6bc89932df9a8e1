//! Deliveries that waited for longer than their retry policy allows, at most the retention. A dispatcher says so
//! when one is its turn; those of a paused or disabled endpoint never have one.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::Utc;
use uuid::Uuid;

use super::{Session, id_at};
use crate::delivery::DeliveryKey;
use crate::id::{AttemptId, EndpointId, EventId};
use crate::store::Error;
use crate::store::channels::HASTEN;

/// Rows of the queue looked at in one statement.
const BATCH: i64 = 1000;

/// How far a walk along the queue has come.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    pub expired: u64,
    /// `None` after the last row that could have expired.
    pub next: Option<DeliveryKey>,
}

impl Session {
    /// The shortest age at which an endpoint's deliveries expire, at most `retention`.
    pub async fn shortest_age(&self, retention: Duration) -> Result<Duration, Error> {
        const SQL: &str = "
            SELECT min((spec #>> '{retry,max_age,secs}')::float8) FROM endpoints
             WHERE deleted_at IS NULL AND spec #>> '{retry,max_age,secs}' IS NOT NULL";
        let shortest: Option<f64> = self.client.query_one(SQL, &[]).await?.try_get(0)?;
        Ok(shortest.map_or(retention, |secs| retention.min(Duration::from_secs_f64(secs.max(0.0)))))
    }

    /// Looks at a batch of the oldest waiting deliveries whose events are older than `age`, and ends those
    /// whose budget began too long ago. One that a dispatcher has in hand is left to it.
    pub async fn expire(
        &mut self,
        age: Duration,
        retention: Duration,
        after: Option<DeliveryKey>,
    ) -> Result<Walk, Error> {
        const TAKE: &str = "
            WITH looked AS MATERIALIZED (
                SELECT ctid, event_id, endpoint_id, run FROM queue
                 WHERE (event_id, endpoint_id, run) > ($1, $2, $3) AND event_id < $4
                 ORDER BY event_id, endpoint_id, run LIMIT $5),
            old AS MATERIALIZED (
                SELECT q.ctid FROM queue AS q JOIN endpoints AS e ON e.id = q.endpoint_id
                 WHERE q.ctid = ANY(ARRAY(SELECT ctid FROM looked)) AND q.owner IS NULL AND q.priority <> -1
                   AND q.budget_from < now() - interval '1 second' * least($6::float8,
                       coalesce((e.spec #>> '{retry,max_age,secs}')::float8, $6::float8))
                   FOR UPDATE OF q SKIP LOCKED),
            taken AS (
                DELETE FROM queue AS q WHERE q.ctid = ANY(ARRAY(SELECT ctid FROM old))
                RETURNING q.event_id, q.endpoint_id, q.run, q.tenant_id, q.attempt, q.channel)
            SELECT t.*, l.count, l.last_event, l.last_endpoint, l.last_run
              FROM (SELECT count(*) AS count, (array_agg(event_id))[count(*)] AS last_event,
                           (array_agg(endpoint_id))[count(*)] AS last_endpoint, (array_agg(run))[count(*)] AS last_run
                      FROM looked) AS l
              LEFT JOIN taken AS t ON true";
        const LOG: &str = "
            INSERT INTO {attempts} (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision,
                                  started_at, error_message)
            VALUES ($1, $2, $3, $4, $5, $6, 'expired', 'expired', now(), 'older than the retry policy allows')";
        let first_attached = self.first_attached().await?;
        let start =
            after.map_or((Uuid::nil(), Uuid::nil(), -1), |key| (key.event_id.0, key.endpoint_id.0, key.run));
        let cutoff = id_at(Utc::now() - age);
        let transaction = self.client.transaction().await?;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&start.0, &start.1, &start.2, &cutoff, &BATCH, &retention.as_secs_f64()];
        let rows = transaction.query(TAKE, &values).await?;
        let mut walk = Walk { expired: 0, next: None };
        let mut channels: BTreeSet<(Uuid, String)> = BTreeSet::new();
        for row in &rows {
            if row.try_get::<_, i64>("count")? == BATCH {
                walk.next = Some(DeliveryKey {
                    event_id: EventId(row.try_get("last_event")?),
                    endpoint_id: EndpointId(row.try_get("last_endpoint")?),
                    run: row.try_get("last_run")?,
                });
            }
            let Some(event_id) = row.try_get::<_, Option<Uuid>>("event_id")? else { continue };
            let (endpoint, run): (Uuid, i32) = (row.try_get("endpoint_id")?, row.try_get("run")?);
            let (tenant, attempt): (Uuid, i32) = (row.try_get("tenant_id")?, row.try_get("attempt")?);
            // Its day may be gone already.
            let table = if event_id < first_attached { "attempts_kept" } else { "attempts" };
            let sql = LOG.replace("{attempts}", table);
            let id = AttemptId::new().0;
            transaction.execute(&sql, &[&event_id, &endpoint, &run, &id, &tenant, &attempt]).await?;
            walk.expired += 1;
            channels.extend(row.try_get::<_, Option<String>>("channel")?.map(|channel| (endpoint, channel)));
        }
        // What stands behind it in its channel need not wait for its retry.
        for (endpoint, channel) in channels {
            transaction.execute(HASTEN, &[&endpoint, &channel]).await?;
        }
        transaction.commit().await?;
        Ok(walk)
    }
}
