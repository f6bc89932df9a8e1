//! `bowline audit`: who did what, and what was received.

use bowline_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::name;
use super::paging::{self, Paging, Window};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{Form, Row};
use crate::view::time;

/// The action of a receipt.
const RECEIVE_PAYLOAD: &str = "ReceivePayload";

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was done, refused or received, newest first
    List(Box<ListAudit>),
}

#[derive(Debug, Args)]
pub struct ListAudit {
    /// Only by this actor: bootstrap, or the id of a key
    #[arg(long, default_value = "", hide_default_value = true)]
    actor: String,
    /// Only this action, such as `CreateSource` or `secret.unseal.sign`
    #[arg(long, default_value = "", hide_default_value = true)]
    action: String,
    /// Only about this resource: its id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    resource: String,
    /// Only with this outcome: OK, or the name of a gRPC code such as `PERMISSION_DENIED`
    #[arg(long, default_value = "", hide_default_value = true)]
    outcome: String,
    /// Also what sources received: an entry `ReceivePayload` for each payload
    #[arg(long)]
    receipts: bool,
    /// Only what this source received: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SOURCE", conflicts_with_all = ["actor", "action", "all_tenants"])]
    source: String,
    /// Of all tenants, and what is of none
    #[arg(long)]
    all_tenants: bool,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Serialize)]
struct EntryView {
    id: String,
    tenant_id: String,
    actor: String,
    action: String,
    resource: String,
    request_id: String,
    call_id: String,
    outcome: String,
    create_time: String,
}

impl From<v1::AuditEntry> for EntryView {
    fn from(entry: v1::AuditEntry) -> Self {
        Self {
            create_time: time(entry.create_time.as_ref()),
            id: entry.id,
            tenant_id: entry.tenant_id,
            actor: entry.actor,
            action: entry.action,
            resource: entry.resource,
            request_id: entry.request_id,
            call_id: entry.call_id,
            outcome: entry.outcome,
        }
    }
}

impl Row for EntryView {
    const HEADINGS: &'static [&'static str] = &["TIME", "ACTOR", "ACTION", "RESOURCE", "OUTCOME"];

    fn cells(&self) -> Vec<String> {
        [&self.create_time, &self.actor, &self.action, &self.resource, &self.outcome].map(Clone::clone).into()
    }
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: AuditCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let AuditCommand::List(list) = command;
    let source = name::source_id(admin, tenant, &list.source).await?;
    let (actor, action) =
        if source.is_empty() { (list.actor, list.action) } else { (source, RECEIVE_PAYLOAD.to_owned()) };
    let filter = v1::AuditFilter {
        actor,
        action,
        receipts: list.receipts,
        resource: list.resource,
        outcome: list.outcome,
        start_time: list.window.start(),
        end_time: list.window.end(),
    };
    let listed = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListAuditEntriesRequest {
            tenant_id: if list.all_tenants { String::new() } else { tenant.to_owned() },
            page_size,
            page_token,
            filter: Some(filter.clone()),
            all_tenants: list.all_tenants,
        };
        async move {
            let page = admin.audit().list_audit_entries(request).await?.into_inner();
            let entries: Vec<EntryView> = page.entries.into_iter().map(Into::into).collect();
            Ok((entries, page.next_page_token))
        }
    })
    .await?;
    paging::show(form, "entries", &listed, Some(list.window))
}
