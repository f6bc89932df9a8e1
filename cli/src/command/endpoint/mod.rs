//! `bowline endpoint`: where outbound webhooks go.

mod auth;
mod fields;
mod retry;

use std::collections::BTreeMap;

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::paging::{self, Listed, Paging};
use super::{duration, key_value, mask, name, pairs, shown_once, there};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::secret_input::SecretInput;
use crate::view::{EndpointView, SecretView};
use fields::{Clear, EndpointFields};

#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Make an endpoint; prints, once, the secret it signs with
    #[command(after_help = "Examples:
  bowline endpoint create shop --url https://shop.example/webhooks --event-type 'order.*'
  bowline endpoint create old --url https://old.example/in --format chimpbase --retry-schedule 1s,30s,5m
  bowline endpoint create crm --url https://crm.example/in --basic-user bowline --auth-secret-file crm.password")]
    Create(Box<CreateEndpoint>),
    /// Show one endpoint, with its retry policy, whether it is failing, and why it is disabled
    Get(OneEndpoint),
    /// List the endpoints of the tenant, oldest first
    List(ListEndpoints),
    /// Change what is given, and nothing else; waiting deliveries follow
    #[command(after_help = "Examples:
  bowline endpoint update shop --url https://shop.example/v2 --timeout 20s
  bowline endpoint update shop --max-attempts 5
  bowline endpoint update shop --ordering per-channel
  bowline endpoint update shop --clear event-types")]
    Update(Box<UpdateEndpoint>),
    /// Send again; what waits is due at once
    Enable(OneEndpoint),
    /// Send nothing for a while; what waits is kept
    Pause(OneEndpoint),
    /// Send nothing any more; what waits is kept until it expires
    Disable(OneEndpoint),
    /// End an endpoint; what waits for it is cancelled
    Delete(DeleteEndpoint),
    /// Give an endpoint a new secret, generated or given; prints it once
    #[command(after_help = "Examples:
  bowline endpoint rotate-secret shop --overlap 24h
  bowline endpoint rotate-secret shop --secret-stdin < new.secret")]
    RotateSecret(RotateSecret),
}

