//! `bowline delivery`: what was sent, what came back, what still waits.

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};

use super::by_hand::OneDelivery;
use super::paging::{self, Paging, Window};
use super::{by_hand, name, there, watch};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::{AttemptView, DeliveryTold, DeliveryView, EndpointView, HeaderView};

#[derive(Debug, Subcommand)]
pub enum DeliveryCommand {
    /// List deliveries, newest event first
    List(Box<ListDeliveries>),
    /// Show one delivery with every attempt: what was sent, what came back, what was decided
    Get {
        /// Id of the delivery: `evt_....ep_....0`
        id: String,
    },
    /// Try one again at once, with a fresh budget of attempts; the same as `bowline retry`
    #[command(after_help = by_hand::RETRY_WAITS)]
    Retry(OneDelivery),
    /// End one that waits; the same as `bowline cancel`
    Cancel(OneDelivery),
    /// Show each attempt and decision as it is recorded, a line each, until stopped
    #[command(after_help = "Examples:
  bowline delivery watch --endpoint shop
  bowline delivery watch --state dead --since 1h")]
    Watch(Box<WatchDeliveries>),
}

#[derive(Debug, Args)]
pub struct WatchDeliveries {
    /// Only for this endpoint: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ENDPOINT")]
    endpoint: String,
    /// Only of this event (`evt_...`)
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    event: String,
    /// Only events of exactly this type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    event_type: String,
    /// Only events of exactly this channel
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// Only what led to this state; `waiting`: it is tried again
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only attempts that were answered with this status
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "CODE")]
    status_code: i32,
    #[command(flatten)]
    begin: watch::Begin,
}

#[derive(Debug, Args)]
pub struct ListDeliveries {
    #[command(flatten)]
    which: Which,
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those whose latest answer had this status
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "CODE")]
    status_code: i32,
    #[command(flatten)]
    paging: Paging,
}

/// Which deliveries, or dead letters, are meant.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Only for this endpoint: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ENDPOINT")]
    pub endpoint: String,
    /// Only of this event (`evt_...`)
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    pub event: String,
    /// Only events of exactly this type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    pub event_type: String,
    /// Only events of exactly this channel
    #[arg(long, default_value = "", hide_default_value = true)]
    pub channel: String,
    #[command(flatten)]
    pub window: Window,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    Waiting,
    Delivered,
    Dead,
    Cancelled,
    Expired,
}

impl From<State> for v1::DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Delivered => Self::Delivered,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
            State::Expired => Self::Expired,
        }
    }
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: DeliveryCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        DeliveryCommand::List(list) => show(*list, admin, tenant, form).await,
        DeliveryCommand::Watch(watch) => follow(*watch, admin, tenant, form).await,
        DeliveryCommand::Get { id } => {
            let response = admin.deliveries().get_delivery(v1::GetDeliveryRequest { id }).await?.into_inner();
            let delivery = there(response.delivery, "delivery")?;
            let endpoint = if form == Form::Table { endpoint(admin, &delivery).await } else { String::new() };
            detail(&delivery.into(), endpoint, form)
        }
        DeliveryCommand::Retry(one) => by_hand::retry(one, admin, form).await,
        DeliveryCommand::Cancel(one) => by_hand::cancel(one, admin, form).await,
    }
}

async fn show(list: ListDeliveries, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let state = list.state.map_or(v1::DeliveryState::Unspecified, Into::into);
    let filter = v1::DeliveryFilter {
        endpoint_id: name::endpoint_id(admin, tenant, &list.which.endpoint).await?,
        event_id: list.which.event,
        event_type: list.which.event_type,
        channel: list.which.channel,
        state: state.into(),
        status_code: list.status_code,
        start_time: list.which.window.start(),
        end_time: list.which.window.end(),
    };
    let mut listed = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListDeliveriesRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.deliveries().list_deliveries(request).await?.into_inner();
            let deliveries: Vec<DeliveryView> = page.deliveries.into_iter().map(Into::into).collect();
            Ok((deliveries, page.next_page_token))
        }
    })
    .await?;
    if form == Form::Table && !listed.items.is_empty() {
        let names = super::endpoint::names(admin, tenant).await;
        for delivery in &mut listed.items {
            delivery.endpoint_name = names.get(&delivery.endpoint_id).cloned().unwrap_or_default();
        }
    }
    paging::show(form, "deliveries", &listed, Some(list.which.window))
}

