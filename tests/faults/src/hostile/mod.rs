//! Bad input at volume: whatever is sent, the services stay up, memory stays flat, and nothing that
//! should be refused is accepted.
//!
//! 1. [`signatures`] makes requests that are right but for what proves who sent them, [`requests`] those
//!    that are no HTTP, too large, slow, or two requests in one; [`http`] sends both over raw sockets.
//! 2. [`calls`] makes gRPC calls that must be refused, [`frames`] what is no gRPC at all; [`grpc`] sends
//!    both.
//! 3. Beside them good webhooks and calls show that the services still serve.

mod calls;
mod frames;
mod grpc;
mod http;
mod requests;
mod signatures;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bowline_tests::{Provider, Stack, sign};
use tokio_util::sync::CancellationToken;

use crate::replica::rss_kib;

/// Bowline tells of each source once within the hour that its requests are refused.
const TOLD_TOO_OFTEN: &str = "SELECT count(*) - (SELECT count(*) FROM sources) FROM events
                               WHERE event_type = 'bowline.source.failing'";
const EVENTS: &str = "SELECT count(*) FROM events WHERE event_type <> 'bowline.source.failing'";
/// The presets whose signatures are forged.
const PRESETS: &[&str] = &[
    "github",
    "stripe",
    "slack",
    "shopify",
    "standard",
    "chimpbase",
    "rkt",
    "chatbase",
    "connectgain",
    "chatblocks",
];
/// So that slow requests are cut off within the run.
const HEADER_TIMEOUT: &str = "2s";
const BODY_TIMEOUT: &str = "3s";
const GOOD_EVERY: Duration = Duration::from_millis(500);
const GROWTH_KIB: u64 = 64 * 1024;
const PEAK_KIB: u64 = 512 * 1024;

/// A source to be attacked: its preset, where it is, and its secret.
#[derive(Debug, Clone)]
pub struct Target {
    pub preset: &'static str,
    pub path: String,
    pub secret: String,
}

/// What came of the requests, by kind.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: Mutex<BTreeMap<&'static str, Counts>>,
    wrongs: Mutex<Vec<String>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    refused: u64,
    /// The connection was closed without a word.
    dropped: u64,
}

impl Tally {
    fn refused(&self, kind: &'static str) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default().refused += 1;
    }

    fn dropped(&self, kind: &'static str) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default().dropped += 1;
    }

