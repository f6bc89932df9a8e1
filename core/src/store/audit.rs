//! What callers have done: the audit log, and the creates that may come twice.

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use crate::id::TenantId;

/// One write of one caller.
#[derive(Debug, Clone, Copy)]
pub struct AuditEntry<'a> {
    pub tenant_id: Option<TenantId>,
    /// `bootstrap`, or the id of an API key.
    pub actor: &'a str,
    /// Name of the method.
    pub action: &'a str,
    /// Id of what it was about, where that is known.
    pub resource: &'a str,
    /// As the caller gave it; empty for none.
    pub request_id: &'a str,
    /// As Bowline's own log has it.
    pub call_id: &'a str,
    /// `OK`, or the name of the gRPC code.
    pub outcome: &'a str,
}

pub async fn insert(client: &impl GenericClient, entry: &AuditEntry<'_>) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO audit_log (id, tenant_id, actor, action, resource, request_id, call_id, outcome, create_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())";
    client
        .execute(
            SQL,
            &[
                &Uuid::now_v7(),
                &entry.tenant_id.map(|tenant| tenant.0),
                &entry.actor,
                &entry.action,
                &entry.resource,
                &entry.request_id,
                &entry.call_id,
                &entry.outcome,
            ],
        )
        .await?;
    Ok(())
}

/// A create that its caller named.
#[derive(Debug, Clone, Copy)]
pub struct RequestKey<'a> {
    pub tenant_id: TenantId,
    pub method: &'a str,
    pub id: &'a str,
}

/// What a create made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierRequest {
    /// SHA-256 of what was asked for.
    pub fingerprint: Vec<u8>,
    pub resource: Uuid,
}

/// Within the configuration lock nobody else keeps the same key meanwhile.
pub async fn find_request(
    client: &impl GenericClient,
    key: &RequestKey<'_>,
) -> Result<Option<EarlierRequest>, Error> {
    const SQL: &str = "
        SELECT fingerprint, resource_id FROM request_ids
         WHERE tenant_id = $1 AND method = $2 AND request_id = $3 AND expires_at > now()";
    let Some(row) = client.query_opt(SQL, &[&key.tenant_id.0, &key.method, &key.id]).await? else {
        return Ok(None);
    };
    Ok(Some(EarlierRequest {
        fingerprint: row.try_get("fingerprint")?,
        resource: row.try_get("resource_id")?,
    }))
}

/// Keeps what a create made, for 24 h.
pub async fn keep_request(
    client: &impl GenericClient,
    key: &RequestKey<'_>,
    fingerprint: &[u8; 32],
    resource: Uuid,
) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO request_ids (tenant_id, method, request_id, fingerprint, resource_id, expires_at)
        VALUES ($1, $2, $3, $4, $5, now() + interval '24 hours')
        ON CONFLICT (tenant_id, method, request_id)
        DO UPDATE SET fingerprint = EXCLUDED.fingerprint, resource_id = EXCLUDED.resource_id,
                      expires_at = EXCLUDED.expires_at";
    client
        .execute(SQL, &[&key.tenant_id.0, &key.method, &key.id, &fingerprint.as_slice(), &resource])
        .await?;
    Ok(())
}
