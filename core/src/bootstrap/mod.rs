//! Starts and stops a process; both services share it, so that their `main` is a boot script:
//!
//! ```ignore
//! fn main() -> ExitCode {
//!     let cli = Cli::parse();
//!     bootstrap::run(Service::Ingest, &cli.args, ingest::run)
//! }
//! ```
//!
//! 1. [`Config`] is read, every fault reported at once (exit code 64).
//! 2. [`telemetry`] sets up logs and metrics; the TLS provider is installed.
//! 3. [`ops`] answers `/healthz`, `/readyz` and `/metrics` from here on, to the very end.
//! 4. The service is called with a [`Process`]; [`wait`] has it wait for what it needs, in words.
//! 5. [`Process::announce`] logs the addresses and writes the ready file.
//! 6. [`shutdown`] turns SIGTERM into the stop of the intake; a second signal ends it at once.
//!    [`supervise`] keeps workers alive meanwhile, or ends the process.

pub mod config;
mod metric_help;
pub mod ops;
pub mod ready;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;
pub mod wait;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

pub use config::{Config, ConfigErrors};
pub use ops::{Condition, Readiness};
pub use ready::{Listening, ReadyFileError};
pub use shutdown::Shutdown;
pub use supervise::{essential, supervise};
pub use wait::{Stopped, wait_for};

/// All went as it should.
pub const EXIT_OK: u8 = 0;
/// The service ended by an error, which is logged.
pub const EXIT_FAILURE: u8 = 1;
/// The configuration is at fault (`EX_USAGE` of sysexits).
pub const EXIT_CONFIG: u8 = 64;
/// A second signal cut the shutdown short.
pub const EXIT_FORCED: u8 = 130;

/// For tasks that are left when the service has returned.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Which of the two services this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Ingest,
    Dispatcher,
}

impl Service {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Dispatcher => "dispatcher",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Arguments of both binaries; flatten them into the `Parser` of each.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Configuration file (TOML). The environment, `BOWLINE_<SECTION>_<KEY>`, goes over it.
    #[arg(long, value_name = "PATH", env = "BOWLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Write process id and addresses as JSON to this file once everything answers.
    #[arg(long, value_name = "PATH", env = "BOWLINE_READY_FILE")]
    pub ready_file: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    pub check_config: bool,
}

/// What a service is given to run with.
#[derive(Debug, Clone)]
pub struct Process {
    pub service: Service,
    pub config: Arc<Config>,
    pub shutdown: Shutdown,
    pub readiness: Readiness,
    ops_address: SocketAddr,
    ready_file: Option<PathBuf>,
}

impl Process {
    /// Waits until every condition of readiness holds, then logs the addresses and writes the ready
    /// file. Returns early, without either, when a shutdown begins.
    pub async fn announce(&self, http: Option<SocketAddr>, admin: SocketAddr) -> Result<(), ReadyFileError> {
        tokio::select! {
            () = self.shutdown.requested() => return Ok(()),
            () = self.readiness.ready() => {}
        }
        let listening = Listening { http, admin, ops: self.ops_address };
        tracing::info!(
            service = self.service.as_str(),
            http = http.map(tracing::field::display),
            %admin,
            ops = %listening.ops,
            "ready"
        );
        match &self.ready_file {
            Some(path) => ready::write(path, &listening),
            None => Ok(()),
        }
    }
}

/// An address that cannot be listened on; `key` is the configuration's.
#[derive(Debug, thiserror::Error)]
#[error("{key} = {address} cannot be listened on")]
pub struct ListenError {
    pub key: &'static str,
    pub address: SocketAddr,
    source: std::io::Error,
}

/// Binds an address of the configuration; port 0 takes a free one.
pub async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { key, address, source })
}

/// Makes ring the TLS provider of the process. Calling it again changes nothing.
pub fn install_tls_provider() {
    // An error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The life of a service process, from arguments to exit code.
pub fn run<F, Fut>(service: Service, args: &Args, serve: F) -> ExitCode
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let config = match Config::load(args, service) {
        Ok(config) => config,
        Err(errors) => {
            // Logs are not set up: their format is part of what is at fault.
            eprintln!("bowline-{service}: {errors}");
            return EXIT_CONFIG.into();
        }
    };
    if args.check_config {
        println!("bowline-{service}: the configuration is sound");
        return EXIT_OK.into();
    }
    let started = telemetry::init(&config.log).map_err(anyhow::Error::from).and_then(|telemetry| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok((telemetry, runtime))
    });
    let (telemetry, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("bowline-{service}: {error:#}");
            return EXIT_FAILURE.into();
        }
    };
    install_tls_provider();
    let code = runtime.block_on(live(service, args, config, telemetry, serve));
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    code.into()
}

async fn live<F, Fut>(
    service: Service,
    args: &Args,
    config: Config,
    telemetry: telemetry::Telemetry,
    serve: F,
) -> u8
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let start = async {
        let shutdown = Shutdown::on_signals()?;
        let listener = listen("ops.listen", config.ops.listen).await?;
        let ops_address = listener.local_addr()?;
        let readiness = Readiness::new(&shutdown);
        let ops = ops::serve(listener, readiness.clone(), telemetry.metrics);
        tracing::info!(
            service = service.as_str(),
            version = env!("CARGO_PKG_VERSION"),
            postgres = config.postgres.target(),
            redis = config.redis.url.is_some(),
            ops = %ops_address,
            "starting"
        );
        let config = Arc::new(config);
        let ready_file = args.ready_file.clone();
        anyhow::Ok((Process { service, config, shutdown, readiness, ops_address, ready_file }, ops))
    };
    let (process, ops) = match start.await {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "start failed");
            return EXIT_FAILURE;
        }
    };
    let shutdown = process.shutdown.clone();
    // The ops port answers until the process ends, so that a drain can be watched.
    let _ops = ops::StopOnDrop(ops);
    tokio::select! {
        ended = serve(process) => match (ended, shutdown.failure()) {
            (Ok(()), None) => {
                tracing::info!("stopped");
                EXIT_OK
            }
            (Ok(()), Some(failure)) => {
                tracing::error!(failure, "stopped by a failure");
                EXIT_FAILURE
            }
            (Err(error), _) => {
                tracing::error!(error = format!("{error:#}"), "stopped by an error");
                EXIT_FAILURE
            }
        },
        () = shutdown.forced() => {
            tracing::warn!("second signal: ended without waiting for what is out");
            EXIT_FORCED
        }
    }
}
