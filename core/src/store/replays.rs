//! Past events for endpoints again: each a new run of its delivery, put straight into the queue.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::chunks::chunks_of;
use super::deliveries::read_key;
use super::events::EventQuery;
use super::{Error, channels};
use crate::delivery::DeliveryKey;
use crate::id::{EndpointId, EventId, TenantId};

/// What of an event is asked to find whom it is for.
#[derive(Debug, Clone)]
pub struct PastEvent {
    pub id: EventId,
    pub event_type: String,
    pub channel: Option<String>,
}

const MATCHING: &str = "tenant_id = $1 AND id > $2 AND id >= $3 AND id < $4 AND NOT test
            AND body_dropped_at IS NULL
            AND ($5::uuid IS NULL OR source_id = $5)
            AND ($6::text IS NULL OR event_type = $6)
            AND ($7::text IS NULL OR channel = $7)";

/// Which events of a tenant are asked for.
#[derive(Debug, Clone, Copy)]
struct Asked<'q> {
    tenant: TenantId,
    query: &'q EventQuery,
    after: Uuid,
    limit: i64,
}

/// The rows of a statement with [`MATCHING`] and a limit, `$8`.
async fn select(client: &impl GenericClient, sql: &str, asked: Asked<'_>) -> Result<Vec<Row>, Error> {
    let Asked { tenant, query, after, limit } = asked;
    let rows = client
        .query(
            sql,
            &[
                &tenant.0,
                &after,
                &query.range.from,
                &query.range.until,
                &query.source_id.map(|source| source.0),
                &query.event_type,
                &query.channel,
                &limit,
            ],
        )
        .await?;
    Ok(rows)
}

/// The newest event of a tenant that is committed.
pub async fn last_event(client: &impl GenericClient, tenant: TenantId) -> Result<Option<EventId>, Error> {
    const SQL: &str = "SELECT id FROM events WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1";
    let row = client.query_opt(SQL, &[&tenant.0]).await?;
    row.map(|row| Ok(EventId(row.try_get(0)?))).transpose()
}

/// Events that match, oldest first, from the one after `after` on.
pub async fn events(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventQuery,
    after: Option<EventId>,
    limit: i64,
) -> Result<Vec<PastEvent>, Error> {
    let sql = format!("SELECT id, event_type, channel FROM events WHERE {MATCHING} ORDER BY id LIMIT $8");
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let rows = select(client, &sql, Asked { tenant, query, after, limit }).await?;
    rows.iter()
        .map(|row| {
            Ok(PastEvent {
                id: EventId(row.try_get(0)?),
                event_type: row.try_get(1)?,
                channel: row.try_get(2)?,
            })
        })
        .collect()
}

/// Some events whose bodies are gone, that would match else.
pub async fn without_body(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventQuery,
    limit: i64,
) -> Result<Vec<EventId>, Error> {
    let gone = MATCHING.replace("body_dropped_at IS NULL", "body_dropped_at IS NOT NULL");
    let sql = format!("SELECT id FROM events WHERE {gone} ORDER BY id DESC LIMIT $8");
    let rows = select(client, &sql, Asked { tenant, query, after: Uuid::nil(), limit }).await?;
    rows.iter().map(|row| Ok(EventId(row.try_get(0)?))).collect()
}

/// How many events match, counted up to `limit`.
pub async fn count(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventQuery,
    limit: i64,
) -> Result<i64, Error> {
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM events WHERE {MATCHING} LIMIT $8) AS found");
    let rows = select(client, &sql, Asked { tenant, query, after: Uuid::nil(), limit }).await?;
    rows.first().map_or(Ok(0), |row| Ok(row.try_get(0)?))
}

/// Two replays for one endpoint take turns, so that each makes runs of its own. Held until the end of
/// the transaction; locked in order.
pub async fn lock_endpoints(client: &impl GenericClient, endpoints: &[EndpointId]) -> Result<(), Error> {
    let mut ids: Vec<Uuid> = endpoints.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    for id in ids {
        client
            .execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('replay ' || $1::text, 0))",
                &[&id.to_string()],
            )
            .await?;
    }
    Ok(())
}

