//! Bowline dispatcher: matches events to endpoints, signs, delivers, retries, dead-letters, and logs
//! every attempt.
//!
//! The way of an event:
//!
//! 1. [`consume`] reads a chunk's hint from a stream, or [`claim`] finds it in Postgres; either claims
//!    the chunk's row first.
//! 2. [`match_endpoints`] makes deliveries of it.
//! 3. [`lanes`] queues each in its endpoint's [`lane`], [`turns`] says whose turn it is; [`breaker`] guards
//!    an endpoint that fails, [`rate`] keeps to what an endpoint takes a second.
//! 4. [`attempt`] sends, [`decide`] says what that means.
//! 5. [`record`] writes it. What waits is in Postgres, until [`claim`] finds it due.
//!
//! What is for ordered endpoints waits in its channel in Postgres; [`ordered`] sends it one by one.
//!
//! Beside that, [`trial`] sends tests of endpoints past the lanes, [`operate`] works on operations, [`tell`]
//! hands over Bowline's own events, and [`janitor`] takes away what is older than the retention.

mod asleep;
mod attempt;
mod bodies;
mod breaker;
mod claim;
mod confirm;
mod consume;
mod decide;
mod health;
mod holdings;
mod janitor;
mod job;
mod lane;
mod lanes;
mod match_endpoints;
mod operate;
mod ordered;
mod rate;
mod record;
mod redact;
mod refused;
mod select;
mod share;
mod soon;
mod tell;
mod trial;
mod turns;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use bowline_admin::AdminContext;
use bowline_core::bootstrap::{
    self, Config, Process, Service, Shutdown, essential, listen, supervise, wait_for,
};
use bowline_core::defaults::CONNECT_TIMEOUT;
use bowline_core::egress::EgressGuard;
use bowline_core::fetched_keys::FetchedKeys;
use bowline_core::journal::Journal;
use bowline_core::replica::Replica;
use bowline_core::secrets::{Keyring, UnsealLog, Vault};
use bowline_core::snapshot::{Need, Snapshot};
use bowline_core::store::{self, Pool, partitions, unsealings};
use bowline_core::streams::Streams;
use clap::Parser;
use tokio_util::sync::CancellationToken;

use claim::Claims;
use confirm::Session;
use consume::{Consumer, Turn};
use lanes::{Lanes, Parts};
use match_endpoints::Matcher;
use record::Recorder;
use share::Shared;

/// Delivers webhooks: signs, sends, retries, and logs every attempt.
#[derive(Debug, Parser)]
#[command(name = "bowline-dispatcher", version)]
struct Cli {
    #[command(flatten)]
    args: bootstrap::Args,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    bootstrap::run(Service::Dispatcher, &cli.args, run)
}

