//! After the demonstration: a receiver that prints what arrives, and commands to try.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::receiver::{Answer, Arrival, Receiver};
use crate::stage::{Source, Stage, Wanted};

const PREVIEW_CHARACTERS: usize = 100;

/// Stays until SIGINT or SIGTERM.
pub(crate) async fn run(stage: &Stage, cli: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let source = stage.source("live", "github").await?;
    let waits = [Duration::from_secs(5); 3];
    let customer = stage
        .customer(Wanted {
            name: "live",
            format: "standard",
            event_types: &[],
            waits: &waits,
            answer: Answer::Accept,
        })
        .await?;
    println!("{}", invitation(stage, &source, cli));
    tokio::select! {
        () = print_arrivals(&customer.receiver) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn print_arrivals(receiver: &Receiver) {
    let mut arrivals = receiver.subscribe();
    let mut printed = 0;
    loop {
        let new: Vec<Arrival> = arrivals
            .borrow_and_update()
            .iter()
            .filter(|arrival| arrival.number > printed && arrival.status != 0)
            .cloned()
            .collect();
        for arrival in new {
            printed = printed.max(arrival.number);
            println!("{}", line(&arrival));
        }
        if arrivals.changed().await.is_err() {
            return;
        }
    }
}

fn line(arrival: &Arrival) -> String {
    let text: String = String::from_utf8_lossy(&arrival.body)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(PREVIEW_CHARACTERS)
        .collect();
    let verdict = arrival.fault.as_deref().unwrap_or("signature valid");
    let time = chrono::Local::now().format("%H:%M:%S%.3f");
    format!(
        "{time}  {}  attempt {}  {verdict}  {} bytes  {text}",
        arrival.id,
        arrival.attempt,
        arrival.body.len()
    )
}

fn invitation(stage: &Stage, source: &Source, cli: &str) -> String {
    let ready = &stage.ready;
    let admin_url = ready.admin_urls.first().map(String::as_str).unwrap_or_default();
    let prefix = format!("BOWLINE_ADMIN_URL={admin_url} BOWLINE_ADMIN_KEY={} {cli}", ready.admin_key);
    let (url, secret, name) = (&source.url, &source.secret, &source.name);
    format!(
        "
Bowline stays up; Ctrl-C ends it. A receiver listens and prints below what arrives.

  webhooks   {ingest}
  admin API  {admin_url}  (gRPC, every replica serves it)
  admin key  {key}
  metrics    {ops}/metrics
  Postgres   {postgres}

Paste one of these into another terminal:

  A push as GitHub sends it:
SOURCE_SECRET='{secret}' {prefix} trigger github --source {name} --secret-env SOURCE_SECRET

  The same by hand, signed with openssl:
body='{{\"zen\":\"Keep it logically awesome.\"}}'; curl -sS {url} -H 'Content-Type: application/json' -H 'X-GitHub-Event: ping' -H \"X-GitHub-Delivery: $(openssl rand -hex 16)\" -H \"X-Hub-Signature-256: sha256=$(printf %s \"$body\" | openssl dgst -sha256 -hmac '{secret}' | sed 's/^.* //')\" -d \"$body\"; echo

  What was delivered, and what came back:
{prefix} delivery list --limit 10
",
        ingest = ready.ingest_url,
        key = ready.admin_key,
        ops = ready.ops_urls.first().map(String::as_str).unwrap_or_default(),
        postgres = ready.postgres_url,
    )
}
