//! Bindings: their rows, and the data that is kept for each.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::payloads::Horizon;
use super::resources::{Table, WriteError};
use super::{Connection, Error};
use crate::binding::{Binding, BindingSpec};
use crate::id::{BindingId, SourceId, TenantId};

/// Payloads of a source that are compared with what its bindings show; more are late at once only if
/// they were committed behind as many newer ones.
const LOOKED_AT: u32 = 32;

/// Which bindings of a tenant, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct BindingQuery {
    pub name: Option<String>,
    pub source_id: Option<SourceId>,
    /// All of these must be there.
    pub labels: BTreeMap<String, String>,
    pub after: Option<Uuid>,
    pub limit: i64,
}

/// The data as it was last made.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// A JSON object.
    pub data: Vec<u8>,
    pub error: String,
    pub revision: i64,
    pub refreshed_at: DateTime<Utc>,
}

/// What those who watch are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub config_version: i64,
    pub revision: i64,
    pub stale: bool,
}

/// A binding that was made, changed or deleted.
#[derive(Debug, Clone)]
pub struct Change {
    pub id: BindingId,
    pub tenant_id: TenantId,
    pub source_id: SourceId,
    pub config_version: i64,
    pub deleted: bool,
}

const COLUMNS: &str = "id, tenant_id, source_id, name, display_name, labels, spec, config_version, \
                       create_time, update_time, \
                       NOT EXISTS (SELECT 1 FROM sources AS s
                                    WHERE s.id = bindings.source_id AND s.deleted_at IS NULL) AS stale";
const TABLE: Table = Table { name: "bindings", columns: COLUMNS };
const NAME_INDEX: &str = "bindings_name";

fn read(row: &Row) -> Result<Binding, Error> {
    let Json(labels) = row.try_get("labels")?;
    let Json(spec): Json<BindingSpec> = row.try_get("spec")?;
    Ok(Binding {
        id: BindingId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        source_id: SourceId(row.try_get("source_id")?),
        name: row.try_get("name")?,
        display_name: row.try_get("display_name")?,
        labels,
        spec,
        config_version: row.try_get("config_version")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
        stale: row.try_get("stale")?,
    })
}

/// With a row for its data, as yet without any.
pub async fn insert(client: &impl GenericClient, binding: &Binding) -> Result<(), WriteError> {
    const SQL: &str = "
        WITH kept AS (
            INSERT INTO binding_results (binding_id, data, error, revision, begun_at, refreshed_at, seen_tx)
            VALUES ($1, '{}', '', 0, '-infinity', now(), '0'))
        INSERT INTO bindings (id, tenant_id, source_id, name, display_name, labels, spec, config_version,
                              create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    client
        .execute(
            SQL,
            &[
                &binding.id.0,
                &binding.tenant_id.0,
                &binding.source_id.0,
                &binding.name,
                &binding.display_name,
                &Json(&binding.labels),
                &Json(&binding.spec),
                &binding.config_version,
                &binding.create_time,
                &binding.update_time,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, NAME_INDEX))?;
    Ok(())
}

/// Writes everything but id, tenant, source and creation.
pub async fn update(client: &impl GenericClient, binding: &Binding) -> Result<(), WriteError> {
    const SQL: &str = "
        UPDATE bindings
           SET name = $2, display_name = $3, labels = $4, spec = $5, config_version = $6, update_time = $7
         WHERE id = $1 AND deleted_at IS NULL";
    client
        .execute(
            SQL,
            &[
                &binding.id.0,
                &binding.name,
                &binding.display_name,
                &Json(&binding.labels),
                &Json(&binding.spec),
                &binding.config_version,
                &binding.update_time,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, NAME_INDEX))?;
    Ok(())
}

/// Leaves a tombstone; the data goes. Needs a transaction.
pub async fn mark_deleted(
    client: &impl GenericClient,
    id: BindingId,
    config_version: i64,
) -> Result<(), Error> {
    client.execute("DELETE FROM binding_results WHERE binding_id = $1", &[&id.0]).await?;
    TABLE.mark_deleted(client, id.0, config_version).await
}

/// With a scope, only a binding of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: BindingId,
) -> Result<Option<Binding>, Error> {
    TABLE.find(client, scope, id.0).await?.as_ref().map(read).transpose()
}

pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &BindingQuery,
) -> Result<Vec<Binding>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM bindings
          WHERE tenant_id = $1 AND deleted_at IS NULL
            AND ($2::uuid IS NULL OR id > $2)
            AND ($3::text IS NULL OR name = $3)
            AND ($4::uuid IS NULL OR source_id = $4)
            AND labels @> $5
          ORDER BY id LIMIT $6"
    );
    let source = query.source_id.map(|source| source.0);
    let rows = client
        .query(&sql, &[&tenant.0, &query.after, &query.name, &source, &Json(&query.labels), &query.limit])
        .await?;
    rows.iter().map(read).collect()
}

pub async fn count(client: &impl GenericClient, tenant: TenantId) -> Result<i64, Error> {
    TABLE.count(client, tenant).await
}

