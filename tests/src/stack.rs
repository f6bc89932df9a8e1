//! A set of services over one database and one stream prefix.

use anyhow::Result;
use bowline_cli::local::{Home, PrivatePostgres, PrivateRedis};
use tempfile::TempDir;

use crate::admin::{Admin, KEY};
use crate::database::Database;
use crate::service::{Kind, Service, Settings};
use crate::{database, stores};

/// Seals the secrets of the tests; the text says what it is.
const KEYRING: &str = "test:Ym93bGluZS10ZXN0LWtleXJpbmctMzItYnl0ZXMhISE=";

/// What a test wants to run.
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    ingests: usize,
    dispatchers: usize,
    own_redis: bool,
    own_postgres: bool,
    settings: Settings,
    ingest_settings: Settings,
    dispatcher_settings: Settings,
}

impl Builder {
    pub fn ingests(mut self, count: usize) -> Self {
        self.ingests = count;
        self
    }

    pub fn dispatchers(mut self, count: usize) -> Self {
        self.dispatchers = count;
        self
    }

    /// A Redis that the test may empty, stop and kill.
    pub fn own_redis(mut self) -> Self {
        self.own_redis = true;
        self
    }

    /// A Postgres that the test may stop and kill.
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }

    /// For both services.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn set_ingest(mut self, name: &str, value: &str) -> Self {
        self.ingest_settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn set_dispatcher(mut self, name: &str, value: &str) -> Self {
        self.dispatcher_settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts all of it and waits until it is ready.
    ///
    /// # Panics
    /// When something does not start; with its log.
    pub async fn start(self) -> Stack {
        self.try_start().await.unwrap_or_else(|error| panic!("the stack does not start: {error:?}"))
    }

    async fn try_start(self) -> Result<Stack> {
        let postgres =
            if self.own_postgres { Some(PrivatePostgres::start(&Home::Temporary).await?) } else { None };
        let redis = if self.own_redis { Some(PrivateRedis::start(&Home::Temporary).await?) } else { None };
        let server_url = match &postgres {
            Some(own) => {
                database::prepare(&own.url()).await?;
                own.url()
            }
            None => stores::shared().await.postgres_url.clone(),
        };
        let redis_url = match &redis {
            Some(own) => own.url(),
            None => stores::shared().await.redis_url.clone(),
        };
        let database = Database::create(&server_url).await?;
        let mut settings = base_settings(&database, &redis_url);
        settings.extend(self.settings);
        let mut stack = Stack {
            ingests: Vec::new(),
            dispatchers: Vec::new(),
            database,
            redis_url,
            redis,
            postgres,
            settings,
            kind_settings: [self.ingest_settings, self.dispatcher_settings],
            started: 0,
            folder: Some(TempDir::with_prefix("bowline-test-")?),
        };
        for _ in 0..self.ingests {
            stack.add(Kind::Ingest, &[]).await?;
        }
        for _ in 0..self.dispatchers {
            stack.add(Kind::Dispatcher, &[]).await?;
        }
        Ok(stack)
    }
}

