//! After the demonstration: a receiver that prints what arrives, and commands to try.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
    let secret = SecretFile::write(&stage.ready_file.with_file_name("live.secret"), &source.secret)?;
    println!("{}", invitation(stage, &source, &secret.path, cli));
    tokio::select! {
        () = print_arrivals(&customer.receiver) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The source's secret where the commands to try read it: what is printed may end up in a log.
struct SecretFile {
    path: PathBuf,
}

impl SecretFile {
    fn write(path: &Path, secret: &str) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(path).and_then(|mut file| file.write_all(secret.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // The folder it is in goes too, as a rule.
        let _ = fs::remove_file(&self.path);
    }
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

/// Holds no secret, only where each is: the commands work as they stand, and may be logged.
fn invitation(stage: &Stage, source: &Source, secret: &Path, cli: &str) -> String {
    let ready = &stage.ready;
    let admin_url = ready.admin_urls.first().map(String::as_str).unwrap_or_default();
    let key_file = quoted(&ready.admin_key_file);
    let prefix =
        format!("BOWLINE_ADMIN_URL={admin_url} BOWLINE_ADMIN_KEY_FILE={key_file} {}", quoted(Path::new(cli)));
    let (url, name, secret) = (&source.url, &source.name, quoted(secret));
    format!(
        "
Bowline stays up; Ctrl-C ends it. A receiver listens and prints below what arrives.

  webhooks   {ingest}
  admin API  {admin_url}  (gRPC, every replica serves it)
  metrics    {ops}/metrics
  admin key  in {key_file}
  the rest   in {ready_file}  (Postgres and Redis too)

Paste one of these into another terminal:

  A push as GitHub sends it:
{prefix} trigger github --source {name} --secret-file {secret}

  The same by hand, signed with openssl:
body='{{\"zen\":\"Keep it logically awesome.\"}}'; curl -sS {url} -H 'Content-Type: application/json' -H 'X-GitHub-Event: ping' -H \"X-GitHub-Delivery: $(openssl rand -hex 16)\" -H \"X-Hub-Signature-256: sha256=$(printf %s \"$body\" | openssl dgst -sha256 -hmac \"$(cat {secret})\" | sed 's/^.* //')\" -d \"$body\"; echo

  An event of your own:
{prefix} publish --type order.created --data '{{\"id\":7}}'

  What was delivered, and what came back:
{prefix} delivery list --limit 10
",
        ingest = ready.ingest_url,
        ops = ready.ops_urls.first().map(String::as_str).unwrap_or_default(),
        ready_file = quoted(&stage.ready_file),
    )
}

/// As a shell reads it back, whatever the path holds.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
