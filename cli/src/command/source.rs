//! `bowline source`: where inbound webhooks come in.

use std::collections::BTreeMap;

use bowline_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::paging::{self, Limit};
use super::{duration, key_value};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::secret_input::SecretInput;
use crate::view::SourceView;

#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Make a source; prints its URL for the provider and, once, its secret
    #[command(after_help = "Examples:
  bowline source create payments --preset stripe --secret-env STRIPE_SECRET
  bowline source create pushes --preset github --path /webhooks/github")]
    Create(Box<CreateSource>),
    /// List the sources of the tenant, oldest first
    List(ListSources),
}

#[derive(Debug, Args)]
pub struct CreateSource {
    /// Name, unique in the tenant: a-z, 0-9 and dashes
    name: String,
    /// How the provider signs: standard, github, stripe, shopify, slack, chimpbase, rkt, chatbase,
    /// connectgain, chatblocks, or custom
    #[arg(long, default_value = "standard")]
    preset: String,
    /// Path on the inbound server, such as /webhooks/stripe; `/in/<id>` works besides
    #[arg(long, default_value = "", hide_default_value = true)]
    path: String,
    /// Accept requests without verifying them (preset custom)
    #[arg(long)]
    insecure: bool,
    /// One event type for all, in place of the preset's
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    event_type: String,
    /// One channel for all, in place of the preset's
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// How long a delivery id is remembered, such as 24h
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    dedup_ttl: Option<prost_types::Duration>,
    /// Largest body accepted; default: the preset's limit
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "BYTES")]
    body_limit_bytes: i64,
    /// A network such as 192.0.2.0/24 whose senders are heard, others are not; may be repeated
    #[arg(long = "allow-ip", value_name = "NETWORK")]
    ip_allow_list: Vec<String>,
    /// Events a second that are accepted, over all replicas; default: as many as come
    #[arg(long, default_value_t = 0.0, hide_default_value = true, value_name = "PER_SECOND")]
    rate: f64,
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    display_name: String,
    /// A label; may be repeated
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Makes the call safe to repeat for 24 h
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    request_id: String,
    #[command(flatten)]
    secret: SecretInput,
}

#[derive(Debug, Args)]
pub struct ListSources {
    /// Only this name
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Only this preset
    #[arg(long, default_value = "", hide_default_value = true)]
    preset: String,
    /// Only those with this label; may be repeated
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Serialize)]
struct Created {
    source: SourceView,
    /// Shown this once; empty where there is none.
    secret: String,
}

/// # Errors
/// What the admin API refuses, or a secret that cannot be read.
pub async fn run(command: SourceCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        SourceCommand::Create(create) => make(*create, admin, tenant, form).await,
        SourceCommand::List(list) => {
            let filter = v1::SourceFilter {
                name: list.name,
                preset: list.preset,
                labels: list.labels.into_iter().collect(),
                enabled: None,
            };
            output::list(form, "sources", &find(admin, tenant, filter, list.limit).await?)
        }
    }
}

/// The sources a filter leaves.
pub(super) async fn find(
    admin: &Admin,
    tenant: &str,
    filter: v1::SourceFilter,
    limit: Limit,
) -> Result<Vec<SourceView>, Failure> {
    paging::collect(limit, |page_size, page_token| {
        let request = v1::ListSourcesRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.sources().list_sources(request).await?.into_inner();
            Ok((page.sources.into_iter().map(Into::into).collect(), page.next_page_token))
        }
    })
    .await
}

async fn make(create: CreateSource, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let request = v1::CreateSourceRequest {
        tenant_id: tenant.to_owned(),
        secret: create.secret.read()?.unwrap_or_default(),
        request_id: create.request_id,
        source: Some(v1::Source {
            name: create.name,
            display_name: create.display_name,
            labels: create.labels.into_iter().collect::<BTreeMap<_, _>>(),
            preset: create.preset,
            insecure: create.insecure,
            path: create.path,
            event_type: create.event_type,
            channel: create.channel,
            dedup_ttl: create.dedup_ttl,
            body_limit_bytes: create.body_limit_bytes,
            ip_allow_list: create.ip_allow_list,
            rate: create.rate,
            ..v1::Source::default()
        }),
    };
    let response = admin.sources().create_source(request).await?.into_inner();
    let source = response.source.ok_or_else(|| Failure::Answer("the answer holds no source".to_owned()))?;
    let created = Created { source: source.into(), secret: response.secret };
    let lines = [
        ("name", created.source.name.clone()),
        ("id", created.source.id.clone()),
        ("preset", created.source.preset.clone()),
        ("receive_url", created.source.receive_url.clone()),
        ("secret", created.secret.clone()),
        ("", if created.secret.is_empty() { String::new() } else { super::SHOWN_ONCE.to_owned() }),
    ];
    output::one(form, &created, &lines)
}
