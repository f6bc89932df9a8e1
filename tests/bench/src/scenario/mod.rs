//! The scenarios, one a file, and what several of them do.

mod backlog;
mod cost;
mod deliver;
mod front;
mod ingest;
mod keys;
mod latency;
mod lists;
mod matching;
mod memory;
mod neighbours;
mod ordered;
mod publish;
mod query;
mod rows;
mod through;
mod verify;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use bowline_proto::v1;

use crate::arguments::Scenario;
use crate::child::{self, Server};
use crate::progress::Progress;
use crate::report::Metric;
use crate::rig::{Rig, SOURCE_SECRET, Stores};
use crate::server::Kind;
use crate::wire::{LoadReport, LoadSpec, Pace, SinkReport, Target};

/// Bodies are of this size where their size is not the point.
const BODY_BYTES: usize = 512;
/// Connections of the load, where their number is not the point.
const CONNECTIONS: usize = 64;
/// Enough that the batches of the journal are large, where full load is asked for.
const SATURATING_CONNECTIONS: usize = 256;
/// Requests out at once for each endpoint whose throughput is measured; the limit has as many.
const ENDPOINT_CONCURRENCY: u32 = 64;
const EVENT_TYPE: &str = "push";
/// What a single round may take before it counts as stuck.
const ROUND_WITHIN: Duration = Duration::from_secs(180);

/// What all scenarios share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) stores: Stores,
    pub(crate) progress: Progress,
    sink: Server,
    bare_http: Server,
    quick: bool,
    runs: AtomicU32,
}

pub(crate) async fn run(bench: &Bench, which: Scenario) -> Result<Vec<Metric>> {
    match which {
        Scenario::Through => through::run(bench).await,
        Scenario::Latency => latency::run(bench).await,
        Scenario::Neighbours => neighbours::run(bench).await,
        Scenario::Ingest => ingest::run(bench).await,
        Scenario::Verify => verify::run(bench).await,
        Scenario::Publish => publish::run(bench).await,
        Scenario::Deliver => deliver::run(bench).await,
        Scenario::Cost => cost::run(bench).await,
        Scenario::Memory => memory::run(bench).await,
        Scenario::Backlog => backlog::run(bench).await,
        Scenario::Match => matching::run(bench).await,
        Scenario::Keys => keys::run(bench).await,
        Scenario::Query => query::run(bench).await,
        Scenario::Ordered => ordered::run(bench).await,
        Scenario::Lists => lists::run(bench).await,
    }
}

impl Bench {
    pub(crate) async fn start(stores: Stores, quick: bool, progress: Progress) -> Result<Self> {
        Ok(Self {
            stores,
            progress,
            sink: Server::start(Kind::Sink).await?,
            bare_http: Server::start(Kind::Http).await?,
            quick,
            runs: AtomicU32::new(1),
        })
    }

    /// Long and short of a number.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn rounds(&self) -> usize {
        self.pick(5, 1)
    }

    fn next_run(&self) -> u32 {
        self.runs.fetch_add(1, Ordering::Relaxed)
    }

    /// An endpoint of the sink that answers at once.
    fn healthy(&self, name: &str) -> String {
        format!("{}/ok/{name}", self.sink.url())
    }

    /// A load of signed webhooks.
    fn signed(&self, url: &str, pace: Pace) -> LoadSpec {
        LoadSpec {
            target: Target::Signed {
                url: url.to_owned(),
                secret: SOURCE_SECRET.to_owned(),
                event_types: vec![EVENT_TYPE.to_owned()],
            },
            connections: CONNECTIONS,
            body_bytes: BODY_BYTES,
            pace,
            run: self.next_run(),
        }
    }

    /// The rate of the bare hyper server under that load.
    async fn bare_http_load(&self, spec: &LoadSpec) -> Result<LoadReport> {
        let mut spec = LoadSpec { run: self.next_run(), ..spec.clone() };
        if let Target::Signed { url, .. } = &mut spec.target {
            *url = format!("{}/in/bare", self.bare_http.url());
        }
        all_ok(child::load(&spec).await?)
    }

    /// The rate of a bare reqwest loop to that many endpoints of the sink.
    async fn bare_client_rate(&self, endpoints: usize, ms: u64) -> Result<f64> {
        let spec = LoadSpec {
            target: Target::Client {
                urls: (0..endpoints).map(|n| self.healthy(&format!("limit{n}"))).collect(),
            },
            connections: ENDPOINT_CONCURRENCY as usize * endpoints,
            body_bytes: BODY_BYTES,
            pace: Pace::ClosedFor { ms },
            run: self.next_run(),
        };
        Ok(all_ok(child::load(&spec).await?)?.ok_per_s())
    }

    /// Waits until the sink has seen so many deliveries of a run.
    async fn delivered(&self, rig: &mut Rig, run: u32, count: u64) -> Result<SinkReport> {
        let what = format!("{count} deliveries at the sink");
        rig.until(&what, ROUND_WITHIN, async |_| {
            let seen = self.sink.seen(run).await?;
            Ok((seen.total() >= count).then_some(seen))
        })
        .await
    }
}

/// An endpoint in the default format.
fn endpoint(url: String, event_type: &str, concurrency: u32) -> v1::Endpoint {
    v1::Endpoint { url, event_types: vec![event_type.to_owned()], concurrency, ..Default::default() }
}

/// Endpoints that get everything, each with a name of its own at the sink.
async fn make_endpoints(bench: &Bench, rig: &Rig, count: usize) -> Result<()> {
    let admin = rig.admin()?;
    for number in 0..count {
        let url = bench.healthy(&format!("e{number}"));
        admin.endpoint(endpoint(url, EVENT_TYPE, ENDPOINT_CONCURRENCY)).await;
    }
    Ok(())
}

/// A load that is not answered throughout measures nothing.
fn all_ok(report: LoadReport) -> Result<LoadReport> {
    ensure!(report.failed.is_empty(), "{} requests succeeded, others: {:?}", report.ok, report.failed);
    ensure!(report.ok > 0, "no request was answered");
    Ok(report)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// At full load.
fn saturating(spec: LoadSpec) -> LoadSpec {
    LoadSpec { connections: SATURATING_CONNECTIONS, ..spec }
}
