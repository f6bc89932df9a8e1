//! `bowline payload`: questions about what a source has received.

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::name::WhichSource;
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::{PayloadView, number};

#[derive(Debug, Subcommand)]
pub enum PayloadCommand {
    /// The newest payload: its exact bytes, or with `-o json` what is known of it
    Latest(Latest),
    /// Fold a number of each payload
    #[command(after_help = "Examples:
  bowline payload aggregate machines --window 1h --op sum --field errors
  bowline payload aggregate machines --window 24h --op count")]
    Aggregate(Aggregate),
    /// List payloads with their bodies
    List(List),
}

#[derive(Debug, Args)]
pub struct Latest {
    #[command(flatten)]
    source: WhichSource,
}

#[derive(Debug, Args)]
pub struct Aggregate {
    #[command(flatten)]
    source: WhichSource,
    #[command(flatten)]
    fold: Fold,
}

/// What to fold.
#[derive(Debug, Clone, Args)]
pub struct Fold {
    /// How far back
    #[arg(long, value_enum)]
    window: Window,
    /// What to make of the values
    #[arg(long, value_enum)]
    op: Op,
    /// Where they are: a dotted path or a JSONPath; only `count` does without
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PATH")]
    field: String,
}

impl From<Fold> for v1::AggregateQuery {
    fn from(fold: Fold) -> Self {
        Self { window: fold.window.wire().into(), op: fold.op.wire().into(), field: fold.field }
    }
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    source: WhichSource,
    #[command(flatten)]
    sorting: Sorting,
}

/// Which payloads, and in which order.
#[derive(Debug, Clone, Args)]
pub struct Sorting {
    /// At most this many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=1000), value_name = "N")]
    limit: i32,
    /// What to sort by: a dotted path or a JSONPath; default: the time of receipt
    #[arg(long, default_value = "", hide_default_value = true, value_name = "PATH")]
    sort_by: String,
    /// Largest, or newest, first; or the other way round
    #[arg(long, value_enum, default_value_t = Order::Desc)]
    order: Order,
}

impl From<Sorting> for v1::ListQuery {
    fn from(sorting: Sorting) -> Self {
        let order = match sorting.order {
            Order::Asc => v1::SortOrder::Asc,
            Order::Desc => v1::SortOrder::Desc,
        };
        Self { limit: sorting.limit, sort_by: sorting.sort_by, order: order.into() }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Window {
    #[value(name = "15m")]
    QuarterHour,
    #[value(name = "1h")]
    Hour,
    #[value(name = "24h")]
    Day,
    #[value(name = "7d")]
    Week,
}

impl Window {
    fn wire(self) -> v1::AggregateWindow {
        match self {
            Self::QuarterHour => v1::AggregateWindow::AggregateWindow15m,
            Self::Hour => v1::AggregateWindow::AggregateWindow1h,
            Self::Day => v1::AggregateWindow::AggregateWindow24h,
            Self::Week => v1::AggregateWindow::AggregateWindow7d,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Op {
    Sum,
    Count,
    Avg,
    Min,
    Max,
}

impl Op {
    fn wire(self) -> v1::AggregateOp {
        match self {
            Self::Sum => v1::AggregateOp::Sum,
            Self::Count => v1::AggregateOp::Count,
            Self::Avg => v1::AggregateOp::Avg,
            Self::Min => v1::AggregateOp::Min,
            Self::Max => v1::AggregateOp::Max,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A double that JSON does not have is a text.
#[derive(Debug, Serialize)]
struct Folded {
    value: serde_json::Value,
    count: i64,
    window: String,
    op: String,
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: PayloadCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        PayloadCommand::Latest(latest) => show_latest(latest, admin, tenant, form).await,
        PayloadCommand::Aggregate(aggregate) => fold(aggregate, admin, tenant, form).await,
        PayloadCommand::List(list) => show_list(list, admin, tenant, form).await,
    }
}

async fn show_latest(latest: Latest, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let request = v1::GetLatestPayloadRequest { source_id: latest.source.id(admin, tenant).await? };
    let payload = admin.payloads().get_latest_payload(request).await?.into_inner().payload;
    match (form, payload) {
        (Form::Json, payload) => {
            output::json(&serde_json::json!({ "payload": payload.map(PayloadView::from) }))
        }
        (_, Some(payload)) => output::bytes(&payload.body),
        (_, None) => output::text("no payload\n"),
    }
}

async fn fold(aggregate: Aggregate, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let (window, op) = (aggregate.fold.window.name(), aggregate.fold.op.name());
    let source_id = aggregate.source.id(admin, tenant).await?;
    let request = v1::AggregatePayloadsRequest { source_id, query: Some(aggregate.fold.into()) };
    let answer = admin.payloads().aggregate_payloads(request).await?.into_inner();
    let value = number(answer.value);
    let lines = [
        ("value", answer.value.to_string()),
        ("count", answer.count.to_string()),
        ("window", window.clone()),
        ("op", op.clone()),
    ];
    output::one(form, &Folded { value, count: answer.count, window, op }, &lines)
}

async fn show_list(list: List, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let source_id = list.source.id(admin, tenant).await?;
    let query: v1::ListQuery = list.sorting.into();
    let mut payloads: Vec<PayloadView> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            v1::ListPayloadsRequest { source_id: source_id.clone(), query: Some(query.clone()), page_token };
        let page = admin.payloads().list_payloads(request).await?.into_inner();
        payloads.extend(page.payloads.into_iter().map(PayloadView::from));
        if page.next_page_token.is_empty() {
            return output::list(form, "payloads", &payloads, "");
        }
        page_token = page.next_page_token;
    }
}
