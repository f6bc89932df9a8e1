//! The two doors by which events come in, each against a bare server of its kind under the same load.

use anyhow::Result;
use bowline_tests::admin::KEY;

use super::{Bench, CONNECTIONS, EVENT_TYPE, all_ok, ms};
use crate::child::{self, Server};
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::server::Kind;
use crate::wire::{LoadReport, LoadSpec, Pace, Target};

const KIB: usize = 1024;
const SMALL: Size = Size { bytes: 500, name: "500 B" };
const LARGER: [Size; 2] =
    [Size { bytes: 8 * KIB, name: "8 KiB" }, Size { bytes: 200 * KIB, name: "200 KiB" }];
const CONNECTION_COUNTS: [usize; 4] = [1, 16, 64, 256];
/// Where the machine is the limit and not the number of connections.
const BUDGET_CONNECTIONS: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Size {
    bytes: usize,
    name: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Webhooks, signed.
    Http,
    /// `PublishEvent`.
    Grpc,
}

/// All sizes and numbers of connections; the rate at saturation is held against `budgets`.
pub(super) async fn run(bench: &Bench, door: Door, budgets: &[Budget]) -> Result<Vec<Metric>> {
    let kind = if door == Door::Http { Kind::Http } else { Kind::Grpc };
    let bare = Server::start(kind).await?;
    let mut metrics = Vec::new();
    // Quick: saturation, and one larger size.
    let counts = bench.pick(&CONNECTION_COUNTS[..], &CONNECTION_COUNTS[2..]);
    for &connections in counts {
        let budgets = if connections == BUDGET_CONNECTIONS { budgets } else { &[] };
        let case = Case { door, connections, size: SMALL, budgets };
        metrics.extend(measure(bench, &bare, case).await?);
    }
    for &size in bench.pick(&LARGER[..], &LARGER[..1]) {
        let case = Case { door, connections: CONNECTIONS, size, budgets: &[] };
        metrics.extend(measure(bench, &bare, case).await?);
    }
    Ok(metrics)
}

/// One load.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    door: Door,
    connections: usize,
    size: Size,
    budgets: &'a [Budget],
}

async fn measure(bench: &Bench, bare: &Server, case: Case<'_>) -> Result<Vec<Metric>> {
    let Case { door, connections, size, budgets } = case;
    // A stack of its own for each: what one wrote does not slow the next.
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let ours = match door {
        Door::Http => rig.source().await?,
        Door::Grpc => rig.admin_url()?,
    };
    let load = |url: &str, ms| {
        let spec = bench.signed(url, Pace::ClosedFor { ms });
        let target = match door {
            Door::Http => spec.target.clone(),
            Door::Grpc => Target::Publish {
                url: url.to_owned(),
                key: KEY.to_owned(),
                event_type: EVENT_TYPE.to_owned(),
            },
        };
        LoadSpec { target, connections, body_bytes: size.bytes, ..spec }
    };
    all_ok(child::load(&load(&ours, bench.pick(2_000, 300))).await?)?;
    let (mut rounds, mut limits) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds() {
        bench.progress.step(format!("{connections} connections, {}, round {round}", size.name));
        let length_ms = bench.pick(4_000, 600);
        limits.push(all_ok(child::load(&load(bare.url(), length_ms)).await?)?);
        rounds.push(all_ok(child::load(&load(&ours, length_ms)).await?)?);
        rig.alive()?;
    }
    rig.end().await?;
    let name = |what: &str| format!("{what}, {connections} connections, {}", size.name);
    let of =
        |reports: &[LoadReport], value: fn(&LoadReport) -> f64| reports.iter().map(value).collect::<Vec<_>>();
    let metric = |what: &str, unit, value: fn(&LoadReport) -> f64| {
        Metric::new(name(what), unit, of(&rounds, value)).against(&of(&limits, value))
    };
    let rate = metric("committed", "/s", LoadReport::ok_per_s);
    Ok(vec![
        budgets.iter().fold(rate, |rate, budget| rate.budget(*budget)),
        metric("p50", "ms", |report| ms(report.latency.p50_us)),
        metric("p99", "ms", |report| ms(report.latency.p99_us)),
        metric("p99.9", "ms", |report| ms(report.latency.p999_us)),
    ])
}
