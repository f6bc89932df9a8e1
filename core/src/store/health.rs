//! Consecutive failures of endpoints, and disabling. Written after the record commit, in a
//! transaction of its own, sorted by endpoint.

use std::time::Duration;

use uuid::Uuid;

use super::{Connection, Error, config_writes, own_events};
use crate::id::{EndpointId, TenantId};
use crate::own_event::{ENDPOINT_RECOVERED, OwnEvent};

/// What an endpoint has to show after a failure was added.
#[derive(Debug, Clone, Copy)]
pub struct Failing {
    pub endpoint_id: EndpointId,
    pub failures: i32,
    pub failing_for: Duration,
}

/// A success ends the count. Where it had been told that the endpoint was disabled, it is told that it
/// works again, in the same statement.
pub async fn succeeded(client: &Connection, endpoints: &[EndpointId]) -> Result<(), Error> {
    const SQL: &str = "
        WITH asked AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS a (endpoint_id, shown_id, event_id)),
        locked AS MATERIALIZED (
            SELECT endpoint_id FROM endpoint_health WHERE endpoint_id = ANY($1) ORDER BY endpoint_id FOR UPDATE),
        ended AS (
            DELETE FROM endpoint_health AS h USING locked WHERE h.endpoint_id = locked.endpoint_id
            RETURNING h.endpoint_id, h.told)
        INSERT INTO own_events (id, tenant_id, event_type, body)
        SELECT a.event_id, e.tenant_id, $4::text, convert_to(json_build_object(
                   'endpoint_id', a.shown_id, 'endpoint_name', e.name,
                   'time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'))::text, 'UTF8')
          FROM ended JOIN asked AS a USING (endpoint_id) JOIN endpoints AS e ON e.id = ended.endpoint_id
         WHERE ended.told AND e.deleted_at IS NULL";
    let ids = sorted(endpoints);
    let shown: Vec<String> = ids.iter().map(|id| EndpointId(*id).to_string()).collect();
    let fresh: Vec<Uuid> = ids.iter().map(|_| Uuid::now_v7()).collect();
    client.execute(&client.prepare_cached(SQL).await?, &[&ids, &shown, &fresh, &ENDPOINT_RECOVERED]).await?;
    Ok(())
}

fn sorted(endpoints: &[EndpointId]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = endpoints.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids
}

/// Adds consecutive failures.
pub async fn failed(client: &Connection, mut counts: Vec<(EndpointId, i32)>) -> Result<Vec<Failing>, Error> {
    const SQL: &str = "
        INSERT INTO endpoint_health AS h (endpoint_id, failures, failing_since)
        SELECT endpoint_id, failures, now() FROM unnest($1::uuid[], $2::int[]) AS f (endpoint_id, failures)
         ORDER BY endpoint_id
        ON CONFLICT (endpoint_id) DO UPDATE
           SET failures = h.failures + excluded.failures,
               failing_since = coalesce(h.failing_since, excluded.failing_since)
        RETURNING endpoint_id, failures, extract(epoch FROM now() - failing_since)::float8";
    counts.sort_unstable_by_key(|(id, _)| id.0);
    let (ids, failures): (Vec<Uuid>, Vec<i32>) = counts.into_iter().map(|(id, n)| (id.0, n)).unzip();
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&ids, &failures]).await?;
    rows.iter()
        .map(|row| {
            Ok(Failing {
                endpoint_id: EndpointId(row.try_get(0)?),
                failures: row.try_get(1)?,
                failing_for: Duration::from_secs_f64(row.try_get::<_, f64>(2)?.max(0.0)),
            })
        })
        .collect()
}

/// Disables an endpoint, and tells so, unless it had a success meanwhile or is no longer enabled; returns
/// whether it did. The success of a test does not count. `failing_for` of `None` disables whatever the counts say (a 410).
pub async fn disable(
    client: &mut Connection,
    endpoint: EndpointId,
    reason: &str,
    failing_for: Option<Duration>,
) -> Result<bool, Error> {
    const SUCCESS_SINCE: &str = "
        SELECT EXISTS (
            SELECT 1 FROM (SELECT event_id FROM attempts
                            WHERE endpoint_id = $1 AND decision = 'delivered'
                              AND recorded_at > (SELECT failing_since FROM endpoint_health WHERE endpoint_id = $1)
                           OFFSET 0) AS success
             WHERE NOT coalesce((SELECT test FROM events WHERE id = success.event_id LIMIT 1), false))";
    const DISABLE: &str = "
        UPDATE endpoints SET state = 'disabled', disabled_reason = $2, config_version = $3, update_time = now()
         WHERE id = $1 AND state = 'enabled' AND deleted_at IS NULL
        RETURNING tenant_id, name";
    const TOLD: &str = "
        INSERT INTO endpoint_health (endpoint_id, failures, told) VALUES ($1, 0, true)
        ON CONFLICT (endpoint_id) DO UPDATE SET told = true";
    let transaction = client.transaction().await?;
    let version = config_writes::begin(&transaction).await?;
    if failing_for.is_some() {
        let healthy: bool = transaction.query_one(SUCCESS_SINCE, &[&endpoint.0]).await?.try_get(0)?;
        if healthy {
            transaction.rollback().await?;
            // The success was not the last thing counted; the count begins anew.
            client.execute("DELETE FROM endpoint_health WHERE endpoint_id = $1", &[&endpoint.0]).await?;
            return Ok(false);
        }
    }
    let Some(row) = transaction.query_opt(DISABLE, &[&endpoint.0, &reason, &version]).await? else {
        transaction.rollback().await?;
        return Ok(false);
    };
    let tenant = TenantId(row.try_get("tenant_id")?);
    let event = OwnEvent::endpoint_disabled(tenant, endpoint, row.try_get("name")?, reason);
    own_events::insert(&transaction, &[event]).await?;
    transaction.execute(TOLD, &[&endpoint.0]).await?;
    transaction.commit().await?;
    Ok(true)
}