/// What is known of deliveries ($1 and $2, of events from $3 to $4): where $5, also what is not settled yet, which
/// is in the outbox between $6 and $7. `{lock}` keeps the bodies.
const KNOWN: &str = "
    stored AS MATERIALIZED (
        SELECT id FROM events WHERE id = ANY($1::uuid[]) AND id BETWEEN $3 AND $4 AND body_dropped_at IS NULL
         ORDER BY id {lock}),
    wanted AS MATERIALIZED (
        SELECT w.event_id, w.endpoint_id FROM unnest($1::uuid[], $2::uuid[]) AS w (event_id, endpoint_id)
          JOIN stored ON stored.id = w.event_id),
    open AS MATERIALIZED (
        SELECT unnest(event_ids) AS event_id FROM outbox
         WHERE $5 AND id BETWEEN $6 AND $7 AND event_ids && $1::uuid[]),
    known AS (
        SELECT w.event_id, w.endpoint_id, a.run AS attempted, a.delivered, q.run AS queued, d.run AS died
          FROM wanted AS w
         CROSS JOIN LATERAL (
               SELECT max(run) AS run, bool_or(decision = 'delivered') AS delivered FROM attempts
                WHERE event_id = w.event_id AND event_id BETWEEN $3 AND $4
                  AND endpoint_id = w.endpoint_id) AS a
         CROSS JOIN LATERAL (
               SELECT max(run) AS run FROM queue
                WHERE event_id = w.event_id AND endpoint_id = w.endpoint_id) AS q
         CROSS JOIN LATERAL (
               SELECT max(run) AS run FROM dead_letters
                WHERE event_id = w.event_id AND endpoint_id = w.endpoint_id) AS d)";
/// Those of [`KNOWN`] that are queued.
const QUEUED: &str = "
    NOT $5 OR (delivered IS NOT TRUE AND queued IS NULL AND died IS NULL
               AND event_id NOT IN (SELECT event_id FROM open))";

/// Deliveries as [`KNOWN`] takes them.
struct Pairs {
    events: Vec<Uuid>,
    endpoints: Vec<Uuid>,
    least: Uuid,
    most: Uuid,
    chunks: (Uuid, Uuid),
}

impl Pairs {
    /// None where there are none.
    fn of(deliveries: &[(EventId, EndpointId)]) -> Option<Self> {
        let (events, endpoints): (Vec<Uuid>, Vec<Uuid>) =
            deliveries.iter().map(|(event, endpoint)| (event.0, endpoint.0)).unzip();
        let (least, most) = (*events.iter().min()?, *events.iter().max()?);
        Some(Self { events, endpoints, least, most, chunks: chunks_of(least, most) })
    }
}

/// Of how many endpoints [`enqueue`] would queue each event with `only_missing`, had it been called now: those that
/// it would, in their order.
pub async fn missing(
    client: &impl GenericClient,
    deliveries: &[(EventId, EndpointId)],
) -> Result<Vec<(EventId, i64)>, Error> {
    let Some(Pairs { events, endpoints, least, most, chunks }) = Pairs::of(deliveries) else {
        return Ok(Vec::new());
    };
    let known = KNOWN.replace("{lock}", "");
    let sql = format!(
        "WITH {known} SELECT event_id, count(*) FROM known WHERE {QUEUED} GROUP BY event_id ORDER BY event_id"
    );
    let rows = client.query(&sql, &[&events, &endpoints, &least, &most, &true, &chunks.0, &chunks.1]).await?;
    rows.iter().map(|row| Ok((EventId(row.try_get(0)?), row.try_get(1)?))).collect()
}

/// Queues deliveries, each in a run that has not been; returns how many. With `only_missing` those are
/// left out that were delivered, wait, are dead letters or are not settled yet. After retries and first
/// attempts: what is new goes first. Events whose body has gone meanwhile are left out; the others keep
/// theirs by a lock, until the row of the queue is there to keep it. At ordered endpoints they join at the
/// tails of their channels. Needs a transaction.
pub async fn enqueue(
    client: &impl GenericClient,
    tenant: TenantId,
    deliveries: &[(EventId, EndpointId)],
    only_missing: bool,
) -> Result<i64, Error> {
    let Some(Pairs { events, endpoints, least, most, chunks }) = Pairs::of(deliveries) else {
        return Ok(0);
    };
    let known = KNOWN.replace("{lock}", "FOR SHARE");
    let sql = format!(
        "WITH {known}
        INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt, priority)
        SELECT event_id, endpoint_id, greatest(attempted, queued, died, 0) + 1, $8, now(), 0, 1
          FROM known
         WHERE {QUEUED}
         ORDER BY event_id, endpoint_id
        RETURNING event_id, endpoint_id, run"
    );
    let queued = client
        .query(&sql, &[&events, &endpoints, &least, &most, &only_missing, &chunks.0, &chunks.1, &tenant.0])
        .await?;
    let queued: Vec<DeliveryKey> = queued.iter().map(read_key).collect::<Result<_, _>>()?;
    channels::enlist(client, &queued).await?;
    Ok(queued.len() as i64)
}
