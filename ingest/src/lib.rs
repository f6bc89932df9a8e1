//! Bowline ingest: takes webhooks, verifies them, and acknowledges what is committed.
//!
//! The way of a request:
//!
//! 1. [`server`] accepts the connection, over [`tls`] where a certificate is configured, and keeps
//!    to its number of [`places`]; [`intake`] walks the request through the rest.
//! 2. [`edge`] speaks HTTP: [`head`] refuses what could be read in two ways ([`framing`]), and
//!    [`unreadable`] words the refusal of what is no request at all, and [`linger`] sees that it arrives. [`route`] finds the source that the
//!    path names, and [`mod@rate`] says whether it takes any more.
//! 3. [`receive`] reads the body within the source's limit; slow ones are counted in [`arrivals`], and of a
//!    request that is refused [`drain`] takes what still comes.
//! 4. `bowline_core::inbound` checks it by the source's scheme and makes the event; [`handshake`] does
//!    what must be done for requests that only ask for proof.
//! 5. The journal of `bowline_core` commits the event.
//! 6. [`answer`] says so, or what [`reject`] has against it, which is kept for whoever mends it; [`failing`] tells
//!    of a source to which nothing else comes.

mod answer;
mod arrivals;
mod drain;
pub mod edge;
mod failing;
mod framing;
mod handshake;
mod head;
mod intake;
mod linger;
mod places;
mod public_keys;
mod rate;
mod receive;
mod reject;
mod route;
mod server;
mod tls;
mod unreadable;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bowline_admin::AdminContext;
use bowline_core::bootstrap::config::IngestConfig;
use bowline_core::bootstrap::{Process, Service, Shutdown, essential, listen, supervise, wait_for};
use bowline_core::egress::EgressGuard;
use bowline_core::fetched_keys::FetchedKeys;
use bowline_core::journal::Journal;
use bowline_core::replica::Replica;
use bowline_core::secrets::{Keyring, Vault};
use bowline_core::snapshot::{Need, Snapshot};
use bowline_core::store::{self, Pool, partitions, unsealings};
use bowline_core::streams::Streams;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use arrivals::Arrivals;
use failing::{FailingSources, Teller};
use intake::Intake;
use rate::Rates;
use receive::Pace;
use reject::{RejectionWriter, Rejections};
use server::ServerLimits;
use tls::Tls;

