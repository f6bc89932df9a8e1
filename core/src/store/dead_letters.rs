//! Dead letters: reads them, and gives them back to the queue.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::deliveries::{KeyArrays, read_key, read_reason};
use super::events::IdRange;
use super::{Error, channels};
use crate::delivery::{DeadReason, DeliveryKey};
use crate::id::{EndpointId, EventId, TenantId};

/// What a list of dead letters is narrowed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterQuery {
    pub endpoint_id: Option<EndpointId>,
    pub event_id: Option<EventId>,
    pub event_type: Option<String>,
    pub channel: Option<String>,
    pub reason: Option<DeadReason>,
    pub range: IdRange,
}

/// A dead letter as it is listed.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub key: DeliveryKey,
    pub tenant_id: TenantId,
    /// `None` once retention has dropped the event.
    pub event_type: Option<String>,
    pub channel: Option<String>,
    /// `None` for a reason that this version does not know.
    pub reason: Option<DeadReason>,
    pub attempt_count: i32,
    pub last_status_code: Option<i16>,
    pub last_error_kind: Option<String>,
    /// When it died.
    pub time: DateTime<Utc>,
}

/// A dead letter that is locked, to be queued again.
#[derive(Debug, Clone)]
pub struct LockedDeadLetter {
    pub key: DeliveryKey,
    pub tenant_id: TenantId,
    /// Whether the event is still stored.
    pub body_stored: bool,
}

/// How many dead letters match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Of these the event is still stored.
    pub stored: i64,
    pub gone: i64,
}

/// Which dead letters of a tenant a query is about. Those of a deleted endpoint cannot be sent again.
const MATCHING: &str = "d.tenant_id = $1 AND d.event_id >= $2 AND d.event_id < $3
                    AND ($4::uuid IS NULL OR d.endpoint_id = $4)
                    AND ($5::uuid IS NULL OR d.event_id = $5)
                    AND ($6::text IS NULL OR d.reason = $6)
                    AND ($7::text IS NULL OR e.event_type = $7)
                    AND ($8::text IS NULL OR e.channel = $8)";
const WITH_EVENT: &str = "dead_letters AS d
         LEFT JOIN LATERAL (
              SELECT event_type, channel FROM events WHERE id = d.event_id
              UNION ALL
              SELECT event_type, channel FROM events_kept WHERE id = d.event_id LIMIT 1) AS e ON true";
const LIVE: &str =
    "EXISTS (SELECT 1 FROM endpoints WHERE endpoints.id = d.endpoint_id AND endpoints.deleted_at IS NULL)";

/// As many at once go to the queue as what is new does; more stand behind it.
const FEW: usize = 10;

/// The values of [`MATCHING`], kept while a statement runs.
struct Values {
    tenant: Uuid,
    endpoint: Option<Uuid>,
    event: Option<Uuid>,
    reason: Option<&'static str>,
}

impl Values {
    fn new(tenant: TenantId, query: &DeadLetterQuery) -> Self {
        Self {
            tenant: tenant.0,
            endpoint: query.endpoint_id.map(|id| id.0),
            event: query.event_id.map(|id| id.0),
            reason: query.reason.map(DeadReason::as_str),
        }
    }

    fn with<'a>(
        &'a self,
        query: &'a DeadLetterQuery,
        more: &[&'a (dyn ToSql + Sync)],
    ) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut values: Vec<&'a (dyn ToSql + Sync)> = vec![
            &self.tenant,
            &query.range.from,
            &query.range.until,
            &self.endpoint,
            &self.event,
            &self.reason,
            &query.event_type,
            &query.channel,
        ];
        values.extend_from_slice(more);
        values
    }
}

