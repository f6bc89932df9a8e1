//! Events that nobody wanted: they are kept, and nothing was made of them.

use std::collections::HashSet;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Error;
use super::chunks::chunks_of;
use crate::id::EventId;

/// Each `LIMIT 1` has the row looked up by its key: the tables are large, and the events are few.
const WITHOUT_DELIVERY: &str = "
    SELECT k.id FROM unnest($1::uuid[]) AS k (id)
      LEFT JOIN LATERAL (
           SELECT 1 AS found FROM queue WHERE event_id = k.id LIMIT 1) AS waits ON true
      LEFT JOIN LATERAL (
           SELECT 1 AS found FROM attempts WHERE event_id = k.id AND event_id BETWEEN $2 AND $3 LIMIT 1) AS made ON true
      LEFT JOIN LATERAL (
           SELECT 1 AS found FROM attempts_kept WHERE event_id = k.id LIMIT 1) AS kept ON true
     WHERE waits.found IS NULL AND made.found IS NULL AND kept.found IS NULL";
const UNSETTLED: &str = "
    SELECT event.id FROM outbox CROSS JOIN LATERAL unnest(event_ids) AS event (id)
     WHERE outbox.id BETWEEN $2 AND $3 AND event.id = ANY($1)";

/// Which of these events are settled and have no delivery.
pub async fn unmatched(
    client: &impl GenericClient,
    events: impl IntoIterator<Item = EventId>,
) -> Result<HashSet<EventId>, Error> {
    let mut left: HashSet<Uuid> = events.into_iter().map(|id| id.0).collect();
    left = of(client, WITHOUT_DELIVERY, &left, |least, most| (least, most)).await?;
    let unsettled = of(client, UNSETTLED, &left, chunks_of).await?;
    left.retain(|id| !unsettled.contains(id));
    // What was settled since the first look has its deliveries now.
    let left = of(client, WITHOUT_DELIVERY, &left, |least, most| (least, most)).await?;
    Ok(left.into_iter().map(EventId).collect())
}

/// Those of the ids that a query finds, which is told the range to look in.
async fn of(
    client: &impl GenericClient,
    sql: &str,
    ids: &HashSet<Uuid>,
    range: impl Fn(Uuid, Uuid) -> (Uuid, Uuid),
) -> Result<HashSet<Uuid>, Error> {
    let (Some(least), Some(most)) = (ids.iter().min(), ids.iter().max()) else { return Ok(HashSet::new()) };
    let (from, until) = range(*least, *most);
    let ids: Vec<Uuid> = ids.iter().copied().collect();
    let rows = client.query(sql, &[&ids, &from, &until]).await?;
    rows.iter().map(|row: &Row| Ok(row.try_get(0)?)).collect()
}
