//! Who may call the admin API, and for which tenant.

use deadpool_postgres::GenericClient;

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
