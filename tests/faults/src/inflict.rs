//! Makes faults happen, and undoes them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bowline_tests::service::{Kind, Service};
use bowline_tests::{database, stores};
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock::now_s;
use crate::fault::{Disturbance, Fault, Part};
use crate::link::State;
use crate::replica::TERM_WITHIN;
use crate::sink::Manner;
use crate::site::{Site, usual};

/// What was on the wire when a process stopped still arrives.
const ARRIVING_S: f64 = 0.5;
/// For so long after a renewal a dispatcher may start requests, whatever becomes of Postgres.
const CONFIDENCE_S: f64 = 4.5;
const DAY_S: i64 = 24 * 3600;
/// Well within the retention: an event whose time is older than that is meant to expire.
const CLOCK_SHIFTS_S: [i64; 6] = [-2 * DAY_S, -3600, -90, 90, 3600, 2 * DAY_S];
const REDIS_MEMORY: &str = "512mb";
const STORE_WITHIN: Duration = Duration::from_secs(5);

/// A fault under way.
#[derive(Debug)]
pub struct Active {
    pub fault: Fault,
    /// What exactly was chosen, for the log.
    pub note: String,
    began_s: f64,
    /// Requests that were out may come again: only what happens to a dispatcher does that.
    hits_dispatcher: bool,
    undo: Undo,
    disturbances: Vec<Disturbance>,
}

#[derive(Debug)]
enum Undo {
    /// Nothing, or what [`Site::restore`] and [`Site::make_whole`] do for all.
    ByAll,
    /// It has been asked to end.
    AwaitEnd(Box<Service>),
    Resume(usize),
    Clock(usize),
    RedisRestart,
    RedisResume,
    RedisMemory,
    PostgresRestart,
    PostgresResume,
    Connections(Vec<TcpStream>),
    Relieve,
}

/// What follows from the end of a fault.
#[derive(Debug, Default)]
pub struct Healed {
    pub disturbances: Vec<Disturbance>,
    /// What went wrong with the fault itself: a SIGTERM that did not end a process in order.
    pub violations: Vec<String>,
}

/// Lets `fault` happen.
///
/// # Errors
/// When it cannot be made to happen.
pub async fn inflict(site: &mut Site, fault: Fault, random: &mut StdRng) -> Result<Active> {
    let mut active = Active {
        fault,
        note: String::new(),
        began_s: now_s(),
        hits_dispatcher: fault.part() == Part::Postgres,
        undo: Undo::ByAll,
        disturbances: Vec::new(),
    };
    match fault {
        Fault::IngestKill | Fault::IngestTerm | Fault::IngestStop | Fault::ClockIngest => {
            on_process(site, &mut active, Kind::Ingest, random).await?;
        }
        Fault::DispatcherKill | Fault::DispatcherTerm | Fault::DispatcherStop | Fault::ClockDispatcher => {
            on_process(site, &mut active, Kind::Dispatcher, random).await?;
        }
        Fault::RedisKill
        | Fault::RedisFlush
        | Fault::RedisRestart
        | Fault::RedisPause
        | Fault::RedisMemory => on_redis(site, &mut active).await?,
        Fault::PostgresRestart
        | Fault::PostgresKill
        | Fault::PostgresPause
        | Fault::PostgresConnections
        | Fault::PostgresFull => on_postgres(site, &mut active).await?,
        Fault::ReceiverHang | Fault::ReceiverLie | Fault::ReceiverDead => {
            on_receivers(site, &mut active, random);
        }
        _ => on_network(site, &mut active, random),
    }
    Ok(active)
}

async fn on_process(site: &mut Site, active: &mut Active, kind: Kind, random: &mut StdRng) -> Result<()> {
    let of_kind = site.of_kind(kind);
    let index = match active.fault {
        // One of the two has a clock that can be moved.
        Fault::ClockIngest | Fault::ClockDispatcher => of_kind[1],
        _ => *of_kind.choose(random).context("a replica")?,
    };
    let replica = &mut site.replicas[index];
    active.note.clone_from(&replica.name);
    match active.fault {
        Fault::ClockIngest | Fault::ClockDispatcher => {
            let shift_s = *CLOCK_SHIFTS_S.choose(random).context("a shift")?;
            replica.shift_clock(shift_s)?;
            active.note = format!("{} by {shift_s} s", active.note);
            active.undo = Undo::Clock(index);
        }
        Fault::IngestStop | Fault::DispatcherStop => {
            replica.service.as_mut().context("it runs")?.pause();
            active.undo = Undo::Resume(index);
        }
        _ => {
            let mut service = replica.take().context("it runs")?;
            if matches!(active.fault, Fault::IngestKill | Fault::DispatcherKill) {
                service.kill().await;
            } else {
                service.signal(Signal::SIGTERM);
                active.undo = Undo::AwaitEnd(Box::new(service));
            }
        }
    }
    if matches!(active.fault, Fault::DispatcherKill | Fault::DispatcherStop) {
        active.disturb(now_s() + ARRIVING_S);
    }
    Ok(())
}

