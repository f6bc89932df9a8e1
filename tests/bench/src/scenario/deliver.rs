//! First attempts alone: the events are committed before the dispatcher starts, and the clock runs from
//! its first request until every outcome is in Postgres.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, ROUND_WITHIN, all_ok, make_endpoints};
use crate::child;
use crate::report::Metric;
use crate::rig::Rig;
use crate::wire::{Pace, per_second, unix_ns};

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for (endpoints, requests) in [(1, bench.pick(100_000, 20_000)), (5, bench.pick(40_000, 8_000))] {
        metrics.push(measure(bench, endpoints, requests).await?);
    }
    Ok(metrics)
}

async fn measure(bench: &Bench, endpoints: usize, requests: u64) -> Result<Metric> {
    let (mut rounds, mut limits) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds() {
        bench.progress.step(format!("{endpoints} endpoints, round {round}"));
        limits.push(bench.bare_client_rate(endpoints, bench.pick(3_000, 1_000)).await?);
        rounds.push(one_round(bench, endpoints, requests).await?);
    }
    let name = if endpoints == 1 { "1 endpoint".to_owned() } else { format!("{endpoints} endpoints") };
    Ok(Metric::new(format!("first attempts, {name}"), "/s", rounds).against(&limits))
}

async fn one_round(bench: &Bench, endpoints: usize, requests: u64) -> Result<f64> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let url = rig.source().await?;
    make_endpoints(bench, &rig, endpoints).await?;
    let spec = bench.signed(&url, Pace::Closed { requests });
    all_ok(child::load(&spec).await?)?;
    let expected = requests * endpoints as u64;
    rig.start_dispatcher().await?;
    let seen = bench.delivered(&mut rig, spec.run, expected).await?;
    rig.recorded(ROUND_WITHIN).await?;
    let elapsed = Duration::from_nanos(unix_ns().saturating_sub(seen.first_unix_ns));
    let logged = rig.number("SELECT count(*) FROM attempts WHERE decision = 'delivered'").await?;
    ensure!(logged as u64 >= expected, "{logged} of {expected} deliveries are recorded");
    rig.end().await?;
    Ok(per_second(expected, elapsed))
}
