//! What a person does about deliveries: `bowline retry`, `cancel`, `purge`, `replay`, `test`, `stats`,
//! `reveal`; [`operation`] is `bowline operation`, for the bulk work these begin.

pub(super) mod operation;

use bowline_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use self::operation::{OperationCommand, OperationView};
use super::dead_letter::{self, Purge, Redrive};
use super::paging::Window;
use super::{endpoint, name, there};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};

/// Of an answer's body, in a table; the document has what was kept of it.
const ANSWER_SHOWN_CHARS: usize = 300;

/// Below the help of both ways to say it.
pub(super) const RETRY_WAITS: &str =
    "While the breaker of its endpoint is open (after 5 failures in a row) it waits like the others, until the
next probe succeeds; `bowline endpoint enable NAME` closes the breaker at once.";

#[derive(Debug, Subcommand)]
pub enum ByHandCommand {
    /// Try a delivery again at once, with a fresh budget of attempts (also: `bowline delivery retry`)
    #[command(after_help = RETRY_WAITS)]
    Retry(OneDelivery),
    /// End a delivery that waits (also: `bowline delivery cancel`)
    Cancel(OneDelivery),
    /// Forget dead letters: their deliveries stay in the log (also: `bowline dead-letter purge`)
    #[command(after_help = dead_letter::PURGE_EXAMPLES)]
    Purge(Box<Purge>),
    /// Send past events to endpoints, as an operation
    #[command(after_help = "Examples:
  bowline replay --to shop --event-type order.created --since 2h
  bowline replay --to shop --all --only-missing --dry-run")]
    Replay(Box<Replay>),
    /// Queue dead letters again, due at once and with a fresh budget of attempts (also: `bowline dead-letter
    /// redrive`)
    #[command(after_help = dead_letter::REDRIVE_EXAMPLES)]
    Redrive(Box<Redrive>),
    /// Send an endpoint a test event, and show what came of it; fails if it was not delivered
    Test(Test),
    /// How an endpoint has fared lately
    Stats {
        /// Name or id of the endpoint
        endpoint: String,
        /// Events received within this time count; default: 24h
        #[arg(long, value_parser = super::duration, value_name = "DURATION")]
        window: Option<prost_types::Duration>,
    },
    /// Show the secret of an endpoint that is `--secret-revealable`; the audit log has each time
    Reveal {
        /// Name or id of the endpoint
        endpoint: String,
    },
    /// Bulk work: replays and redrives
    #[command(subcommand)]
    Operation(OperationCommand),
}

/// The one that is meant.
#[derive(Debug, Args)]
pub struct OneDelivery {
    /// Id of the delivery: `evt_....ep_....0`
    delivery: String,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// To this endpoint: its name or id; may be repeated
    #[arg(long = "to", visible_alias = "endpoint", required = true, value_name = "ENDPOINT")]
    to: Vec<String>,
    /// Only events of exactly this type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    event_type: String,
    /// Only events of exactly this channel
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// Only events from this source: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SOURCE")]
    source: String,
    #[command(flatten)]
    window: Window,
    /// Every event of the tenant that is still kept
    #[arg(long)]
    all: bool,
    /// Only where the event is missing
    #[arg(long)]
    only_missing: bool,
    /// Queue at most this many a second; default: 1000
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    rate: i32,
    /// Stop once this many are queued; default: all of them
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    max_count: i64,
    /// Change nothing; only count the events that match, and what would be queued
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Test {
    /// Name or id of the endpoint
    endpoint: String,
    /// Type of the test event; default: the first whole type the endpoint names
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    event_type: String,
    /// Its body, JSON; default: an example of the type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "JSON")]
    data: String,
}

#[derive(Debug, Serialize)]
struct DeliveryOutcome {
    id: String,
    state: String,
    may_still_be_sent: bool,
    attempts: Vec<AttemptOutcome>,
}

#[derive(Debug, Serialize)]
struct AttemptOutcome {
    status_code: i32,
    error_kind: String,
    error_message: String,
    /// As text; bytes that are not UTF-8 are replaced.
    response_body: String,
}

impl DeliveryOutcome {
    fn new(delivery: v1::Delivery, may_still_be_sent: bool) -> Self {
        let state = word(delivery.state().as_str_name(), "DELIVERY_STATE_");
        let attempt = |attempt: v1::Attempt| AttemptOutcome {
            status_code: attempt.status_code,
            error_kind: attempt.error_kind,
            error_message: attempt.error_message,
            response_body: String::from_utf8_lossy(&attempt.response_body).into_owned(),
        };
        let attempts = delivery.attempts.into_iter().map(attempt).collect();
        Self { id: delivery.id, state, may_still_be_sent, attempts }
    }

