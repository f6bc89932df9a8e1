//! `bowline source`: where inbound webhooks come in.

mod fields;
mod secret;

use bowline_core::preset;
use bowline_proto::v1;
use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde::Serialize;

use super::paging::{self, Listed, Paging};
use super::{key_value, mask, name, pairs, shown_once, there};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::secret_input::{NamedSecretInput, SecretInput};
use crate::view::SourceView;
use fields::{Clear, SourceFields};

#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Make a source; prints its URL for the provider and, once, its secret
    #[command(after_help = CREATE_EXAMPLES, after_long_help = create_help())]
    Create(Box<CreateSource>),
    /// Show one source
    Get(OneSource),
    /// List the sources of the tenant, oldest first
    List(ListSources),
    /// Change what is given, and nothing else
    #[command(after_help = "Examples:
  bowline source update pushes --path /webhooks/github --dedup-ttl 72h
  bowline source update pushes --clear path")]
    Update(Box<UpdateSource>),
    /// Accept webhooks again
    Enable(OneSource),
    /// Answer 404 from now on; nothing that was accepted is lost
    Disable(OneSource),
    /// End a source: its deliveries finish, new webhooks get 404
    Delete(DeleteSource),
    /// Give a source a new secret, generated or as the provider issued it; prints it once
    #[command(after_help = "Examples:
  bowline source rotate-secret payments --secret-stdin --overlap 24h < new.secret
  bowline source rotate-secret pushes")]
    RotateSecret(secret::RotateSecret),
    /// Take a secret that was issued elsewhere, in place of the one there is
    #[command(after_help = "Examples:
  bowline source set-secret payments --secret-env STRIPE_SECRET --overlap 24h
  bowline source set-secret pages --name verify_token --secret-file verify.token
  bowline source set-secret reports --username acme --secret-stdin < password")]
    SetSecret(secret::SetSecret),
}

const CREATE_EXAMPLES: &str = "Examples:
  bowline source create payments --preset stripe --secret-env STRIPE_SECRET
  bowline source create pushes --preset github --path /webhooks/github
  bowline source create sales --preset paypal --parameter webhook_id=1JE4291016473214C
  bowline source create ours --scheme ours.toml --secret-file ours.secret";

/// The examples, and what presets ask for beside a secret.
fn create_help() -> String {
    use std::fmt::Write as _;

    let mut text = format!("{CREATE_EXAMPLES}\n\nParameters of presets (those with * are needed):\n");
    for preset in preset::all() {
        let parameters = &preset.description().parameters;
        let mark = |needed| if needed { "*" } else { "" };
        let named: Vec<String> = parameters
            .iter()
            .map(|(name, parameter)| format!("{name}{}", mark(parameter.default.is_none())))
            .collect();
        if !named.is_empty() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:20} {}", preset.name(), named.join(", "));
        }
    }
    text
}

#[derive(Debug, Args)]
pub struct CreateSource {
    /// Name, unique in the tenant: a-z, 0-9 and dashes
    name: String,
    #[command(flatten)]
    fields: SourceFields,
    /// Makes the call safe to repeat for 24 h
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    request_id: String,
    /// With HTTP Basic: the user name; the secret is the password
    #[arg(long, value_name = "USER", help_heading = "Secret")]
    username: Option<String>,
    #[command(flatten)]
    secret: SecretInput,
    #[command(flatten)]
    named: NamedSecretInput,
}

/// The one that is meant.
#[derive(Debug, Args)]
pub struct OneSource {
    /// Name or id of the source
    #[arg(value_name = "SOURCE")]
    which: String,
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
    paging: Paging,
}