/// What every service of a stack is told.
pub fn base_settings(database: &Database, redis_url: &str) -> Settings {
    [
        ("BOWLINE_POSTGRES_URL", database.url.as_str()),
        ("BOWLINE_POSTGRES_POOL_SIZE", "4"),
        ("BOWLINE_REDIS_URL", redis_url),
        ("BOWLINE_REDIS_PREFIX", database.name.as_str()),
        ("BOWLINE_SECRETS_KEYRING", KEYRING),
        ("BOWLINE_ADMIN_LISTEN", "127.0.0.1:0"),
        ("BOWLINE_ADMIN_BOOTSTRAP_KEY", KEY),
        ("BOWLINE_OPS_LISTEN", "127.0.0.1:0"),
        ("BOWLINE_INGEST_LISTEN", "127.0.0.1:0"),
        ("BOWLINE_INGEST_PUBLIC_URL", "http://ingest.test"),
        ("BOWLINE_EGRESS_ALLOW_CIDRS", "127.0.0.0/8"),
        ("BOWLINE_EGRESS_ALLOW_HTTP", "true"),
        (
            "BOWLINE_LOG_FILTER",
            "info,bowline=debug,bowline_core=debug,bowline_dispatcher=debug,bowline_ingest=debug",
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Services that run, and what they stand on. All of it ends when it is dropped.
#[derive(Debug)]
pub struct Stack {
    // Dropped first: the services go before their stores.
    pub ingests: Vec<Service>,
    pub dispatchers: Vec<Service>,
    pub database: Database,
    pub redis_url: String,
    /// The test's own, where it asked for one.
    pub redis: Option<PrivateRedis>,
    pub postgres: Option<PrivatePostgres>,
    settings: Settings,
    kind_settings: [Settings; 2],
    started: usize,
    folder: Option<TempDir>,
}

impl Stack {
    /// One of each service, unless changed.
    pub fn builder() -> Builder {
        Builder { ingests: 1, dispatchers: 1, ..Builder::default() }
    }

    /// One of each service.
    ///
    /// # Panics
    /// When something does not start; with its log.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts one more, with settings of its own on top, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready; with its log.
    pub async fn add(&mut self, kind: Kind, settings: &[(&str, &str)]) -> Result<&mut Service> {
        let mut service = self.launch(kind, settings)?;
        service.ready(crate::BOUND).await?;
        let list = match kind {
            Kind::Ingest => &mut self.ingests,
            Kind::Dispatcher => &mut self.dispatchers,
        };
        list.push(service);
        Ok(list.last_mut().expect("one was just added"))
    }

    /// Starts one more dispatcher.
    ///
    /// # Panics
    /// When it does not become ready; with its log.
    pub async fn add_dispatcher(&mut self, settings: &[(&str, &str)]) -> &mut Service {
        self.add(Kind::Dispatcher, settings).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Starts one more ingest.
    ///
    /// # Panics
    /// When it does not become ready; with its log.
    pub async fn add_ingest(&mut self, settings: &[(&str, &str)]) -> &mut Service {
        self.add(Kind::Ingest, settings).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Starts one that is the test's own to await: it need not become ready. An empty value takes
    /// the setting away.
    ///
    /// # Errors
    /// When it is not built.
    pub fn launch(&mut self, kind: Kind, settings: &[(&str, &str)]) -> Result<Service> {
        let (name, all) = self.next(kind, settings);
        let folder = self.folder.as_ref().expect("there until the stack is dropped");
        Service::launch(kind, &name, all, folder.path())
    }

    /// Starts one more dispatcher, for which names have the addresses that `hosts` says, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; with its log.
    pub async fn add_dispatcher_with_hosts(&mut self, hosts: &str) {
        let (name, all) = self.next(Kind::Dispatcher, &[]);
        let folder = self.folder.as_ref().expect("there until the stack is dropped");
        let started = async {
            let mut service = Service::launch_with_hosts(Kind::Dispatcher, &name, all, folder.path(), hosts)?;
            service.ready(crate::BOUND).await?;
            anyhow::Ok(service)
        };
        self.dispatchers.push(started.await.unwrap_or_else(|error| panic!("{error:?}")));
    }

    /// The name and the environment of one more.
    fn next(&mut self, kind: Kind, settings: &[(&str, &str)]) -> (String, Settings) {
        self.started += 1;
        let name = format!("{}-{}", kind.binary(), self.started);
        let mut all = self.settings.clone();
        all.extend(self.kind_settings[usize::from(kind == Kind::Dispatcher)].iter().cloned());
        for (name, value) in settings {
            all.retain(|(known, _)| known != name);
            if !value.is_empty() {
                all.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        (name, all)
    }

    /// The operator, at the first service there is.
    ///
    /// # Panics
    /// When no service runs.
    pub fn admin(&self) -> Admin {
        let service = self.ingests.iter().chain(&self.dispatchers).next().expect("a service that runs");
        Admin::new(&service.admin_url(), Some(KEY))
    }

    /// Where the provider posts, at the first ingest.
    ///
    /// # Panics
    /// When no ingest runs.
    pub fn inbound(&self, source_id: &str) -> String {
        format!("{}/in/{source_id}", self.ingests.first().expect("an ingest").http_url())
    }

    /// Waits until nothing is under way: every event is settled, no delivery waits.
    ///
    /// # Panics
    /// When something still is after [`BOUND`](crate::BOUND).
    pub async fn await_quiet(&self) {
        crate::eventually(crate::BOUND, async || {
            let outbox = self.database.count("SELECT count(*) FROM outbox").await;
            let queue = self.database.count("SELECT count(*) FROM queue").await;
            crate::eventually::holds(outbox + queue == 0, format!("outbox {outbox}, queue {queue}"))
        })
        .await;
    }

    /// Waits until every service works by the configuration as it is now.
    ///
    /// # Panics
    /// When one still works by an older one after [`BOUND`](crate::BOUND).
    pub async fn await_configuration(&self) {
        let version = self.database.count("SELECT version FROM config_state").await;
        for service in self.ingests.iter().chain(&self.dispatchers) {
            crate::eventually(crate::BOUND, async || {
                let metrics = service.metrics().await;
                let known =
                    metrics.lines().find_map(|line| line.strip_prefix("bowline_core_config_version "));
                let known = known.and_then(|known| known.parse::<f64>().ok());
                crate::eventually::holds(known.is_some_and(|known| known >= version as f64), known)
            })
            .await;
        }
    }

    /// Every log of every service that is still in the stack.
    pub fn logs(&self) -> String {
        self.ingests.iter().chain(&self.dispatchers).map(Service::log).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The logs are what there is to find out why.
            self.folder.take().map(TempDir::keep);
        }
    }
}