    fn show(&self, form: Form) -> Result<(), Failure> {
        let last = self.attempts.last();
        let sent = if self.may_still_be_sent { "one more request may still go out" } else { "" };
        let lines = [
            ("id", self.id.clone()),
            ("state", self.state.clone()),
            ("answer", last.map(AttemptOutcome::answer).unwrap_or_default()),
            ("error", last.map(|last| last.error_message.clone()).unwrap_or_default()),
            ("note", sent.to_owned()),
        ];
        output::one(form, self, &lines)
    }

    /// # Errors
    /// When it was not delivered, with the reason.
    fn delivered(&self) -> Result<(), Failure> {
        if self.state == "delivered" {
            return Ok(());
        }
        let why = match self.attempts.last() {
            Some(last) if last.status_code != 0 => format!("the receiver answered {}", last.status_code),
            Some(last) if !last.error_message.is_empty() => output::printable(&last.error_message),
            _ => format!("it is {}", self.state),
        };
        Err(Failure::Answer(format!("the test was not delivered: {why}")))
    }
}

impl AttemptOutcome {
    /// `500 out of order`: the status and the beginning of the body, on one line.
    fn answer(&self) -> String {
        if self.status_code == 0 {
            return String::new();
        }
        let body: Vec<&str> = self.response_body.split_whitespace().collect();
        let body: String = body.join(" ").chars().take(ANSWER_SHOWN_CHARS).collect();
        format!("{} {body}", self.status_code).trim_end().to_owned()
    }
}

/// `DELIVERY_STATE_WAITING` is `waiting`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: ByHandCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        ByHandCommand::Retry(one) => retry(one, admin, form).await,
        ByHandCommand::Cancel(one) => cancel(one, admin, form).await,
        ByHandCommand::Purge(purge) => dead_letter::purge(*purge, admin, tenant, form).await,
        ByHandCommand::Redrive(redrive) => dead_letter::redrive(*redrive, admin, tenant, form).await,
        ByHandCommand::Replay(arguments) => replay(*arguments, admin, tenant, form).await,
        ByHandCommand::Test(arguments) => test(arguments, admin, tenant, form).await,
        ByHandCommand::Stats { endpoint, window } => {
            stats(name::endpoint_id(admin, tenant, &endpoint).await?, window, admin, form).await
        }
        ByHandCommand::Reveal { endpoint } => {
            reveal(name::endpoint_id(admin, tenant, &endpoint).await?, admin, form).await
        }
        ByHandCommand::Operation(command) => operation::run(command, admin, tenant, form).await,
    }
}

pub(super) async fn retry(one: OneDelivery, admin: &Admin, form: Form) -> Result<(), Failure> {
    let request = v1::RetryDeliveryRequest { id: one.delivery };
    let answer = admin.deliveries().retry_delivery(request).await?.into_inner();
    let delivery = there(answer.delivery, "delivery")?;
    if let Ok(endpoint) = name::endpoint(admin, "", &delivery.endpoint_id).await {
        endpoint::warn_if_asleep(&endpoint.into());
    }
    DeliveryOutcome::new(delivery, false).show(form)
}

pub(super) async fn cancel(one: OneDelivery, admin: &Admin, form: Form) -> Result<(), Failure> {
    let request = v1::CancelDeliveryRequest { id: one.delivery };
    let answer = admin.deliveries().cancel_delivery(request).await?.into_inner();
    DeliveryOutcome::new(there(answer.delivery, "delivery")?, answer.may_still_be_sent).show(form)
}

