//! Resident memory of each service: idle, at full load, with many endpoints, and after much change.

use anyhow::{Context, Result};
use bowline_proto::v1;
use bowline_tests::service::Service;

use super::{Bench, ROUND_WITHIN, all_ok, endpoint, make_endpoints, rows};
use crate::child;
use crate::procfs;
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::Pace;

const MIB: f64 = 1024.0 * 1024.0;
const IDLE_MAX: f64 = 25.0;
const LOADED_MAX: f64 = 150.0;
const MANY_ENDPOINTS_MAX: f64 = 300.0;

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    let mut rig = Rig::start(&bench.stores).await?;
    let url = rig.source().await?;
    metrics.extend(of_each(&rig, "idle", IDLE_MAX, procfs::resident)?);

    bench.progress.step("full load");
    make_endpoints(bench, &rig, 1).await?;
    full_load(bench, &mut rig, &url).await?;
    metrics.extend(of_each(&rig, "peak at full load", LOADED_MAX, procfs::resident_peak)?);

    bench.progress.step("churn");
    let changes = bench.pick(5_000, 100);
    churn(&rig, bench, changes).await?;
    full_load(bench, &mut rig, &url).await?;
    let name = format!("after {changes} endpoints came and went under load");
    metrics.extend(of_each(&rig, &name, LOADED_MAX, procfs::resident)?);
    rig.end().await?;

    let count = bench.pick(100_000, 10_000);
    bench.progress.step(format!("{count} endpoints"));
    metrics.extend(with_endpoints(bench, count).await?);
    Ok(metrics)
}

async fn full_load(bench: &Bench, rig: &mut Rig, url: &str) -> Result<()> {
    let spec = bench.signed(url, Pace::Closed { requests: bench.pick(200_000, 20_000) });
    let report = all_ok(child::load(&spec).await?)?;
    bench.delivered(rig, spec.run, report.ok).await?;
    rig.recorded(ROUND_WITHIN).await
}

/// Configuration changes as fast as the API makes them: what a replica kept of each would show.
async fn churn(rig: &Rig, bench: &Bench, changes: u64) -> Result<()> {
    let admin = rig.admin()?;
    for number in 0..changes {
        let (id, _) = admin.endpoint(endpoint(bench.healthy("churn"), &format!("churn.{number}"), 0)).await;
        let request = v1::DeleteEndpointRequest { id, ..Default::default() };
        admin.endpoints().delete_endpoint(request).await.context("an endpoint that goes")?;
    }
    Ok(())
}

/// Started with that many, so that nothing but them is counted; then one load through.
async fn with_endpoints(bench: &Bench, count: u64) -> Result<Vec<Metric>> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let url = rig.source().await?;
    let (like, _) = rig.admin()?.endpoint(endpoint(bench.healthy("e0"), super::EVENT_TYPE, 64)).await;
    rows::endpoints(&rig, &like, count).await?;
    let source_id = url.rsplit('/').next().context("the id of the source")?.to_owned();
    rig.restart_ingest().await?;
    rig.start_dispatcher().await?;
    let url = rig.inbound(&source_id)?;
    let spec = bench.signed(&url, Pace::Closed { requests: 2_000 });
    let report = all_ok(child::load(&spec).await?)?;
    bench.delivered(&mut rig, spec.run, report.ok).await?;
    let metrics = of_each(&rig, &format!("with {count} endpoints"), MANY_ENDPOINTS_MAX, procfs::resident)?;
    rig.end().await?;
    Ok(metrics)
}

fn of_each(rig: &Rig, when: &str, budget: f64, read: fn(u32) -> Result<u64>) -> Result<Vec<Metric>> {
    let one = |name: &str, service: &Option<Service>| {
        let pid = service.as_ref().context("a service that runs")?.pid();
        let mib = read(pid)? as f64 / MIB;
        anyhow::Ok(Metric::new(format!("{name}, {when}"), "MiB", vec![mib]).budget(Budget::AtMost(budget)))
    };
    Ok(vec![one("ingest", &rig.ingest)?, one("dispatcher", &rig.dispatcher)?])
}
