//! Drives a run: traffic all the while, fault after fault, healing, settling, judging.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bowline_tests::database;
use bowline_tests::service::Kind;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::check::{self, Violation};
use crate::clock::now_s;
use crate::evidence::Evidence;
use crate::fault::{Disturbance, Fault};
use crate::inflict::inflict;
use crate::plan::{REST_S, Step, plan};
use crate::report::{self, Window, window_at};
use crate::site::{Means, Site};
use crate::traffic::{Doors, Traffic};

const WARM_UP: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(250);
/// A breaker pauses for up to five minutes at most; the faults are too short for more than one.
const SETTLE_WITHIN: Duration = Duration::from_secs(180);
const SHOWN_MAX: usize = 40;

/// What is asked for.
#[derive(Debug)]
pub struct Order {
    pub seed: u64,
    pub seconds: u32,
    pub per_second: u32,
    pub faults: Vec<Fault>,
}

struct Drive {
    site: Site,
    traffic: Traffic,
    began: Instant,
    windows: Vec<Window>,
    disturbances: Vec<Disturbance>,
    violations: Vec<Violation>,
}

/// Runs, prints, and says whether all promises were kept.
///
/// # Errors
/// When the run itself fails: a store or a service that does not come back.
pub async fn run(order: Order, means: Means) -> Result<bool> {
    let Order { seed, seconds, per_second, faults } = order;
    let steps = plan(seed, seconds, &faults);
    println!("seed {seed}: {} steps", steps.len());
    let site = Site::start(means).await.context("starting the site")?;
    let address = |index: &usize| site.replicas[*index].http.address().to_string();
    let doors = Doors {
        http: site.of_kind(Kind::Ingest).iter().map(address).collect(),
        admin: site.replicas.iter().map(|replica| format!("http://{}", replica.admin.address())).collect(),
        senders: site.senders.clone(),
    };
    let mut drive = Drive {
        traffic: Traffic::start(doors, per_second),
        site,
        began: Instant::now(),
        windows: Vec::new(),
        disturbances: Vec::new(),
        violations: Vec::new(),
    };
    let ended = drive.course(steps).await;
    if let Err(error) = ended {
        let logs = drive.site.keep_logs();
        return Err(error.context(format!("logs are kept in {logs:?}")));
    }
    drive.judge(seed).await
}

impl Drive {
    async fn course(&mut self, steps: Vec<Step>) -> Result<()> {
        self.pass(WARM_UP).await?;
        for step in steps {
            self.step(step).await?;
        }
        self.traffic.finish().await;
        let settled = self.settle().await?;
        println!("{:>6.1} s  settled: {settled}", self.began.elapsed().as_secs_f64());
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        let mut random = StdRng::seed_from_u64(step.seed);
        let from_s = now_s();
        if let Some(last) = self.windows.last_mut() {
            last.until_s = from_s;
        }
        self.windows.push(Window { step: step.clone(), from_s, until_s: f64::MAX });
        let mut active = Vec::new();
        for fault in &step.faults {
            let one = inflict(&mut self.site, *fault, &mut random).await;
            active.push(one.with_context(|| format!("inflicting {fault}"))?);
        }
        let notes: Vec<_> = active.iter().map(|one| format!("{} ({})", one.fault, one.note)).collect();
        let elapsed_s = self.began.elapsed().as_secs_f64();
        println!("{elapsed_s:>6.1} s  {} for {} s", notes.join(" + "), step.hold_s);
        self.pass(Duration::from_secs(step.hold_s.into())).await?;
        // The stores and the network first: a process that ends in order needs them.
        active.sort_by_key(super::inflict::Active::is_of_a_process);
        self.site.make_whole();
        for one in active {
            let fault = one.fault;
            let healed = one.heal(&mut self.site).await.with_context(|| format!("healing {fault}"))?;
            self.disturbances.extend(healed.disturbances);
            for detail in healed.violations {
                self.violations.push(Violation { what: "no orderly end", at_s: now_s(), detail });
            }
        }
        self.site.restore().await?;
        self.pass(Duration::from_secs(REST_S.into())).await
    }

    /// Lets time go by, and watches the processes.
    async fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            self.look()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(TICK.min(left)).await;
        }
    }

    fn look(&mut self) -> Result<()> {
        for replica in &mut self.site.replicas {
            if let Some(detail) = replica.look() {
                eprintln!("VIOLATION {detail}");
                self.violations.push(Violation { what: "a process ended", at_s: now_s(), detail });
                self.disturbances.push(Disturbance {
                    what: format!("{} ended", replica.name),
                    from_s: now_s() - 1.0,
                    until_s: now_s(),
                    stops: false,
                });
                replica.launch()?;
            }
        }
        Ok(())
    }

    /// Until nothing is under way, or too long. Says what it came to.
    async fn settle(&mut self) -> Result<String> {
        let began = Instant::now();
        let client = database::connect(&self.site.database_url).await?;
        loop {
            let row = client
                .query_one("SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM queue)", &[])
                .await?;
            let (outbox, queue): (i64, i64) = (row.get(0), row.get(1));
            if outbox + queue == 0 || began.elapsed() > SETTLE_WITHIN {
                let after_s = began.elapsed().as_secs_f64();
                return Ok(format!("outbox {outbox}, queue {queue} after {after_s:.1} s"));
            }
            self.pass(TICK).await?;
        }
    }

    async fn judge(mut self, seed: u64) -> Result<bool> {
        if let Some(last) = self.windows.last_mut() {
            last.until_s = now_s();
        }
        let sent = self.traffic.ledger.all();
        let evidence = Evidence::gather(&self.site, sent, std::mem::take(&mut self.disturbances)).await?;
        let verdict = check::judge(&evidence);
        let lives: Vec<_> = self.site.replicas.iter().flat_map(|replica| &replica.lives).collect();
        let mut violations = std::mem::take(&mut self.violations);
        violations.extend(verdict.violations.iter().cloned());
        violations.extend(check::memory(&lives));
        for detail in self.site.panics() {
            violations.push(Violation { what: "a panic", at_s: f64::MAX, detail });
        }
        for violation in violations.iter().take(SHOWN_MAX) {
            let under =
                window_at(&self.windows, violation.at_s).map(|index| &self.windows[index].step.faults);
            eprintln!("VIOLATION seed {seed}, under {under:?} at {:.3}: {violation}", violation.at_s);
        }
        if violations.len() > SHOWN_MAX {
            eprintln!("… and {} more", violations.len() - SHOWN_MAX);
        }
        println!("\n{}", report::table(&self.windows, &evidence, &verdict, &violations));
        println!("{}", report::repetitions(&evidence, &verdict));
        println!("{}", report::memory(&lives));
        let arrivals: usize = evidence.arrivals.iter().map(Vec::len).sum();
        println!(
            "{} acknowledged of {} sent, {} deliveries owed, {arrivals} requests arrived, {} came again, {} dead letters, {} violations",
            self.traffic.ledger.acknowledged(),
            evidence.sent.len(),
            verdict.owed,
            verdict.duplicates.len(),
            evidence.dead.len(),
            violations.len()
        );
        if !violations.is_empty() {
            eprintln!("logs are kept in {:?}", self.site.keep_logs());
        }
        self.site.stop().await?;
        Ok(violations.is_empty())
    }
}
