//! Event types: their rows, and how a tenant keeps its catalog.

use std::collections::BTreeMap;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use super::resources::{Table, WriteError};
use crate::catalog::EventType;
use crate::id::{EventTypeId, TenantId};

/// Which types of a tenant, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct EventTypeQuery {
    pub name: Option<String>,
    /// All of these must be there.
    pub labels: BTreeMap<String, String>,
    pub after: Option<Uuid>,
    pub limit: i64,
}

pub(super) const COLUMNS: &str = "id, tenant_id, name, description, labels, json_schema::text AS schema_text, config_version, create_time, update_time";

const TABLE: Table = Table { name: "event_types", columns: COLUMNS };

pub(super) fn read(row: &Row) -> Result<EventType, Error> {
    let Json(labels) = row.try_get("labels")?;
    Ok(EventType {
        id: EventTypeId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        labels,
        json_schema: row.try_get("schema_text")?,
        config_version: row.try_get("config_version")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
    })
}

/// Needs the configuration lock ([`super::config_writes::begin`]), as every write here.
pub async fn insert(client: &impl GenericClient, event_type: &EventType) -> Result<(), WriteError> {
    const SQL: &str = "
        INSERT INTO event_types (id, tenant_id, name, description, labels, json_schema, config_version,
                                 create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9)";
    client
        .execute(
            SQL,
            &[
                &event_type.id.0,
                &event_type.tenant_id.0,
                &event_type.name,
                &event_type.description,
                &Json(&event_type.labels),
                &event_type.json_schema,
                &event_type.config_version,
                &event_type.create_time,
                &event_type.update_time,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, "event_types_name"))?;
    Ok(())
}

/// Writes everything but id, tenant, name and creation.
pub async fn update(client: &impl GenericClient, event_type: &EventType) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE event_types
           SET description = $2, labels = $3, json_schema = $4::text::json, config_version = $5, update_time = $6
         WHERE id = $1 AND deleted_at IS NULL";
    client
        .execute(
            SQL,
            &[
                &event_type.id.0,
                &event_type.description,
                &Json(&event_type.labels),
                &event_type.json_schema,
                &event_type.config_version,
                &event_type.update_time,
            ],
        )
        .await?;
    Ok(())
}

pub async fn mark_deleted(
    client: &impl GenericClient,
    id: EventTypeId,
    config_version: i64,
) -> Result<(), Error> {
    TABLE.mark_deleted(client, id.0, config_version).await
}

/// With a scope, only a type of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: EventTypeId,
) -> Result<Option<EventType>, Error> {
    TABLE.find(client, scope, id.0).await?.as_ref().map(read).transpose()
}

pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EventTypeQuery,
) -> Result<Vec<EventType>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM event_types
          WHERE tenant_id = $1 AND deleted_at IS NULL
            AND ($2::uuid IS NULL OR id > $2) AND ($3::text IS NULL OR name = $3) AND labels @> $4
          ORDER BY id LIMIT $5"
    );
    let rows = client
        .query(&sql, &[&tenant.0, &query.after, &query.name, &Json(&query.labels), &query.limit])
        .await?;
    rows.iter().map(read).collect()
}

pub async fn count(client: &impl GenericClient, tenant: TenantId) -> Result<i64, Error> {
    TABLE.count(client, tenant).await
}

/// Bytes of all schemas of a tenant but one.
pub async fn schema_bytes(
    client: &impl GenericClient,
    tenant: TenantId,
    but: EventTypeId,
) -> Result<i64, Error> {
    const SQL: &str = "
        SELECT coalesce(sum(octet_length(json_schema::text)), 0)::bigint FROM event_types
         WHERE tenant_id = $1 AND id <> $2 AND deleted_at IS NULL";
    Ok(client.query_one(SQL, &[&tenant.0, &but.0]).await?.try_get(0)?)
}

/// Marks events that nobody gets because a strict catalog does not have their type.
pub async fn flag_unknown(client: &impl GenericClient, events: &[crate::id::EventId]) -> Result<(), Error> {
    const SQL: &str = "UPDATE events SET flag = 'unknown_type' WHERE id = ANY($1) AND id BETWEEN $2 AND $3";
    let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    if let (Some(least), Some(most)) = (ids.iter().min(), ids.iter().max()) {
        client.execute(SQL, &[&ids, least, most]).await?;
    }
    Ok(())
}
