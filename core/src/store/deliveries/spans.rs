//! Attempts by the transactions that recorded them, for whoever watches. In the tables they lie by their events.

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{AttemptRow, COLUMNS, DeliveryQuery, KeyArrays, StateFilter, read_attempt, read_key};
use crate::delivery::{Decision, DeliveryKey};
use crate::id::{AttemptId, EndpointId, EventId, TenantId};
use crate::store::Error;
use crate::store::watching::{Found, Part, Reading, number};

/// One row of `attempts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptKey {
    pub delivery: DeliveryKey,
    pub attempt_id: AttemptId,
}

/// Below every key.
const LEAST: AttemptKey = AttemptKey {
    delivery: DeliveryKey { event_id: EventId(Uuid::nil()), endpoint_id: EndpointId(Uuid::nil()), run: -1 },
    attempt_id: AttemptId(Uuid::nil()),
};

/// $2 and $3 are ids of events, $4 and $5 transactions, $6 to $9 the key known of $4, $10 to $13 the last one.
const OF_SPAN: &str = "
    tenant_id = $1 AND event_id >= $2 AND event_id < $3 AND {is_part} AND event_id >= $10
    AND tx >= $4::text::xid8 AND tx < $5::text::xid8
    AND (tx, event_id, endpoint_id, run, attempt_id) > ($4::text::xid8, $6, $7, $8, $9)
    AND (event_id, endpoint_id, run, attempt_id) > ($10, $11, $12, $13)";
const TAKEN: &str = "tx, event_id, endpoint_id, run, attempt_id, decision, status, recorded_at,
    coalesce(octet_length(request_headers), 0)::bigint + coalesce(octet_length(response_headers), 0)
        + coalesce(octet_length(response_body), 0) + coalesce(octet_length(url), 0) AS bytes";
const BY_KEY: &str = "ORDER BY event_id, endpoint_id, run, attempt_id LIMIT $14";

/// By their own index.
const STRAYS: &str = "
    SELECT {taken} FROM attempts WHERE {of_span} AND {not_before}
     ORDER BY tx, event_id, endpoint_id, run, attempt_id LIMIT $14";
/// Where it is asked for a time ($19), those recorded long before it are passed over: an event of the tenant that is
/// no stray, and whose id is of 4 s before that time, had the number of its transaction
/// [`BEHIND`](crate::store::strays::BEHIND) later at the latest. What was recorded from the time on, which is when its
/// transaction began, has a greater one.
const SINCE_A_TIME: &str = "
    tx >= coalesce((SELECT e.tx FROM events AS e
                     WHERE e.tenant_id = $1 AND e.id < first_id_at($19::timestamptz - interval '4 seconds')
                       AND (e.tenant_id, e.id) < ($1, first_id_at($19::timestamptz - interval '4 seconds'))
                       AND e.stray IS NOT TRUE
                     ORDER BY e.tenant_id DESC, e.id DESC LIMIT 1), '0'::xid8)";
const OF_ENDPOINT: &str = "SELECT {taken} FROM attempts WHERE endpoint_id = $15 AND {of_span} {by_key}";
/// By the events of the tenant: no index has all attempts of one. See [`events`](crate::store::events::in_span)
/// for how they are compared.
const OF_TENANT: &str = "
    SELECT made.* FROM events AS candidate
     CROSS JOIN LATERAL (SELECT {taken} FROM attempts WHERE event_id = candidate.id AND {of_span} OFFSET 0) AS made
     WHERE (candidate.tenant_id, candidate.id) >= ($1, $2) AND (candidate.tenant_id, candidate.id) < ($1, $3)
       AND (candidate.tenant_id, candidate.id) >= ($1, $10)
       AND candidate.id >= $2 AND candidate.id < $3 AND candidate.id >= $10
     ORDER BY candidate.tenant_id, candidate.id, endpoint_id, run, attempt_id LIMIT $14";