#[derive(Debug, Args)]
pub struct CreateEndpoint {
    /// Name, unique in the tenant: a-z, 0-9 and dashes
    name: String,
    #[command(flatten)]
    fields: EndpointFields,
    /// Makes the call safe to repeat for 24 h
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    request_id: String,
    /// Which secret to generate: one that is shared, or a key pair of which receivers get the public half
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Secret")]
    secret_kind: Option<SecretKind>,
    #[command(flatten)]
    secret: SecretInput,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SecretKind {
    Hmac,
    Ed25519,
}

impl SecretKind {
    fn wire(kind: Option<Self>) -> i32 {
        let kind = match kind {
            None => v1::SecretKind::Unspecified,
            Some(Self::Hmac) => v1::SecretKind::Hmac,
            Some(Self::Ed25519) => v1::SecretKind::Ed25519,
        };
        kind.into()
    }
}

/// The one that is meant.
#[derive(Debug, Args)]
pub struct OneEndpoint {
    /// Name or id of the endpoint
    #[arg(value_name = "ENDPOINT")]
    which: String,
}

#[derive(Debug, Args)]
pub struct ListEndpoints {
    /// Only this name
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Only this format
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those with this label; may be repeated
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    Enabled,
    Paused,
    Disabled,
}

impl From<State> for v1::EndpointState {
    fn from(state: State) -> Self {
        match state {
            State::Enabled => Self::Enabled,
            State::Paused => Self::Paused,
            State::Disabled => Self::Disabled,
        }
    }
}

#[derive(Debug, Args)]
pub struct UpdateEndpoint {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    fields: EndpointFields,
    /// Set a field back to its default; may be repeated
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clear>,
    /// Only if nobody changed it since: the etag that `endpoint get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

#[derive(Debug, Args)]
pub struct DeleteEndpoint {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// Only if nobody changed it since: the etag that `endpoint get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

#[derive(Debug, Args)]
pub struct RotateSecret {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// How long the old secret stays valid beside the new one, such as 24h; default: not at all
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap: Option<prost_types::Duration>,
    /// Which secret to generate; default: the kind it has now
    #[arg(long, value_enum, value_name = "KIND", help_heading = "Secret")]
    secret_kind: Option<SecretKind>,
    #[command(flatten)]
    secret: SecretInput,
}

/// An endpoint with a secret that is new.
#[derive(Debug, Serialize)]
struct WithSecret {
    endpoint: EndpointView,
    /// Shown this once; empty where there is none.
    secret: String,
}

#[derive(Debug, Serialize)]
struct Deleted {
    id: String,
    cancelled_count: i64,
}

/// # Errors
/// What the admin API refuses, or a secret that cannot be read.
pub async fn run(command: EndpointCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        EndpointCommand::Create(create) => make(*create, admin, tenant, form).await,
        EndpointCommand::Get(one) => {
            let endpoint = name::endpoint(admin, tenant, &one.which).await?;
            let failing =
                if form == Form::Table { failing(admin, &endpoint.id).await } else { String::new() };
            detail(endpoint, failing, form)
        }
        EndpointCommand::List(list) => {
            let state = list.state.map_or(v1::EndpointState::Unspecified, Into::into);
            let filter = v1::EndpointFilter {
                name: list.name,
                format: list.format,
                labels: list.labels.into_iter().collect(),
                state: state.into(),
            };
            let listed = find(admin, tenant, filter, &list.paging).await?;
            paging::show(form, "endpoints", &listed, None)
        }
        EndpointCommand::Update(update) => change(*update, admin, tenant, form).await,
        EndpointCommand::Enable(one) => set_state(&one, State::Enabled, admin, tenant, form).await,
        EndpointCommand::Pause(one) => set_state(&one, State::Paused, admin, tenant, form).await,
        EndpointCommand::Disable(one) => set_state(&one, State::Disabled, admin, tenant, form).await,
        EndpointCommand::Delete(delete) => {
            let id = name::endpoint_id(admin, tenant, &delete.endpoint.which).await?;
            let request = v1::DeleteEndpointRequest { id: id.clone(), etag: delete.etag };
            let response = admin.endpoints().delete_endpoint(request).await?.into_inner();
            let deleted = Deleted { id: id.clone(), cancelled_count: response.cancelled_count };
            let lines =
                [("deleted", id), ("waiting deliveries cancelled", deleted.cancelled_count.to_string())];
            output::one(form, &deleted, &lines)
        }
        EndpointCommand::RotateSecret(rotate) => {
            let id = name::endpoint_id(admin, tenant, &rotate.endpoint.which).await?;
            let secret = rotate.secret.read()?.unwrap_or_default();
            let secret_kind = SecretKind::wire(rotate.secret_kind);
            let request =
                v1::RotateEndpointSecretRequest { id, secret, overlap: rotate.overlap, secret_kind };
            let response = admin.endpoints().rotate_endpoint_secret(request).await?.into_inner();
            with_secret(response.endpoint, response.secret, form)
        }
    }
}

/// The endpoints a filter leaves.
pub(super) async fn find(
    admin: &Admin,
    tenant: &str,
    filter: v1::EndpointFilter,
    paging: &Paging,
) -> Result<Listed<EndpointView>, Failure> {
    paging::collect(paging, |page_size, page_token| {
        let request = v1::ListEndpointsRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.endpoints().list_endpoints(request).await?.into_inner();
            Ok((page.endpoints.into_iter().map(Into::into).collect(), page.next_page_token))
        }
    })
    .await
}

/// The names of the tenant's endpoints by their ids, for columns of a table: the first thousand, and none
/// at all when they cannot be listed.
pub(super) async fn names(admin: &Admin, tenant: &str) -> BTreeMap<String, String> {
    let found = find(admin, tenant, v1::EndpointFilter::default(), &Paging::first(1_000)).await;
    let endpoints = found.map(|listed| listed.items).unwrap_or_default();
    endpoints.into_iter().map(|endpoint| (endpoint.id, endpoint.name)).collect()
}

/// On standard error, of what was just queued for an endpoint that nothing is sent to.
pub(super) fn warn_if_asleep(endpoint: &EndpointView) {
    if endpoint.is_asleep() {
        eprintln!(
            "warning: endpoint {name} is {state}: what is queued for it waits until `bowline endpoint enable {name}`",
            name = endpoint.name,
            state = output::printable(&endpoint.state_and_why()),
        );
    }
}

async fn make(create: CreateEndpoint, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    if !create.fields.has_url() {
        return Err(Failure::Usage("--url is required: where are the webhooks to go?".to_owned()));
    }
    if create.secret.secret_stdin && create.fields.reads_stdin() {
        let problem = "standard input holds one secret: give the other one by a file or the environment";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let mut endpoint = v1::Endpoint { name: create.name, ..v1::Endpoint::default() };
    create.fields.apply(&mut endpoint, &v1::Endpoint::default())?;
    let request = v1::CreateEndpointRequest {
        tenant_id: tenant.to_owned(),
        secret: create.secret.read()?.unwrap_or_default(),
        request_id: create.request_id,
        endpoint: Some(endpoint),
        secret_kind: SecretKind::wire(create.secret_kind),
    };
    let response = admin.endpoints().create_endpoint(request).await?.into_inner();
    with_secret(response.endpoint, response.secret, form)
}

async fn change(update: UpdateEndpoint, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let current = name::endpoint(admin, tenant, &update.endpoint.which).await?;
    // Part of a policy is laid over what was just read: nobody may change it in between.
    let etag = if update.etag.is_empty() { current.etag.clone() } else { update.etag };
    let mut endpoint = v1::Endpoint { id: current.id.clone(), etag, ..v1::Endpoint::default() };
    let mut fields = update.fields.apply(&mut endpoint, &current)?;
    if let Some(name) = update.name {
        endpoint.name = name;
        fields.push("name");
    }
    let mask = mask::of(fields, update.clear.into_iter().map(Clear::field))?;
    let request = v1::UpdateEndpointRequest { endpoint: Some(endpoint), update_mask: Some(mask) };
    let response = admin.endpoints().update_endpoint(request).await?.into_inner();
    detail(there(response.endpoint, "endpoint")?, String::new(), form)
}

async fn set_state(
    one: &OneEndpoint,
    state: State,
    admin: &Admin,
    tenant: &str,
    form: Form,
) -> Result<(), Failure> {
    let id = name::endpoint_id(admin, tenant, &one.which).await?;
    let state = v1::EndpointState::from(state).into();
    let request = v1::SetEndpointStateRequest { id, state, etag: String::new() };
    let response = admin.endpoints().set_endpoint_state(request).await?.into_inner();
    detail(there(response.endpoint, "endpoint")?, String::new(), form)
}

fn with_secret(endpoint: Option<v1::Endpoint>, secret: String, form: Form) -> Result<(), Failure> {
    let new = WithSecret { endpoint: there(endpoint, "endpoint")?.into(), secret };
    let lines = [
        ("name", new.endpoint.name.clone()),
        ("id", new.endpoint.id.clone()),
        ("url", new.endpoint.url.clone()),
        ("format", new.endpoint.format.clone()),
        ("secret", new.secret.clone()),
        ("", shown_once(&new.secret)),
        ("public keys", new.endpoint.jwks_url.clone()),
    ];
    output::one(form, &new, &lines)
}

/// `5 in a row since ...`; empty where the last one succeeded, or where it cannot be known. The shortest window:
/// what fails in a row is known without counting.
async fn failing(admin: &Admin, id: &str) -> String {
    let window = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = v1::GetEndpointStatsRequest { id: id.to_owned(), window };
    let answer = admin.endpoints().get_endpoint_stats(request).await;
    let stats = answer.ok().and_then(|answer| answer.into_inner().stats).unwrap_or_default();
    if stats.consecutive_failures == 0 {
        return String::new();
    }
    let since = crate::view::time(stats.failing_since_time.as_ref());
    format!("{} in a row since {since}", stats.consecutive_failures)
}

fn detail(endpoint: v1::Endpoint, failing: String, form: Form) -> Result<(), Failure> {
    let endpoint = EndpointView::from(endpoint);
    let secrets: Vec<String> = endpoint.secrets.iter().map(SecretView::line).collect();
    let lines = [
        ("name", endpoint.name.clone()),
        ("id", endpoint.id.clone()),
        ("tenant", endpoint.tenant_id.clone()),
        ("display name", endpoint.display_name.clone()),
        ("labels", pairs(&endpoint.labels, "=")),
        ("url", endpoint.url.clone()),
        ("state", endpoint.state_and_why()),
        ("failing", failing),
        ("format", endpoint.format.clone()),
        ("event types", endpoint.types()),
        ("channels", endpoint.channels.join(", ")),
        ("filter", endpoint.filter.clone()),
        ("transform", endpoint.transform.clone()),
        ("headers", pairs(&endpoint.headers, ": ")),
        ("auth", endpoint.auth.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("tls", endpoint.tls.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("timeout", endpoint.timeout.clone()),
        ("concurrency", endpoint.concurrency.to_string()),
        ("rate", endpoint.rate_line()),
        ("ordering", endpoint.ordering.clone()),
        ("retry", endpoint.retry.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("disabled after", endpoint.disable.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("secrets", secrets.join("; ")),
        ("secret revealable", if endpoint.secret_revealable { "yes" } else { "" }.to_owned()),
        ("public keys", endpoint.jwks_url.clone()),
        ("created", endpoint.create_time.clone()),
        ("updated", endpoint.update_time.clone()),
        ("etag", endpoint.etag.clone()),
    ];
    output::one(form, &endpoint, &lines)
}
