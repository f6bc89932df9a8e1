//! From the moment a webhook was meant to be sent to the arrival of its delivery, at a steady rate.

use anyhow::Result;

use super::{Bench, all_ok, make_endpoints, ms};
use crate::child;
use crate::disk;
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::{LoadSpec, Pace, Quantiles};

const RATES_PER_S: [u64; 3] = [50, 200, 1000];
/// The rate that has budgets.
const BUDGET_RATE_PER_S: u64 = 200;
const P50_BUDGET_MS: f64 = 2.5;
const P99_BUDGET_MS: f64 = 8.0;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut rig = Rig::start(&bench.stores).await?;
    let url = rig.source().await?;
    make_endpoints(bench, &rig, 1).await?;
    bench.progress.step("warming up");
    steady(bench, &mut rig, bench.signed(&url, pace(500, bench.pick(4, 1)))).await?;
    let mut metrics = Vec::new();
    for rate in RATES_PER_S {
        let (mut ours, mut direct, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=bench.rounds() {
            bench.progress.step(format!("{rate}/s, round {round}"));
            let spec = bench.signed(&url, pace(rate, bench.pick(8, 2)));
            direct.push(straight(bench, &spec).await?);
            let disk = disk::Watch::start()?;
            ours.push(steady(bench, &mut rig, spec).await?);
            syncs.push(disk.end()?.as_secs_f64() * 1000.0);
        }
        metrics.extend(of_rate(rate, &ours, &direct));
        metrics.push(Metric::new(format!("longest sync of the disk meanwhile, {rate}/s"), "ms", syncs));
    }
    rig.end().await?;
    Ok(metrics)
}

pub(super) fn pace(rate: u64, seconds: u64) -> Pace {
    Pace::Open { rate_per_s: rate as f64, requests: rate * seconds }
}

/// Through Bowline to the sink.
pub(super) async fn steady(bench: &Bench, rig: &mut Rig, spec: LoadSpec) -> Result<Quantiles> {
    let report = all_ok(child::load(&spec).await?)?;
    Ok(bench.delivered(rig, spec.run, report.ok).await?.latency)
}

/// The same straight to the sink: its own round trip.
pub(super) async fn straight(bench: &Bench, spec: &LoadSpec) -> Result<Quantiles> {
    let mut spec = LoadSpec { run: bench.next_run(), ..spec.clone() };
    if let crate::wire::Target::Signed { url, .. } = &mut spec.target {
        *url = bench.healthy("direct");
    }
    Ok(all_ok(child::load(&spec).await?)?.latency)
}

fn of_rate(rate: u64, ours: &[Quantiles], direct: &[Quantiles]) -> Vec<Metric> {
    let metric = |name: &str, of: fn(&Quantiles) -> u64| {
        let values = |rounds: &[Quantiles]| rounds.iter().map(|round| ms(of(round))).collect::<Vec<_>>();
        Metric::new(format!("{name} at {rate}/s"), "ms", values(ours)).against(&values(direct))
    };
    let mut all = [
        metric("p50", |round| round.p50_us),
        metric("p99", |round| round.p99_us),
        metric("p99.9", |round| round.p999_us),
    ];
    if rate == BUDGET_RATE_PER_S {
        all[0] = all[0].clone().budget(Budget::AtMost(P50_BUDGET_MS));
        all[1] = all[1].clone().budget(Budget::AtMost(P99_BUDGET_MS));
    }
    all.into()
}
