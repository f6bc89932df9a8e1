//! Endpoints: their rows, their tombstones, and what waits for them.

use std::collections::BTreeMap;

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use super::resources::{Table, WriteError};
use crate::endpoint::{Endpoint, EndpointSpec, EndpointState};
use crate::id::{AttemptId, EndpointId, TenantId};

/// Which endpoints of a tenant, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct EndpointQuery {
    pub name: Option<String>,
    pub format: Option<String>,
    /// All of these must be there.
    pub labels: BTreeMap<String, String>,
    pub state: Option<EndpointState>,
    pub after: Option<Uuid>,
    pub limit: i64,
}

pub(super) const COLUMNS: &str = "id, tenant_id, name, display_name, labels, spec, state, disabled_reason, \
                       config_version, created_version, create_time, update_time";

const TABLE: Table = Table { name: "endpoints", columns: COLUMNS };
const NAME_INDEX: &str = "endpoints_name";

pub(super) fn read(row: &Row) -> Result<Endpoint, Error> {
    let Json(labels) = row.try_get("labels")?;
    let Json(spec): Json<EndpointSpec> = row.try_get("spec")?;
    Ok(Endpoint {
        id: EndpointId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        name: row.try_get("name")?,
        display_name: row.try_get("display_name")?,
        labels,
        spec,
        // A CHECK constraint allows no other word; a newer version's word is not sent to.
        state: EndpointState::parse(row.try_get("state")?).unwrap_or(EndpointState::Disabled),
        disabled_reason: row.try_get("disabled_reason")?,
        config_version: row.try_get("config_version")?,
        created_version: row.try_get("created_version")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
    })
}

/// Needs the configuration lock ([`super::config_writes::begin`]), as every write of configuration.
pub async fn insert(client: &impl GenericClient, endpoint: &Endpoint) -> Result<(), WriteError> {
    const SQL: &str = "
        INSERT INTO endpoints (id, tenant_id, name, display_name, labels, spec, state, disabled_reason,
                               config_version, created_version, create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    client
        .execute(
            SQL,
            &[
                &endpoint.id.0,
                &endpoint.tenant_id.0,
                &endpoint.name,
                &endpoint.display_name,
                &Json(&endpoint.labels),
                &Json(&endpoint.spec),
                &endpoint.state.as_str(),
                &endpoint.disabled_reason,
                &endpoint.config_version,
                &endpoint.created_version,
                &endpoint.create_time,
                &endpoint.update_time,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, NAME_INDEX))?;
    Ok(())
}

/// Writes everything but id, tenant and creation.
pub async fn update(client: &impl GenericClient, endpoint: &Endpoint) -> Result<(), WriteError> {
    const SQL: &str = "
        UPDATE endpoints
           SET name = $2, display_name = $3, labels = $4, spec = $5, state = $6, disabled_reason = $7,
               config_version = $8, update_time = $9
         WHERE id = $1 AND deleted_at IS NULL";
    client
        .execute(
            SQL,
            &[
                &endpoint.id.0,
                &endpoint.name,
                &endpoint.display_name,
                &Json(&endpoint.labels),
                &Json(&endpoint.spec),
                &endpoint.state.as_str(),
                &endpoint.disabled_reason,
                &endpoint.config_version,
                &endpoint.update_time,
            ],
        )
        .await
        .map_err(|error| WriteError::of(error, NAME_INDEX))?;
    Ok(())
}

/// Raises the version, as when a secret changed.
pub async fn touch(client: &impl GenericClient, id: EndpointId, config_version: i64) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE endpoints SET config_version = $2, update_time = now() WHERE id = $1 AND deleted_at IS NULL";
    client.execute(SQL, &[&id.0, &config_version]).await?;
    Ok(())
}

pub async fn mark_deleted(
    client: &impl GenericClient,
    id: EndpointId,
    config_version: i64,
) -> Result<(), Error> {
    TABLE.mark_deleted(client, id.0, config_version).await
}

