//! `bowline dead-letter`: what could not be delivered, and its second chance.

use std::collections::BTreeSet;

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::by_hand::operation::OperationView;
use super::delivery::Which;
use super::paging::{self, Listed, Paging};
use super::{endpoint, name};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::{DeadLetterView, EndpointView};

#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List dead letters, newest event first
    List(Box<ListDeadLetters>),
    /// Queue dead letters again, due at once and with a fresh budget of attempts; the same as `bowline redrive`
    #[command(after_help = REDRIVE_EXAMPLES)]
    Redrive(Box<Redrive>),
    /// Forget dead letters: their deliveries stay in the log; the same as `bowline purge`
    #[command(after_help = PURGE_EXAMPLES)]
    Purge(Box<Purge>),
}

pub(super) const REDRIVE_EXAMPLES: &str = "Examples:
  bowline redrive evt_....ep_....0
  bowline redrive --endpoint shop --dry-run
  bowline redrive --all --rate 50";

pub(super) const PURGE_EXAMPLES: &str = "Examples:
  bowline purge evt_....ep_....0
  bowline purge --endpoint shop --reason gone --dry-run
  bowline purge --all";

#[derive(Debug, Args)]
pub struct ListDeadLetters {
    #[command(flatten)]
    which: Which,
    /// Only with this reason
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    #[command(flatten)]
    paging: Paging,
}