async fn follow(watched: WatchDeliveries, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let request = v1::WatchDeliveriesRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(v1::DeliveryFilter {
            endpoint_id: name::endpoint_id(admin, tenant, &watched.endpoint).await?,
            event_id: watched.event,
            event_type: watched.event_type,
            channel: watched.channel,
            state: watched.state.map_or(v1::DeliveryState::Unspecified, Into::into).into(),
            status_code: watched.status_code,
            ..v1::DeliveryFilter::default()
        }),
        cursor: String::new(),
        start_time: watched.begin.start_time(),
    };
    let open = |cursor| {
        let request = v1::WatchDeliveriesRequest { cursor, ..request.clone() };
        let mut deliveries = admin.deliveries();
        async move { deliveries.watch_deliveries(request).await }
    };
    let view = |told: v1::WatchDeliveriesResponse| {
        let news = told.delivery.zip(told.attempt);
        let shown = news
            .map(|(delivery, attempt)| DeliveryTold { delivery: delivery.into(), attempt: attempt.into() });
        (shown, told.cursor)
    };
    watch::follow(form, &watched.begin, open, view).await
}

/// `shop, disabled (410 Gone)`: what keeps a delivery waiting is often its endpoint. Its id where it is gone.
async fn endpoint(admin: &Admin, delivery: &v1::Delivery) -> String {
    match name::endpoint(admin, "", &delivery.endpoint_id).await {
        Ok(endpoint) => {
            let endpoint = EndpointView::from(endpoint);
            format!("{}, {}", endpoint.name, endpoint.state_and_why())
        }
        Err(_) => delivery.endpoint_id.clone(),
    }
}

fn detail(delivery: &DeliveryView, endpoint: String, form: Form) -> Result<(), Failure> {
    let lines = [
        ("id", delivery.id.clone()),
        ("endpoint", endpoint),
        ("event type", delivery.event_type.clone()),
        ("channel", delivery.channel.clone()),
        ("state", delivery.state.clone()),
        ("why dead", delivery.dead_reason.clone()),
        ("due", delivery.due_time.clone()),
        ("received", delivery.create_time.clone()),
        ("attempts", delivery.attempt_count.to_string()),
    ];
    output::one(form, delivery, &lines)?;
    if form == Form::Table {
        delivery.attempts.iter().try_for_each(attempt)?;
    }
    Ok(())
}

fn attempt(attempt: &AttemptView) -> Result<(), Failure> {
    let mut lines = vec![
        String::new(),
        format!(
            "{} {} at {}, took {}: {}",
            attempt.kind, attempt.number, attempt.start_time, attempt.duration, attempt.decision
        ),
    ];
    if !attempt.request_url.is_empty() {
        lines.push(format!("  POST {}", attempt.request_url));
        lines.extend(attempt.request_headers.iter().map(header));
    }
    if attempt.status_code != 0 {
        lines.push(format!("  answer {}", attempt.status_code));
        lines.extend(attempt.response_headers.iter().map(header));
    }
    let timings = attempt.timings.to_string();
    if !timings.is_empty() {
        lines.push(format!("  of which {timings}"));
    }
    lines.extend(attempt.response_body.lines().map(|line| format!("    {line}")));
    if !attempt.error_kind.is_empty() {
        lines.push(format!("  {}: {}", attempt.error_kind, attempt.error_message));
    }
    lines.iter().try_for_each(|line| output::text(&format!("{}\n", output::printable(line))))
}

fn header(header: &HeaderView) -> String {
    format!("    {}: {}", header.name, header.value)
}