/// With a scope, only an endpoint of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: EndpointId,
) -> Result<Option<Endpoint>, Error> {
    TABLE.find(client, scope, id.0).await?.as_ref().map(read).transpose()
}

pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &EndpointQuery,
) -> Result<Vec<Endpoint>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM endpoints
          WHERE tenant_id = $1 AND deleted_at IS NULL
            AND ($2::uuid IS NULL OR id > $2)
            AND ($3::text IS NULL OR name = $3)
            AND ($4::text IS NULL OR spec->>'format' = $4)
            AND labels @> $5
            AND ($6::text IS NULL OR state = $6)
          ORDER BY id LIMIT $7"
    );
    let rows = client
        .query(
            &sql,
            &[
                &tenant.0,
                &query.after,
                &query.name,
                &query.format,
                &Json(&query.labels),
                &query.state.map(EndpointState::as_str),
                &query.limit,
            ],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub async fn count(client: &impl GenericClient, tenant: TenantId) -> Result<i64, Error> {
    TABLE.count(client, tenant).await
}

/// Forgets what counts towards disabling. That it had been disabled is remembered until its next success.
pub async fn forget_failures(client: &impl GenericClient, id: EndpointId) -> Result<(), Error> {
    const FORGET: &str = "DELETE FROM endpoint_health WHERE endpoint_id = $1 AND NOT told";
    const BEGIN_ANEW: &str = "
        UPDATE endpoint_health SET failures = 0, failing_since = NULL WHERE endpoint_id = $1";
    client.execute(FORGET, &[&id.0]).await?;
    client.execute(BEGIN_ANEW, &[&id.0]).await?;
    Ok(())
}

/// Makes up to `limit` of the deliveries that wait for an endpoint due now; returns how many.
pub async fn make_due(client: &impl GenericClient, id: EndpointId, limit: i64) -> Result<i64, Error> {
    const SQL: &str = "
        UPDATE queue SET due_at = now()
         WHERE (endpoint_id, event_id, run) IN (
               SELECT endpoint_id, event_id, run FROM queue
                WHERE endpoint_id = $1 AND owner IS NULL AND due_at > now()
                ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    Ok(client.execute(SQL, &[&id.0, &limit]).await? as i64)
}

/// Ends up to `limit` of the deliveries that wait for a deleted endpoint, each with a row in
/// `attempts`; returns how many. A request that is out meanwhile is recorded as it ends: a success
/// counts, a failure changes nothing.
pub async fn cancel_waiting(client: &impl GenericClient, id: EndpointId, limit: i64) -> Result<i64, Error> {
    const TAKE: &str = "
        DELETE FROM queue
         WHERE (endpoint_id, event_id, run) IN (
               SELECT endpoint_id, event_id, run FROM queue
                WHERE endpoint_id = $1 ORDER BY event_id LIMIT $2 FOR UPDATE SKIP LOCKED)
        RETURNING tenant_id, event_id, run, attempt";
    const LOG: &str = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at)
        SELECT event_id, $1, run, attempt_id, tenant_id, attempt, 'cancelled', 'cancelled', now()
          FROM unnest($2::uuid[], $3::int[], $4::uuid[], $5::uuid[], $6::int[])
               AS taken (event_id, run, attempt_id, tenant_id, attempt)
         ORDER BY event_id, run
        ON CONFLICT DO NOTHING";
    let rows = client.query(TAKE, &[&id.0, &limit]).await?;
    let (mut events, mut runs, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tenants, mut numbers) = (Vec::new(), Vec::new());
    for row in &rows {
        events.push(row.try_get::<_, Uuid>("event_id")?);
        runs.push(row.try_get::<_, i32>("run")?);
        attempts.push(AttemptId::new().0);
        tenants.push(row.try_get::<_, Uuid>("tenant_id")?);
        numbers.push(row.try_get::<_, i32>("attempt")?);
    }
    client.execute(LOG, &[&id.0, &events, &runs, &attempts, &tenants, &numbers]).await?;
    Ok(rows.len() as i64)
}
