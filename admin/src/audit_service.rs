//! `AuditService`: who did what.

use std::sync::Arc;

use bowline_core::store::audit_log::{self, AuditRow};
use bowline_proto::v1;
use bowline_proto::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::convert::timestamp;
use crate::fault::Fault;
use crate::page::{Listing, page_size};
use crate::validate::{Violations, filter};

pub(crate) struct Audits {
    context: Arc<AdminContext>,
}

impl Audits {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context }
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListAuditEntriesRequest,
    ) -> Result<v1::ListAuditEntriesResponse, Fault> {
        let tenant = call.tenant_or_all(&self.context, &request.tenant_id, request.all_tenants).await?;
        let listing = Listing::new("ListAuditEntries", tenant.unwrap_or(ALL), request.filter.as_ref());
        let mut violations = Violations::default();
        let query = filter::audit(&mut violations, &request.filter.unwrap_or_default());
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let after = listing.position(&request.page_token)?;
        let client = self.context.client().await?;
        let mut rows = audit_log::list(&client, tenant, &query, after, size + 1).await?;
        let next_page_token = listing.cut(&mut rows, size, |row| row.id);
        Ok(v1::ListAuditEntriesResponse { entries: rows.into_iter().map(entry).collect(), next_page_token })
    }
}

/// Stands for all tenants in a page token: no tenant has it.
pub(crate) const ALL: bowline_core::id::TenantId = bowline_core::id::TenantId(uuid::Uuid::nil());

fn entry(row: AuditRow) -> v1::AuditEntry {
    v1::AuditEntry {
        id: row.id.to_string(),
        tenant_id: row.tenant_id.map(|id| id.to_string()).unwrap_or_default(),
        actor: row.actor,
        action: row.action,
        resource: row.resource,
        request_id: row.request_id,
        call_id: row.call_id,
        outcome: row.outcome,
        create_time: Some(timestamp(row.time)),
    }
}

#[tonic::async_trait]
impl AuditService for Audits {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }
}
