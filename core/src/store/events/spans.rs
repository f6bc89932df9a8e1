//! Events by the transactions that wrote them, for whoever watches.

use std::collections::HashMap;

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::{EventQuery, EventRow, SUMMARY, first_id_at, read};
use crate::id::{EventId, TenantId};
use crate::store::Error;
use crate::store::watching::{Found, Part, Reading, number};

/// $2 to $3 and $4 are ids, $5 and $6 transactions, $7 the key known of $5. Each call is planned with its
/// values: what is not asked for is folded away.
///
/// Tenant and id are compared together, and ordered by, so that only the index of both will do: whose events
/// are few would else be looked for among everybody's.
const IN_SPAN: &str = "
    SELECT tx::text AS number, id, octet_length(headers)::bigint + octet_length(body)::bigint AS bytes,
           ($9::uuid IS NULL OR source_id = $9) IS TRUE
       AND ($10::text IS NULL OR event_type = $10)
       AND ($11::text IS NULL OR channel = $11) IS TRUE AS wanted
      FROM events
     WHERE {of_tenant} AND id >= $2 AND id < $3 AND id > $4 AND {is_part}
       AND tx >= $5::text::xid8 AND tx < $6::text::xid8 AND (tx, id) > ($5::text::xid8, $7)
     ORDER BY {order} LIMIT $8";
const OF_TENANT: &str = "
    (tenant_id, id) > ($1, $4) AND (tenant_id, id) >= ($1, $2) AND (tenant_id, id) < ($1, $3)";

/// Rows of a part of a span, wanted or not, in its order. Where the span is everything since a time, that
/// is the time of receipt; its part of `query` does not count.
pub async fn in_span(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventQuery,
    reading: &Reading<EventId>,
) -> Result<Vec<Found<EventId>>, Error> {
    let (after, of_tenant, order) = match reading.part {
        Part::Strays(_) => (None, "tenant_id = $1", "tx, id"),
        Part::Others(after) => (after, OF_TENANT, "tenant_id, id"),
    };
    let (from, known) = reading.above(EventId(Uuid::nil()));
    let mut ids = reading.ids();
    if let Some(since) = reading.span.since() {
        ids.from = first_id_at(since.timestamp_millis());
    }
    let sql = IN_SPAN
        .replace("{is_part}", reading.is_part())
        .replace("{of_tenant}", of_tenant)
        .replace("{order}", order);
    let rows = client
        .query(
            &sql,
            &[
                &tenant.0,
                &ids.from,
                &ids.until,
                &after.map_or(Uuid::nil(), |id| id.0),
                &from,
                &reading.span.until.to_string(),
                &known.0,
                &reading.limit,
                &query.source_id.map(|source| source.0),
                &query.event_type,
                &query.channel,
            ],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Found {
                tx: number(row, "number")?,
                key: EventId(row.try_get("id")?),
                bytes: u64::try_from(row.try_get::<_, i64>("bytes")?).unwrap_or_default(),
                wanted: row.try_get("wanted")?,
            })
        })
        .collect()
}

/// These events, in their order; what is gone is left out. Bodies, with headers, only up to a size.
pub async fn read_all(
    client: &impl GenericClient,
    ids: &[EventId],
    body_bytes_max: Option<i64>,
) -> Result<Vec<EventRow>, Error> {
    let sql = format!(
        "SELECT {SUMMARY}, CASE WHEN octet_length(body) <= $4::bigint THEN headers END AS headers,
                CASE WHEN octet_length(body) <= $4::bigint THEN body END AS body
           FROM events WHERE id = ANY($1) AND id BETWEEN $2 AND $3"
    );
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(Vec::new()) };
    let rows = client.query(&sql, &[&ids, first, last, &body_bytes_max]).await?;
    let mut found = HashMap::new();
    for row in &rows {
        let bytes = |column: &str| -> Result<Bytes, Error> {
            Ok(row.try_get::<_, Option<Vec<u8>>>(column)?.unwrap_or_default().into())
        };
        let event = EventRow { headers: bytes("headers")?, body: bytes("body")?, ..read(row)? };
        found.insert(event.id.0, event);
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}
