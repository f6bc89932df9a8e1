//! Claiming waiting deliveries, with few and with very many of them at one endpoint: the claim itself,
//! rolled back each time, and then a dispatcher that works them off.

use std::time::{Duration, Instant};

use anyhow::Result;
use bowline_core::id::{EndpointId, ReplicaId};
use bowline_core::store::{self, queue};
use bowline_proto::v1;
use uuid::Uuid;

use super::{Bench, ENDPOINT_CONCURRENCY, ROUND_WITHIN, endpoint, ms, rows};
use crate::report::{Budget, Metric};
use crate::rig::Rig;
use crate::wire::{Latencies, per_second};

const CLAIM_ROWS: i64 = 256;
const RATIO_MAX: f64 = 1.2;
/// Rows that must be there for a rate of working them off.
const DRAIN: [u64; 2] = [2_000, 20_000];

/// What was measured with one number of rows.
struct Measured {
    rows: u64,
    claim_ms: Vec<f64>,
    scan_ms: Vec<f64>,
    drained_per_s: Option<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut all = Vec::new();
    for rows in bench.pick([1_000, 100_000, 1_000_000], [1_000, 25_000, 100_000]) {
        bench.progress.step(format!("{rows} rows"));
        all.push(measure(bench, rows).await?);
    }
    let mut metrics = Vec::new();
    for measured in &all {
        let rows = measured.rows;
        let claim = Metric::new(format!("claiming {CLAIM_ROWS} of {rows}"), "ms", measured.claim_ms.clone());
        let scan = Metric::new(
            format!("finding endpoints with due work, {rows} rows"),
            "ms",
            measured.scan_ms.clone(),
        );
        if rows == all[0].rows {
            metrics.extend([claim, scan]);
        } else {
            metrics.push(claim.against(&all[0].claim_ms).budget(Budget::RatioAtMost(RATIO_MAX)));
            metrics.push(scan.against(&all[0].scan_ms).budget(Budget::RatioAtMost(RATIO_MAX)));
        }
        if let Some(rate) = measured.drained_per_s {
            metrics.push(Metric::new(format!("worked off, of {rows}"), "/s", vec![rate]));
        }
    }
    Ok(metrics)
}

async fn measure(bench: &Bench, count: u64) -> Result<Measured> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let admin = rig.admin()?;
    let to = endpoint(bench.healthy("backlog"), "backlog", ENDPOINT_CONCURRENCY);
    let (endpoint_id, _) = admin.endpoint(to).await;
    rows::waiting(&rig, &endpoint_id, count).await?;
    // As autovacuum leaves it, and with nothing left to write back.
    rig.execute("VACUUM queue").await?;
    rig.execute("CHECKPOINT").await?;
    let (mut claim_ms, mut scan_ms) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let (claim, scan) = claims(&rig, endpoint_id.parse()?, bench.pick(100, 20)).await?;
        claim_ms.push(claim);
        scan_ms.push(scan);
    }
    let drained_per_s =
        if count > DRAIN[1] { Some(drain(&mut rig, &admin, &endpoint_id).await?) } else { None };
    rig.end().await?;
    Ok(Measured { rows: count, claim_ms, scan_ms, drained_per_s })
}

/// The median of so many claims, and of so many looks for what is due.
async fn claims(rig: &Rig, endpoint_id: EndpointId, times: usize) -> Result<(f64, f64)> {
    // As a dispatcher has it: statements are prepared once a connection.
    let pool = store::connect(&rig.database.url, 1)?;
    let client = pool.get().await?;
    let owner = ReplicaId(Uuid::now_v7());
    let (mut claim, mut scan) = (Latencies::default(), Latencies::default());
    for _ in 0..times {
        client.batch_execute("BEGIN").await?;
        let began = Instant::now();
        let due = queue::endpoints_with_due_work(&client, Uuid::nil(), 100).await?;
        scan.record(began.elapsed());
        anyhow::ensure!(due == [endpoint_id], "the backlog is not due");
        let began = Instant::now();
        let claimed = queue::claim_due(&client, owner, &[endpoint_id], &[CLAIM_ROWS]).await?;
        claim.record(began.elapsed());
        anyhow::ensure!(claimed.len() == CLAIM_ROWS as usize, "{} rows were claimed", claimed.len());
        client.batch_execute("ROLLBACK").await?;
    }
    Ok((ms(claim.quantiles().p50_us), ms(scan.quantiles().p50_us)))
}

/// Deliveries a second between two counts of recorded attempts.
async fn drain(rig: &mut Rig, admin: &bowline_tests::admin::Admin, endpoint_id: &str) -> Result<f64> {
    admin.set_state(endpoint_id, v1::EndpointState::Enabled).await;
    rig.start_dispatcher().await?;
    let mut reached: Vec<(Duration, u64)> = Vec::new();
    let began = Instant::now();
    for count in DRAIN {
        let found = rig.until("deliveries of the backlog", ROUND_WITHIN, async |rig| {
            let attempts = rig.number("SELECT count(*) FROM attempts").await?;
            Ok((attempts as u64 >= count).then_some(attempts as u64))
        });
        let attempts = found.await?;
        reached.push((began.elapsed(), attempts));
    }
    let [(from, first), (to, last)] = [reached[0], reached[1]];
    Ok(per_second(last - first, to.saturating_sub(from)))
}