    /// What must not be.
    fn wrong(&self, detail: String) {
        self.wrongs.lock().unwrap_or_else(PoisonError::into_inner).push(detail);
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    pub seed: u64,
    pub http: u64,
    pub grpc: u64,
}

/// Runs, prints, and says whether all of it was refused and all else went on.
///
/// # Errors
/// When the stack does not start.
pub async fn run(volume: Volume) -> Result<bool> {
    println!(
        "seed {}: {} hostile HTTP requests, {} hostile gRPC requests",
        volume.seed, volume.http, volume.grpc
    );
    let mut stack = Stack::builder()
        .set("BOWLINE_INGEST_HEADER_TIMEOUT", HEADER_TIMEOUT)
        .set("BOWLINE_INGEST_BODY_TIMEOUT", BODY_TIMEOUT)
        .set("BOWLINE_LOG_FILTER", "info")
        .start()
        .await;
    let mut targets = Vec::new();
    for preset in PRESETS {
        let secret = sign::test_secret(preset);
        let id = stack.admin().source(preset, &secret).await;
        targets.push(Target { preset, path: format!("/in/{id}"), secret });
    }
    let tally = Arc::new(Tally::default());
    let good = Good::start(&stack).await;
    let began = Instant::now();
    let memory = Memory::watch([stack.ingests[0].pid(), stack.dispatchers[0].pid()]);
    let ingest = bowline_tests::stores::address(&stack.ingests[0].http_url())?;
    http::send_all(volume, ingest, &targets, &tally).await;
    println!("HTTP: {:.1} s", began.elapsed().as_secs_f64());
    let admins = [stack.ingests[0].admin_url(), stack.dispatchers[0].admin_url()];
    let admins = admins.iter().map(|url| bowline_tests::stores::address(url)).collect::<Result<Vec<_>>>()?;
    grpc::send_all(volume, &admins, &tally).await;
    println!("all: {:.1} s", began.elapsed().as_secs_f64());

    let accepted = good.finish().await?;
    memory.judge(&tally);
    for service in stack.ingests.iter_mut().chain(&mut stack.dispatchers) {
        if let Some(status) = service.ended() {
            tally.wrong(format!("a service ended ({status}):\n{}", crate::replica::tail(&service.log())));
        }
    }
    if stack.logs().contains("panicked at") {
        tally.wrong("a service panicked: see its log".to_owned());
    }
    if stack.database.count(TOLD_TOO_OFTEN).await > 0 {
        tally.wrong("more was told of failing sources than there are sources".to_owned());
    }
    let events = stack.database.count(EVENTS).await;
    if events != accepted {
        tally.wrong(format!("{events} events for {accepted} good requests: something hostile was accepted"));
        name_accepted(&stack, &tally).await?;
    }
    Ok(report(&tally, accepted))
}

/// Says what the database knows of the hostile events.
async fn name_accepted(stack: &Stack, tally: &Tally) -> Result<()> {
    let hostile = "SELECT s.spec->>'preset', e.event_type, encode(e.headers, 'escape'),
                          left(encode(e.body, 'escape'), 200)
                     FROM events AS e LEFT JOIN sources AS s ON s.id = e.source_id
                    WHERE position('hostile'::bytea IN e.body) > 0 LIMIT 20";
    for row in stack.database.sql().query(hostile, &[]).await? {
        let text = |column: usize| row.get::<_, Option<String>>(column).unwrap_or_default();
        tally.wrong(format!("accepted by {:?} as {}: {} {}", text(0), text(1), text(2), text(3)));
    }
    Ok(())
}

fn report(tally: &Tally, accepted: i64) -> bool {
    println!("\n{:<36} {:>9} {:>9}", "kind", "refused", "dropped");
    let kinds = tally.kinds.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut refused, mut dropped) = (0, 0);
    for (kind, counts) in kinds.iter() {
        println!("{kind:<36} {:>9} {:>9}", counts.refused, counts.dropped);
        refused += counts.refused;
        dropped += counts.dropped;
    }
    println!("{:<36} {refused:>9} {dropped:>9}", "all");
    let wrongs = tally.wrongs.lock().unwrap_or_else(PoisonError::into_inner);
    for wrong in wrongs.iter().take(40) {
        eprintln!("VIOLATION {wrong}");
    }
    println!("{accepted} good requests beside them were accepted; {} violations", wrongs.len());
    wrongs.is_empty()
}

/// Good webhooks and calls beside the hostile ones.
struct Good {
    stop: CancellationToken,
    sending: tokio::task::JoinHandle<Result<i64>>,
}

impl Good {
    async fn start(stack: &Stack) -> Self {
        let provider = Provider::create(stack).await;
        let operator = stack.admin();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let sending = tokio::spawn(async move {
            let mut accepted = 0;
            let mut pace = tokio::time::interval(GOOD_EVERY);
            loop {
                pace.tick().await;
                let answer =
                    provider.try_push(&format!("good-{accepted}")).await.context("a good webhook")?;
                ensure!(answer.status == 200, "a good webhook got {}: {}", answer.status, answer.text());
                operator.publish("good.event").await;
                accepted += 2;
                // Asked at the end, so that something good comes after the last hostile one.
                if stopped.is_cancelled() {
                    return Ok(accepted);
                }
            }
        });
        Self { stop, sending }
    }

    async fn finish(self) -> Result<i64> {
        self.stop.cancel();
        self.sending.await.context("the sender of good requests")?
    }
}

/// Watches what the services take.
struct Memory {
    samples: Arc<Mutex<Vec<[u64; 2]>>>,
    stop: CancellationToken,
}

impl Memory {
    fn watch(pids: [u32; 2]) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let noted = samples.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(250));
            loop {
                pace.tick().await;
                let sample = pids.map(|pid| rss_kib(pid).unwrap_or_default());
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        }));
        Self { samples, stop }
    }

    /// The first quarter warms up; the last sample may not be far above it.
    fn judge(&self, tally: &Tally) {
        self.stop.cancel();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, name) in ["ingest", "dispatcher"].iter().enumerate() {
            let of = |range: &[[u64; 2]]| range.iter().map(|sample| sample[index]).max().unwrap_or_default();
            let (warm, peak) = (of(&samples[..samples.len().div_ceil(4)]), of(&samples));
            let last = samples.last().map_or(0, |sample| sample[index]);
            let shown = format!("{name}: {warm} KiB warm, {peak} at most, {last} at the end");
            println!("{shown}");
            if peak > PEAK_KIB || last > (warm * 3 / 2).max(warm + GROWTH_KIB) {
                tally.wrong(format!("memory grew: {shown}"));
            }
        }
    }
}
