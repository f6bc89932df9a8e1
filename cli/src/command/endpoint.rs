//! `bowline endpoint`: where outbound webhooks go.

use std::collections::BTreeMap;

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::paging::{self, Limit};
use super::{duration, header, key_value};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::secret_input::SecretInput;
use crate::view::EndpointView;

#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Make an endpoint; prints, once, the secret it signs with
    #[command(after_help = "Examples:
  bowline endpoint create shop --url https://shop.example/webhooks --event-type 'order.*'
  bowline endpoint create old --url https://old.example/in --format chimpbase --retry-wait 1s --retry-wait 30s")]
    Create(Box<CreateEndpoint>),
    /// List the endpoints of the tenant, oldest first
    List(ListEndpoints),
}

#[derive(Debug, Args)]
pub struct CreateEndpoint {
    /// Name, unique in the tenant: a-z, 0-9 and dashes
    name: String,
    /// Where to POST
    #[arg(long)]
    url: String,
    /// Wire format: standard, chimpbase, rkt, chatbase, connectgain, chatblocks, raw
    #[arg(long, default_value = "standard")]
    format: String,
    /// Only events of this type: order.created, order.* or *; may be repeated; default: all
    #[arg(long = "event-type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Only events with this channel; may be repeated; default: all
    #[arg(long = "channel", value_name = "CHANNEL")]
    channels: Vec<String>,
    /// A header to send along; may be repeated
    #[arg(long = "header", value_parser = header, value_name = "NAME: VALUE")]
    headers: Vec<(String, String)>,
    /// For the whole exchange: 1s to 60s; default: 10s
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    timeout: Option<prost_types::Duration>,
    /// The wait after the first failure, then the second, and so on; the last one repeats
    #[arg(long = "retry-wait", value_parser = duration, value_name = "DURATION")]
    retry_waits: Vec<prost_types::Duration>,
    /// Attempts in all; default: one more than the schedule has waits
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    max_attempts: u32,
    /// Requests out at once, in each dispatcher; default: 16
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    concurrency: u32,
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
    limit: Limit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    Enabled,
    Paused,
    Disabled,
}

#[derive(Debug, Serialize)]
struct Created {
    endpoint: EndpointView,
    /// Shown this once; empty where there is none.
    secret: String,
}

/// # Errors
/// What the admin API refuses, or a secret that cannot be read.
pub async fn run(command: EndpointCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        EndpointCommand::Create(create) => make(*create, admin, tenant, form).await,
        EndpointCommand::List(list) => show(list, admin, tenant, form).await,
    }
}

async fn show(list: ListEndpoints, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let state = match list.state {
        None => v1::EndpointState::Unspecified,
        Some(State::Enabled) => v1::EndpointState::Enabled,
        Some(State::Paused) => v1::EndpointState::Paused,
        Some(State::Disabled) => v1::EndpointState::Disabled,
    };
    let filter = v1::EndpointFilter {
        name: list.name,
        format: list.format,
        labels: list.labels.into_iter().collect(),
        state: state.into(),
    };
    let endpoints: Vec<EndpointView> = paging::collect(list.limit, |page_size, page_token| {
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
    .await?;
    output::list(form, "endpoints", &endpoints)
}

async fn make(create: CreateEndpoint, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let retry = retry_policy(create.retry_waits, create.max_attempts);
    let request = v1::CreateEndpointRequest {
        tenant_id: tenant.to_owned(),
        secret: create.secret.read()?.unwrap_or_default(),
        request_id: create.request_id,
        endpoint: Some(v1::Endpoint {
            name: create.name,
            display_name: create.display_name,
            labels: create.labels.into_iter().collect::<BTreeMap<_, _>>(),
            url: create.url,
            event_types: create.event_types,
            channels: create.channels,
            format: create.format,
            headers: create.headers.into_iter().collect(),
            timeout: create.timeout,
            retry,
            concurrency: create.concurrency,
            ..v1::Endpoint::default()
        }),
    };
    let response = admin.endpoints().create_endpoint(request).await?.into_inner();
    let endpoint =
        response.endpoint.ok_or_else(|| Failure::Answer("the answer holds no endpoint".to_owned()))?;
    let created = Created { endpoint: endpoint.into(), secret: response.secret };
    let lines = [
        ("name", created.endpoint.name.clone()),
        ("id", created.endpoint.id.clone()),
        ("url", created.endpoint.url.clone()),
        ("format", created.endpoint.format.clone()),
        ("secret", created.secret.clone()),
        ("", if created.secret.is_empty() { String::new() } else { super::SHOWN_ONCE.to_owned() }),
    ];
    output::one(form, &created, &lines)
}

fn retry_policy(waits: Vec<prost_types::Duration>, max_attempts: u32) -> Option<v1::RetryPolicy> {
    if waits.is_empty() && max_attempts == 0 {
        return None;
    }
    let schedule = (!waits.is_empty())
        .then_some(v1::retry_policy::Backoff::Schedule(v1::ScheduleBackoff { waits, jitter: None }));
    Some(v1::RetryPolicy { max_attempts, backoff: schedule, max_age: None })
}