impl Replay {
    /// # Errors
    /// When it is not said which events, or in two ways: nobody means everything by leaving a flag out.
    fn says_which(&self) -> Result<(), Failure> {
        let given =
            [&self.event_type, &self.channel, &self.source].into_iter().any(|given| !given.is_empty());
        let narrowed = given || self.window.start().is_some() || self.window.end().is_some();
        if narrowed == self.all {
            return Err(Failure::Usage(
                "say which events: a time (--since 2h), filters such as --event-type, or --all that are still kept"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

async fn replay(replay: Replay, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    replay.says_which()?;
    let mut endpoint_ids = Vec::with_capacity(replay.to.len());
    for which in &replay.to {
        endpoint_ids.push(name::endpoint_id(admin, tenant, which).await?);
    }
    let request = v1::ReplayEventsRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(v1::EventFilter {
            source_id: name::source_id(admin, tenant, &replay.source).await?,
            event_type: replay.event_type,
            channel: replay.channel,
            start_time: replay.window.start(),
            end_time: replay.window.end(),
        }),
        endpoint_ids,
        only_missing: replay.only_missing,
        rate_per_second: replay.rate,
        max_count: replay.max_count,
        dry_run: replay.dry_run,
        request_id: String::new(),
    };
    let answer = admin.events().replay_events(request).await?.into_inner();
    if let Some(operation) = answer.operation {
        return OperationView::from(operation).begun(form);
    }
    let document = serde_json::json!({
        "event_count": answer.event_count,
        "delivery_count": answer.delivery_count,
        "truncated": answer.truncated,
        "dry_run": true,
    });
    let or_more = if answer.truncated { " or more" } else { "" };
    let rows = [
        ("events that match", answer.event_count.to_string()),
        ("would be queued", format!("{}{or_more}", answer.delivery_count)),
    ];
    output::one(form, &document, &rows)
}

async fn test(test: Test, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let request = v1::SendEndpointTestRequest {
        id: name::endpoint_id(admin, tenant, &test.endpoint).await?,
        event_type: test.event_type,
        channel: String::new(),
        body: test.data.into(),
    };
    let answer = admin.endpoints().send_endpoint_test(request).await?.into_inner();
    let outcome = DeliveryOutcome::new(there(answer.delivery, "delivery")?, false);
    outcome.show(form)?;
    outcome.delivered()
}

async fn stats(
    id: String,
    window: Option<prost_types::Duration>,
    admin: &Admin,
    form: Form,
) -> Result<(), Failure> {
    let request = v1::GetEndpointStatsRequest { id, window };
    let answer = admin.endpoints().get_endpoint_stats(request).await?.into_inner();
    let stats = there(answer.stats, "stats")?;
    let ms = |duration: Option<prost_types::Duration>| {
        duration.map(|duration| duration.seconds * 1000 + i64::from(duration.nanos) / 1_000_000)
    };
    let document = serde_json::json!({
        "delivered_count": stats.delivered_count,
        "failed_count": stats.failed_count,
        "dead_count": stats.dead_count,
        "median_duration_ms": ms(stats.median_duration),
        "p95_duration_ms": ms(stats.p95_duration),
        "waiting_count": stats.waiting_count,
        "dead_letter_count": stats.dead_letter_count,
        "consecutive_failures": stats.consecutive_failures,
        "truncated": stats.truncated,
    });
    let time = |value: Option<i64>| value.map(|ms| format!("{ms} ms")).unwrap_or_default();
    let lines = [
        ("delivered", stats.delivered_count.to_string()),
        ("failed requests", stats.failed_count.to_string()),
        ("died", stats.dead_count.to_string()),
        ("median time", time(ms(stats.median_duration))),
        ("95 % within", time(ms(stats.p95_duration))),
        ("waiting now", stats.waiting_count.to_string()),
        ("dead letters now", stats.dead_letter_count.to_string()),
        ("failed in a row", stats.consecutive_failures.to_string()),
    ];
    output::one(form, &document, &lines)
}

async fn reveal(id: String, admin: &Admin, form: Form) -> Result<(), Failure> {
    let request = v1::RevealEndpointSecretRequest { id };
    let secrets = admin.endpoints().reveal_endpoint_secret(request).await?.into_inner().secrets;
    let shown: Vec<_> =
        secrets.iter().map(|one| serde_json::json!({ "id": one.id, "secret": one.secret })).collect();
    let lines: Vec<(&str, String)> =
        secrets.iter().map(|one| (one.id.as_str(), one.secret.clone())).collect();
    output::one(form, &serde_json::json!({ "secrets": shown }), &lines)
}
