//! Deliveries that wait in Postgres: hands them out, takes them back.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::deliveries::{KeyArrays, read_key};
use super::{Connection, Error};
use crate::delivery::DeliveryKey;
use crate::id::{ChunkId, EndpointId, EventId, ReplicaId, TenantId};

/// Attempts of a row `q` of the queue that count against its budget.
pub(super) const USED: &str = "CASE WHEN q.attempt = 0 THEN 0 ELSE (
        SELECT count(*) FROM (
            SELECT a.attempt_id FROM attempts AS a
             WHERE a.event_id = q.event_id AND a.endpoint_id = q.endpoint_id AND a.run = q.run
               AND a.kind = 'request' AND a.decision <> 'stale' AND a.recorded_at >= q.budget_from
            UNION
            SELECT a.attempt_id FROM attempts_kept AS a
             WHERE a.event_id = q.event_id AND a.endpoint_id = q.endpoint_id AND a.run = q.run
               AND a.kind = 'request' AND a.decision <> 'stale' AND a.recorded_at >= q.budget_from) AS made)::int END";

/// A waiting delivery that is ours now.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    pub key: DeliveryKey,
    pub tenant_id: TenantId,
    /// Attempts so far.
    pub attempt: i32,
    /// Attempts since the budget began (a redrive begins a new one).
    pub used: i32,
    pub due_at: DateTime<Utc>,
    /// Since its budget began: how old it is, as far as its policy is concerned.
    pub waited: Duration,
}

/// Endpoints with work that is due and unowned, at most `limit`, those after `after` first. A loose
/// index scan: its cost is per endpoint that waits, not per row.
pub async fn endpoints_with_due_work(
    client: &Connection,
    after: Uuid,
    limit: i64,
) -> Result<Vec<EndpointId>, Error> {
    const SQL: &str = "
        WITH RECURSIVE waiting AS (
            (SELECT endpoint_id, 1::bigint AS n FROM queue
              WHERE owner IS NULL AND endpoint_id > $1 ORDER BY endpoint_id LIMIT 1)
            UNION ALL
            SELECT next.endpoint_id, waiting.n + 1
              FROM waiting
             CROSS JOIN LATERAL (
                   SELECT endpoint_id FROM queue
                    WHERE owner IS NULL AND endpoint_id > waiting.endpoint_id
                    ORDER BY endpoint_id LIMIT 1) AS next
             WHERE waiting.n < $2::bigint
        )
        SELECT endpoint_id FROM waiting
         -- Not EXISTS: that may be answered by reading all that is due, once.
         WHERE (SELECT true FROM queue AS q
                 WHERE q.owner IS NULL AND q.endpoint_id = waiting.endpoint_id
                   AND q.priority = 0 AND q.due_at <= now() LIMIT 1)
            OR (SELECT true FROM queue AS q
                 WHERE q.owner IS NULL AND q.endpoint_id = waiting.endpoint_id
                   AND q.priority = 1 AND q.due_at <= now() LIMIT 1)";
    let rows = client.query(&client.prepare_cached(SQL).await?, &[&after, &limit]).await?;
    rows.iter().map(|row| Ok(EndpointId(row.try_get(0)?))).collect()
}

/// Claims due rows, up to each endpoint's own limit: parked first attempts before retries.
///
/// The rows are found again by where they stand: a join by key is planned by a guess at how many they
/// are, and reads the whole queue when that is high. One that was changed a moment ago stands elsewhere,
/// and is left for the next call.
pub async fn claim_due(
    client: &Connection,
    owner: ReplicaId,
    endpoints: &[EndpointId],
    limits: &[i64],
) -> Result<Vec<ClaimedDelivery>, Error> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "
        WITH claimed AS (
            UPDATE queue AS q SET owner = $1, again = false
             WHERE q.ctid = ANY(ARRAY(
                   SELECT row.ctid
                     FROM unnest($2::uuid[], $3::bigint[]) AS wanted (endpoint_id, most)
                    CROSS JOIN LATERAL (
                          SELECT q.ctid FROM queue AS q
                           WHERE q.owner IS NULL AND q.endpoint_id = wanted.endpoint_id AND q.due_at <= now()
                             AND q.priority >= 0
                           ORDER BY q.priority, q.due_at LIMIT wanted.most
                             FOR UPDATE SKIP LOCKED) AS row))
               AND q.owner IS NULL
            RETURNING q.event_id, q.endpoint_id, q.run, q.tenant_id, q.attempt, q.due_at, q.priority,
                      {USED} AS used,
                      extract(epoch FROM now() - q.budget_from)::float8 AS waited_s
        )
        SELECT event_id, endpoint_id, run, tenant_id, attempt, due_at, used, waited_s
          FROM claimed ORDER BY priority, due_at"
        )
    });
    let endpoints: Vec<Uuid> = endpoints.iter().map(|id| id.0).collect();
    let rows = client.query(&client.prepare_cached(&SQL).await?, &[&owner.0, &endpoints, &limits]).await?;
    rows.iter().map(read).collect()
}

