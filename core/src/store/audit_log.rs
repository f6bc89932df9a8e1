//! Reads the audit log.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use super::events::IdRange;
use crate::id::TenantId;

/// What a list is narrowed by.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub resource: Option<String>,
    pub outcome: Option<String>,
    pub range: IdRange,
}

#[derive(Debug, Clone)]
pub struct AuditRow {
    pub id: Uuid,
    pub tenant_id: Option<TenantId>,
    pub actor: String,
    pub action: String,
    pub resource: String,
    pub request_id: String,
    pub call_id: String,
    pub outcome: String,
    pub time: DateTime<Utc>,
}

/// Newest first, from the one after `after` on; without a tenant those of all, and of none.
pub async fn list(
    client: &impl GenericClient,
    tenant: Option<TenantId>,
    query: &AuditQuery,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<AuditRow>, Error> {
    // Each call is planned with its values: what is not asked for is folded away.
    const SQL: &str = "
        SELECT id, tenant_id, actor, action, resource, request_id, call_id, outcome, create_time FROM audit_log
         WHERE ($1::uuid IS NULL OR tenant_id = $1) AND id >= $2 AND id < $3
           AND ($4::text IS NULL OR actor = $4) AND ($5::text IS NULL OR action = $5)
           AND ($6::text IS NULL OR resource = $6) AND ($7::text IS NULL OR outcome = $7)
         ORDER BY id DESC LIMIT $8";
    let until = after.map_or(query.range.until, |after| after.min(query.range.until));
    let rows = client
        .query(
            SQL,
            &[
                &tenant.map(|tenant| tenant.0),
                &query.range.from,
                &until,
                &query.actor,
                &query.action,
                &query.resource,
                &query.outcome,
                &limit,
            ],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AuditRow {
                id: row.try_get("id")?,
                tenant_id: row.try_get::<_, Option<Uuid>>("tenant_id")?.map(TenantId),
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                resource: row.try_get("resource")?,
                request_id: row.try_get("request_id")?,
                call_id: row.try_get("call_id")?,
                outcome: row.try_get("outcome")?,
                time: row.try_get("create_time")?,
            })
        })
        .collect()
}
