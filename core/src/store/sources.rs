//! Sources: their rows, their tombstones, and which replicas have seen a version.

use std::collections::BTreeMap;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use super::resources::{Table, violated};
use crate::id::{ReplicaId, SourceId, TenantId};
use crate::source::{Source, SourceSpec};

/// Why a source was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("another source of the tenant has this name")]
    NameTaken,
    #[error("another source of the deployment has this path")]
    PathTaken,
    #[error(transparent)]
    Store(#[from] Error),
}

impl WriteError {
    fn of(error: tokio_postgres::Error) -> Self {
        match violated(&error) {
            Some("sources_name") => Self::NameTaken,
            Some("sources_path") => Self::PathTaken,
            _ => Self::Store(error.into()),
        }
    }
}

/// Which sources of a tenant, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct SourceQuery {
    pub name: Option<String>,
    pub preset: Option<String>,
    /// All of these must be there.
    pub labels: BTreeMap<String, String>,
    pub enabled: Option<bool>,
    pub after: Option<Uuid>,
    pub limit: i64,
}

pub(super) const COLUMNS: &str = "id, tenant_id, name, display_name, labels, path, spec, enabled, generation, \
                       config_version, create_time, update_time";

const TABLE: Table = Table { name: "sources", columns: COLUMNS };

pub(super) fn read(row: &Row) -> Result<Source, Error> {
    let Json(labels) = row.try_get("labels")?;
    let Json(spec): Json<SourceSpec> = row.try_get("spec")?;
    Ok(Source {
        id: SourceId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        name: row.try_get("name")?,
        display_name: row.try_get("display_name")?,
        labels,
        path: row.try_get("path")?,
        spec,
        enabled: row.try_get("enabled")?,
        generation: row.try_get("generation")?,
        config_version: row.try_get("config_version")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
    })
}

/// Needs the configuration lock ([`super::config_writes::begin`]), as every write here.
pub async fn insert(client: &impl GenericClient, source: &Source) -> Result<(), WriteError> {
    const SQL: &str = "
        INSERT INTO sources (id, tenant_id, name, display_name, labels, path, spec, enabled, generation,
                             config_version, create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    client
        .execute(
            SQL,
            &[
                &source.id.0,
                &source.tenant_id.0,
                &source.name,
                &source.display_name,
                &Json(&source.labels),
                &source.path,
                &Json(&source.spec),
                &source.enabled,
                &source.generation,
                &source.config_version,
                &source.create_time,
                &source.update_time,
            ],
        )
        .await
        .map_err(WriteError::of)?;
    Ok(())
}

/// Writes everything but id, tenant and creation.
pub async fn update(client: &impl GenericClient, source: &Source) -> Result<(), WriteError> {
    const SQL: &str = "
        UPDATE sources
           SET name = $2, display_name = $3, labels = $4, path = $5, spec = $6, enabled = $7, generation = $8,
               config_version = $9, update_time = $10
         WHERE id = $1 AND deleted_at IS NULL";
    client
        .execute(
            SQL,
            &[
                &source.id.0,
                &source.name,
                &source.display_name,
                &Json(&source.labels),
                &source.path,
                &Json(&source.spec),
                &source.enabled,
                &source.generation,
                &source.config_version,
                &source.update_time,
            ],
        )
        .await
        .map_err(WriteError::of)?;
    Ok(())
}

/// Raises the version, as when a secret changed; with `verify_again` the generation too.
pub async fn touch(
    client: &impl GenericClient,
    id: SourceId,
    config_version: i64,
    verify_again: bool,
) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE sources
           SET config_version = $2, generation = generation + $3::bool::int, update_time = now()
         WHERE id = $1 AND deleted_at IS NULL";
    client.execute(SQL, &[&id.0, &config_version, &verify_again]).await?;
    Ok(())
}

/// Leaves a tombstone: snapshots learn of the deletion by it, and events verified against the source
/// are not committed any more.
pub async fn mark_deleted(
    client: &impl GenericClient,
    id: SourceId,
    config_version: i64,
) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE sources
           SET deleted_at = now(), config_version = $2, generation = generation + 1, update_time = now()
         WHERE id = $1 AND deleted_at IS NULL";
    client.execute(SQL, &[&id.0, &config_version]).await?;
    Ok(())
}

/// With a scope, only a source of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: SourceId,
) -> Result<Option<Source>, Error> {
    TABLE.find(client, scope, id.0).await?.as_ref().map(read).transpose()
}

pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &SourceQuery,
) -> Result<Vec<Source>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM sources
          WHERE tenant_id = $1 AND deleted_at IS NULL
            AND ($2::uuid IS NULL OR id > $2)
            AND ($3::text IS NULL OR name = $3)
            AND ($4::text IS NULL OR spec->>'preset' = $4)
            AND labels @> $5
            AND ($6::bool IS NULL OR enabled = $6)
          ORDER BY id LIMIT $7"
    );
    let rows = client
        .query(
            &sql,
            &[
                &tenant.0,
                &query.after,
                &query.name,
                &query.preset,
                &Json(&query.labels),
                &query.enabled,
                &query.limit,
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub async fn count(client: &impl GenericClient, tenant: TenantId) -> Result<i64, Error> {
    TABLE.count(client, tenant).await
}

/// Live replicas that have not confirmed a configuration version. Only `dead_at` ends a life: one
/// whose lease has run out may still wake.
pub async fn replicas_behind(
    client: &impl GenericClient,
    config_version: i64,
) -> Result<Vec<ReplicaId>, Error> {
    const SQL: &str = "SELECT id FROM replicas WHERE dead_at IS NULL AND config_version < $1 ORDER BY id";
    let rows = client.query(SQL, &[&config_version]).await?;
    rows.iter().map(|row| Ok(ReplicaId(row.try_get(0)?))).collect()
}