#[derive(Debug, Args)]
pub struct UpdateSource {
    #[command(flatten)]
    source: OneSource,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    fields: SourceFields,
    /// Set a field back to its default; may be repeated
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clear>,
    /// Only if nobody changed it since: the etag that `source get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

#[derive(Debug, Args)]
pub struct DeleteSource {
    #[command(flatten)]
    source: OneSource,
    /// Only if nobody changed it since: the etag that `source get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// A source with a secret that is new.
#[derive(Debug, Serialize)]
struct WithSecret {
    source: SourceView,
    /// Shown this once; empty where there is none.
    secret: String,
    /// Replicas that may still know the old one; only after a rotation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unconfirmed_replicas: Vec<String>,
}

/// # Errors
/// What the admin API refuses, or a file or secret that cannot be read.
pub async fn run(command: SourceCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        SourceCommand::Create(create) => make(*create, admin, tenant, form).await,
        SourceCommand::Get(one) => detail(name::source(admin, tenant, &one.which).await?, form),
        SourceCommand::List(list) => {
            let filter = v1::SourceFilter {
                name: list.name,
                preset: list.preset,
                labels: list.labels.into_iter().collect(),
                enabled: None,
            };
            let listed = find(admin, tenant, filter, &list.paging).await?;
            paging::show(form, "sources", &listed, None)
        }
        SourceCommand::Update(update) => change(*update, admin, tenant, form).await,
        SourceCommand::Enable(one) => set_enabled(&one, true, admin, tenant, form).await,
        SourceCommand::Disable(one) => set_enabled(&one, false, admin, tenant, form).await,
        SourceCommand::Delete(delete) => {
            let id = name::source_id(admin, tenant, &delete.source.which).await?;
            let request = v1::DeleteSourceRequest { id: id.clone(), etag: delete.etag };
            admin.sources().delete_source(request).await?;
            output::deleted(form, id)
        }
        SourceCommand::RotateSecret(rotate) => secret::rotate(rotate, admin, tenant, form).await,
        SourceCommand::SetSecret(set) => secret::set(set, admin, tenant, form).await,
    }
}

/// The sources a filter leaves.
pub(super) async fn find(
    admin: &Admin,
    tenant: &str,
    filter: v1::SourceFilter,
    paging: &Paging,
) -> Result<Listed<SourceView>, Failure> {
    paging::collect(paging, |page_size, page_token| {
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

async fn make(mut create: CreateSource, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    create.fields.preset_or_default();
    let mut source = v1::Source { name: create.name, ..v1::Source::default() };
    create.fields.apply(&mut source)?;
    let (secret, basic) = secret::given(create.username, create.secret.read()?)?;
    let request = v1::CreateSourceRequest {
        tenant_id: tenant.to_owned(),
        secret,
        basic,
        named_secrets: create.named.read()?,
        request_id: create.request_id,
        source: Some(source),
    };
    let response = admin.sources().create_source(request).await?.into_inner();
    let source = there(response.source, "source")?.into();
    with_secret(&WithSecret { source, secret: response.secret, unconfirmed_replicas: Vec::new() }, form)
}

async fn change(update: UpdateSource, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let id = name::source_id(admin, tenant, &update.source.which).await?;
    let mut source = v1::Source { id, etag: update.etag, ..v1::Source::default() };
    let mut fields = update.fields.apply(&mut source)?;
    if let Some(name) = update.name {
        source.name = name;
        fields.push("name");
    }
    let mask = mask::of(fields, update.clear.into_iter().map(Clear::field))?;
    send_change(source, mask, admin, form).await
}

async fn set_enabled(
    one: &OneSource,
    enabled: bool,
    admin: &Admin,
    tenant: &str,
    form: Form,
) -> Result<(), Failure> {
    let id = name::source_id(admin, tenant, &one.which).await?;
    let source = v1::Source { id, enabled: Some(enabled), ..v1::Source::default() };
    send_change(source, mask::of(vec!["enabled"], [])?, admin, form).await
}

async fn send_change(source: v1::Source, mask: FieldMask, admin: &Admin, form: Form) -> Result<(), Failure> {
    let request = v1::UpdateSourceRequest { source: Some(source), update_mask: Some(mask) };
    let response = admin.sources().update_source(request).await?.into_inner();
    detail(there(response.source, "source")?, form)
}

fn with_secret(new: &WithSecret, form: Form) -> Result<(), Failure> {
    let lines = [
        ("name", new.source.name.clone()),
        ("id", new.source.id.clone()),
        ("preset", new.source.preset.clone()),
        ("receive_url", new.source.receive_url.clone()),
        ("secret", new.secret.clone()),
        ("", shown_once(&new.secret)),
    ];
    output::one(form, new, &lines)
}

fn detail(source: v1::Source, form: Form) -> Result<(), Failure> {
    let source = SourceView::from(source);
    let secrets: Vec<String> = source.secrets.iter().map(crate::view::SecretView::line).collect();
    let scheme = source.scheme.as_ref().map(ToString::to_string).unwrap_or_default();
    let lines = [
        ("name", source.name.clone()),
        ("id", source.id.clone()),
        ("tenant", source.tenant_id.clone()),
        ("display name", source.display_name.clone()),
        ("labels", pairs(&source.labels, "=")),
        ("preset", source.preset.clone()),
        ("parameters", pairs(&source.parameters, "=")),
        ("scheme", scheme),
        ("state", source.state().to_owned()),
        ("receive_url", source.receive_url.clone()),
        ("event type", source.event_type.clone()),
        ("channel", source.channel.clone()),
        ("event type (CEL)", source.event_type_cel.clone()),
        ("channel (CEL)", source.channel_cel.clone()),
        ("dedup key (CEL)", source.dedup_key.clone()),
        ("verify (CEL)", source.verify.clone()),
        ("dedup ttl", source.dedup_ttl.clone()),
        ("body limit", format!("{} bytes", source.body_limit_bytes)),
        ("allowed from", source.ip_allow_list.join(", ")),
        ("rate", if source.rate == 0.0 { String::new() } else { format!("{} a second", source.rate) }),
        ("secrets", secrets.join("; ")),
        ("created", source.create_time.clone()),
        ("updated", source.update_time.clone()),
        ("etag", source.etag.clone()),
    ];
    output::one(form, &source, &lines)
}
