//! What a webhook with one delivery costs: CPU time, commits, WAL, and bytes to Redis.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Bench, ROUND_WITHIN, all_ok, make_endpoints, saturating};
use crate::child;
use crate::procfs;
use crate::report::{Budget, Metric};
use crate::rig::{Rig, Stores};
use crate::wire::Pace;

const MILLION: f64 = 1_000_000.0;
const COMMITS_MAX: f64 = 0.15;
const WAL_BYTES_MAX: f64 = 2.2 * 1024.0;
/// A session of Postgres tells its counts after at most this long.
const COUNTS_SETTLE: Duration = Duration::from_millis(1_500);

/// What was used up to a moment.
struct Used {
    ingest_s: f64,
    dispatcher_s: f64,
    postgres_s: f64,
    redis_s: f64,
    wal_bytes: f64,
    commits: f64,
    redis_bytes: f64,
}

/// What one message used.
#[derive(Default)]
struct Rounds {
    cpu: [Vec<f64>; 4],
    commits: Vec<f64>,
    wal: Vec<f64>,
    redis: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let plain = under(bench, true).await?;
    let without_images = under(bench, false).await?;
    let cpu = plain.cpu.into_iter().zip(["ingest", "dispatcher", "Postgres", "Redis"]);
    let mut metrics: Vec<Metric> =
        cpu.map(|(rounds, who)| Metric::new(format!("CPU of {who} per million"), "s", rounds)).collect();
    metrics.extend([
        Metric::new("commits per webhook", "", plain.commits).budget(Budget::AtMost(COMMITS_MAX)),
        Metric::new("WAL per webhook", "B", plain.wal),
        Metric::new("WAL per webhook, without full-page images", "B", without_images.wal)
            .budget(Budget::AtMost(WAL_BYTES_MAX)),
        Metric::new("to Redis per webhook", "B", plain.redis),
    ]);
    Ok(metrics)
}

/// With or without the images of whole pages that follow each checkpoint.
async fn under(bench: &Bench, full_page_writes: bool) -> Result<Rounds> {
    let requests = bench.pick(100_000, 20_000);
    let mut rig = Rig::start(&bench.stores).await?;
    rig.execute(&format!("ALTER SYSTEM SET full_page_writes = {full_page_writes}")).await?;
    rig.execute("SELECT pg_reload_conf()").await?;
    // From here on it is so.
    rig.execute("CHECKPOINT").await?;
    let url = rig.source().await?;
    make_endpoints(bench, &rig, 1).await?;
    let mut rounds = Rounds::default();
    once(bench, &mut rig, &url, requests / 5).await?;
    for round in 1..=bench.rounds() {
        bench.progress.step(format!("full-page images {full_page_writes}, round {round}"));
        let before = Used::now(&rig, &bench.stores).await?;
        once(bench, &mut rig, &url, requests).await?;
        let after = Used::now(&rig, &bench.stores).await?;
        rounds.add(&before, &after, requests as f64);
    }
    rig.execute("ALTER SYSTEM RESET full_page_writes").await?;
    rig.execute("SELECT pg_reload_conf()").await?;
    rig.end().await?;
    Ok(rounds)
}

async fn once(bench: &Bench, rig: &mut Rig, url: &str, requests: u64) -> Result<()> {
    let spec = saturating(bench.signed(url, Pace::Closed { requests }));
    all_ok(child::load(&spec).await?)?;
    bench.delivered(rig, spec.run, requests).await?;
    rig.recorded(ROUND_WITHIN).await?;
    tokio::time::sleep(COUNTS_SETTLE).await;
    Ok(())
}

impl Used {
    async fn now(rig: &Rig, stores: &Stores) -> Result<Self> {
        let seconds = |pid| Ok::<_, anyhow::Error>(procfs::cpu(pid)?.as_secs_f64());
        let wal = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        Ok(Self {
            ingest_s: seconds(rig.ingest.as_ref().context("an ingest")?.pid())?,
            dispatcher_s: seconds(rig.dispatcher.as_ref().context("a dispatcher")?.pid())?,
            postgres_s: procfs::cpu_of_family(stores.postgres.pid())?.as_secs_f64(),
            redis_s: seconds(stores.redis.pid())?,
            wal_bytes: rig.number(wal).await? as f64,
            commits: rig.number(commits).await? as f64,
            redis_bytes: redis_input_bytes(stores).await?,
        })
    }
}

impl Rounds {
    fn add(&mut self, before: &Used, after: &Used, messages: f64) {
        let per_message = |of: fn(&Used) -> f64| (of(after) - of(before)) / messages;
        let cpu: [fn(&Used) -> f64; 4] =
            [|used| used.ingest_s, |used| used.dispatcher_s, |used| used.postgres_s, |used| used.redis_s];
        for (rounds, of) in self.cpu.iter_mut().zip(cpu) {
            rounds.push(per_message(of) * MILLION);
        }
        self.commits.push(per_message(|used| used.commits));
        self.wal.push(per_message(|used| used.wal_bytes));
        self.redis.push(per_message(|used| used.redis_bytes));
    }
}

async fn redis_input_bytes(stores: &Stores) -> Result<f64> {
    let client = redis::Client::open(stores.redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:"));
    Ok(bytes.context("the counts of Redis")?.trim().parse()?)
}
