//! `bowline dead-letter`: what could not be delivered, and its second chance.

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::delivery::Which;
use super::paging::{self, Limit};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::DeadLetterView;

#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List dead letters, newest event first
    List(Box<ListDeadLetters>),
    /// Queue dead letters again, due at once and with a fresh budget of attempts
    #[command(after_help = "Examples:
  bowline dead-letter redrive evt_....ep_....0
  bowline dead-letter redrive --endpoint ep_... --dry-run
  bowline dead-letter redrive --all")]
    Redrive(Box<Redrive>),
}

#[derive(Debug, Args)]
pub struct ListDeadLetters {
    #[command(flatten)]
    which: Which,
    /// Only with this reason
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub struct Redrive {
    /// Exactly these: ids of deliveries
    #[arg(value_name = "DELIVERY")]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Only with this reason
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    /// Every dead letter of the tenant
    #[arg(long)]
    all: bool,
    /// Change nothing; only count
    #[arg(long)]
    dry_run: bool,
    /// At most this many, oldest event first; default: 10000
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    max_count: i32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Reason {
    AttemptsExhausted,
    Gone,
    EgressRefused,
    SecretMissing,
    Unformattable,
    Poison,
}

impl From<Reason> for v1::DeadReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::AttemptsExhausted => Self::AttemptsExhausted,
            Reason::Gone => Self::Gone,
            Reason::EgressRefused => Self::EgressRefused,
            Reason::SecretMissing => Self::SecretMissing,
            Reason::Unformattable => Self::Unformattable,
            Reason::Poison => Self::Poison,
        }
    }
}

#[derive(Debug, Serialize)]
struct Redriven {
    count: i64,
    body_gone_count: i64,
    more: bool,
    dry_run: bool,
}

/// # Errors
/// What the admin API refuses, or a redrive that does not say which.
pub async fn run(command: DeadLetterCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        DeadLetterCommand::List(list) => show(*list, admin, tenant, form).await,
        DeadLetterCommand::Redrive(redrive) => again(*redrive, admin, tenant, form).await,
    }
}

fn filter(which: Which, reason: Option<Reason>) -> v1::DeadLetterFilter {
    let reason = reason.map_or(v1::DeadReason::Unspecified, Into::into);
    v1::DeadLetterFilter {
        endpoint_id: which.endpoint,
        event_id: which.event,
        event_type: which.event_type,
        channel: which.channel,
        reason: reason.into(),
        start_time: which.window.start(),
        end_time: which.window.end(),
    }
}

async fn show(list: ListDeadLetters, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let filter = filter(list.which, list.reason);
    let letters: Vec<DeadLetterView> = paging::collect(list.limit, |page_size, page_token| {
        let request = v1::ListDeadLettersRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.dead_letters().list_dead_letters(request).await?.into_inner();
            Ok((page.dead_letters.into_iter().map(Into::into).collect(), page.next_page_token))
        }
    })
    .await?;
    output::list(form, "dead_letters", &letters)
}

async fn again(redrive: Redrive, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let filter = filter(redrive.which, redrive.reason);
    let narrowed = filter != v1::DeadLetterFilter::default();
    if [!redrive.ids.is_empty(), narrowed, redrive.all].into_iter().filter(|given| *given).count() != 1 {
        return Err(Failure::Usage(
            "say which dead letters: their ids, or filters such as --endpoint, or --all".to_owned(),
        ));
    }
    let request = v1::RedriveDeadLettersRequest {
        tenant_id: tenant.to_owned(),
        filter: redrive.ids.is_empty().then_some(filter),
        delivery_ids: redrive.ids,
        dry_run: redrive.dry_run,
        max_count: redrive.max_count,
    };
    let response = admin.dead_letters().redrive_dead_letters(request).await?.into_inner();
    let redriven = Redriven {
        count: response.count,
        body_gone_count: response.body_gone_count,
        more: response.more,
        dry_run: redrive.dry_run,
    };
    let count = if redrive.dry_run { "would be queued again" } else { "queued again" };
    let lines = [
        (count, redriven.count.to_string()),
        ("left alone, body gone", redriven.body_gone_count.to_string()),
        ("more", if redriven.more { "yes: call again for the rest" } else { "" }.to_owned()),
    ];
    output::one(form, &redriven, &lines)
}
