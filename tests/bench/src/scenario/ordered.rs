//! Ordered delivery: deliveries a second over 1, 10 and 100 channels, of events that are committed already, beside
//! the same without an order; and what ingest takes in while each event takes its place in a channel.

use std::time::Duration;

use anyhow::{Result, ensure};
use bowline_proto::v1;

use super::{Bench, ENDPOINT_CONCURRENCY, ROUND_WITHIN, all_ok};
use crate::child;
use crate::report::Metric;
use crate::rig::{Rig, SOURCE_SECRET};
use crate::wire::{LoadSpec, Pace, Target, per_second, unix_ns};

/// What one round showed.
struct Measured {
    acknowledged_per_s: f64,
    delivered_per_s: f64,
}

#[derive(Default)]
struct Rounds {
    acknowledged: Vec<f64>,
    delivered: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut metrics = Vec::new();
    for channels in [1, 10, 100] {
        // One channel has one request out at a time, whatever the endpoint may have.
        let requests = bench.pick(2_000, 500) * u64::from(channels).min(10);
        let (mut ordered, mut free) = (Rounds::default(), Rounds::default());
        for round in 1..=bench.rounds() {
            bench.progress.step(format!("{channels} channels, round {round}"));
            // Each in a database of its own, one after the other.
            for (ordering, rounds) in [
                (v1::EndpointOrdering::Unspecified, &mut free),
                (v1::EndpointOrdering::PerChannel, &mut ordered),
            ] {
                let measured = one_round(bench, channels, ordering, requests).await?;
                rounds.acknowledged.push(measured.acknowledged_per_s);
                rounds.delivered.push(measured.delivered_per_s);
            }
        }
        let name = |what: &str| match channels {
            1 => format!("{what}, 1 channel"),
            _ => format!("{what}, {channels} channels"),
        };
        metrics
            .push(Metric::new(name("delivered in order"), "/s", ordered.delivered).against(&free.delivered));
        metrics.push(
            Metric::new(name("acknowledged meanwhile"), "/s", ordered.acknowledged)
                .against(&free.acknowledged),
        );
    }
    Ok(metrics)
}

async fn one_round(
    bench: &Bench,
    channels: u32,
    ordering: v1::EndpointOrdering,
    requests: u64,
) -> Result<Measured> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let admin = rig.admin()?;
    // The load names its types by turns: each is a channel.
    let source = v1::Source {
        preset: "github".into(),
        channel_cel: "header('x-github-event')".into(),
        ..Default::default()
    };
    let source = admin.source_like(source, SOURCE_SECRET).await.id;
    let endpoint = v1::Endpoint {
        url: bench.healthy("ordered"),
        concurrency: ENDPOINT_CONCURRENCY,
        ordering: ordering.into(),
        ..Default::default()
    };
    admin.endpoint(endpoint).await;
    let target = Target::Signed {
        url: rig.inbound(&source)?,
        secret: SOURCE_SECRET.to_owned(),
        event_types: (0..channels).map(|number| format!("channel.{number}")).collect(),
    };
    let spec = LoadSpec { target, ..bench.signed("", Pace::Closed { requests }) };
    let report = all_ok(child::load(&spec).await?)?;
    rig.start_dispatcher().await?;
    let seen = bench.delivered(&mut rig, spec.run, requests).await?;
    rig.recorded(ROUND_WITHIN).await?;
    let elapsed = Duration::from_nanos(unix_ns().saturating_sub(seen.first_unix_ns));
    let logged = rig.number("SELECT count(*) FROM attempts WHERE decision = 'delivered'").await?;
    ensure!(logged as u64 == requests, "{logged} of {requests} deliveries are recorded");
    let used = rig.number("SELECT count(DISTINCT channel) FROM events").await?;
    ensure!(used == i64::from(channels), "{used} of {channels} channels are used");
    rig.end().await?;
    Ok(Measured { acknowledged_per_s: report.ok_per_s(), delivered_per_s: per_second(requests, elapsed) })
}
