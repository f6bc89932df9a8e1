//! Refused requests, kept so that a person can see what was wrong; only the newest of each source.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Error;
use crate::id::{EventId, RejectionId, SourceId, TenantId};
use crate::inbound::KeptRequest;

/// One refused request.
#[derive(Debug, Clone)]
pub struct Rejection {
    pub id: RejectionId,
    pub tenant_id: TenantId,
    pub source_id: SourceId,
    /// A stable name of the check that failed.
    pub code: String,
    /// The same in words, as the sender was told.
    pub message: String,
    pub request: KeptRequest,
    pub time: DateTime<Utc>,
}

/// One as it is read; a list leaves headers and body empty.
#[derive(Debug, Clone)]
pub struct RejectionRow {
    pub rejection: Rejection,
    pub body_size_bytes: i64,
    /// What became of it when it was verified again.
    pub event_id: Option<EventId>,
    pub reprocessed_at: Option<DateTime<Utc>>,
}

/// Writes all of them in one statement; one that is there already stays as it is.
pub async fn insert(client: &impl GenericClient, rejections: &[Rejection]) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO rejections (id, tenant_id, source_id, code, message, method, path, headers, body,
                                remote_addr, left_out, create_time)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                             $7::text[], $8::bytea[], $9::bytea[], $10::text[], $11::text[], $12::timestamptz[])
        ON CONFLICT (id) DO NOTHING";
    let ids: Vec<Uuid> = rejections.iter().map(|rejection| rejection.id.0).collect();
    let tenants: Vec<Uuid> = rejections.iter().map(|rejection| rejection.tenant_id.0).collect();
    let sources: Vec<Uuid> = rejections.iter().map(|rejection| rejection.source_id.0).collect();
    let codes: Vec<&str> = rejections.iter().map(|rejection| rejection.code.as_str()).collect();
    // Postgres keeps no NUL in a text: one from outside must not cost the whole batch.
    let messages: Vec<String> =
        rejections.iter().map(|rejection| rejection.message.replace('\0', "\u{fffd}")).collect();
    let requests = || rejections.iter().map(|rejection| &rejection.request);
    let methods: Vec<&str> = requests().map(|request| request.method.as_str()).collect();
    let paths: Vec<&str> = requests().map(|request| request.path_and_query.as_str()).collect();
    let headers: Vec<&[u8]> = requests().map(|request| request.headers.as_ref()).collect();
    let bodies: Vec<&[u8]> = requests().map(|request| request.body.as_ref()).collect();
    let remotes: Vec<String> = requests().map(|request| request.remote.to_string()).collect();
    let left_out: Vec<&str> = requests().map(|request| request.left_out.as_str()).collect();
    let times: Vec<DateTime<Utc>> = rejections.iter().map(|rejection| rejection.time).collect();
    client
        .execute(
            SQL,
            &[
                &ids, &tenants, &sources, &codes, &messages, &methods, &paths, &headers, &bodies, &remotes,
                &left_out, &times,
            ],
        )
        .await?;
    Ok(())
}

const SUMMARY: &str =
    "id, tenant_id, source_id, code, message, method, path, remote_addr, left_out, create_time,
                       event_id, reprocessed_at, octet_length(body)::bigint AS body_size_bytes";

fn read(row: &Row) -> Result<RejectionRow, Error> {
    let remote: String = row.try_get("remote_addr")?;
    let event_id: Option<Uuid> = row.try_get("event_id")?;
    Ok(RejectionRow {
        rejection: Rejection {
            id: RejectionId(row.try_get("id")?),
            tenant_id: TenantId(row.try_get("tenant_id")?),
            source_id: SourceId(row.try_get("source_id")?),
            code: row.try_get("code")?,
            message: row.try_get("message")?,
            request: KeptRequest {
                method: row.try_get("method")?,
                path_and_query: row.try_get("path")?,
                headers: Bytes::new(),
                body: Bytes::new(),
                // Written from an address.
                remote: remote.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                left_out: row.try_get("left_out")?,
            },
            time: row.try_get("create_time")?,
        },
        body_size_bytes: row.try_get("body_size_bytes")?,
        event_id: event_id.map(EventId),
        reprocessed_at: row.try_get("reprocessed_at")?,
    })
}

/// With headers and body; with a scope, only one of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: RejectionId,
) -> Result<Option<RejectionRow>, Error> {
    let sql = format!(
        "SELECT {SUMMARY}, headers, body FROM rejections WHERE id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)"
    );
    let Some(row) = client.query_opt(&sql, &[&id.0, &scope.map(|tenant| tenant.0)]).await? else {
        return Ok(None);
    };
    let mut found = read(&row)?;
    let (headers, body): (Vec<u8>, Vec<u8>) = (row.try_get("headers")?, row.try_get("body")?);
    found.rejection.request.headers = headers.into();
    found.rejection.request.body = body.into();
    Ok(Some(found))
}

/// Of one source, newest first.
pub async fn list(
    client: &impl GenericClient,
    source: SourceId,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<RejectionRow>, Error> {
    let sql = format!(
        "SELECT {SUMMARY} FROM rejections
          WHERE source_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3"
    );
    client.query(&sql, &[&source.0, &before, &limit]).await?.iter().map(read).collect()
}

/// Names the event that it will be, unless that is done; the name that counts. `None`: it is gone.
pub async fn name_event(
    client: &impl GenericClient,
    id: RejectionId,
    event: EventId,
) -> Result<Option<EventId>, Error> {
    const SQL: &str =
        "UPDATE rejections SET event_id = coalesce(event_id, $2) WHERE id = $1 RETURNING event_id";
    let row = client.query_opt(SQL, &[&id.0, &event.0]).await?;
    row.map(|row| Ok(EventId(row.try_get(0)?))).transpose()
}

/// Holds it until the end of the transaction, and says whether it has become an event: another one may
/// have been at it. `None`: it is gone.
pub async fn hold(client: &impl GenericClient, id: RejectionId) -> Result<Option<bool>, Error> {
    const HOLD: &str = "SELECT event_id, reprocessed_at FROM rejections WHERE id = $1 FOR UPDATE";
    const IS_THERE: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE id = $1)";
    let Some(row) = client.query_opt(HOLD, &[&id.0]).await? else { return Ok(None) };
    let (event, done): (Option<Uuid>, Option<DateTime<Utc>>) = (row.try_get(0)?, row.try_get(1)?);
    if done.is_some() {
        return Ok(Some(true));
    }
    let Some(event) = event else { return Ok(Some(false)) };
    Ok(Some(client.query_one(IS_THERE, &[&event]).await?.try_get(0)?))
}

/// It has become this event.
pub async fn mark(client: &impl GenericClient, id: RejectionId, event: EventId) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE rejections SET event_id = $2, reprocessed_at = coalesce(reprocessed_at, now()) WHERE id = $1";
    client.execute(SQL, &[&id.0, &event.0]).await?;
    Ok(())
}

/// Deletes all but the newest `keep` of each source; ids are ordered by time.
pub async fn trim(client: &impl GenericClient, sources: &[SourceId], keep: u32) -> Result<u64, Error> {
    const SQL: &str = "
        DELETE FROM rejections AS old
         USING unnest($1::uuid[]) AS touched (source_id)
         WHERE old.source_id = touched.source_id
           AND old.id <= (SELECT id FROM rejections
                           WHERE source_id = touched.source_id
                           ORDER BY id DESC OFFSET $2 LIMIT 1)";
    let sources: Vec<Uuid> = sources.iter().map(|source| source.0).collect();
    Ok(client.execute(SQL, &[&sources, &i64::from(keep)]).await?)
}