/// A row of the queue that is ours, with what it has used and how long it has waited.
pub(super) fn read(row: &Row) -> Result<ClaimedDelivery, Error> {
    Ok(ClaimedDelivery {
        key: read_key(row)?,
        tenant_id: TenantId(row.try_get("tenant_id")?),
        attempt: row.try_get("attempt")?,
        used: row.try_get("used")?,
        due_at: row.try_get("due_at")?,
        waited: Duration::from_secs_f64(row.try_get::<_, f64>("waited_s")?.max(0.0)),
    })
}

/// A test that is ours now.
#[derive(Debug, Clone, Copy)]
pub struct ClaimedTest {
    pub key: DeliveryKey,
    pub tenant_id: TenantId,
    /// Of the endpoint as it is to be tested.
    pub config_version: i64,
}

/// Claims tests, past whatever holds up other deliveries. Those nobody waits for any more are dropped.
pub async fn claim_tests(
    client: &Connection,
    owner: ReplicaId,
    stale_after: Duration,
    limit: i64,
) -> Result<Vec<ClaimedTest>, Error> {
    const SQL: &str = "
        WITH dropped AS (
            DELETE FROM queue WHERE priority = -1 AND owner IS NULL
                                AND due_at < now() - $2::float8 * interval '1 second')
        UPDATE queue AS q SET owner = $1
         WHERE q.ctid = ANY(ARRAY(
               SELECT test.ctid FROM queue AS test
                WHERE test.priority = -1 AND test.owner IS NULL
                  AND test.due_at >= now() - $2::float8 * interval '1 second'
                ORDER BY test.due_at LIMIT $3 FOR UPDATE SKIP LOCKED))
           AND q.owner IS NULL
        RETURNING q.event_id, q.endpoint_id, q.run, q.tenant_id,
                  coalesce((SELECT config_version FROM endpoints WHERE id = q.endpoint_id), 0) AS config_version";
    let rows = client
        .query(&client.prepare_cached(SQL).await?, &[&owner.0, &stale_after.as_secs_f64(), &limit])
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ClaimedTest {
                key: read_key(row)?,
                tenant_id: TenantId(row.try_get("tenant_id")?),
                config_version: row.try_get("config_version")?,
            })
        })
        .collect()
}

/// Puts first attempts of a chunk that is ours straight into the queue; returns whether it still is
/// ours.
pub async fn enqueue(
    client: &impl GenericClient,
    owner: ReplicaId,
    chunk: ChunkId,
    tenant: TenantId,
    deliveries: &[(EventId, EndpointId)],
) -> Result<bool, Error> {
    const SQL: &str = "
        WITH held AS MATERIALIZED (SELECT id FROM outbox WHERE id = $1 AND owner = $2 FOR UPDATE),
        added AS (
            INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt, budget_from)
            SELECT d.event_id, d.endpoint_id, 0, $3, now(), 0, least(now(), received_at(d.event_id))
              FROM held CROSS JOIN unnest($4::uuid[], $5::uuid[]) AS d (event_id, endpoint_id)
             ORDER BY d.event_id, d.endpoint_id
            ON CONFLICT DO NOTHING)
        SELECT EXISTS (SELECT 1 FROM held)";
    let (events, endpoints): (Vec<Uuid>, Vec<Uuid>) =
        deliveries.iter().map(|(event, endpoint)| (event.0, endpoint.0)).unzip();
    Ok(client
        .query_one(&client.prepare_cached(SQL).await?, &[&chunk.0, &owner.0, &tenant.0, &events, &endpoints])
        .await?
        .try_get(0)?)
}

/// Frees rows whose owner is dead; returns how many.
pub async fn free_orphaned(client: &Connection) -> Result<u64, Error> {
    const SQL: &str = "
        UPDATE queue AS q SET owner = NULL
         WHERE q.ctid = ANY(ARRAY(
               SELECT orphan.ctid FROM replicas AS r JOIN queue AS orphan ON orphan.owner = r.id
                WHERE r.dead_at IS NOT NULL LIMIT 5000 FOR UPDATE OF orphan SKIP LOCKED))";
    Ok(client.execute(&client.prepare_cached(SQL).await?, &[]).await?)
}

/// The rows that this life owns, to be compared with what it has in memory.
pub async fn owned(client: &Connection, owner: ReplicaId) -> Result<Vec<DeliveryKey>, Error> {
    const SQL: &str = "SELECT event_id, endpoint_id, run FROM queue WHERE owner = $1 LIMIT 50000";
    client.query(SQL, &[&owner.0]).await?.iter().map(read_key).collect()
}

/// Gives back rows of ours, as after a claim whose answer was lost.
pub async fn free(client: &Connection, owner: ReplicaId, keys: &[DeliveryKey]) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE queue AS q SET owner = NULL
          FROM unnest($2::uuid[], $3::uuid[], $4::int[]) AS u (event_id, endpoint_id, run)
         WHERE q.event_id = u.event_id AND q.endpoint_id = u.endpoint_id AND q.run = u.run AND q.owner = $1";
    if keys.is_empty() {
        return Ok(());
    }
    let keys = KeyArrays::new(keys);
    client.execute(SQL, &[&owner.0, &keys.events, &keys.endpoints, &keys.runs]).await?;
    Ok(())
}

/// How far in the future a wait may lie; later ones are shortened.
pub const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
