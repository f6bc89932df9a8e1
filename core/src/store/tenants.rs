//! Tenants: whose data there is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use super::resources::WriteError;
use crate::id::TenantId;
use crate::tenant::TenantSettings;

#[derive(Debug, Clone)]
pub struct TenantRow {
    pub id: TenantId,
    pub name: String,
    pub display_name: String,
    pub labels: BTreeMap<String, String>,
    pub settings: TenantSettings,
    pub config_version: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
}

const COLUMNS: &str = "id, name, display_name, labels, settings, config_version, create_time, update_time";
const NAME_INDEX: &str = "tenants_name";

fn read(row: &Row) -> Result<TenantRow, Error> {
    Ok(TenantRow {
        id: TenantId(row.try_get("id")?),
        name: row.try_get("name")?,
        display_name: row.try_get("display_name")?,
        labels: row.try_get::<_, Json<BTreeMap<String, String>>>("labels")?.0,
        settings: row.try_get::<_, Json<TenantSettings>>("settings")?.0,
        config_version: row.try_get("config_version")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
    })
}

/// Needs the configuration lock ([`super::config_writes::begin`]), as every write here.
pub async fn insert(client: &impl GenericClient, tenant: &TenantRow) -> Result<TenantRow, WriteError> {
    let sql = format!(
        "INSERT INTO tenants (id, name, display_name, labels, settings, config_version)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING {COLUMNS}"
    );
    let row = client
        .query_one(
            &sql,
            &[
                &tenant.id.0,
                &tenant.name,
                &tenant.display_name,
                &Json(&tenant.labels),
                &Json(&tenant.settings),
                &tenant.config_version,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, NAME_INDEX))?;
    Ok(read(&row)?)
}

pub async fn update(client: &impl GenericClient, tenant: &TenantRow) -> Result<TenantRow, WriteError> {
    let sql = format!(
        "UPDATE tenants SET name = $2, display_name = $3, labels = $4, settings = (settings - 'retention' - 'strict_event_catalog')
                                       || $5::jsonb,
                            config_version = $6, update_time = now()
          WHERE id = $1 AND deleted_at IS NULL RETURNING {COLUMNS}"
    );
    let row = client
        .query_one(
            &sql,
            &[
                &tenant.id.0,
                &tenant.name,
                &tenant.display_name,
                &Json(&tenant.labels),
                &Json(&tenant.settings),
                &tenant.config_version,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, NAME_INDEX))?;
    Ok(read(&row)?)
}

pub async fn find(client: &impl GenericClient, id: TenantId) -> Result<Option<TenantRow>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM tenants WHERE id = $1 AND deleted_at IS NULL");
    client.query_opt(&sql, &[&id.0]).await?.as_ref().map(read).transpose()
}

/// By id, from the one after `after` on.
pub async fn list(
    client: &impl GenericClient,
    name: Option<&str>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<TenantRow>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM tenants
          WHERE deleted_at IS NULL AND id > $1 AND ($2::text IS NULL OR name = $2) ORDER BY id LIMIT $3"
    );
    let after = after.unwrap_or(Uuid::nil());
    client.query(&sql, &[&after, &name, &limit]).await?.iter().map(read).collect()
}

/// Ends a tenant and its event types, and revokes its keys; false where it still has sources or endpoints.
pub async fn delete(client: &impl GenericClient, id: TenantId, config_version: i64) -> Result<bool, Error> {
    const USED: &str = "
        SELECT EXISTS (SELECT 1 FROM sources WHERE tenant_id = $1 AND deleted_at IS NULL)
            OR EXISTS (SELECT 1 FROM endpoints WHERE tenant_id = $1 AND deleted_at IS NULL)";
    const DELETE: &str = "UPDATE tenants SET deleted_at = now(), config_version = $2 WHERE id = $1";
    const TYPES: &str = "
        UPDATE event_types SET deleted_at = now(), config_version = $2 WHERE tenant_id = $1 AND deleted_at IS NULL";
    const REVOKE: &str = "UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND revoked_at IS NULL";
    if client.query_one(USED, &[&id.0]).await?.try_get(0)? {
        return Ok(false);
    }
    client.execute(DELETE, &[&id.0, &config_version]).await?;
    client.execute(TYPES, &[&id.0, &config_version]).await?;
    client.execute(REVOKE, &[&id.0]).await?;
    Ok(true)
}