async fn run(process: Process) -> anyhow::Result<()> {
    let config = Arc::clone(&process.config);
    let shutdown = process.shutdown.clone();
    let pool = store::connect(config.postgres.url_str(), config.postgres.pool_size)?;
    let postgres = process.readiness.condition("postgres");
    let target = config.postgres.target();
    if wait_for(&target, &postgres, &shutdown, || store::check(&pool)).await.is_err() {
        return Ok(());
    }
    let (vault, unsealed) = Vault::new(Keyring::parse(&config.secrets.keyring)?);
    let load = || Snapshot::load(pool.clone(), Need::Endpoints);
    let Ok(snapshot) = wait_for(&target, &postgres, &shutdown, load).await else { return Ok(()) };
    let streams = Streams::connect(&config.redis);
    let admin = listen("admin.listen", config.admin.listen).await?;
    let admin_addr = admin.local_addr()?;

    // What serves until the last request that is out has been recorded.
    let drained = Shutdown::new();
    background(&config, &pool, &snapshot, unsealed, &shutdown);
    let begin = || Replica::start(pool.clone(), "dispatcher", Arc::clone(&snapshot), shutdown.token());
    let Ok(replica) = wait_for(&target, &postgres, &shutdown, begin).await else { return Ok(()) };
    let journal = Journal::start(&config, streams.clone(), Arc::clone(&snapshot))?;
    let recorders = config.dispatcher.recorders;
    let records = store::connect_planned_ahead(config.postgres.url_str(), recorders)?;
    let holdings = Arc::<holdings::Holdings>::default();
    let recorder = Recorder::start(&records, &pool, &snapshot, &holdings, recorders);
    let guard = EgressGuard::new(config.egress.clone(), CONNECT_TIMEOUT);
    let rates = Arc::new(rate::Rates::new(streams.clone()));
    let lanes = Lanes::new(Parts {
        sender: attempt::Sender { guard, vault: vault.clone() },
        recorder: recorder.clone(),
        holdings,
        snapshot: Arc::clone(&snapshot),
        replica: Arc::clone(&replica),
        in_flight_max: config.dispatcher.in_flight_max,
        park_after: config.dispatcher.park_after,
        retention: config.retention.events,
        rates: Arc::clone(&rates),
    });
    let (counting, token) = (pool.clone(), shutdown.clone());
    supervise("rates", &shutdown, move || {
        let (rates, pool) = (Arc::clone(&rates), counting.clone());
        until(token.clone(), async move { rates.follow(&pool).await })
    });
    let claims = claims(&config, &pool, &snapshot, &replica, &lanes, &recorder, streams);
    let mut intake = intake(&claims, &lanes, &shutdown, &drained);
    let teller = Arc::new(tell::Teller { pool: pool.clone(), journal: journal.clone() });
    let token = shutdown.clone();
    intake.push(supervise("own events", &shutdown, move || until(token.clone(), Arc::clone(&teller).work())));

    let context = AdminContext {
        pool: store::connect(config.postgres.url_str(), config.postgres.admin_pool_size)?,
        journal: journal.clone(),
        vault: Arc::new(vault),
        snapshot,
        keys: FetchedKeys::new(EgressGuard::new(config.egress.clone(), CONNECT_TIMEOUT)),
        egress: Arc::new(config.egress.clone()),
        public_url: config.ingest.public_url_or(config.ingest.listen),
        bootstrap_key: config.admin.bootstrap_key.clone(),
        open_reflection: config.admin.open_reflection,
    };
    let admin_stop = CancellationToken::new();
    let serving = essential("admin", &shutdown, bowline_admin::serve(admin, context, admin_stop.clone()));
    process.announce(None, admin_addr).await?;

    shutdown.requested().await;
    tracing::info!("stopping: no more work is taken");
    for worker in intake {
        worker.await?;
    }
    admin_stop.cancel();
    serving.await?;
    lanes.close().await;
    lanes.tasks.close();
    if tokio::time::timeout(config.dispatcher.drain_timeout, lanes.tasks.wait()).await.is_err() {
        tracing::warn!("requests are still out after the drain bound: another dispatcher repeats them");
    }
    drained.request();
    recorder.flush().await;
    journal.flush().await;
    replica.release().await?;
    tracing::info!("stopped: what was out is recorded, what is owned is released");
    Ok(())
}

/// What every process does beside its work.
fn background(
    config: &Config,
    pool: &Pool,
    snapshot: &Arc<Snapshot>,
    unsealed: UnsealLog,
    shutdown: &Shutdown,
) {
    essential("unsealings", shutdown, unsealings::write_unsealings(pool.clone(), unsealed, shutdown.token()));
    let follow =
        Arc::clone(snapshot).follow(Some(config.postgres.direct_url_str().to_owned()), shutdown.token());
    essential("configuration", shutdown, follow);
    let (pool, token) = (pool.clone(), shutdown.clone());
    supervise("partitions", shutdown, move || partitions::make_ahead(pool.clone(), token.clone()));
    let (direct_url, retention) = (config.postgres.direct_url_str().to_owned(), config.retention.clone());
    let token = shutdown.clone();
    supervise("janitor", shutdown, move || {
        let janitor = janitor::Janitor { direct_url: direct_url.clone(), retention: retention.clone() };
        until(token.clone(), janitor.work())
    });
}

#[allow(clippy::too_many_arguments, reason = "the parts of the boot script, named once")]
fn claims(
    config: &Config,
    pool: &Pool,
    snapshot: &Arc<Snapshot>,
    replica: &Arc<Replica>,
    lanes: &Arc<Lanes>,
    recorder: &Recorder,
    streams: Option<Streams>,
) -> Arc<Claims> {
    let deliveries = Shared::new(config.dispatcher.deliveries_max);
    let matcher = Matcher {
        pool: pool.clone(),
        snapshot: Arc::clone(snapshot),
        lanes: Arc::clone(lanes),
        recorder: recorder.clone(),
        deliveries: Arc::clone(&deliveries),
        bodies: Shared::new(config.dispatcher.bytes_max),
        wake: Arc::default(),
    };
    Arc::new(Claims {
        pool: pool.clone(),
        replica: Arc::clone(replica),
        matcher,
        lanes: Arc::clone(lanes),
        recorder: recorder.clone(),
        streams,
        deliveries,
        holdings: Arc::clone(lanes.holdings()),
        session: Session::new(config.postgres.direct_url_str()),
    })
}

