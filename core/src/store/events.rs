//! Reads events. They are written by the journal alone.

mod spans;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Error;
use crate::id::{EventId, SourceId, TenantId};

pub use spans::{in_span, read_all};

/// A span of ids: `from` is part of it, `until` is not. Ids begin with the milliseconds of their
/// making, so a span of time is one of ids, and prunes partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub from: Uuid,
    pub until: Uuid,
}

impl Default for IdRange {
    fn default() -> Self {
        Self { from: Uuid::nil(), until: Uuid::max() }
    }
}

impl IdRange {
    /// From `start` on, before `end`.
    pub fn between(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Self {
        let all = Self::default();
        Self {
            from: start.map_or(all.from, |time| first_id_at(time.timestamp_millis())),
            until: end.map_or(all.until, |time| first_id_at(millis_rounded_up(time))),
        }
    }

    /// Nothing before that id, where there is one.
    #[must_use]
    pub fn down_to(self, first: Option<EventId>) -> Self {
        Self { from: first.map_or(self.from, |id| id.0.max(self.from)), ..self }
    }

    /// Nothing after that id; nothing at all where there is none.
    #[must_use]
    pub fn up_to(self, last: Option<EventId>) -> Self {
        let until = last.map_or(0, |id| id.0.as_u128().saturating_add(1));
        Self { until: self.until.min(Uuid::from_u128(until)), ..self }
    }
}

fn millis_rounded_up(time: DateTime<Utc>) -> i64 {
    let rest = time.timestamp_subsec_nanos() % 1_000_000;
    time.timestamp_millis() + i64::from(rest > 0)
}

/// No id made at this millisecond or later is smaller.
pub(super) fn first_id_at(unix_ms: i64) -> Uuid {
    const TIME_MAX: u128 = (1 << 48) - 1;
    Uuid::from_u128(u128::try_from(unix_ms).unwrap_or(0).min(TIME_MAX) << 80)
}

/// What a list of events is narrowed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    pub source_id: Option<SourceId>,
    pub event_type: Option<String>,
    pub channel: Option<String>,
    pub range: IdRange,
}

/// An event as it is read; a list leaves headers and body empty.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: EventId,
    pub tenant_id: TenantId,
    pub source_id: Option<SourceId>,
    pub event_type: String,
    pub channel: Option<String>,
    pub content_type: String,
    pub time: DateTime<Utc>,
    pub body_size_bytes: i64,
    /// See [`crate::headers::decode_headers`].
    pub headers: Bytes,
    pub body: Bytes,
    /// Made to test one endpoint.
    pub test: bool,
    /// The body went before its time.
    pub body_dropped_at: Option<DateTime<Utc>>,
    /// Why nobody got it, where that is not because nobody wanted it.
    pub flag: Option<String>,
}

const SUMMARY: &str = "id, tenant_id, source_id, event_type, channel, content_type, create_time, test, body_dropped_at, flag, \
                       octet_length(body)::bigint AS body_size_bytes";

fn read(row: &Row) -> Result<EventRow, Error> {
    Ok(EventRow {
        id: EventId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        source_id: row.try_get::<_, Option<Uuid>>("source_id")?.map(SourceId),
        event_type: row.try_get("event_type")?,
        channel: row.try_get("channel")?,
        content_type: row.try_get("content_type")?,
        time: row.try_get("create_time")?,
        body_size_bytes: row.try_get("body_size_bytes")?,
        headers: Bytes::new(),
        body: Bytes::new(),
        test: row.try_get("test")?,
        body_dropped_at: row.try_get("body_dropped_at")?,
        flag: row.try_get("flag")?,
    })
}

/// With a scope, only an event of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: EventId,
) -> Result<Option<EventRow>, Error> {
    let sql = format!(
        "SELECT {SUMMARY}, headers, body FROM events
          WHERE id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)
          UNION ALL
         SELECT {SUMMARY}, headers, body FROM events_kept
          WHERE id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)
          LIMIT 1"
    );
    let Some(row) = client.query_opt(&sql, &[&id.0, &scope.map(|tenant| tenant.0)]).await? else {
        return Ok(None);
    };
    let headers: Vec<u8> = row.try_get("headers")?;
    let body: Vec<u8> = row.try_get("body")?;
    Ok(Some(EventRow { headers: headers.into(), body: body.into(), ..read(&row)? }))
}

/// The event that so many rows of a list lead to, from the one after `after` on, its type and channel apart: no index
/// tells of those. `None`: a list is not narrowed by them, or there are fewer.
pub async fn nth(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventQuery,
    after: Option<EventId>,
    count: i64,
) -> Result<Option<EventId>, Error> {
    const SQL: &str = "
        SELECT id FROM events
         WHERE tenant_id = $1 AND id >= $2 AND id < $3 AND ($4::uuid IS NULL OR source_id = $4)
         ORDER BY id DESC OFFSET $5::bigint - 1 LIMIT 1";
    if query.event_type.is_none() && query.channel.is_none() {
        return Ok(None);
    }
    let until = after.map_or(query.range.until, |after| after.0.min(query.range.until));
    let source = query.source_id.map(|source| source.0);
    let row = client.query_opt(SQL, &[&tenant.0, &query.range.from, &until, &source, &count]).await?;
    row.map(|row| Ok(EventId(row.try_get(0)?))).transpose()
}

/// Newest first, from the one after `after` on.
pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventQuery,
    after: Option<EventId>,
    limit: i64,
) -> Result<Vec<EventRow>, Error> {
    // Each call is planned with its values: what is not asked for is folded away.
    let sql = format!(
        "SELECT {SUMMARY} FROM events
          WHERE tenant_id = $1 AND id >= $2 AND id < $3
            AND ($4::uuid IS NULL OR source_id = $4)
            AND ($5::text IS NULL OR event_type = $5)
            AND ($6::text IS NULL OR channel = $6)
          ORDER BY id DESC LIMIT $7"
    );
    let until = after.map_or(query.range.until, |after| after.0.min(query.range.until));
    let rows = client
        .query(
            &sql,
            &[
                &tenant.0,
                &query.range.from,
                &until,
                &query.source_id.map(|source| source.0),
                &query.event_type,
                &query.channel,
                &limit,
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_time_holds_the_ids_made_in_it() {
        let id = Uuid::now_v7();
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        let made = DateTime::from_timestamp(seconds as i64, nanos).unwrap();
        let later = made + chrono::TimeDelta::milliseconds(1);
        let holds = |range: IdRange| range.from <= id && id < range.until;
        assert!(holds(IdRange::between(Some(made), Some(later))));
        assert!(holds(IdRange::between(None, None)));
        assert!(!holds(IdRange::between(Some(later), None)));
        assert!(!holds(IdRange::between(None, Some(made))));
        // The end of a span within a millisecond does not cut the millisecond off.
        assert!(holds(IdRange::between(None, Some(made + chrono::TimeDelta::nanoseconds(1)))));
    }
}
