//! The whole way at saturation: POST in, committed, POST out, recorded. The clock runs from the first
//! request until every outcome is in Postgres, and nothing may be missing then.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, all_ok, make_endpoints, saturating};
use crate::child;
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::{Pace, per_second, unix_ns};

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let one = Way { endpoints: 1, requests: bench.pick(60_000, 20_000), budget_per_s: 12_000.0 };
    let five = Way { endpoints: 5, requests: bench.pick(20_000, 6_000), budget_per_s: 20_000.0 };
    let mut metrics = one.measure(bench).await?;
    metrics.extend(five.measure(bench).await?);
    Ok(metrics)
}

struct Way {
    endpoints: usize,
    requests: u64,
    budget_per_s: f64,
}

/// What one round showed.
struct Measured {
    delivered_per_s: f64,
    acknowledged_per_s: f64,
    duplicates: f64,
}

#[derive(Default)]
struct Rounds {
    delivered: Vec<f64>,
    acknowledged: Vec<f64>,
    duplicates: Vec<f64>,
    limit: Vec<f64>,
}

impl Way {
    async fn measure(&self, bench: &Bench) -> Result<Vec<Metric>> {
        let mut rig = Rig::start(&bench.stores).await?;
        let url = rig.source().await?;
        make_endpoints(bench, &rig, self.endpoints).await?;
        let mut rounds = Rounds::default();
        let mut deliveries = 0;
        for round in 0..=bench.rounds() {
            bench.progress.step(format!("{} endpoints, round {round}", self.endpoints));
            // The first warms up: connections, plans, the first pages of the tables.
            let warms_up = round == 0;
            let requests = if warms_up { self.requests / 5 } else { self.requests };
            if !warms_up {
                rounds.limit.push(self.limit(bench, &url).await?);
            }
            let measured = self.round(bench, &mut rig, &url, requests).await?;
            if !warms_up {
                rounds.delivered.push(measured.delivered_per_s);
                rounds.acknowledged.push(measured.acknowledged_per_s);
                rounds.duplicates.push(measured.duplicates);
            }
            deliveries += requests * self.endpoints as u64;
            let logged = rig.number("SELECT count(*) FROM attempts WHERE decision = 'delivered'").await?;
            ensure!(logged as u64 >= deliveries, "{logged} of {deliveries} deliveries are recorded");
        }
        rig.end().await?;
        let name = |what: &str| match self.endpoints {
            1 => format!("{what}, 1 endpoint"),
            count => format!("{what}, {count} endpoints"),
        };
        Ok(vec![
            Metric::new(name("delivered and recorded"), "/s", rounds.delivered)
                .against(&rounds.limit)
                .budget(Budget::AtLeast(self.budget_per_s)),
            Metric::new(name("acknowledged meanwhile"), "/s", rounds.acknowledged),
            Metric::new(name("duplicates"), "", rounds.duplicates).budget(Budget::AtMost(0.0)),
        ])
    }

    /// The slower of the two ends, in deliveries.
    async fn limit(&self, bench: &Bench, url: &str) -> Result<f64> {
        let ms = bench.pick(2_000, 1_000);
        let incoming =
            bench.bare_http_load(&saturating(bench.signed(url, Pace::ClosedFor { ms }))).await?.ok_per_s();
        let outgoing = bench.bare_client_rate(self.endpoints, ms).await?;
        Ok(outgoing.min(incoming * self.endpoints as f64))
    }

    async fn round(&self, bench: &Bench, rig: &mut Rig, url: &str, requests: u64) -> Result<Measured> {
        let spec = saturating(bench.signed(url, Pace::Closed { requests }));
        let report = all_ok(child::load(&spec).await?)?;
        ensure!(report.ok == requests, "{} of {requests} were acknowledged", report.ok);
        let expected = requests * self.endpoints as u64;
        let seen = bench.delivered(rig, spec.run, expected).await?;
        rig.recorded(super::ROUND_WITHIN).await?;
        let elapsed = Duration::from_nanos(unix_ns().saturating_sub(report.started_unix_ns));
        let short = seen.distinct.values().find(|count| **count != requests);
        ensure!(
            short.is_none() && seen.distinct.len() == self.endpoints,
            "{requests} were acknowledged, and the endpoints saw {:?}",
            seen.distinct
        );
        // Asked again: a duplicate may have come after the last number.
        let duplicates = bench.sink.seen(spec.run).await?.duplicates;
        if duplicates > 0 {
            let complaints = rig.complaints();
            bench.progress.note(&format!("{duplicates} duplicates; the services warned of:\n{complaints}"));
        }
        Ok(Measured {
            delivered_per_s: per_second(expected, elapsed),
            acknowledged_per_s: report.ok_per_s(),
            duplicates: duplicates as f64,
        })
    }
}
