//! The journal beside very many deduplication keys, of which some run out each second.

use anyhow::{Context, Result};
use bowline_core::id::SourceId;

use super::{Bench, all_ok, rows};
use crate::child;
use crate::report::Metric;
use crate::rig::Rig;
use crate::wire::Pace;

const WAL: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";

/// What was measured with one number of keys.
struct Measured {
    keys: u64,
    per_s: Vec<f64>,
    wal_bytes: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut all: Vec<Measured> = Vec::new();
    for keys in bench.pick([1_000_000, 50_000_000], [50_000, 500_000]) {
        bench.progress.step(format!("{keys} keys"));
        all.push(measure(bench, keys).await?);
    }
    let few = &all[0];
    let mut metrics = Vec::new();
    for measured in &all {
        let name = |what: &str| format!("{what}, {} keys", measured.keys);
        let rate = Metric::new(name("committed"), "/s", measured.per_s.clone());
        let wal = Metric::new(name("WAL per webhook"), "B", measured.wal_bytes.clone());
        if measured.keys == few.keys {
            metrics.extend([rate, wal]);
        } else {
            metrics.extend([rate.against(&few.per_s), wal.against(&few.wal_bytes)]);
        }
    }
    Ok(metrics)
}

async fn measure(bench: &Bench, keys: u64) -> Result<Measured> {
    // The dispatcher takes the events away, as it would.
    let mut rig = Rig::start(&bench.stores).await?;
    let url = rig.source().await?;
    let source: SourceId = url.rsplit('/').next().context("the id of the source")?.parse()?;
    rows::keys(&rig, source.0, 1, keys).await?;
    let load = |ms| bench.signed(&url, Pace::ClosedFor { ms });
    all_ok(child::load(&load(bench.pick(2_000, 500))).await?)?;
    let (mut per_s, mut wal_bytes) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let before = rig.number(WAL).await?;
        let report = all_ok(child::load(&load(bench.pick(8_000, 1_500))).await?)?;
        wal_bytes.push((rig.number(WAL).await? - before) as f64 / report.ok as f64);
        per_s.push(report.ok_per_s());
        rig.alive()?;
    }
    rig.end().await?;
    Ok(Measured { keys, per_s, wal_bytes })
}
