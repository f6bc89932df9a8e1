//! A healthy endpoint's latency alone, and beside neighbours that behave badly.
//!
//! Each case has a fresh stack: the healthy one is measured alone, then the neighbours begin and it is
//! measured again. The same load straight to the sink, at both times, tells what of the difference is
//! that of load and sink, which have no more processors than Bowline has.

use std::time::Duration;

use anyhow::{Context, Result};
use bowline_core::id::TenantId;
use bowline_proto::v1;
use uuid::Uuid;

use super::latency::{pace, steady, straight};
use super::{Bench, ENDPOINT_CONCURRENCY, EVENT_TYPE, endpoint, make_endpoints, ms, rows};
use crate::child::Load;
use crate::report::{Budget, Metric};
use crate::rig::{Rig, SOURCE_SECRET};
use crate::wire::{LoadSpec, Pace, Target};

/// The healthy one's own events.
const RATE_PER_S: u64 = 200;
/// The neighbours' events, shared among them.
const NEIGHBOURS_RATE_PER_S: u64 = 200;
const RATIO_MAX: f64 = 1.2;
const WAITING_TYPE: &str = "waiting";

#[derive(Debug, Clone, Copy)]
enum Neighbour {
    /// So many endpoints that never answer.
    Hanging(usize),
    /// So many endpoints that answer a byte at a time.
    Trickling(usize),
    /// One with so many deliveries waiting, which takes a tenth of a second for each.
    Waiting(u64),
    /// A tenant that publishes as fast as it can.
    Flooding,
}

/// What goes on beside the healthy endpoint; it ends when it is dropped.
struct Noise {
    _load: Option<Load>,
}

/// Of the healthy one's events, in each of several rounds.
struct P99 {
    /// Through Bowline.
    ours: Vec<f64>,
    /// By the load to the sink, with nothing between.
    straight: Vec<f64>,
}

impl P99 {
    async fn measure(bench: &Bench, rig: &mut Rig, url: &str, rounds: usize) -> Result<Self> {
        let mut all = Self { ours: Vec::new(), straight: Vec::new() };
        for _ in 0..rounds {
            let spec = bench.signed(url, pace(RATE_PER_S, bench.pick(5, 2)));
            all.straight.push(ms(straight(bench, &spec).await?.p99_us));
            all.ours.push(ms(steady(bench, rig, spec).await?.p99_us));
        }
        Ok(all)
    }
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let waiting = bench.pick(1_000_000, 50_000);
    let cases = [
        (Neighbour::Hanging(1), "beside 1 hanging".to_owned()),
        (Neighbour::Hanging(10), "beside 10 hanging".to_owned()),
        (Neighbour::Hanging(100), "beside 100 hanging".to_owned()),
        (Neighbour::Trickling(10), "beside 10 trickling".to_owned()),
        (Neighbour::Waiting(waiting), format!("beside one with {waiting} waiting")),
        (Neighbour::Flooding, "beside a tenant that floods".to_owned()),
    ];
    let mut metrics = Vec::new();
    // Quick: one number of hanging ones stands for the others.
    let cases = cases
        .into_iter()
        .filter(|(neighbour, _)| !bench.quick || !matches!(neighbour, Neighbour::Hanging(1 | 100)));
    for (neighbour, name) in cases {
        bench.progress.step(&name);
        metrics.extend(neighbour.measure(bench, &name).await.with_context(|| name.clone())?);
    }
    Ok(metrics)
}

impl Neighbour {
    async fn measure(self, bench: &Bench, name: &str) -> Result<Vec<Metric>> {
        let mut rig = Rig::start(&bench.stores).await?;
        let url = rig.source().await?;
        make_endpoints(bench, &rig, 1).await?;
        // Warms up.
        P99::measure(bench, &mut rig, &url, 1).await?;
        let alone = P99::measure(bench, &mut rig, &url, bench.rounds()).await?;
        let noise = self.begin(bench, &mut rig).await?;
        let beside = P99::measure(bench, &mut rig, &url, bench.rounds()).await?;
        drop(noise);
        rig.end().await?;
        Ok(vec![
            Metric::new(format!("p99 {name}"), "ms", beside.ours)
                .against(&alone.ours)
                .budget(Budget::RatioAtMost(RATIO_MAX)),
            Metric::new(format!("straight to the sink, {name}"), "ms", beside.straight)
                .against(&alone.straight),
        ])
    }