/// The data of a binding that is there.
pub async fn kept(client: &impl GenericClient, id: BindingId) -> Result<Option<Kept>, Error> {
    const SQL: &str = "SELECT data, error, revision, refreshed_at FROM binding_results WHERE binding_id = $1";
    let row = client.query_opt(SQL, &[&id.0]).await?;
    row.map(|row| {
        Ok(Kept {
            data: row.try_get(0)?,
            error: row.try_get(1)?,
            revision: row.try_get(2)?,
            refreshed_at: row.try_get(3)?,
        })
    })
    .transpose()
}

/// The states of those that are there.
pub async fn states(
    client: &impl GenericClient,
    ids: &[BindingId],
) -> Result<HashMap<BindingId, State>, Error> {
    const SQL: &str = "
        SELECT b.id, b.config_version, r.revision, s.id IS NULL AS stale
          FROM bindings b JOIN binding_results r ON r.binding_id = b.id
          LEFT JOIN sources s ON s.id = b.source_id AND s.deleted_at IS NULL
         WHERE b.id = ANY($1) AND b.deleted_at IS NULL";
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = client.query(SQL, &[&ids]).await?;
    rows.iter()
        .map(|row| {
            let (config_version, revision, stale) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            Ok((BindingId(row.try_get(0)?), State { config_version, revision, stale }))
        })
        .collect()
}

/// What was written after that version, in the order of versions.
pub async fn changed(client: &Connection, after: i64) -> Result<Vec<Change>, Error> {
    const SQL: &str = "
        SELECT id, tenant_id, source_id, config_version, deleted_at IS NOT NULL FROM bindings
         WHERE config_version > $1 ORDER BY config_version";
    let statement = client.prepare_cached(SQL).await?;
    let rows = client.query(&statement, &[&after]).await?;
    rows.iter()
        .map(|row| {
            Ok(Change {
                id: BindingId(row.try_get(0)?),
                tenant_id: TenantId(row.try_get(1)?),
                source_id: SourceId(row.try_get(2)?),
                config_version: row.try_get(3)?,
                deleted: row.try_get(4)?,
            })
        })
        .collect()
}

/// Those whose source has a payload that their data may not show.
pub async fn behind(client: &Connection) -> Result<Vec<(TenantId, BindingId)>, Error> {
    let sql = format!(
        "SELECT b.tenant_id, b.id FROM bindings b
           JOIN sources s ON s.id = b.source_id AND s.deleted_at IS NULL
           JOIN binding_results r ON r.binding_id = b.id
          WHERE b.deleted_at IS NULL
            AND EXISTS (SELECT 1 FROM (SELECT tx FROM events WHERE source_id = b.source_id
                                        ORDER BY id DESC LIMIT {LOOKED_AT}) AS newest
                         WHERE newest.tx >= r.seen_tx)"
    );
    let statement = client.prepare_cached(&sql).await?;
    let rows = client.query(&statement, &[]).await?;
    rows.iter().map(|row| Ok((TenantId(row.try_get(0)?), BindingId(row.try_get(1)?)))).collect()
}

/// Takes the turn to refresh, unless one was taken less than `pace` ago.
pub async fn begin_refresh(client: &Connection, id: BindingId, pace: Duration) -> Result<bool, Error> {
    const SQL: &str = "
        UPDATE binding_results SET begun_at = clock_timestamp()
         WHERE binding_id = $1 AND begun_at <= clock_timestamp() - $2::float8 * interval '1 second'";
    let statement = client.prepare_cached(SQL).await?;
    Ok(client.execute(&statement, &[&id.0, &pace.as_secs_f64()]).await? > 0)
}

/// Keeps what an evaluation has brought, unless the binding was changed since or another evaluation
/// saw more. Whether there is something new to tell.
pub async fn keep(
    client: &Connection,
    binding: &Binding,
    data: Option<&[u8]>,
    error: &str,
    seen: &Horizon,
) -> Result<bool, Error> {
    const SQL: &str = "
        WITH before AS (
            SELECT r.binding_id, r.revision FROM binding_results r
              JOIN bindings b ON b.id = r.binding_id AND b.config_version = $2 AND b.deleted_at IS NULL
             WHERE r.binding_id = $1 AND r.seen_tx <= $5::text::xid8
               FOR UPDATE OF r)
        UPDATE binding_results r
           SET data = coalesce($3, r.data), error = $4, seen_tx = $5::text::xid8, refreshed_at = now(),
               revision = r.revision + CASE WHEN r.data IS DISTINCT FROM coalesce($3, r.data)
                                              OR r.error <> $4 OR r.revision = 0 THEN 1 ELSE 0 END
          FROM before WHERE r.binding_id = before.binding_id
        RETURNING r.revision <> before.revision";
    let statement = client.prepare_cached(SQL).await?;
    let row = client
        .query_opt(&statement, &[&binding.id.0, &binding.config_version, &data, &error, &seen.as_str()])
        .await?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}
