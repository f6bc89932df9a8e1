//! Everything a run stands on: stores, two replicas of each service behind links, customers behind
//! links. All of it ends when it is dropped.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bowline_cli::local::{Home, PrivatePostgres, PrivateRedis};
use bowline_proto::v1;
use bowline_tests::admin::{self, Admin, KEY};
use bowline_tests::database::{self, Database};
use bowline_tests::service::Kind;
use bowline_tests::{sign, stack};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::catalog::{ENDPOINTS, EndpointKind, SOURCES};
use crate::disk::SmallDisk;
use crate::link::Link;
use crate::replica::Replica;
use crate::sink::{Manner, Sink};

/// Between attempts; the last one repeats.
const WAITS_MS: [u64; 6] = [300, 500, 1000, 2000, 3000, 5000];
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(3);
/// Keeps Postgres well within its small disk.
const WAL_MAX: &str = "128MB";

/// A customer: a server, the network to it, and the endpoint that leads there.
#[derive(Debug)]
pub struct Customer {
    pub kind: &'static EndpointKind,
    pub endpoint_id: String,
    pub sink: Sink,
    pub link: Link,
}

/// A source as the sender knows it.
#[derive(Debug, Clone)]
pub struct Sender {
    pub source_id: String,
    pub secret: String,
}

#[derive(Debug)]
pub struct Site {
    // Dropped first to last: services before their stores, stores before their disk.
    pub replicas: Vec<Replica>,
    pub customers: Vec<Customer>,
    pub senders: Vec<Sender>,
    pub database_url: String,
    pub redis: PrivateRedis,
    pub postgres: PrivatePostgres,
    pub disk: Option<SmallDisk>,
    folder: Option<TempDir>,
}

/// What the machine and the caller allow.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    pub may_mount: bool,
    pub can_move_clocks: bool,
}

impl Site {
    /// Starts all of it and waits until it is ready.
    ///
    /// # Errors
    /// When something does not start; with its log.
    pub async fn start(means: Means) -> Result<Self> {
        let disk = if means.may_mount { Some(SmallDisk::mount()?) } else { None };
        let home = disk.as_ref().map_or(Home::Temporary, |disk| Home::Kept(disk.path()));
        let (postgres, redis) =
            tokio::try_join!(PrivatePostgres::start(&home), PrivateRedis::start(&Home::Temporary))?;
        database::prepare(&postgres.url()).await?;
        let database = Database::create(&postgres.url()).await?;
        let settings = format!("ALTER SYSTEM SET max_wal_size = '{WAL_MAX}'");
        database.sql().batch_execute(&settings).await?;
        database.sql().batch_execute("SELECT pg_reload_conf()").await?;

        let folder = TempDir::with_prefix("bowline-faults-")?;
        let mut base = stack::base_settings(&database, &redis.url());
        for (name, value) in &mut base {
            match name.as_str() {
                "BOWLINE_POSTGRES_POOL_SIZE" => "8".clone_into(value),
                "BOWLINE_LOG_FILTER" => "info".clone_into(value),
                _ => {}
            }
        }
        let mut replicas = Vec::new();
        for kind in [Kind::Ingest, Kind::Dispatcher] {
            for index in 0..2 {
                // One of the two keeps the right time, so that not everybody is wrong together.
                let has_clock = means.can_move_clocks && index == 1;
                replicas.push(Replica::prepare(kind, index, &base, folder.path(), has_clock).await?);
            }
        }
        let mut site = Self {
            replicas,
            customers: Vec::new(),
            senders: Vec::new(),
            database_url: database.url.clone(),
            redis,
            postgres,
            disk,
            folder: Some(folder),
        };
        for replica in &mut site.replicas {
            replica.launch()?;
        }
        for replica in &mut site.replicas {
            replica.await_ready().await?;
        }
        site.configure().await?;
        Ok(site)
    }

