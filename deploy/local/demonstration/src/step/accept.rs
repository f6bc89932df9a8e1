//! A push of GitHub and an event of Stripe come in, and arrive at both receivers; a repeat does not.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::Cast;
use crate::payload;
use crate::receiver::Arrival;
use crate::report::Report;
use crate::signature;
use crate::stage::{ARRIVES_WITHIN, Customer, Stage};

/// What came in, for the repeat.
#[derive(Debug)]
pub(crate) struct Accepted {
    delivery: String,
    body: Vec<u8>,
    id: String,
}

/// Both providers. The push, to be repeated.
pub(crate) async fn run(stage: &Stage, cast: &Cast, report: &mut Report) -> Option<Accepted> {
    report.heading("Webhooks of GitHub and Stripe, signed as they sign");
    let delivery = uuid_like(stage);
    let body = payload::github_push();
    let headers = signature::github(&cast.github.secret, "push", &delivery, &body);
    let sent =
        Sent { provider: "GitHub push", url: &cast.github.url, event_type: "push", headers, body: &body };
    let id = send(stage, cast, report, sent).await;

    let stripe_id = stage.id("evt_");
    match payload::stripe_event(&stripe_id) {
        Ok((body, event_type)) => {
            let headers = signature::stripe(&cast.stripe.secret, signature::unix_now(), &body);
            let sent = Sent {
                provider: "Stripe event",
                url: &cast.stripe.url,
                event_type: &event_type,
                headers,
                body: &body,
            };
            send(stage, cast, report, sent).await;
        }
        Err(error) => {
            report.check(Instant::now(), Err(error));
        }
    }
    id.map(|id| Accepted { delivery, body, id })
}

struct Sent<'a> {
    provider: &'a str,
    url: &'a str,
    event_type: &'a str,
    headers: signature::Headers,
    body: &'a [u8],
}

async fn send(stage: &Stage, cast: &Cast, report: &mut Report, sent: Sent<'_>) -> Option<String> {
    let started = Instant::now();
    let answered = stage.post(sent.url, sent.headers, sent.body.to_vec()).await;
    let accepted = answered.and_then(|answered| answered.accepted());
    let id = match accepted {
        Ok((id, false)) => id,
        Ok((id, true)) => {
            report.check(started, Err(anyhow::anyhow!("{id} was taken for a duplicate")));
            return None;
        }
        Err(error) => {
            report.check(started, Err(error.context(sent.provider.to_owned())));
            return None;
        }
    };
    report.check(started, Ok(format!("{}: 200, {id}", sent.provider)));
    for (format, customer) in cast.customers() {
        let arrival = customer.receiver.delivered(&id, ARRIVES_WITHIN).await;
        let took = arrival.as_ref().map_or(started.elapsed(), |arrival| arrival.at - started);
        let outcome = arrival.and_then(|arrival| {
            intact(format, &arrival, sent.event_type, sent.body)?;
            Ok(format!("{} at the {format} receiver, which found its signature valid", sent.provider))
        });
        report.timed(took, outcome);
    }
    Some(id)
}

/// The envelope holds the type, and the payload as it was sent.
fn intact(format: &str, arrival: &Arrival, event_type: &str, sent: &[u8]) -> anyhow::Result<()> {
    let body: Value = serde_json::from_slice(&arrival.body).context("what arrived is JSON")?;
    let (type_field, data_field) = match format {
        "Chimpbase" => ("event", "payload"),
        _ => ("type", "data"),
    };
    ensure!(body[type_field] == event_type, "{type_field} is {}, not {event_type}", body[type_field]);
    let sent: Value = serde_json::from_slice(sent).context("what was sent is JSON")?;
    ensure!(body[data_field] == sent, "{data_field} is not what was sent");
    Ok(())
}

/// The same delivery once more.
pub(crate) async fn repeat(stage: &Stage, cast: &Cast, accepted: &Accepted, report: &mut Report) {
    report.heading("The same delivery again");
    let started = Instant::now();
    let headers = signature::github(&cast.github.secret, "push", &accepted.delivery, &accepted.body);
    let answered = stage.post(&cast.github.url, headers, accepted.body.clone()).await;
    let outcome = answered.and_then(|answered| {
        let (id, duplicate) = answered.accepted()?;
        ensure!(duplicate, "the repeat was not noticed");
        ensure!(id == accepted.id, "the repeat got another id: {id}");
        Ok(format!("the same delivery id: 200, {id} again, \"duplicate\": true"))
    });
    report.check(started, outcome);
    let started = Instant::now();
    let outcome = fence(stage, cast).await.and_then(|()| once(cast, accepted));
    report.check(
        started,
        outcome.map(|()| "an event sent after it has arrived, the repeat has not".to_owned()),
    );
}

/// An event that comes after: when it is there, what was sent before would be too.
async fn fence(stage: &Stage, cast: &Cast) -> anyhow::Result<()> {
    let id = stage.send(&cast.app, "demo.fence").await?;
    for (_, customer) in cast.customers() {
        customer.receiver.delivered(&id, ARRIVES_WITHIN).await?;
    }
    Ok(())
}

fn once(cast: &Cast, accepted: &Accepted) -> anyhow::Result<()> {
    let times = |customer: &Customer| customer.receiver.of(&accepted.id).len();
    for (format, customer) in cast.customers() {
        match times(customer) {
            1 => {}
            times => bail!("the {format} receiver got {} {times} times", accepted.id),
        }
    }
    Ok(())
}

/// Looked at again after everything else.
pub(crate) fn still_once(cast: &Cast, accepted: &Accepted, report: &mut Report) {
    report.heading("At the end");
    let outcome = once(cast, accepted);
    report.check(
        Instant::now(),
        outcome.map(|()| "the repeated delivery arrived once at each receiver, and never again".to_owned()),
    );
}

/// GitHub's delivery ids look like this.
fn uuid_like(stage: &Stage) -> String {
    let id = stage.id("");
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        stage.id("").get(8..20).unwrap_or_default()
    )
}