/// What must be done with by the end of a shutdown, once nothing comes in any more.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// For keys and confirmations that are fetched while a sender waits.
const KEY_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves until it is told to stop, and then finishes what is in.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let (config, shutdown) = (Arc::clone(&process.config), &process.shutdown);
    let postgres = process.readiness.condition("postgres");
    let serving = process.readiness.condition("serving");
    let pool = store::connect(config.postgres.url_str(), config.postgres.pool_size)?;
    if wait_for(&config.postgres.target(), &postgres, shutdown, || store::check(&pool)).await.is_err() {
        return Ok(());
    }
    let load = || Snapshot::load(pool.clone(), Need::Sources);
    let Ok(snapshot) = wait_for(&config.postgres.target(), &postgres, shutdown, load).await else {
        return Ok(());
    };

    // What stands behind the intake ends after it: requests that are in still need it.
    let behind = Shutdown::new();
    let (vault, unseal_log) = Vault::new(Keyring::parse(&config.secrets.keyring)?);
    let vault = Arc::new(vault);
    let (rejections, writer) = Rejections::new(pool.clone());
    let direct_url =
        config.postgres.direct_url.is_some().then(|| config.postgres.direct_url_str().to_owned());
    let tell_unsealings = unsealings::write_unsealings(pool.clone(), unseal_log, behind.token());
    let mut workers = vec![
        essential("snapshot", shutdown, Arc::clone(&snapshot).follow(direct_url, behind.token())),
        essential("unsealings", shutdown, tell_unsealings),
        write_rejections(&behind, writer),
        make_partitions(&behind, &pool),
    ];
    let begin =
        || Replica::start(pool.clone(), Service::Ingest.as_str(), Arc::clone(&snapshot), shutdown.token());
    let Ok(replica) = wait_for(&config.postgres.target(), &postgres, shutdown, begin).await else {
        return Ok(());
    };
    let streams = Streams::connect(&config.redis);
    let rates = Rates::new(streams.clone());
    let journal = Journal::start(&config, streams, Arc::clone(&snapshot))?;
    workers.push(essential("rates", shutdown, Arc::clone(&rates).follow(pool.clone(), behind.token())));
    let tls = load_tls(&config.ingest).await?;
    if let Some(tls) = &tls {
        workers.push(essential("tls", shutdown, Arc::clone(tls).follow(behind.token())));
    }

    let http = listen("ingest.listen", config.ingest.listen).await?;
    let admin = listen("admin.listen", config.admin.listen).await?;
    let (http_address, admin_address) = (http.local_addr()?, admin.local_addr()?);
    let public_url = config.ingest.public_url_or(http_address);
    let (failing, teller) = FailingSources::new(config.ingest.source_failing_after, journal.clone());
    workers.push(tell_of_failing(&behind, teller));
    let keys = FetchedKeys::new(EgressGuard::new(config.egress.clone(), KEY_CONNECT_TIMEOUT));
    let intake = Arc::new(Intake {
        journal: journal.clone(),
        snapshot: Arc::clone(&snapshot),
        vault: Arc::clone(&vault),
        rejections,
        failing,
        keys: keys.clone(),
        pool: pool.clone(),
        arrivals: Arrivals::new(&config.ingest),
        rates,
        trusted_proxies: config.ingest.trusted_proxies.clone(),
        public_url: public_url.clone(),
        pace: Pace::of(&config.ingest),
        request_timeout: config.ingest.request_timeout,
    });
    let context = AdminContext {
        pool: store::connect(config.postgres.url_str(), config.postgres.admin_pool_size)?,
        journal: journal.clone(),
        vault,
        snapshot,
        keys,
        egress: Arc::new(config.egress.clone()),
        public_url,
        bootstrap_key: config.admin.bootstrap_key.clone(),
        open_reflection: config.admin.open_reflection,
    };
    let limits = ServerLimits::of(&config.ingest);
    let servers = [
        essential("http", shutdown, server::serve(http, tls, intake, limits, shutdown.token())),
        essential("admin", shutdown, bowline_admin::serve(admin, context, shutdown.token())),
    ];
    serving.set_ready();
    process.announce(Some(http_address), admin_address).await?;

    shutdown.requested().await;
    join("server", servers).await;
    finish(&journal, &replica, behind, workers).await;
    Ok(())
}

fn write_rejections(behind: &Shutdown, writer: RejectionWriter) -> JoinHandle<()> {
    let token = behind.token();
    supervise("rejections", behind, move || writer.clone().run(token.clone()))
}

fn tell_of_failing(behind: &Shutdown, teller: Teller) -> JoinHandle<()> {
    let token = behind.token();
    supervise("failing sources", behind, move || teller.clone().run(token.clone()))
}

fn make_partitions(behind: &Shutdown, pool: &Pool) -> JoinHandle<()> {
    let (pool, until) = (pool.clone(), behind.clone());
    supervise("partitions", behind, move || partitions::make_ahead(pool.clone(), until.clone()))
}

async fn load_tls(config: &IngestConfig) -> anyhow::Result<Option<Arc<Tls>>> {
    let Some(files) = config.tls.clone() else { return Ok(None) };
    Tls::load(files).await.map(Some).context("ingest.tls_cert_file and ingest.tls_key_file")
}

/// The end of a shutdown: nothing comes in any more.
async fn finish(
    journal: &Journal,
    replica: &Replica,
    behind: Shutdown,
    workers: impl IntoIterator<Item = JoinHandle<()>>,
) {
    if timeout(FLUSH_TIMEOUT, journal.flush()).await.is_err() {
        tracing::warn!("the journal was not flushed: what was not acknowledged will be sent again");
    }
    behind.request();
    if timeout(FLUSH_TIMEOUT, join("worker", workers)).await.is_err() {
        tracing::warn!("workers were cut at shutdown");
    }
    match timeout(RELEASE_TIMEOUT, replica.release()).await {
        Ok(Ok(())) => tracing::info!("replica released"),
        Ok(Err(error)) => tracing::warn!(%error, "the replica's life ends with its lease"),
        Err(_) => tracing::warn!("the replica's life ends with its lease: Postgres does not answer"),
    }
}

async fn join(kind: &'static str, tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(kind, %error, "a task ended by a panic");
        }
    }
}
