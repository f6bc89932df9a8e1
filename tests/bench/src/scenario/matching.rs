//! One event and the endpoint it is for, among very many others of the tenant.

use anyhow::{Context, Result};

use super::latency::{pace, steady};
use super::{Bench, EVENT_TYPE, endpoint, ms, rows};
use crate::procfs;
use crate::report::{Budget, Metric};
use crate::rig::Rig;

const RATIO_MAX: f64 = 2.0;
const RATE_PER_S: u64 = 200;
const THOUSAND: f64 = 1_000.0;

/// What was measured with one number of endpoints.
struct Measured {
    endpoints: u64,
    p50_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut all = Vec::new();
    for endpoints in bench.pick([100, 10_000, 100_000], [100, 1_000, 10_000]) {
        bench.progress.step(format!("{endpoints} endpoints"));
        all.push(measure(bench, endpoints).await?);
    }
    let mut metrics = Vec::new();
    for measured in &all {
        let p50 = Metric::new(
            format!("POST in to POST out, p50, {} endpoints", measured.endpoints),
            "ms",
            measured.p50_ms.clone(),
        );
        let cpu = Metric::new(
            format!("CPU of the dispatcher per 1000 events, {} endpoints", measured.endpoints),
            "ms",
            measured.cpu_ms.clone(),
        );
        if measured.endpoints == all[0].endpoints {
            metrics.extend([p50, cpu]);
        } else {
            metrics.push(p50.against(&all[0].p50_ms).budget(Budget::RatioAtMost(RATIO_MAX)));
            metrics.push(cpu.against(&all[0].cpu_ms).budget(Budget::RatioAtMost(RATIO_MAX)));
        }
    }
    Ok(metrics)
}

async fn measure(bench: &Bench, endpoints: u64) -> Result<Measured> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let url = rig.source().await?;
    let (like, _) = rig.admin()?.endpoint(endpoint(bench.healthy("e0"), EVENT_TYPE, 64)).await;
    rows::endpoints(&rig, &like, endpoints).await?;
    rig.start_dispatcher().await?;
    let pid = rig.dispatcher.as_ref().context("a dispatcher")?.pid();
    steady(bench, &mut rig, bench.signed(&url, pace(RATE_PER_S, 1))).await?;
    let (mut p50_ms, mut cpu_ms) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let before = procfs::cpu(pid)?;
        let quantiles =
            steady(bench, &mut rig, bench.signed(&url, pace(RATE_PER_S, bench.pick(8, 2)))).await?;
        let used = procfs::cpu(pid)?.saturating_sub(before);
        p50_ms.push(ms(quantiles.p50_us));
        cpu_ms.push(used.as_secs_f64() * THOUSAND * THOUSAND / quantiles.count as f64);
    }
    rig.end().await?;
    Ok(Measured { endpoints, p50_ms, cpu_ms })
}