    /// Starts the neighbours and waits until they are a nuisance.
    async fn begin(self, bench: &Bench, rig: &mut Rig) -> Result<Noise> {
        match self {
            Self::Hanging(count) => stuck(bench, rig, "hang", count).await,
            Self::Trickling(count) => stuck(bench, rig, "trickle", count).await,
            Self::Waiting(count) => waiting(bench, rig, count).await,
            Self::Flooding => flooding(bench, rig).await,
        }
    }
}

/// Endpoints that behave so, with the neighbours' events shared among them.
async fn stuck(bench: &Bench, rig: &mut Rig, behaviour: &str, count: usize) -> Result<Noise> {
    let admin = rig.admin()?;
    let event_types: Vec<String> = (0..count).map(|number| format!("{behaviour}.{number}")).collect();
    for event_type in &event_types {
        let url = format!("{}/{behaviour}/{event_type}", bench.sink.url());
        admin.endpoint(endpoint(url, event_type, 0)).await;
    }
    let url = rig.source().await?;
    let spec = LoadSpec {
        target: Target::Signed { url, secret: SOURCE_SECRET.to_owned(), event_types },
        // Longer than anybody looks.
        ..bench.signed("", pace(NEIGHBOURS_RATE_PER_S, 300))
    };
    let load = Load::start(&spec)?;
    // Each holds a request: its lane and its breaker are at work.
    let seen = |number: u64| number >= (count as u64).min(NEIGHBOURS_RATE_PER_S);
    rig.until("a request at each bad endpoint", super::ROUND_WITHIN, async |_| {
        Ok(seen(bench.sink.seen(spec.run).await?.total()).then_some(()))
    })
    .await?;
    Ok(Noise { _load: Some(load) })
}

async fn waiting(bench: &Bench, rig: &mut Rig, count: u64) -> Result<Noise> {
    let admin = rig.admin()?;
    let url = format!("{}/slow/100/waiting", bench.sink.url());
    let (endpoint_id, _) = admin.endpoint(endpoint(url, WAITING_TYPE, 0)).await;
    // Everything waits while it is paused, and is due when it is not.
    admin.set_state(&endpoint_id, v1::EndpointState::Paused).await;
    rows::waiting(rig, &endpoint_id, count).await?;
    admin.set_state(&endpoint_id, v1::EndpointState::Enabled).await;
    rig.until("deliveries of the backlog", super::ROUND_WITHIN, async |rig| {
        let sent = rig.number("SELECT count(*) FROM (SELECT 1 FROM attempts LIMIT 5000) AS a").await?;
        let left = rig.number("SELECT count(*) FROM queue WHERE owner IS NOT NULL").await?;
        Ok((sent > 0 && left > 0).then_some(()))
    })
    .await?;
    Ok(Noise { _load: None })
}

async fn flooding(bench: &Bench, rig: &mut Rig) -> Result<Noise> {
    let tenant = TenantId(Uuid::now_v7());
    rig.execute(&format!("INSERT INTO tenants (id, name) VALUES ('{}', 'flood')", tenant.0)).await?;
    let admin = rig.admin()?;
    let source = v1::CreateSourceRequest {
        tenant_id: tenant.to_string(),
        source: Some(v1::Source { preset: "github".to_owned(), ..Default::default() }),
        secret: SOURCE_SECRET.to_owned(),
        ..Default::default()
    };
    let source = admin.sources().create_source(source).await.context("a source of the tenant that floods")?;
    let source = source.into_inner().source.context("the source in the answer")?;
    let request = v1::CreateEndpointRequest {
        tenant_id: tenant.to_string(),
        endpoint: Some(endpoint(bench.healthy("flood"), EVENT_TYPE, ENDPOINT_CONCURRENCY)),
        ..Default::default()
    };
    admin.endpoints().create_endpoint(request).await.context("an endpoint of the tenant that floods")?;
    let url = rig.inbound(&source.id)?;
    let load = Load::start(&bench.signed(&url, Pace::ClosedFor { ms: 300_000 }))?;
    let before = rig.number("SELECT count(*) FROM attempts").await?;
    // A full second of it, or more, is through.
    rig.until("deliveries of the flood", Duration::from_secs(60), async |rig| {
        Ok((rig.number("SELECT count(*) FROM attempts").await? > before + 5_000).then_some(()))
    })
    .await?;
    Ok(Noise { _load: Some(load) })
}
