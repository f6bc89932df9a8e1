//! Which deliveries a page of a list may show.
//!
//! The tables hold the work of all tenants for weeks, so each way to ask begins at an index that finds
//! the newest events in question in their order, and looks for deliveries event by event until the page
//! is full:
//!
//! 1. one event: itself,
//! 2. an endpoint: what was attempted for it,
//! 3. an outcome that is no success: the tenant's attempts that were none,
//! 4. else: the tenant's events.
//!
//! What an index does not tell is left to [`describe`](super::describe): a look for a status that nothing has
//! must not read the whole log before it ends (invariant 7).

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{DeliveryQuery, StateFilter};
use crate::delivery::{Decision, DeliveryKey};
use crate::id::{EndpointId, EventId, TenantId};
use crate::store::Error;

/// $4 to $6 are the position. Each call is planned with its values: what is not asked for is folded
/// away.
const SPAN: &str = "tenant_id = $1 AND event_id >= $2 AND event_id < $3 AND event_id <= $4
                    AND (event_id < $4 OR (endpoint_id, run) > ($5, $6))
                    AND ($7::uuid IS NULL OR endpoint_id = $7)
                    AND ($8::uuid IS NULL OR event_id = $8)";
const ATTEMPTED: &str = "decision <> 'stale'";
const ORDER: &str = "ORDER BY event_id DESC, endpoint_id, run LIMIT $9";

/// Keys of deliveries in the order of pages, from the one after `after` on, without regard to what
/// [`describe`](super::describe) looks at: a bound for its work.
pub async fn keys(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeliveryQuery,
    after: Option<DeliveryKey>,
    limit: i64,
) -> Result<Vec<DeliveryKey>, Error> {
    let position = after
        .map_or((Uuid::max(), Uuid::max(), i32::MAX), |key| (key.event_id.0, key.endpoint_id.0, key.run));
    let rows = client
        .query(
            &sql(query),
            &[
                &tenant.0,
                &query.range.from,
                &query.range.until,
                &position.0,
                &position.1,
                &position.2,
                &query.endpoint_id.map(|id| id.0),
                &query.event_id.map(|id| id.0),
                &limit,
            ],
        )
        .await?;
    rows.iter().map(read_key).collect()
}

pub(in crate::store) fn read_key(row: &Row) -> Result<DeliveryKey, Error> {
    Ok(DeliveryKey {
        event_id: EventId(row.try_get("event_id")?),
        endpoint_id: EndpointId(row.try_get("endpoint_id")?),
        run: row.try_get("run")?,
    })
}

fn sql(query: &DeliveryQuery) -> String {
    let queued = format!("SELECT event_id, endpoint_id, run FROM queue WHERE {SPAN} {ORDER}");
    // What has a status or is decided was attempted.
    let attempted_only = query.status_code.is_some() || matches!(query.state, Some(StateFilter::Decided(_)));
    let attempted = if query.state == Some(StateFilter::Waiting) {
        return queued;
    } else if query.event_id.is_some() {
        format!(
            "SELECT DISTINCT event_id, endpoint_id, run FROM attempts WHERE {SPAN} AND {ATTEMPTED} {ORDER}"
        )
    } else if query.endpoint_id.is_some() {
        by_attempts("endpoint_id = $7")
    } else if is_no_success(query) {
        by_attempts("decision <> 'delivered'")
    } else {
        return by_events(!attempted_only);
    };
    if attempted_only {
        return attempted;
    }
    format!("SELECT * FROM (({attempted}) UNION ({queued})) AS found {ORDER}")
}

/// A success has a status of 2xx, and nothing else has.
fn is_no_success(query: &DeliveryQuery) -> bool {
    match query.state {
        Some(StateFilter::Decided(decision)) => decision != Decision::Delivered,
        _ => query.status_code.is_some_and(|status| !(200..300).contains(&status)),
    }
}

/// The newest events of these attempts, then the deliveries of each. Every event has one, apart from
/// the one of the position: one more than are asked for will do.
fn by_attempts(condition: &str) -> String {
    format!(
        "SELECT candidate.event_id, found.endpoint_id, found.run
           FROM (SELECT DISTINCT event_id FROM attempts WHERE {condition} AND {ATTEMPTED}
                    AND tenant_id = $1 AND event_id >= $2 AND event_id < $3 AND event_id <= $4
                  ORDER BY event_id DESC LIMIT $9::bigint + 1) AS candidate
          CROSS JOIN LATERAL (
                SELECT DISTINCT endpoint_id, run FROM attempts
                 WHERE event_id = candidate.event_id AND {SPAN} AND {ATTEMPTED}) AS found
          {ORDER}"
    )
}

fn by_events(and_queued: bool) -> String {
    let queued = "UNION SELECT endpoint_id, run FROM queue WHERE event_id = candidate.id AND";
    let queued = if and_queued { format!("{queued} {SPAN}") } else { String::new() };
    format!(
        "SELECT candidate.id AS event_id, found.endpoint_id, found.run
           FROM events AS candidate
          CROSS JOIN LATERAL (
                SELECT DISTINCT endpoint_id, run FROM attempts
                 WHERE event_id = candidate.id AND {SPAN} AND {ATTEMPTED}
                {queued}) AS found
          WHERE candidate.tenant_id = $1 AND candidate.id >= $2 AND candidate.id < $3 AND candidate.id <= $4
          {ORDER}"
    )
}
