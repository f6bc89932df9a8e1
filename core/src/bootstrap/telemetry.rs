//! Logs and metrics of a process.

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use super::config::{LogConfig, LogFormat};

/// From half a millisecond to the longest timeout of an endpoint and beyond, in seconds.
const SECONDS_BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Rows or events of one commit.
const BATCH_BUCKETS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
const BYTES_BUCKETS: [f64; 9] =
    [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.filter cannot be used")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logs could not be set up")]
    Logs(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("metrics could not be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

#[derive(Debug, Clone)]
pub struct Telemetry {
    /// What `/metrics` renders.
    pub metrics: PrometheusHandle,
}

/// Sets up logs on stdout, the metrics recorder, and a log line for every panic. Once a process.
///
/// Histograms are bucketed by the unit at the end of their name: `_seconds`, `_bytes`, `_rows`,
/// `_events`.
pub fn init(log: &LogConfig) -> Result<Telemetry, TelemetryError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log.filter)?)
        .with_ansi(std::io::stdout().is_terminal());
    match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(TelemetryError::Logs)?;
    std::panic::set_hook(Box::new(log_panic));
    let metrics = metrics_builder()?.install_recorder()?;
    super::metric_help::describe();
    metrics::gauge!("bowline_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Telemetry { metrics })
}

fn metrics_builder() -> Result<PrometheusBuilder, TelemetryError> {
    let suffix = |unit: &str| Matcher::Suffix(unit.to_owned());
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(suffix("_rows"), &BATCH_BUCKETS)?
        .set_buckets_for_metric(suffix("_events"), &BATCH_BUCKETS)?
        .set_buckets_for_metric(suffix("_bytes"), &BYTES_BUCKETS)?)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    let location = panic.location().map(ToString::to_string);
    metrics::counter!("bowline_process_panics_total").increment(1);
    tracing::error!(panic = message, location, "a task panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_by_their_unit() {
        let recorder = metrics_builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("bowline_test_wait_seconds").record(0.003);
            metrics::histogram!("bowline_test_batch_rows").record(100.0);
        });
        let text = recorder.handle().render();
        assert!(text.contains("bowline_test_wait_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("bowline_test_batch_rows_bucket{le=\"128\"} 1"), "{text}");
    }
}
