//! When each request is sent.
//!
//! A closed loop finds out how much goes through: each connection sends again as soon as it has an
//! answer. An open loop finds out how long it takes: each request has its moment, and the time counts
//! from there, so that a server that stalls cannot make the load wait for it and look fast.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::sync::{Barrier, Mutex, mpsc};

use super::call::Caller;
use super::prepare::Requests;
use crate::wire::{Latencies, LoadReport, Pace, unix_ns};

/// What one connection saw.
#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    failed: BTreeMap<String, u64>,
    latency: Latencies,
}

/// What all connections share.
struct Shared {
    requests: Arc<Requests>,
    next: AtomicU64,
    /// Everybody is connected before anybody sends.
    ready: Barrier,
    /// The moments of an open loop, as they come.
    due: Mutex<mpsc::UnboundedReceiver<u64>>,
}

/// Which connections a thread has.
struct Thread {
    shared: Arc<Shared>,
    connections: usize,
}

pub(super) fn run(requests: &Arc<Requests>, threads: usize) -> Result<LoadReport> {
    let connections = requests.spec.connections;
    let (due_sender, due) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        requests: Arc::clone(requests),
        next: AtomicU64::new(0),
        ready: Barrier::new(connections + 1),
        due: Mutex::new(due),
    });
    let workers: Vec<_> = (0..threads)
        .map(|index| {
            let connections = connections / threads + usize::from(index < connections % threads);
            let thread = Thread { shared: Arc::clone(&shared), connections };
            std::thread::spawn(move || thread.run())
        })
        .collect();
    let coordinator = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    coordinator.block_on(shared.ready.wait());
    let (began, mut started_unix_ns) = (Instant::now(), unix_ns());
    if let Pace::Open { requests: count, .. } = requests.spec.pace {
        started_unix_ns = requests.begin_unix_ns;
        anyhow::ensure!(unix_ns() < started_unix_ns, "the load took too long to prepare");
        send_when_due(requests, count, &due_sender);
    }
    drop(due_sender);
    let mut tally = Tally::default();
    for worker in workers {
        let other = worker.join().map_err(|_| anyhow!("a thread of the load generator panicked"))??;
        tally.add(&other);
    }
    let elapsed = match requests.spec.pace {
        Pace::Open { .. } => Duration::from_nanos(unix_ns().saturating_sub(started_unix_ns)),
        Pace::Closed { .. } | Pace::ClosedFor { .. } => began.elapsed(),
    };
    Ok(LoadReport {
        ok: tally.ok,
        failed: tally.failed,
        started_unix_ns,
        elapsed_us: elapsed.as_micros() as u64,
        latency: tally.latency.quantiles(),
    })
}

/// A thread's own sleep is true to some tens of microseconds; a runtime's timer only to a millisecond.
fn send_when_due(requests: &Requests, count: u64, due: &mpsc::UnboundedSender<u64>) {
    for number in 0..count {
        let at = requests.intended_ns(number).unwrap_or(0);
        let wait_ns = at.saturating_sub(unix_ns());
        if wait_ns > 0 {
            std::thread::sleep(Duration::from_nanos(wait_ns));
        }
        if due.send(number).is_err() {
            return;
        }
    }
}

impl Thread {
    fn run(self) -> Result<Tally> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // As the dispatcher has one pool for all.
            let client = reqwest::Client::builder().http1_only().tcp_nodelay(true).build()?;
            let connections: Vec<_> = (0..self.connections)
                .map(|_| tokio::spawn(connection(Arc::clone(&self.shared), client.clone())))
                .collect();
            let mut tally = Tally::default();
            for connection in connections {
                tally.add(&connection.await?);
            }
            Ok(tally)
        })
    }
}

async fn connection(shared: Arc<Shared>, client: reqwest::Client) -> Tally {
    let requests = &shared.requests;
    let caller = Caller::connect(&requests.spec.target, &client).await;
    shared.ready.wait().await;
    let mut tally = Tally::default();
    let mut caller = match caller {
        Ok(caller) => caller,
        Err(error) => {
            tally.failed(format!("{error:#}"));
            return tally;
        }
    };
    match requests.spec.pace {
        Pace::ClosedFor { ms } => {
            let end = Instant::now() + Duration::from_millis(ms);
            while Instant::now() < end {
                tally.closed(&mut caller, requests, shared.next()).await;
            }
        }
        Pace::Closed { requests: count } => loop {
            let number = shared.next();
            if number >= count {
                break;
            }
            tally.closed(&mut caller, requests, number).await;
        },
        Pace::Open { .. } => loop {
            let number = shared.due.lock().await.recv().await;
            let Some(number) = number else { break };
            let outcome = caller.call(requests, number).await;
            let intended_ns = requests.intended_ns(number).unwrap_or(0);
            tally.record(outcome, Duration::from_nanos(unix_ns().saturating_sub(intended_ns)));
        },
    }
    tally
}

impl Shared {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Tally {
    async fn closed(&mut self, caller: &mut Caller, requests: &Requests, number: u64) {
        let began = Instant::now();
        let outcome = caller.call(requests, number).await;
        self.record(outcome, began.elapsed());
    }

    fn record(&mut self, outcome: Result<(), String>, took: Duration) {
        match outcome {
            Ok(()) => {
                self.ok += 1;
                self.latency.record(took);
            }
            Err(what) => self.failed(what),
        }
    }

    fn failed(&mut self, what: String) {
        *self.failed.entry(what).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        for (what, count) in &other.failed {
            *self.failed.entry(what.clone()).or_default() += count;
        }
        self.latency.add(&other.latency);
    }
}