/// Starts everything that takes work. It ends with the shutdown; parking goes on until all is drained.
fn intake(
    claims: &Arc<Claims>,
    lanes: &Arc<Lanes>,
    shutdown: &Shutdown,
    drained: &Shutdown,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut workers = Vec::new();
    let of = claims;
    let (claims, token) = (Arc::clone(of), shutdown.clone());
    workers.push(supervise("outbox", shutdown, move || {
        until(token.clone(), Arc::clone(&claims).chunks_from_outbox())
    }));
    let (claims, token) = (Arc::clone(of), shutdown.clone());
    workers
        .push(supervise("due", shutdown, move || until(token.clone(), Arc::clone(&claims).due_deliveries())));
    let (claims, token) = (Arc::clone(of), shutdown.clone());
    workers
        .push(supervise("owners", shutdown, move || until(token.clone(), Arc::clone(&claims).keep_order())));
    // Also during a shutdown: what waits for it is out of its lane already.
    let (claims, token) = (Arc::clone(of), drained.clone());
    supervise("claims' session", drained, move || until(token.clone(), Arc::clone(&claims).keep_session()));
    let (lanes, token) = (Arc::clone(lanes), drained.clone());
    supervise("parking", drained, move || {
        let lanes = Arc::clone(&lanes);
        until(token.clone(), async move {
            lanes.park_the_late().await;
            Ok(())
        })
    });
    let (claims, token) = (Arc::clone(of), shutdown.clone());
    workers.push(supervise("enabled endpoints", shutdown, move || {
        let claims = Arc::clone(&claims);
        until(token.clone(), async move { claims.lanes.wake_the_asleep(&claims.pool).await })
    }));
    workers.extend(ordered(of, shutdown, drained));
    let (claims, token) = (Arc::clone(of), shutdown.clone());
    workers.push(supervise("tests", shutdown, move || until(token.clone(), Arc::clone(&claims).tests())));
    let (claims, token) = (Arc::clone(of), shutdown.clone());
    workers.push(supervise("operations", shutdown, move || {
        let operator = operate::Operator {
            pool: claims.pool.clone(),
            replica: Arc::clone(&claims.replica),
            snapshot: Arc::clone(&claims.matcher.snapshot),
        };
        until(token.clone(), Arc::new(operator).work())
    }));
    let Some(streams) = &of.streams else { return workers };
    let mut turns: Vec<Arc<Turn>> = Vec::new();
    for stream in streams.all() {
        while turns.len() <= usize::from(stream.shard) {
            turns.push(Arc::default());
        }
        let consumer = Arc::new(Consumer {
            streams: streams.clone(),
            stream,
            turn: Arc::clone(&turns[usize::from(stream.shard)]),
            claims: Arc::clone(of),
        });
        let (reading, token) = (Arc::clone(&consumer), shutdown.clone());
        workers.push(supervise("consume", shutdown, move || {
            let consumer = Arc::clone(&reading);
            until(token.clone(), async move {
                consumer.run().await;
                Ok(())
            })
        }));
        let token = shutdown.clone();
        workers.push(supervise("reclaim", shutdown, move || {
            let consumer = Arc::clone(&consumer);
            until(token.clone(), async move {
                consumer.reclaim().await;
                Ok(())
            })
        }));
    }
    workers
}

/// Starts what works on channels. What was sent is given back until all is drained.
fn ordered(
    claims: &Arc<Claims>,
    shutdown: &Shutdown,
    drained: &Shutdown,
) -> [tokio::task::JoinHandle<()>; 2] {
    let ordered = ordered::Ordered::new(Arc::clone(claims), Arc::clone(&claims.matcher.wake));
    let (releasing, token) = (Arc::clone(&ordered), drained.clone());
    supervise("channels released", drained, move || until(token.clone(), Arc::clone(&releasing).release()));
    let (keeping, token) = (Arc::clone(&ordered), shutdown.clone());
    let keep =
        supervise("channels kept", shutdown, move || until(token.clone(), Arc::clone(&keeping).keep()));
    let token = shutdown.clone();
    let work = supervise("channels", shutdown, move || until(token.clone(), Arc::clone(&ordered).work()));
    [keep, work]
}

/// Ends a worker with the shutdown. What it had claimed and not handed on is taken over by others
/// when this life is released.
async fn until<F>(shutdown: Shutdown, worker: F) -> Result<(), store::Error>
where
    F: Future<Output = Result<(), store::Error>>,
{
    tokio::select! {
        ended = worker => ended,
        () = shutdown.requested() => Ok(()),
    }
}
