//! `AuditService`: who did what, and what was received.

use std::sync::Arc;

use bowline_core::id::TenantId;
use bowline_core::store::audit_log::{self, AuditQuery, AuditRow};
use bowline_core::store::receipts::{self, Of, Receipt, Receipts};
use bowline_proto::v1;
use bowline_proto::v1::audit_service_server::AuditService;
use deadpool_postgres::Object;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::AdminContext;
use crate::call::Call;
use crate::convert::timestamp;
use crate::fault::Fault;
use crate::page::{Listing, page_size};
use crate::validate::Violations;
use crate::validate::audit_filter::{self, Asked, OUTCOME_OK, RECEIVE_PAYLOAD, ReceiptQuery};

pub(crate) struct Audits {
    context: Arc<AdminContext>,
}

/// Which part of the list: so many, after this id.
#[derive(Debug, Clone, Copy)]
struct Part {
    tenant: Option<TenantId>,
    after: Option<Uuid>,
    limit: i64,
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
        let asked = audit_filter::read(&mut violations, &request.filter.unwrap_or_default());
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let part = Part { tenant, after: listing.position(&request.page_token)?, limit: size + 1 };
        let client = self.context.client().await?;
        let Asked { log, receipts } = asked;
        let log = match log {
            Some(query) => log_rows(&client, &query, part).await?,
            None => Vec::new(),
        };
        let receipts = match receipts {
            Some(query) => receipts_of(&client, query, part).await?,
            None => Receipts::default(),
        };
        let looked_to = receipts.looked_to.map(|id| id.0);
        let mut entries = merge(log, receipts);
        let mut next_page_token = listing.cut(&mut entries, size, |entry| entry.0);
        if let (true, Some(looked_to)) = (next_page_token.is_empty(), looked_to) {
            next_page_token = listing.token(&looked_to);
        }
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        Ok(v1::ListAuditEntriesResponse { entries, next_page_token })
    }
}

/// Stands for all tenants in a page token: no tenant has it.
pub(crate) const ALL: TenantId = TenantId(Uuid::nil());

async fn log_rows(client: &Object, query: &AuditQuery, part: Part) -> Result<Vec<AuditRow>, Fault> {
    Ok(audit_log::list(client, part.tenant, query, part.after, part.limit).await?)
}

async fn receipts_of(client: &Object, query: ReceiptQuery, part: Part) -> Result<Receipts, Fault> {
    let of = match (query.source, part.tenant) {
        // What another tenant's source received is read by nobody, nor counted.
        (Some(source), Some(tenant)) if !receipts::is_source_of(client, tenant, source).await? => {
            return Ok(Receipts::default());
        }
        (Some(source), _) => Of::Source(source),
        (None, Some(tenant)) => Of::Tenant(tenant),
        (None, None) => Of::All,
    };
    let mut range = query.range;
    range.until = part.after.map_or(range.until, |after| after.min(range.until));
    Ok(receipts::list(client, of, range, part.limit).await?)
}

/// Newest first, as far as both have been read.
fn merge(log: Vec<AuditRow>, receipts: Receipts) -> Vec<(Uuid, v1::AuditEntry)> {
    let looked_to = receipts.looked_to.map_or(Uuid::nil(), |id| id.0);
    let log = log.into_iter().map(|row| (row.id, entry(row)));
    let received = receipts.found.into_iter().map(|receipt| (receipt.event_id.0, receipt_entry(&receipt)));
    let mut entries: Vec<_> = log.chain(received).filter(|(id, _)| *id >= looked_to).collect();
    entries.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    entries
}

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

fn receipt_entry(receipt: &Receipt) -> v1::AuditEntry {
    v1::AuditEntry {
        id: receipt.event_id.0.to_string(),
        tenant_id: receipt.tenant_id.to_string(),
        actor: receipt.source_id.to_string(),
        action: RECEIVE_PAYLOAD.to_owned(),
        resource: receipt.event_id.to_string(),
        request_id: String::new(),
        call_id: String::new(),
        outcome: OUTCOME_OK.to_owned(),
        create_time: Some(timestamp(receipt.time)),
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