fn sql(reading: &Reading<AttemptKey>, query: &DeliveryQuery) -> String {
    let (rows, order) = match reading.part {
        Part::Strays(_) => (STRAYS, "tx, event_id, endpoint_id, run, attempt_id"),
        Part::Others(_) if query.endpoint_id.is_some() => {
            (OF_ENDPOINT, "event_id, endpoint_id, run, attempt_id")
        }
        Part::Others(_) => (OF_TENANT, "event_id, endpoint_id, run, attempt_id"),
    };
    let not_before = if reading.span.since().is_some() { SINCE_A_TIME } else { "true" };
    let rows = rows
        .replace("{not_before}", not_before)
        .replace("{taken}", TAKEN)
        .replace("{of_span}", OF_SPAN)
        .replace("{by_key}", BY_KEY)
        .replace("{is_part}", reading.is_part());
    // The look for an event's type and channel is spared where neither is asked for.
    let wanted = "($15::uuid IS NULL OR endpoint_id = $15) AND ($16::uuid IS NULL OR event_id = $16)
              AND ($17::text IS NULL OR decision = $17) AND ($18::int2 IS NULL OR status = $18) IS TRUE
              AND ($19::timestamptz IS NULL OR recorded_at >= $19)
              AND (($20::text IS NULL AND $21::text IS NULL) OR EXISTS (
                   SELECT 1 FROM events AS e WHERE e.id = event_id AND ($20::text IS NULL OR event_type = $20)
                      AND ($21::text IS NULL OR channel = $21)
                   UNION ALL
                   SELECT 1 FROM events_kept AS e WHERE e.id = event_id AND ($20::text IS NULL OR event_type = $20)
                      AND ($21::text IS NULL OR channel = $21)))";
    format!(
        "SELECT tx::text AS number, event_id, endpoint_id, run, attempt_id, bytes, {wanted} AS wanted
           FROM ({rows}) AS found ORDER BY {order}"
    )
}

/// What an attempt led to, for the state a delivery is asked for in.
fn decision(query: &DeliveryQuery) -> Option<&'static str> {
    match query.state {
        Some(StateFilter::Waiting) => Some(Decision::Retry.as_str()),
        Some(StateFilter::Decided(decision)) => Some(decision.as_str()),
        None => None,
    }
}

/// Rows of a part of a span, wanted or not, in its order. Where the span is everything since a time, that is
/// the time of recording; the range of `query` does not count.
pub async fn in_span(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeliveryQuery,
    reading: &Reading<AttemptKey>,
) -> Result<Vec<Found<AttemptKey>>, Error> {
    let after = match reading.part {
        Part::Strays(_) => LEAST,
        Part::Others(after) => after.unwrap_or(LEAST),
    };
    let (from, known) = reading.above(LEAST);
    let mut ids = reading.ids();
    if let Some(event) = query.event_id.filter(|_| matches!(reading.part, Part::Others(_))) {
        ids.from = ids.from.max(event.0);
        ids = ids.up_to(Some(event));
    }
    let rows = client
        .query(
            &sql(reading, query),
            &[
                &tenant.0,
                &ids.from,
                &ids.until,
                &from,
                &reading.span.until.to_string(),
                &known.delivery.event_id.0,
                &known.delivery.endpoint_id.0,
                &known.delivery.run,
                &known.attempt_id.0,
                &after.delivery.event_id.0,
                &after.delivery.endpoint_id.0,
                &after.delivery.run,
                &after.attempt_id.0,
                &reading.limit,
                &query.endpoint_id.map(|id| id.0),
                &query.event_id.map(|id| id.0),
                &decision(query),
                &query.status_code,
                &reading.span.since(),
                &query.event_type,
                &query.channel,
            ],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Found {
                tx: number(row, "number")?,
                key: read_attempt_key(row)?,
                bytes: u64::try_from(row.try_get::<_, i64>("bytes")?).unwrap_or_default(),
                wanted: row.try_get("wanted")?,
            })
        })
        .collect()
}

fn read_attempt_key(row: &Row) -> Result<AttemptKey, Error> {
    Ok(AttemptKey { delivery: read_key(row)?, attempt_id: AttemptId(row.try_get("attempt_id")?) })
}

/// These attempts; what is gone is left out.
pub async fn read_all(
    client: &impl GenericClient,
    keys: &[AttemptKey],
) -> Result<HashMap<AttemptKey, AttemptRow>, Error> {
    let sql = format!(
        "SELECT made.* FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[]) AS k (event, endpoint, run_no, attempt)
          CROSS JOIN LATERAL (
                SELECT event_id, endpoint_id, run, {COLUMNS} FROM attempts
                 WHERE event_id = k.event AND event_id BETWEEN $5 AND $6
                   AND endpoint_id = k.endpoint AND run = k.run_no AND attempt_id = k.attempt LIMIT 1) AS made"
    );
    let arrays = KeyArrays::new(keys.iter().map(|key| &key.delivery));
    let attempts: Vec<Uuid> = keys.iter().map(|key| key.attempt_id.0).collect();
    let rows = client
        .query(
            &sql,
            &[
                &arrays.events,
                &arrays.endpoints,
                &arrays.runs,
                &attempts,
                &arrays.first_event,
                &arrays.last_event,
            ],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let key = read_attempt_key(row)?;
            Ok((key, read_attempt(row, key.delivery.event_id)?))
        })
        .collect()
}