    async fn configure(&mut self) -> Result<()> {
        let admin = self.admin(0);
        for (index, kind) in SOURCES.iter().enumerate() {
            let secret = sign::test_secret(&format!("source-{index}"));
            let source = v1::Source {
                preset: kind.preset.to_owned(),
                event_type: kind.event_type.to_owned(),
                channel: kind.channel.to_owned(),
                ..Default::default()
            };
            let source_id = admin.source_like(source, &secret).await.id;
            self.senders.push(Sender { source_id, secret });
        }
        for kind in ENDPOINTS {
            let manner = usual(kind);
            let sink = Sink::start(manner, Duration::from_millis(kind.thinks_ms)).await?;
            let link = Link::start(Some(sink.address())).await?;
            let waits = WAITS_MS.map(Duration::from_millis);
            let endpoint = admin::with_waits(format!("http://{}/hook", link.address()), &waits);
            let retry = v1::RetryPolicy { max_attempts: kind.attempts, ..endpoint.retry.unwrap_or_default() };
            let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            let (endpoint_id, secret) = admin
                .endpoint(v1::Endpoint {
                    name: kind.name.to_owned(),
                    event_types: texts(kind.event_types),
                    channels: texts(kind.channels),
                    timeout: Some(admin::duration(ENDPOINT_TIMEOUT)),
                    retry: Some(retry),
                    ordering: ordering(kind).into(),
                    ..endpoint
                })
                .await;
            sink.knows(&secret);
            self.customers.push(Customer { kind, endpoint_id, sink, link });
        }
        Ok(())
    }

    /// An operator at the replica of that index.
    pub fn admin(&self, index: usize) -> Admin {
        Admin::new(&format!("http://{}", self.replicas[index].admin.address()), Some(KEY))
    }

    /// The replicas of one kind, by their index in [`Self::replicas`].
    pub fn of_kind(&self, kind: Kind) -> Vec<usize> {
        (0..self.replicas.len()).filter(|index| self.replicas[*index].kind == kind).collect()
    }

    /// Every process of Postgres, the postmaster first.
    pub fn postgres_processes(&self) -> Vec<u32> {
        let parent = self.postgres.pid();
        let mut found = vec![parent];
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // "pid (name) state ppid …"
            let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
            if of == Some(parent) {
                found.push(pid);
            }
        }
        found
    }

    /// Signals every process of Postgres.
    pub fn signal_postgres(&self, signal: Signal) {
        for pid in self.postgres_processes() {
            // A session may end between being found and being signalled.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal);
        }
    }

    /// Starts what should run and does not, and waits until all is ready.
    ///
    /// # Errors
    /// When something does not become ready; with its log.
    pub async fn restore(&mut self) -> Result<()> {
        for replica in self.replicas.iter_mut().filter(|replica| replica.service.is_none()) {
            replica.launch()?;
        }
        for replica in &mut self.replicas {
            replica.await_ready().await?;
        }
        Ok(())
    }

    /// All customers are as they should be, and so is the network.
    pub fn make_whole(&self) {
        for replica in &self.replicas {
            for link in [&replica.postgres, &replica.redis, &replica.http, &replica.admin] {
                link.set(crate::link::State::Whole);
            }
        }
        for customer in &self.customers {
            customer.link.set(crate::link::State::Whole);
            customer.sink.behave(usual(customer.kind));
        }
    }

    /// Everything the services wrote, to be kept: the folder stays.
    pub fn keep_logs(&mut self) -> Option<PathBuf> {
        self.folder.take().map(TempDir::keep)
    }

    /// What the services wrote that no service should write.
    pub fn panics(&self) -> Vec<String> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let logs = std::fs::read_dir(folder.path()).into_iter().flatten().flatten();
        logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
            .flat_map(|entry| {
                let text = std::fs::read(entry.path()).unwrap_or_default();
                let name = entry.file_name().to_string_lossy().into_owned();
                let lines: Vec<String> = String::from_utf8_lossy(&text)
                    .lines()
                    .filter(|line| line.contains("panicked at"))
                    .map(|line| format!("{name}: {line}"))
                    .collect();
                lines
            })
            .collect()
    }

    /// An orderly end.
    ///
    /// # Errors
    /// When a store cannot be stopped.
    pub async fn stop(mut self) -> Result<()> {
        self.replicas.clear();
        self.redis.stop().await.context("Redis")?;
        self.postgres.stop().await.context("Postgres")?;
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What is stopped could not be ended.
        self.signal_postgres(Signal::SIGCONT);
    }
}

fn ordering(kind: &EndpointKind) -> v1::EndpointOrdering {
    if kind.ordered { v1::EndpointOrdering::PerChannel } else { v1::EndpointOrdering::Unspecified }
}

/// How a customer behaves while nothing is wrong with it.
pub fn usual(kind: &EndpointKind) -> Manner {
    if kind.refuses_percent == 0 { Manner::Answer } else { Manner::Flaky(kind.refuses_percent) }
}
