//! Refused requests, kept so that a person can see what was wrong; only the newest of each source.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use crate::id::{RejectionId, SourceId, TenantId};

/// One refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub id: RejectionId,
    pub tenant_id: TenantId,
    pub source_id: SourceId,
    /// A stable name of the check that failed.
    pub code: &'static str,
    /// The same in words, as the sender was told.
    pub message: String,
    pub method: String,
    /// With its query, as far as that holds no secret.
    pub path: String,
    /// As [`crate::event::encode_headers`] writes them.
    pub headers: bytes::Bytes,
    /// Its beginning, where it is longer than what is kept.
    pub body: bytes::Bytes,
    /// Address of the peer, which may be a proxy.
    pub remote_addr: String,
    pub time: DateTime<Utc>,
}

/// Writes all of them in one statement; one that is there already stays as it is.
pub async fn insert(client: &impl GenericClient, rejections: &[Rejection]) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO rejections (id, tenant_id, source_id, code, message, method, path, headers, body,
                                remote_addr, create_time)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                             $7::text[], $8::bytea[], $9::bytea[], $10::text[], $11::timestamptz[])
        ON CONFLICT (id) DO NOTHING";
    let ids: Vec<Uuid> = rejections.iter().map(|rejection| rejection.id.0).collect();
    let tenants: Vec<Uuid> = rejections.iter().map(|rejection| rejection.tenant_id.0).collect();
    let sources: Vec<Uuid> = rejections.iter().map(|rejection| rejection.source_id.0).collect();
    let codes: Vec<&str> = rejections.iter().map(|rejection| rejection.code).collect();
    // Postgres keeps no NUL in a text: one from outside must not cost the whole batch.
    let messages: Vec<String> =
        rejections.iter().map(|rejection| rejection.message.replace('\0', "\u{fffd}")).collect();
    let methods: Vec<&str> = rejections.iter().map(|rejection| rejection.method.as_str()).collect();
    let paths: Vec<&str> = rejections.iter().map(|rejection| rejection.path.as_str()).collect();
    let headers: Vec<&[u8]> = rejections.iter().map(|rejection| rejection.headers.as_ref()).collect();
    let bodies: Vec<&[u8]> = rejections.iter().map(|rejection| rejection.body.as_ref()).collect();
    let remotes: Vec<&str> = rejections.iter().map(|rejection| rejection.remote_addr.as_str()).collect();
    let times: Vec<DateTime<Utc>> = rejections.iter().map(|rejection| rejection.time).collect();
    client
        .execute(
            SQL,
            &[
                &ids, &tenants, &sources, &codes, &messages, &methods, &paths, &headers, &bodies, &remotes,
                &times,
            ],
        )
        .await?;
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