/// Newest event first, from the one after `after` on.
pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeadLetterQuery,
    after: Option<DeliveryKey>,
    limit: i64,
) -> Result<Vec<DeadLetter>, Error> {
    let sql = format!(
        "SELECT d.event_id, d.endpoint_id, d.run, d.tenant_id, d.reason, d.attempt, d.died_at,
                e.event_type, e.channel, l.status, l.error_kind
           FROM {WITH_EVENT}
           LEFT JOIN LATERAL (
                SELECT status, error_kind FROM attempts
                 WHERE event_id = d.event_id AND endpoint_id = d.endpoint_id AND run = d.run
                   AND decision <> 'stale'
                 ORDER BY attempt_id DESC LIMIT 1) AS l ON true
          WHERE {MATCHING} AND d.event_id <= $9 AND (d.event_id < $9 OR (d.endpoint_id, d.run) > ($10, $11))
          ORDER BY d.event_id DESC, d.endpoint_id, d.run LIMIT $12"
    );
    let position = after
        .map_or((Uuid::max(), Uuid::max(), i32::MAX), |key| (key.event_id.0, key.endpoint_id.0, key.run));
    let values = Values::new(tenant, query);
    let rows =
        client.query(&sql, &values.with(query, &[&position.0, &position.1, &position.2, &limit])).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<DeadLetter, Error> {
    Ok(DeadLetter {
        key: read_key(row)?,
        tenant_id: TenantId(row.try_get("tenant_id")?),
        event_type: row.try_get("event_type")?,
        channel: row.try_get("channel")?,
        reason: read_reason(row.try_get("reason")?),
        attempt_count: row.try_get("attempt")?,
        last_status_code: row.try_get("status")?,
        last_error_kind: row.try_get("error_kind")?,
        time: row.try_get("died_at")?,
    })
}

/// Counts up to `limit` dead letters that match and can be sent again.
pub async fn count(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeadLetterQuery,
    limit: i64,
) -> Result<Counted, Error> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE stored) AS stored, count(*) FILTER (WHERE NOT stored) AS gone
           FROM (SELECT e.event_type IS NOT NULL AS stored FROM {WITH_EVENT}
                  WHERE {MATCHING} AND {LIVE} ORDER BY d.event_id, d.endpoint_id, d.run LIMIT $9) AS found"
    );
    let values = Values::new(tenant, query);
    let row = client.query_one(&sql, &values.with(query, &[&limit])).await?;
    Ok(Counted { stored: row.try_get("stored")?, gone: row.try_get("gone")? })
}

/// Locks these dead letters, in the order of their keys. Missing from the answer: those that are not
/// of this tenant, are gone, or belong to a deleted endpoint.
pub async fn lock(
    client: &impl GenericClient,
    tenant: TenantId,
    keys: &[DeliveryKey],
) -> Result<Vec<LockedDeadLetter>, Error> {
    let sql = format!(
        "SELECT d.event_id, d.endpoint_id, d.run, d.tenant_id, e.event_type IS NOT NULL AS body_stored
           FROM {WITH_EVENT}
          WHERE d.tenant_id = $1 AND {LIVE}
            AND (d.event_id, d.endpoint_id, d.run) IN (SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::int[]))
          ORDER BY d.event_id, d.endpoint_id, d.run
            FOR UPDATE OF d"
    );
    let keys = KeyArrays::new(keys);
    let rows = client.query(&sql, &[&tenant.0, &keys.events, &keys.endpoints, &keys.runs]).await?;
    rows.iter().map(read_locked).collect()
}

/// Locks up to `limit` dead letters that match, oldest event first, from the one after `after` on.
/// What another call has locked is left to it.
pub async fn lock_matching(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeadLetterQuery,
    after: Option<DeliveryKey>,
    limit: i64,
) -> Result<Vec<LockedDeadLetter>, Error> {
    let sql = format!(
        "SELECT d.event_id, d.endpoint_id, d.run, d.tenant_id, e.event_type IS NOT NULL AS body_stored
           FROM {WITH_EVENT}
          WHERE {MATCHING} AND {LIVE} AND (d.event_id, d.endpoint_id, d.run) > ($9, $10, $11)
          ORDER BY d.event_id, d.endpoint_id, d.run LIMIT $12
            FOR UPDATE OF d SKIP LOCKED"
    );
    let position =
        after.map_or((Uuid::nil(), Uuid::nil(), -1), |key| (key.event_id.0, key.endpoint_id.0, key.run));
    let values = Values::new(tenant, query);
    let rows =
        client.query(&sql, &values.with(query, &[&position.0, &position.1, &position.2, &limit])).await?;
    rows.iter().map(read_locked).collect()
}