async fn on_redis(site: &mut Site, active: &mut Active) -> Result<()> {
    match active.fault {
        Fault::RedisKill => {
            site.redis.kill().await?;
            active.undo = Undo::RedisRestart;
        }
        Fault::RedisRestart => site.redis.restart().await?,
        Fault::RedisPause => {
            site.redis.pause()?;
            active.undo = Undo::RedisResume;
        }
        Fault::RedisMemory => {
            redis_says(site, &["CONFIG", "SET", "maxmemory", "1"]).await?;
            active.undo = Undo::RedisMemory;
        }
        _ => redis_says(site, &["FLUSHALL"]).await?,
    }
    Ok(())
}

async fn redis_says(site: &Site, words: &[&str]) -> Result<()> {
    let client = redis::Client::open(site.redis.url())?;
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async::<()>(&mut connection).await
    };
    tokio::time::timeout(STORE_WITHIN, asked).await.context("Redis does not answer")??;
    Ok(())
}

async fn on_postgres(site: &mut Site, active: &mut Active) -> Result<()> {
    match active.fault {
        Fault::PostgresRestart => {
            site.postgres.stop().await?;
            active.undo = Undo::PostgresRestart;
        }
        Fault::PostgresKill => {
            site.postgres.kill().await?;
            active.undo = Undo::PostgresRestart;
        }
        Fault::PostgresPause => {
            site.signal_postgres(Signal::SIGSTOP);
            active.undo = Undo::PostgresResume;
        }
        Fault::PostgresConnections => active.undo = Undo::Connections(take_connections(site).await?),
        _ => {
            site.disk.as_ref().context("a small filesystem")?.fill()?;
            active.undo = Undo::Relieve;
        }
    }
    Ok(())
}

/// Every connection there is, those of the services included: asked for, and never authenticated.
async fn take_connections(site: &Site) -> Result<Vec<TcpStream>> {
    const MOST: usize = 400;
    const ROUNDS: usize = 5;
    let address = stores::address(&site.postgres.url())?;
    let operator = database::connect(&site.postgres.url_of("postgres")).await?;
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND datname <> 'postgres'";
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        while taken.len() < MOST {
            let Some(stream) = begin_session(address).await? else { break };
            taken.push(stream);
        }
        // Only the services have some now.
        operator.simple_query(others).await?;
    }
    Ok(taken)
}

/// A session that waits for its password, which Postgres counts among its connections for a minute.
async fn begin_session(address: SocketAddr) -> Result<Option<TcpStream>> {
    const STARTUP: &[u8] = b"\0\0\0\x28\0\x03\0\0user\0bowline\0database\0postgres\0\0";
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(STARTUP).await?;
    let mut first = [0];
    let answer = tokio::time::timeout(STORE_WITHIN, stream.read_exact(&mut first)).await;
    // `R` asks for the password; `E` says that there are too many.
    Ok(matches!(answer, Ok(Ok(_)) if first == *b"R").then_some(stream))
}

fn on_receivers(site: &mut Site, active: &mut Active, random: &mut StdRng) {
    let mut order: Vec<usize> = (0..site.customers.len() - 1).collect();
    order.shuffle(random);
    order.truncate(random.random_range(1..=3));
    for index in order {
        let customer = &site.customers[index];
        let manner = match active.fault {
            Fault::ReceiverHang => Manner::Hang,
            Fault::ReceiverLie => {
                let lies = [Manner::Trickle, Manner::CloseMidResponse, Manner::Garbage, Manner::HugeBody];
                *lies.choose(random).unwrap_or(&Manner::Garbage)
            }
            _ => {
                customer.link.set(State::Cut);
                usual(customer.kind)
            }
        };
        customer.sink.behave(manner);
        let note = format!("{} {} {manner:?}", active.note, customer.kind.name);
        note.trim().clone_into(&mut active.note);
    }
}

