//! What a source has received: latest, aggregate and list, asked of full windows.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bowline_proto::v1;

use super::{BODY_BYTES, Bench, all_ok, ms};
use crate::child;
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::{Latencies, LoadSpec, Pace, Quantiles, Target};

/// What a query sees where nothing else is said.
const WINDOW: u64 = 1_000;
/// More than that, so that the window has an end.
const PAYLOADS: u64 = 1_200;
const BUDGET_MS: f64 = 2.0;
/// A numbered body has its number here, as text.
const FIELD: &str = "n";
const CONNECTIONS: usize = 8;

/// One question.
#[derive(Debug, Clone, Copy)]
enum Query {
    Latest,
    /// Over every body of the window.
    Sum,
    /// No body is read.
    Count,
    /// The newest ten.
    Newest,
    /// All are sorted by what their bodies say, and ten taken.
    Sorted,
    /// Sorted, and a hundred taken.
    SortedHundred,
}

const QUERIES: [Query; 6] =
    [Query::Latest, Query::Sum, Query::Count, Query::Newest, Query::Sorted, Query::SortedHundred];

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let mut sources = Vec::new();
    for number in 0..bench.pick(20, 3) {
        bench.progress.step(format!("filling source {number}"));
        sources.push(full_source(bench, &rig).await?);
    }
    // As after some hours of work: the planner knows the tables.
    rig.execute("ANALYZE").await?;
    let mut rounds: Vec<Vec<Quantiles>> = vec![Vec::new(); QUERIES.len()];
    for round in 0..=bench.rounds() {
        for (query, rounds) in QUERIES.into_iter().zip(&mut rounds) {
            bench.progress.step(format!("{}, round {round}", query.name()));
            let took = ask_all(&rig, query, &sources, bench.pick(1_000, 100)).await?;
            // The first round is for the connections and the caches.
            if round > 0 {
                rounds.push(took);
            }
        }
        rig.alive()?;
    }
    rig.end().await?;
    let metrics = QUERIES.into_iter().zip(rounds).flat_map(|(query, rounds)| {
        let of = |at: fn(&Quantiles) -> u64| rounds.iter().map(|took| ms(at(took))).collect();
        let metric = |name, values| Metric::new(format!("{}, {name}", query.name()), "ms", values);
        [
            metric("p50", of(|took| took.p50_us)).budget(Budget::AtMost(BUDGET_MS)),
            metric("p99", of(|took| took.p99_us)),
        ]
    });
    Ok(metrics.collect())
}

/// A source that has received more than a window holds.
async fn full_source(bench: &Bench, rig: &Rig) -> Result<String> {
    let source = v1::Source { insecure: true, event_type: "bench.queried".into(), ..Default::default() };
    let source_id = rig.admin()?.source_like(source, "").await.id;
    let spec = LoadSpec {
        target: Target::Given { url: rig.inbound(&source_id)?, headers: Vec::new(), body: String::new() },
        connections: CONNECTIONS,
        body_bytes: BODY_BYTES,
        pace: Pace::Closed { requests: PAYLOADS },
        run: bench.next_run(),
    };
    all_ok(child::load(&spec).await?)?;
    Ok(source_id)
}

/// One after another, over the sources in turn.
async fn ask_all(rig: &Rig, query: Query, sources: &[String], times: usize) -> Result<Quantiles> {
    let mut client = rig.admin()?.payloads();
    let mut latencies = Latencies::default();
    for source_id in sources.iter().cycle().take(times) {
        let took = query.ask(&mut client, source_id.clone()).await?;
        latencies.record(took);
    }
    Ok(latencies.quantiles())
}

type Payloads = v1::payload_service_client::PayloadServiceClient<bowline_tests::admin::Authorized>;

impl Query {
    fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Sum => "sum of a field",
            Self::Count => "count",
            Self::Newest => "list of 10",
            Self::Sorted => "list of 10, sorted",
            Self::SortedHundred => "list of 100, sorted",
        }
    }

    /// An answer that is not what it must be measures nothing.
    async fn ask(self, client: &mut Payloads, source_id: String) -> Result<Duration> {
        let (seen, wanted, took) = match self {
            Self::Latest => {
                let start = Instant::now();
                let answer = client.get_latest_payload(v1::GetLatestPayloadRequest { source_id }).await?;
                let took = start.elapsed();
                (u64::from(answer.into_inner().payload.is_some()), 1, took)
            }
            Self::Sum => aggregate(client, source_id, v1::AggregateOp::Sum, FIELD).await?,
            Self::Count => aggregate(client, source_id, v1::AggregateOp::Count, "").await?,
            Self::Newest => list(client, source_id, 10, "").await?,
            Self::Sorted => list(client, source_id, 10, FIELD).await?,
            Self::SortedHundred => list(client, source_id, 100, FIELD).await?,
        };
        ensure!(seen == wanted, "{} saw {seen} of {wanted} payloads", self.name());
        Ok(took)
    }
}

/// What was seen, what there is to see, and how long it took.
type Asked = (u64, u64, Duration);

async fn aggregate(
    client: &mut Payloads,
    source_id: String,
    op: v1::AggregateOp,
    field: &str,
) -> Result<Asked> {
    let query = v1::AggregateQuery {
        window: v1::AggregateWindow::AggregateWindow7d.into(),
        op: op.into(),
        field: field.into(),
    };
    let request = v1::AggregatePayloadsRequest { source_id, query: Some(query) };
    let start = Instant::now();
    let answer = client.aggregate_payloads(request).await?;
    let took = start.elapsed();
    Ok((u64::try_from(answer.into_inner().count)?, WINDOW, took))
}

async fn list(client: &mut Payloads, source_id: String, limit: u16, sort_by: &str) -> Result<Asked> {
    let query = v1::ListQuery { limit: limit.into(), sort_by: sort_by.into(), ..Default::default() };
    let request = v1::ListPayloadsRequest { source_id, query: Some(query), ..Default::default() };
    let start = Instant::now();
    let answer = client.list_payloads(request).await?;
    let took = start.elapsed();
    Ok((answer.into_inner().payloads.len() as u64, limit.into(), took))
}
