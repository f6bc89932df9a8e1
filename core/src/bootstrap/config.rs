//! The configuration of both services: a TOML file, and the environment over it.
//!
//! `BOWLINE_<SECTION>_<KEY>` overrides `key` of `[section]`; an empty variable counts as unset. What
//! is unknown is refused, and every fault is reported at once: nobody should have to start a service
//! five times to find five typing errors.
//!
//! The sections are in [`sections`], one struct each; [`read`] takes values out and collects faults.

pub mod ingest;
pub(super) mod read;
pub mod retention;
pub mod sections;

use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

pub use ingest::IngestConfig;
use read::Reader;
pub use retention::RetentionConfig;
pub use sections::{
    AdminConfig, DispatcherConfig, LogConfig, LogFormat, OpsConfig, PostgresConfig, RedisConfig,
    SecretsConfig,
};

use super::{Args, Service};
use crate::defaults;
use crate::egress::EgressPolicy;

/// A configuration file has a few hundred lines at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Variables of this prefix that are no configuration: they are read elsewhere, by the command line
/// of the services, by the `bowline` client, or by builds made to be crashed.
const OTHER_VARIABLES: [&str; 8] = [
    "BOWLINE_CONFIG",
    "BOWLINE_READY_FILE",
    "BOWLINE_ADMIN_URL",
    "BOWLINE_ADMIN_KEY",
    "BOWLINE_ADMIN_KEY_FILE",
    "BOWLINE_DEV_ADMIN_KEY",
    "BOWLINE_TENANT",
    "BOWLINE_CRASH_AT",
];
/// The tests tell each other of their servers by these; services started by them inherit them.
const TEST_VARIABLES: &str = "BOWLINE_TEST_";

/// Everything that can be set. One struct for both services, so that they can share a file.
#[derive(Debug, Clone)]
pub struct Config {
    pub postgres: PostgresConfig,
    pub redis: RedisConfig,
    pub secrets: SecretsConfig,
    pub admin: AdminConfig,
    pub ops: OpsConfig,
    pub log: LogConfig,
    pub egress: EgressPolicy,
    pub ingest: IngestConfig,
    pub dispatcher: DispatcherConfig,
    pub retention: RetentionConfig,
}

/// All that is wrong with the configuration. No fault shows a secret value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub faults: Vec<String>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the file named by the arguments, if one is, and the environment of this process.
    pub fn load(args: &Args, service: Service) -> Result<Self, ConfigErrors> {
        let text = args.config.as_deref().map(read_file).transpose();
        let (text, file_fault) = match text {
            Ok(text) => (text, None),
            Err(fault) => (None, Some(fault)),
        };
        match (Self::from_parts(text.as_deref(), std::env::vars_os(), service), file_fault) {
            (read, None) => read,
            // What the environment alone lacks may well be in the file that could not be read.
            (_, Some(fault)) => Err(ConfigErrors { faults: vec![fault] }),
        }
    }

    /// Reads from a TOML text and a list of variables.
    pub fn from_parts(
        toml_text: Option<&str>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        service: Service,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(toml_text, bowline_variables(environment))
            .map_err(|faults| ConfigErrors { faults })?;
        let config = Self {
            postgres: reader.section("postgres", PostgresConfig::read),
            redis: reader.section("redis", RedisConfig::read),
            secrets: reader.section("secrets", SecretsConfig::read),
            admin: reader.section("admin", |section| AdminConfig::read(section, service)),
            ops: reader.section("ops", |section| OpsConfig::read(section, service)),
            log: reader.section("log", LogConfig::read),
            egress: reader.section("egress", sections::read_egress),
            ingest: reader.section("ingest", IngestConfig::read),
            dispatcher: reader.section("dispatcher", DispatcherConfig::read),
            retention: reader.section("retention", RetentionConfig::read),
        };
        let mut faults = reader.finish();
        // Combinations are judged only among values that are sound by themselves.
        if faults.is_empty() {
            faults = config.dangerous_combinations();
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigErrors { faults }) }
    }

    fn dangerous_combinations(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (drain, timeout) = (self.dispatcher.drain_timeout, defaults::ATTEMPT_TIMEOUT_MAX);
        if drain < timeout {
            faults.push(format!(
                "dispatcher.drain_timeout is {}, shorter than the longest timeout an endpoint may have ({}): \
                 a shutdown would cut requests that are still out",
                humantime::format_duration(drain),
                humantime::format_duration(timeout)
            ));
        }
        if self.dispatcher.in_flight_max > self.dispatcher.deliveries_max {
            faults.push("dispatcher.in_flight_max is larger than dispatcher.deliveries_max: what is out is part of what is held".into());
        }
        if self.ingest.batch_bytes_max > self.ingest.in_flight_bytes_max {
            faults.push("ingest.batch_bytes_max is larger than ingest.in_flight_bytes_max: such a batch can never come together".into());
        }
        if (self.ingest.in_flight_bytes_max as u64) < defaults::BODY_LIMIT_BYTES {
            faults.push("ingest.in_flight_bytes_max is smaller than the largest body a source accepts by default (1 MiB)".into());
        }
        faults
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let fault = |error: std::io::Error| format!("the file {shown} cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(fault)?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(fault)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(format!("the file {shown} is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// The variables meant for us. A value that is not UTF-8 is kept with its fault.
fn bowline_variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(String, Result<String, String>)> {
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("BOWLINE_"))?;
            let value = value.into_string().map_err(|_| format!("{name} is not UTF-8 text"));
            let ignored = OTHER_VARIABLES.contains(&name.as_str())
                || name.starts_with(TEST_VARIABLES)
                || value.as_ref().is_ok_and(|value| value.is_empty() || is_service_link(&name, value));
            (!ignored).then_some((name, value))
        })
        .collect();
    // The order of faults should not depend on the shell.
    variables.sort();
    variables
}

/// Kubernetes tells every pod of every Service by variables such as `BOWLINE_INGEST_PORT=tcp://…`
/// and `BOWLINE_INGEST_SERVICE_HOST`: they are not ours and must not stop a start.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_TCP_")
        || name.contains("_UDP_")
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
}

#[cfg(test)]
mod tests;
