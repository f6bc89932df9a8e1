//! Webhooks verified, deduplicated and committed, with no dispatcher beside.

use anyhow::Result;

use super::{Bench, all_ok, ms};
use crate::child;
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::{LoadReport, LoadSpec, Pace};

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
const KIB: usize = 1024;
/// By their size, and with how many connections.
const BODIES: [(usize, &str, usize); 3] =
    [(500, "500 B", 64), (8 * KIB, "8 KiB", 64), (200 * KIB, "200 KiB", 64)];
/// Where the machine is the limit and not the number of connections.
const BUDGET_CONNECTIONS: usize = 256;
const BUDGET_RATIO: f64 = 0.33;
const BUDGET_PER_S: f64 = 25_000.0;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for connections in CONNECTIONS {
        metrics.extend(measure(bench, connections, (500, "500 B")).await?);
    }
    for (bytes, name, connections) in BODIES.into_iter().skip(1) {
        metrics.extend(measure(bench, connections, (bytes, name)).await?);
    }
    Ok(metrics)
}

async fn measure(
    bench: &Bench,
    connections: usize,
    (body_bytes, size): (usize, &str),
) -> Result<Vec<Metric>> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let url = rig.source().await?;
    let load = |ms| LoadSpec { connections, body_bytes, ..bench.signed(&url, Pace::ClosedFor { ms }) };
    all_ok(child::load(&load(bench.pick(2_000, 500))).await?)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds() {
        bench.progress.step(format!("{connections} connections, {size}, round {round}"));
        let length_ms = bench.pick(4_000, 800);
        bare.push(bench.bare_http_load(&load(length_ms)).await?);
        ours.push(all_ok(child::load(&load(length_ms)).await?)?);
        rig.alive()?;
    }
    rig.end().await?;
    let name = |what: &str| format!("{what}, {connections} connections, {size}");
    let of =
        |rounds: &[LoadReport], value: fn(&LoadReport) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let latency = |what: &str, value: fn(&LoadReport) -> f64| {
        Metric::new(name(what), "ms", of(&ours, value)).against(&of(&bare, value))
    };
    let mut rate = Metric::new(name("webhooks"), "/s", of(&ours, LoadReport::ok_per_s))
        .against(&of(&bare, LoadReport::ok_per_s));
    if connections == BUDGET_CONNECTIONS {
        rate = rate.budget(Budget::RatioAtLeast(BUDGET_RATIO)).budget(Budget::AtLeast(BUDGET_PER_S));
    }
    Ok(vec![
        rate,
        latency("p50", |report| ms(report.latency.p50_us)),
        latency("p99", |report| ms(report.latency.p99_us)),
        latency("p99.9", |report| ms(report.latency.p999_us)),
    ])
}
