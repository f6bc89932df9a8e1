//! Operations: who works on them, and how far they have come.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Error;
use crate::id::{OperationId, ReplicaId, TenantId};
use crate::operation::{Operation, OperationState, Progress, Request};

const COLUMNS: &str = "id, tenant_id, state, request, progress, rate_per_second, error, create_time, \
                       update_time, end_time";

fn read(row: &Row) -> Result<Operation, Error> {
    let unreadable = |problem: String| Error::Row { table: "operations", problem };
    let state: &str = row.try_get("state")?;
    let request: serde_json::Value = row.try_get("request")?;
    let progress: serde_json::Value = row.try_get("progress")?;
    Ok(Operation {
        id: OperationId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        state: OperationState::parse(state).ok_or_else(|| unreadable(format!("the state {state}")))?,
        request: serde_json::from_value(request).map_err(|error| unreadable(error.to_string()))?,
        progress: serde_json::from_value(progress).map_err(|error| unreadable(error.to_string()))?,
        rate_per_second: row.try_get("rate_per_second")?,
        error: row.try_get("error")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
        end_time: row.try_get("end_time")?,
    })
}

pub async fn insert(
    client: &impl GenericClient,
    id: OperationId,
    tenant: TenantId,
    request: &Request,
    rate_per_second: i32,
) -> Result<Operation, Error> {
    let sql = format!(
        "INSERT INTO operations (id, tenant_id, kind, state, request, rate_per_second)
         VALUES ($1, $2, $3, 'pending', $4, $5) RETURNING {COLUMNS}"
    );
    let row = client
        .query_one(&sql, &[&id.0, &tenant.0, &request.work.kind(), &Json(request), &rate_per_second])
        .await?;
    read(&row)
}

/// With a scope, only an operation of that tenant.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    id: OperationId,
) -> Result<Option<Operation>, Error> {
    let sql =
        format!("SELECT {COLUMNS} FROM operations WHERE id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)");
    let row = client.query_opt(&sql, &[&id.0, &scope.map(|tenant| tenant.0)]).await?;
    row.as_ref().map(read).transpose()
}

/// Newest first, from the one after `after` on.
pub async fn list(
    client: &impl GenericClient,
    tenant: TenantId,
    state: Option<OperationState>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Operation>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM operations
          WHERE tenant_id = $1 AND id < $2 AND ($3::text IS NULL OR state = $3)
          ORDER BY id DESC LIMIT $4"
    );
    let before = after.unwrap_or(Uuid::max());
    let rows = client.query(&sql, &[&tenant.0, &before, &state.map(OperationState::as_str), &limit]).await?;
    rows.iter().map(read).collect()
}

/// Waits for the step that is under way, then ends the operation; returns whether it was open.
pub async fn cancel(client: &impl GenericClient, id: OperationId) -> Result<bool, Error> {
    const SQL: &str = "
        UPDATE operations SET state = 'cancelled', owner = NULL, update_time = now(), end_time = now()
         WHERE id = $1 AND state IN ('pending', 'running')";
    Ok(client.execute(SQL, &[&id.0]).await? > 0)
}

/// Takes up to `limit` open operations that no live replica works on: tenants take turns, the oldest of each
/// first, and none has more than `of_tenant_max` with this owner. What is the owner's and not `in_hand` was left by work
/// that broke off, or claimed without an answer: that is free too.
pub async fn claim(
    client: &impl GenericClient,
    owner: ReplicaId,
    in_hand: &[OperationId],
    limit: i64,
    of_tenant_max: i64,
) -> Result<Vec<OperationId>, Error> {
    const SQL: &str = "
        WITH open AS MATERIALIZED (
            SELECT id, tenant_id, owner,
                   owner IS NULL OR (owner = $1 AND id <> ALL($4)) OR NOT EXISTS (
                       SELECT 1 FROM replicas AS r WHERE r.id = o.owner AND r.dead_at IS NULL) AS is_free
              FROM operations AS o WHERE state IN ('pending', 'running')
        ),
        ranked AS (
            SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY id)
                       + (SELECT count(*) FROM open AS busy
                           WHERE busy.tenant_id = open.tenant_id AND busy.owner = $1 AND NOT busy.is_free) AS place
              FROM open WHERE is_free
        )
        UPDATE operations AS o SET owner = $1, state = 'running', update_time = now()
         WHERE o.id = ANY(ARRAY(
               SELECT o.id FROM operations AS o JOIN ranked USING (id)
                WHERE ranked.place <= $3 AND o.state IN ('pending', 'running')
                  AND (o.owner IS NULL OR (o.owner = $1 AND o.id <> ALL($4)) OR NOT EXISTS (
                       SELECT 1 FROM replicas AS r WHERE r.id = o.owner AND r.dead_at IS NULL))
                ORDER BY ranked.place, o.id LIMIT $2 FOR UPDATE OF o SKIP LOCKED))
        RETURNING o.id";
    let in_hand: Vec<Uuid> = in_hand.iter().map(|id| id.0).collect();
    let rows = client.query(SQL, &[&owner.0, &limit, &of_tenant_max, &in_hand]).await?;
    rows.iter().map(|row| Ok(OperationId(row.try_get(0)?))).collect()
}

/// For one step: `None` where it is not ours any more, or was ended.
pub async fn lock(
    client: &impl GenericClient,
    owner: ReplicaId,
    id: OperationId,
) -> Result<Option<Operation>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM operations
          WHERE id = $1 AND owner = $2 AND state = 'running'
            AND EXISTS (SELECT 1 FROM replicas WHERE replicas.id = $2 AND dead_at IS NULL)
            FOR UPDATE"
    );
    let row = client.query_opt(&sql, &[&id.0, &owner.0]).await?;
    row.as_ref().map(read).transpose()
}

/// Keeps how far a locked operation has come, in the transaction of the step itself.
pub async fn advance(
    client: &impl GenericClient,
    id: OperationId,
    progress: &Progress,
    state: OperationState,
) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE operations
           SET progress = $2, state = $3, update_time = now(),
               end_time = CASE WHEN $3 = 'running' THEN NULL ELSE now() END,
               owner = CASE WHEN $3 = 'running' THEN owner END
         WHERE id = $1";
    client.execute(SQL, &[&id.0, &Json(progress), &state.as_str()]).await?;
    Ok(())
}

/// Ends an operation that cannot go on.
pub async fn fail(
    client: &impl GenericClient,
    owner: ReplicaId,
    id: OperationId,
    error: &str,
) -> Result<(), Error> {
    const SQL: &str = "
        UPDATE operations SET state = 'failed', error = $3, owner = NULL, update_time = now(), end_time = now()
         WHERE id = $1 AND owner = $2 AND state = 'running'";
    client.execute(SQL, &[&id.0, &owner.0, &error]).await?;
    Ok(())
}
