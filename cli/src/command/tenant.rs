//! `bowline tenant`: whose data there is.

use std::collections::BTreeMap;

use bowline_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::paging::{self, Paging};
use super::{duration, key_value, mask, name, pairs, there};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form, Row};
use crate::view::{span, time};

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant; give its name or id to other commands with --tenant
    Create {
        /// Name, unique: a-z, 0-9 and dashes
        name: String,
        #[command(flatten)]
        fields: TenantFields,
    },
    /// Show one tenant
    Get {
        /// Name or id of the tenant
        #[arg(value_name = "TENANT_NAME")]
        which: String,
    },
    /// List tenants, oldest first
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Change what is given, and nothing else
    Update {
        /// Name or id of the tenant
        #[arg(value_name = "TENANT_NAME")]
        which: String,
        #[command(flatten)]
        fields: TenantFields,
        /// Keep its events for as long as the deployment keeps them
        #[arg(long, conflicts_with = "retention")]
        clear_retention: bool,
    },
    /// End a tenant that has neither sources nor endpoints; its keys are revoked
    Delete {
        /// Name or id of the tenant
        #[arg(value_name = "TENANT_NAME")]
        which: String,
    },
}

#[derive(Debug, Args)]
pub struct TenantFields {
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// A label; may be repeated. A change replaces all labels
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// How long its events are kept, such as 7days; default: as the deployment's
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    retention: Option<prost_types::Duration>,
    /// Whether only the event types of its catalog (`bowline event-type`) are for anybody: with another one a publish
    /// is refused, and an endpoint that asks for it; what a source receives with it is kept, flagged `unknown_type`
    /// and delivered to nobody; default: false
    #[arg(long, value_name = "true|false")]
    strict_event_catalog: Option<bool>,
}

impl TenantFields {
    /// Writes what was given; the names of the fields that were.
    fn apply(self, tenant: &mut v1::Tenant) -> Vec<&'static str> {
        let mut fields = Vec::new();
        if let Some(text) = self.display_name {
            tenant.display_name = text;
            fields.push("display_name");
        }
        if !self.labels.is_empty() {
            tenant.labels = self.labels.into_iter().collect();
            fields.push("labels");
        }
        if self.retention.is_some() {
            tenant.retention = self.retention;
            fields.push("retention");
        }
        if let Some(strict) = self.strict_event_catalog {
            tenant.strict_event_catalog = strict;
            fields.push("strict_event_catalog");
        }
        fields
    }
}

#[derive(Debug, Serialize)]
struct TenantView {
    id: String,
    name: String,
    display_name: String,
    labels: BTreeMap<String, String>,
    /// Empty: as the deployment's.
    retention: String,
    strict_event_catalog: bool,
    create_time: String,
    update_time: String,
    etag: String,
}

impl From<v1::Tenant> for TenantView {
    fn from(tenant: v1::Tenant) -> Self {
        Self {
            retention: span(tenant.retention.as_ref()),
            strict_event_catalog: tenant.strict_event_catalog,
            create_time: time(tenant.create_time.as_ref()),
            update_time: time(tenant.update_time.as_ref()),
            id: tenant.id,
            name: tenant.name,
            display_name: tenant.display_name,
            labels: tenant.labels,
            etag: tenant.etag,
        }
    }
}

impl Row for TenantView {
    const HEADINGS: &'static [&'static str] = &["NAME", "RETENTION", "ID", "DISPLAY NAME"];

    fn cells(&self) -> Vec<String> {
        [&self.name, &self.retention, &self.id, &self.display_name].map(Clone::clone).into()
    }
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: TenantCommand, admin: &Admin, form: Form) -> Result<(), Failure> {
    match command {
        TenantCommand::Create { name, fields } => {
            let mut tenant = v1::Tenant { name, ..v1::Tenant::default() };
            fields.apply(&mut tenant);
            let request = v1::CreateTenantRequest { tenant: Some(tenant) };
            detail(admin.tenants().create_tenant(request).await?.into_inner().tenant, form)
        }
        TenantCommand::Get { which } => detail(Some(name::tenant(admin, &which).await?), form),
        TenantCommand::List { paging } => {
            let listed = paging::collect(&paging, |page_size, page_token| {
                let request = v1::ListTenantsRequest { page_size, page_token, name: String::new() };
                async move {
                    let page = admin.tenants().list_tenants(request).await?.into_inner();
                    let tenants: Vec<TenantView> = page.tenants.into_iter().map(Into::into).collect();
                    Ok((tenants, page.next_page_token))
                }
            })
            .await?;
            paging::show(form, "tenants", &listed, None)
        }
        TenantCommand::Update { which, fields, clear_retention } => {
            let current = name::tenant(admin, &which).await?;
            let mut tenant = v1::Tenant { id: current.id, etag: current.etag, ..v1::Tenant::default() };
            let fields = fields.apply(&mut tenant);
            let update_mask = Some(mask::of(fields, clear_retention.then_some("retention"))?);
            let request = v1::UpdateTenantRequest { tenant: Some(tenant), update_mask };
            detail(admin.tenants().update_tenant(request).await?.into_inner().tenant, form)
        }
        TenantCommand::Delete { which } => {
            let tenant = name::tenant(admin, &which).await?;
            let request = v1::DeleteTenantRequest { id: tenant.id.clone(), etag: tenant.etag.clone() };
            admin.tenants().delete_tenant(request).await?;
            let tenant = TenantView::from(tenant);
            output::one(form, &tenant, &[("deleted", tenant.id.clone())])
        }
    }
}

fn detail(tenant: Option<v1::Tenant>, form: Form) -> Result<(), Failure> {
    let tenant = TenantView::from(there(tenant, "tenant")?);
    let lines = [
        ("name", tenant.name.clone()),
        ("id", tenant.id.clone()),
        ("display name", tenant.display_name.clone()),
        ("labels", pairs(&tenant.labels, "=")),
        ("retention", tenant.retention.clone()),
        ("strict catalog", tenant.strict_event_catalog.to_string()),
        ("created", tenant.create_time.clone()),
        ("updated", tenant.update_time.clone()),
        ("etag", tenant.etag.clone()),
    ];
    output::one(form, &tenant, &lines)
}