fn read_locked(row: &Row) -> Result<LockedDeadLetter, Error> {
    Ok(LockedDeadLetter {
        key: read_key(row)?,
        tenant_id: TenantId(row.try_get("tenant_id")?),
        body_stored: row.try_get("body_stored")?,
    })
}

/// Gives locked dead letters back to the queue, due now and with a fresh budget: attempts before
/// `budget_from` do not count any more. The numbers of attempts go on. Many at once go after what is new; those
/// of ordered endpoints at the tails of their channels. Needs a transaction.
pub async fn requeue(client: &impl GenericClient, letters: &[LockedDeadLetter]) -> Result<(), Error> {
    const SQL: &str = "
        WITH taken AS (
             DELETE FROM dead_letters
              WHERE (event_id, endpoint_id, run) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[]))
             RETURNING event_id, endpoint_id, run, tenant_id, attempt)
        INSERT INTO queue (endpoint_id, event_id, run, tenant_id, due_at, attempt, budget_from, priority)
        SELECT endpoint_id, event_id, run, tenant_id, now(), attempt, now(), $4 FROM taken
         ORDER BY endpoint_id, event_id, run
        ON CONFLICT (endpoint_id, event_id, run) DO NOTHING";
    let keys = KeyArrays::new(letters.iter().map(|letter| &letter.key));
    let priority = i16::from(letters.len() > FEW);
    client.execute(SQL, &[&keys.events, &keys.endpoints, &keys.runs, &priority]).await?;
    channels::enlist(client, &letters.iter().map(|letter| letter.key).collect::<Vec<_>>()).await
}

/// Forgets locked dead letters; what became of their deliveries stays in the log.
pub async fn purge(client: &impl GenericClient, letters: &[LockedDeadLetter]) -> Result<(), Error> {
    const SQL: &str = "
        DELETE FROM dead_letters
         WHERE (event_id, endpoint_id, run) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[]))";
    let keys = KeyArrays::new(letters.iter().map(|letter| &letter.key));
    client.execute(SQL, &[&keys.events, &keys.endpoints, &keys.runs]).await?;
    Ok(())
}

/// Locks up to `limit` dead letters that match, oldest event first, those of deleted endpoints too: there
/// is nothing else to do with them.
pub async fn lock_for_purge(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeadLetterQuery,
    limit: i64,
) -> Result<Vec<LockedDeadLetter>, Error> {
    let sql = format!(
        "SELECT d.event_id, d.endpoint_id, d.run, d.tenant_id, e.event_type IS NOT NULL AS body_stored
           FROM {WITH_EVENT} WHERE {MATCHING}
          ORDER BY d.event_id, d.endpoint_id, d.run LIMIT $9 FOR UPDATE OF d SKIP LOCKED"
    );
    let values = Values::new(tenant, query);
    let rows = client.query(&sql, &values.with(query, &[&limit])).await?;
    rows.iter().map(read_locked).collect()
}

/// Locks these, in the order of their keys, those of deleted endpoints too.
pub async fn lock_named_for_purge(
    client: &impl GenericClient,
    tenant: TenantId,
    keys: &[DeliveryKey],
) -> Result<Vec<LockedDeadLetter>, Error> {
    const SQL: &str = "
        SELECT event_id, endpoint_id, run, tenant_id, true AS body_stored FROM dead_letters
         WHERE tenant_id = $1
           AND (event_id, endpoint_id, run) IN (SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::int[]))
         ORDER BY event_id, endpoint_id, run FOR UPDATE";
    let keys = KeyArrays::new(keys);
    let rows = client.query(SQL, &[&tenant.0, &keys.events, &keys.endpoints, &keys.runs]).await?;
    rows.iter().map(read_locked).collect()
}

/// Counts up to `limit` dead letters that match.
pub async fn count_for_purge(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeadLetterQuery,
    limit: i64,
) -> Result<i64, Error> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {WITH_EVENT} WHERE {MATCHING} LIMIT $9) AS found");
    let values = Values::new(tenant, query);
    Ok(client.query_one(&sql, &values.with(query, &[&limit])).await?.try_get(0)?)
}
