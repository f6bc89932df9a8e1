//! Who may call the admin API, and for which tenant.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Error;
use crate::id::{ApiKeyId, TenantId};

/// A key that is valid now.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: ApiKeyId,
    /// `None`: every tenant.
    pub tenant_id: Option<TenantId>,
    pub role: String,
}

/// By the SHA-256 of the key, neither revoked nor expired.
pub async fn find_active(client: &impl GenericClient, hash: &[u8; 32]) -> Result<Option<ApiKey>, Error> {
    const SQL: &str = "
        SELECT id, tenant_id, role FROM api_keys
         WHERE key_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())";
    let Some(row) = client.query_opt(SQL, &[&hash.as_slice()]).await? else { return Ok(None) };
    Ok(Some(ApiKey {
        id: ApiKeyId(row.try_get("id")?),
        tenant_id: row.try_get::<_, Option<uuid::Uuid>>("tenant_id")?.map(TenantId),
        role: row.try_get("role")?,
    }))
}

pub async fn tenant_exists(client: &impl GenericClient, tenant: TenantId) -> Result<bool, Error> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM tenants WHERE id = $1 AND deleted_at IS NULL)";
    Ok(client.query_one(SQL, &[&tenant.0]).await?.try_get(0)?)
}

/// A key as it is listed, whether it is valid or not.
#[derive(Debug, Clone)]
pub struct ListedKey {
    pub id: ApiKeyId,
    /// `None`: every tenant.
    pub tenant_id: Option<TenantId>,
    pub display_name: String,
    pub role: String,
    pub create_time: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, tenant_id, name, role, create_time, expires_at, last_used_at, revoked_at";

fn read(row: &Row) -> Result<ListedKey, Error> {
    Ok(ListedKey {
        id: ApiKeyId(row.try_get("id")?),
        tenant_id: row.try_get::<_, Option<Uuid>>("tenant_id")?.map(TenantId),
        display_name: row.try_get("name")?,
        role: row.try_get("role")?,
        create_time: row.try_get("create_time")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

/// What a new key is; of its token only the SHA-256.
#[derive(Debug)]
pub struct NewKey<'a> {
    pub tenant_id: Option<TenantId>,
    pub display_name: &'a str,
    pub role: &'a str,
    pub hash: [u8; 32],
    pub expires_at: Option<DateTime<Utc>>,
}

pub async fn insert(client: &impl GenericClient, new: &NewKey<'_>) -> Result<ListedKey, Error> {
    let sql = format!(
        "INSERT INTO api_keys (id, tenant_id, name, role, key_hash, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING {COLUMNS}"
    );
    let tenant = new.tenant_id.map(|tenant| tenant.0);
    let row = client
        .query_one(
            &sql,
            &[
                &ApiKeyId::new().0,
                &tenant,
                &new.display_name,
                &new.role,
                &new.hash.as_slice(),
                &new.expires_at,
            ],
        )
        .await?;
    read(&row)
}

/// Keys of a tenant that are not revoked; without one those that are for all.
pub async fn count(client: &impl GenericClient, tenant: Option<TenantId>) -> Result<i64, Error> {
    const SQL: &str = "
        SELECT count(*) FROM api_keys WHERE tenant_id IS NOT DISTINCT FROM $1::uuid AND revoked_at IS NULL";
    Ok(client.query_one(SQL, &[&tenant.map(|tenant| tenant.0)]).await?.try_get(0)?)
}

/// Newest first, from the one after `after` on; without a tenant those of all.
pub async fn list(
    client: &impl GenericClient,
    tenant: Option<TenantId>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ListedKey>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM api_keys
          WHERE ($1::uuid IS NULL OR tenant_id = $1) AND id < $2 ORDER BY id DESC LIMIT $3"
    );
    let before = after.unwrap_or(Uuid::max());
    let rows = client.query(&sql, &[&tenant.map(|tenant| tenant.0), &before, &limit]).await?;
    rows.iter().map(read).collect()
}

/// Ends a key; with a scope, only one of that tenant. One that is revoked stays as it is.
pub async fn revoke(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: ApiKeyId,
) -> Result<Option<ListedKey>, Error> {
    let sql = format!(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
          WHERE id = $1 AND ($2::uuid IS NULL OR tenant_id = $2) RETURNING {COLUMNS}"
    );
    let row = client.query_opt(&sql, &[&id.0, &scope.map(|tenant| tenant.0)]).await?;
    row.as_ref().map(read).transpose()
}

/// Keeps that a key was used, to within a minute.
pub async fn used(client: &impl GenericClient, id: ApiKeyId) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE api_keys SET last_used_at = now()
         WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')";
    client.execute(SQL, &[&id.0]).await?;
    Ok(())
}