/// Which dead letters something is to be done to, by exactly one of the three ways to say it; and how many at a time.
#[derive(Debug, Args)]
pub struct Chosen {
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

#[derive(Debug, Args)]
pub struct Redrive {
    #[command(flatten)]
    chosen: Chosen,
    /// Go on after the call, as an operation (see `bowline operation`): for any number of them, by default all
    #[arg(long, conflicts_with = "ids")]
    as_operation: bool,
    /// Queue at most this many a second, as an operation; default of one: 1000
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N", conflicts_with = "ids")]
    rate: i32,
}

#[derive(Debug, Args)]
pub struct Purge {
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Reason {
    #[value(alias = "attempts_exhausted")]
    AttemptsExhausted,
    Gone,
    #[value(alias = "egress_refused")]
    EgressRefused,
    #[value(alias = "secret_missing")]
    SecretMissing,
    Unformattable,
    Poison,
    #[value(alias = "filter_failed")]
    FilterFailed,
    #[value(alias = "transform_failed")]
    TransformFailed,
    #[value(alias = "not_retried")]
    NotRetried,
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
            Reason::FilterFailed => Self::FilterFailed,
            Reason::TransformFailed => Self::TransformFailed,
            Reason::NotRetried => Self::NotRetried,
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

const MORE: &str = "yes: call again for the rest";

/// # Errors
/// What the admin API refuses, or a redrive that does not say which.
pub async fn run(command: DeadLetterCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        DeadLetterCommand::List(list) => show(*list, admin, tenant, form).await,
        DeadLetterCommand::Redrive(asked) => redrive(*asked, admin, tenant, form).await,
        DeadLetterCommand::Purge(asked) => purge(*asked, admin, tenant, form).await,
    }
}

/// The filter that was meant, with the endpoint's id for its name.
async fn filter(
    which: Which,
    reason: Option<Reason>,
    admin: &Admin,
    tenant: &str,
) -> Result<v1::DeadLetterFilter, Failure> {
    let reason = reason.map_or(v1::DeadReason::Unspecified, Into::into);
    Ok(v1::DeadLetterFilter {
        endpoint_id: name::endpoint_id(admin, tenant, &which.endpoint).await?,
        event_id: which.event,
        event_type: which.event_type,
        channel: which.channel,
        reason: reason.into(),
        start_time: which.window.start(),
        end_time: which.window.end(),
    })
}

async fn show(list: ListDeadLetters, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let window = list.which.window;
    let filter = filter(list.which, list.reason, admin, tenant).await?;
    let mut listed = find(admin, tenant, &filter, &list.paging).await?;
    if form == Form::Table && !listed.items.is_empty() {
        let names = endpoint::names(admin, tenant).await;
        for letter in &mut listed.items {
            letter.endpoint_name = names.get(&letter.endpoint_id).cloned().unwrap_or_default();
        }
    }
    paging::show(form, "dead_letters", &listed, Some(window))
}

async fn find(
    admin: &Admin,
    tenant: &str,
    filter: &v1::DeadLetterFilter,
    paging: &Paging,
) -> Result<Listed<DeadLetterView>, Failure> {
    paging::collect(paging, |page_size, page_token| {
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
    .await
}

impl Chosen {
    /// The ids, and the filter.
    ///
    /// # Errors
    /// When it is not said which, or in two ways.
    async fn read(self, admin: &Admin, tenant: &str) -> Result<(Vec<String>, v1::DeadLetterFilter), Failure> {
        let filter = filter(self.which, self.reason, admin, tenant).await?;
        let narrowed = filter != v1::DeadLetterFilter::default();
        if [!self.ids.is_empty(), narrowed, self.all].into_iter().filter(|given| *given).count() != 1 {
            return Err(Failure::Usage(
                "say which dead letters: their ids, or filters such as --endpoint, or --all".to_owned(),
            ));
        }
        Ok((self.ids, filter))
    }
}

pub(super) async fn purge(purge: Purge, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let Chosen { dry_run, max_count, .. } = purge.chosen;
    let (delivery_ids, filter) = purge.chosen.read(admin, tenant).await?;
    let request = v1::PurgeDeadLettersRequest {
        tenant_id: tenant.to_owned(),
        filter: delivery_ids.is_empty().then_some(filter),
        delivery_ids,
        dry_run,
        max_count,
    };
    let answer = admin.dead_letters().purge_dead_letters(request).await?.into_inner();
    let document = serde_json::json!({ "count": answer.count, "more": answer.more, "dry_run": dry_run });
    let name = if dry_run { "would be forgotten" } else { "forgotten" };
    let more = if answer.more { MORE } else { "" };
    output::one(form, &document, &[(name, answer.count.to_string()), ("more", more.to_owned())])
}

pub(super) async fn redrive(
    redrive: Redrive,
    admin: &Admin,
    tenant: &str,
    form: Form,
) -> Result<(), Failure> {
    let Chosen { dry_run, max_count, .. } = redrive.chosen;
    let (ids, filter) = redrive.chosen.read(admin, tenant).await?;
    // Read before they are no dead letters any more.
    let asleep = asleep(&ids, &filter, admin, tenant).await?;
    let request = v1::RedriveDeadLettersRequest {
        tenant_id: tenant.to_owned(),
        filter: ids.is_empty().then_some(filter),
        delivery_ids: ids,
        dry_run,
        max_count,
        as_operation: redrive.as_operation,
        rate_per_second: redrive.rate,
        ..v1::RedriveDeadLettersRequest::default()
    };
    let response = admin.dead_letters().redrive_dead_letters(request).await?.into_inner();
    asleep.iter().for_each(endpoint::warn_if_asleep);
    if let Some(operation) = response.operation {
        return OperationView::from(operation).begun(form);
    }
    let redriven = Redriven {
        count: response.count,
        body_gone_count: response.body_gone_count,
        more: response.more,
        dry_run,
    };
    let count = if dry_run { "would be queued again" } else { "queued again" };
    let lines = [
        (count, redriven.count.to_string()),
        ("left alone, body gone", redriven.body_gone_count.to_string()),
        ("more", if redriven.more { MORE } else { "" }.to_owned()),
    ];
    output::one(form, &redriven, &lines)
}

/// The endpoints among those of the dead letters that nothing is sent to just now. It is a service to
/// whoever calls, so it looks at a bounded number of each.
async fn asleep(
    ids: &[String],
    filter: &v1::DeadLetterFilter,
    admin: &Admin,
    tenant: &str,
) -> Result<Vec<EndpointView>, Failure> {
    const LOOKED_AT: u32 = 1_000;
    let mut asleep = Vec::new();
    for state in [v1::EndpointState::Disabled, v1::EndpointState::Paused] {
        let filter = v1::EndpointFilter { state: state.into(), ..v1::EndpointFilter::default() };
        asleep.extend(endpoint::find(admin, tenant, filter, &Paging::first(LOOKED_AT)).await?.items);
    }
    if asleep.is_empty() {
        return Ok(asleep);
    }
    let meant: BTreeSet<String> = if !ids.is_empty() {
        // `evt_....ep_....0`
        ids.iter().filter_map(|id| id.split('.').nth(1)).map(ToOwned::to_owned).collect()
    } else if !filter.endpoint_id.is_empty() {
        [filter.endpoint_id.clone()].into()
    } else {
        let letters = find(admin, tenant, filter, &Paging::first(LOOKED_AT)).await?.items;
        letters.into_iter().map(|letter| letter.endpoint_id).collect()
    };
    asleep.retain(|endpoint| meant.contains(&endpoint.id));
    Ok(asleep)
}