fn on_network(site: &mut Site, active: &mut Active, random: &mut StdRng) {
    let slow = State::Slow(Duration::from_millis(random.random_range(20..=150)));
    let state = match active.fault {
        Fault::NetPostgresCut | Fault::NetRedisCut | Fault::NetReceiverCut | Fault::NetClientCut => {
            State::Cut
        }
        Fault::NetPostgresHalf | Fault::NetRedisHalf | Fault::NetReceiverHalf | Fault::NetClientHalf => {
            State::HalfOpen
        }
        _ => slow,
    };
    if matches!(active.fault, Fault::NetReceiverCut | Fault::NetReceiverSlow | Fault::NetReceiverHalf) {
        let index = random.random_range(0..site.customers.len() - 1);
        site.customers[index].link.set(state);
        active.note = format!("{} {state:?}", site.customers[index].kind.name);
        return;
    }
    let chosen: Vec<usize> = match active.fault {
        Fault::PostgresSlow => (0..site.replicas.len()).collect(),
        Fault::NetClientCut | Fault::NetClientSlow | Fault::NetClientHalf => {
            site.of_kind(Kind::Ingest).choose(random).copied().into_iter().collect()
        }
        _ => vec![random.random_range(0..site.replicas.len())],
    };
    active.hits_dispatcher = chosen.iter().any(|index| site.replicas[*index].kind == Kind::Dispatcher);
    for index in chosen {
        let replica = &site.replicas[index];
        match active.fault {
            Fault::NetRedisCut | Fault::NetRedisSlow | Fault::NetRedisHalf => replica.redis.set(state),
            Fault::NetClientCut | Fault::NetClientSlow | Fault::NetClientHalf => {
                replica.http.set(state);
                replica.admin.set(state);
            }
            _ => replica.postgres.set(state),
        }
        let note = format!("{} {}", active.note, replica.name);
        note.trim().clone_into(&mut active.note);
    }
    active.note = format!("{} {state:?}", active.note);
}

impl Active {
    fn disturb(&mut self, until_s: f64) {
        let what = format!("{} {}", self.fault, self.note);
        let stops = self.fault == Fault::DispatcherStop;
        self.disturbances.push(Disturbance { what, from_s: self.began_s, until_s, stops });
    }

    /// Whether undoing it needs the stores: those come first.
    pub fn is_of_a_process(&self) -> bool {
        matches!(self.undo, Undo::AwaitEnd(_) | Undo::Resume(_))
    }

    /// Undoes it, as far as it is not undone for all by [`Site::make_whole`] and [`Site::restore`].
    ///
    /// # Errors
    /// When it cannot be undone.
    pub async fn heal(mut self, site: &mut Site) -> Result<Healed> {
        let mut violations = Vec::new();
        match std::mem::replace(&mut self.undo, Undo::ByAll) {
            Undo::ByAll => {}
            Undo::AwaitEnd(mut service) => violations.extend(orderly_end(&self.note, &mut service).await),
            Undo::Resume(index) => {
                site.replicas[index].service.as_mut().context("it runs")?.resume();
            }
            Undo::Clock(index) => site.replicas[index].shift_clock(0)?,
            Undo::RedisRestart => site.redis.restart().await?,
            Undo::RedisResume => site.redis.resume()?,
            Undo::RedisMemory => redis_says(site, &["CONFIG", "SET", "maxmemory", REDIS_MEMORY]).await?,
            Undo::PostgresRestart => site.postgres.restart().await?,
            Undo::PostgresResume => site.signal_postgres(Signal::SIGCONT),
            Undo::Connections(taken) => drop(taken),
            Undo::Relieve => relieve(site).await?,
        }
        match self.fault {
            Fault::PostgresRestart
            | Fault::PostgresKill
            | Fault::PostgresPause
            | Fault::PostgresConnections
            | Fault::NetPostgresCut
            | Fault::NetPostgresHalf
                if self.hits_dispatcher =>
            {
                self.disturb(self.began_s + CONFIDENCE_S);
            }
            // Leases are renewed now and then, while nothing can be recorded.
            Fault::PostgresFull => self.disturb(now_s()),
            _ => {}
        }
        Ok(Healed { disturbances: self.disturbances, violations })
    }
}

/// What is wrong with the end of a process that was asked to end.
async fn orderly_end(name: &str, service: &mut Service) -> Option<String> {
    let deadline = tokio::time::Instant::now() + TERM_WITHIN;
    loop {
        match service.ended() {
            Some(status) if status.success() => return None,
            Some(status) => return Some(format!("{name} ended with {status} on SIGTERM")),
            None if tokio::time::Instant::now() > deadline => {
                service.kill().await;
                return Some(format!("{name} did not end within {} s of SIGTERM", TERM_WITHIN.as_secs()));
            }
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Makes room again; a Postgres that gave up for lack of it is started again.
async fn relieve(site: &mut Site) -> Result<()> {
    site.disk.as_ref().context("a small filesystem")?.relieve()?;
    let url = site.postgres.url_of("postgres");
    for _ in 0..3 {
        let probe =
            async { database::connect(&url).await?.batch_execute("SELECT 1").await.context("a probe") };
        if matches!(tokio::time::timeout(STORE_WITHIN, probe).await, Ok(Ok(()))) {
            return Ok(());
        }
        site.postgres.restart().await?;
    }
    bail!("Postgres does not come back after its disk was full")
}
