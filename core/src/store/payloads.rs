//! The payloads of a source as queries see them: the newest of its events whose bodies are stored.
//!
//! Each statement walks `events_source` backwards from the newest id and stops at the size of the
//! window, so that its cost has nothing to do with how much is stored.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Connection, Error};
use crate::id::{EventId, SourceId, TenantId};
use crate::query::{Order, SourceWindow};
use crate::source::SourceSpec;

/// One payload of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub event_id: EventId,
    pub received: DateTime<Utc>,
    pub event_type: String,
    pub content_type: String,
    pub body: Bytes,
}

const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";

/// Every transaction below it has ended: what it wrote is visible, or never will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon(String);

impl Horizon {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What queries see of a source; with a scope, only of one of that tenant.
pub async fn window(
    client: &Connection,
    scope: Option<TenantId>,
    id: SourceId,
) -> Result<Option<SourceWindow>, Error> {
    const SQL: &str = "
        SELECT tenant_id, spec FROM sources
         WHERE id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR tenant_id = $2)";
    let statement = client.prepare_cached(SQL).await?;
    let row = client.query_opt(&statement, &[&id.0, &scope.map(|tenant| tenant.0)]).await?;
    row.map(|row| {
        let tokio_postgres::types::Json(spec): tokio_postgres::types::Json<SourceSpec> =
            row.try_get("spec")?;
        Ok(SourceWindow::of(TenantId(row.try_get("tenant_id")?), id, &spec))
    })
    .transpose()
}

/// A literal in the text, so that one plan is prepared for each size and knows it.
fn visible(window: SourceWindow, columns: &str, bound: &str) -> String {
    format!(
        "SELECT {columns} FROM
            (SELECT * FROM events WHERE source_id = $1 {bound} ORDER BY id DESC LIMIT {}) AS w
          WHERE body_dropped_at IS NULL",
        window.payloads
    )
}

pub async fn latest(client: &Connection, window: SourceWindow) -> Result<Option<Payload>, Error> {
    let columns = "id, create_time, event_type, content_type, body";
    let statement = client.prepare_cached(&format!("{} LIMIT 1", visible(window, columns, ""))).await?;
    let row = client.query_opt(&statement, &[&window.source_id.0]).await?;
    row.as_ref().map(read).transpose()
}

/// What is known after a query that is asked now.
pub async fn horizon(client: &Connection) -> Result<Horizon, Error> {
    let statement = client.prepare_cached(HORIZON).await?;
    Ok(Horizon(client.query_one(&statement, &[]).await?.try_get(0)?))
}

/// The ids of the window, newest first. In one value: a thousand rows cost as much as finding them.
pub async fn ids(client: &Connection, window: SourceWindow) -> Result<Vec<Uuid>, Error> {
    let statement = client.prepare_cached(&visible(window, "string_agg(uuid_send(id), '')", "")).await?;
    let row = client.query_one(&statement, &[&window.source_id.0]).await?;
    let joined: Option<&[u8]> = row.try_get(0)?;
    let (ids, _) = joined.unwrap_or_default().as_chunks::<16>();
    let mut ids: Vec<Uuid> = ids.iter().map(|id| Uuid::from_bytes(*id)).collect();
    // An aggregate promises no order; it has that of the rows it is given.
    if !ids.is_sorted_by(|newer, older| newer > older) {
        ids.sort_unstable_by(|one, other| other.cmp(one));
    }
    Ok(ids)
}

/// The newest id of the window.
pub async fn newest(client: &Connection, window: SourceWindow) -> Result<Option<Uuid>, Error> {
    let statement = client.prepare_cached(&format!("{} LIMIT 1", visible(window, "id", ""))).await?;
    Ok(client.query_opt(&statement, &[&window.source_id.0]).await?.map(|row| row.try_get(0)).transpose()?)
}

/// How many of the window were received in `(after, until]`.
pub async fn count(
    client: &Connection,
    window: SourceWindow,
    (after, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<usize, Error> {
    let sql = format!("{} AND create_time > $2 AND create_time <= $3", visible(window, "count(*)", ""));
    let statement = client.prepare_cached(&sql).await?;
    let count: i64 =
        client.query_one(&statement, &[&window.source_id.0, &after, &until]).await?.try_get(0)?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Up to `limit` payloads of the window that ends with `until`, by receipt, without the first `skip`,
/// until their bodies pass `bytes_max`; the first one comes in any case.
#[allow(clippy::too_many_arguments, reason = "the window, and the bounds of a page of it")]
pub async fn page(
    client: &Connection,
    window: SourceWindow,
    order: Order,
    until: Uuid,
    (skip, limit): (i64, i64),
    bytes_max: i64,
) -> Result<Vec<Payload>, Error> {
    let direction = match order {
        Order::Asc => "ASC",
        Order::Desc => "DESC",
    };
    let window_rows = visible(window, "*", "AND id <= $2");
    // Limits that the planner cannot see: else it takes a plan for each for cheaper than one for all, and plans
    // each time, which takes longer than the rows do.
    let sql = format!(
        "SELECT id, create_time, event_type, content_type, body FROM
            (SELECT *, sum(octet_length(body)) OVER (ORDER BY id {direction}) AS bytes,
                    row_number() OVER (ORDER BY id {direction}) AS place
               FROM (SELECT * FROM ({window_rows}) AS seen ORDER BY id {direction}
                     OFFSET (SELECT $3::bigint) LIMIT (SELECT $4::bigint)) AS asked) AS summed
          WHERE bytes <= $5::bigint OR place = 1 ORDER BY place"
    );
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[&window.source_id.0, &until, &skip, &limit, &bytes_max]).await?;
    rows.iter().map(read).collect()
}

/// Payloads by id, in the order given, until their bodies pass `bytes_max`; the first one comes in any
/// case. What is not stored any more is left out.
pub async fn named(client: &Connection, ids: &[Uuid], bytes_max: i64) -> Result<Vec<Payload>, Error> {
    const SQL: &str = "
        SELECT id, create_time, event_type, content_type, body FROM
            (SELECT e.*, a.place, sum(octet_length(e.body)) OVER (ORDER BY a.place) AS bytes,
                    row_number() OVER (ORDER BY a.place) AS number
               FROM unnest($1::uuid[]) WITH ORDINALITY AS a (id, place)
               JOIN LATERAL (SELECT * FROM events WHERE events.id = a.id OFFSET 0) AS e ON true
              WHERE e.body_dropped_at IS NULL) AS summed
         WHERE bytes <= $2::bigint OR number = 1 ORDER BY place";
    let statement = client.prepare_cached(SQL).await?;
    let rows = client.query(&statement, &[&ids, &bytes_max]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Payload, Error> {
    Ok(Payload {
        event_id: EventId(row.try_get("id")?),
        received: row.try_get("create_time")?,
        event_type: row.try_get("event_type")?,
        content_type: row.try_get("content_type")?,
        body: Bytes::copy_from_slice(row.try_get("body")?),
    })
}
