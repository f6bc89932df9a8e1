//! What each metric means, in the words that `/metrics` shows as `# HELP`. One list for both services:
//! whoever adds a metric adds its line, and a test of running services finds the ones without.

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const HELP: &[(Kind, &str, &str)] = &[
    (Kind::Gauge, "bowline_build_info", "1, labelled with the version that runs"),
    (Kind::Counter, "bowline_process_panics_total", "Panics; each has a line in the log"),
    (Kind::Counter, "bowline_process_worker_restarts_total", "Workers that ended and were started again"),
    (Kind::Gauge, "bowline_core_config_version", "Version of the configuration this process works by"),
    (
        Kind::Counter,
        "bowline_core_config_unusable_total",
        "Stored sources or endpoints that could not be read and were left out",
    ),
    (
        Kind::Counter,
        "bowline_core_unsealings_dropped_total",
        "Unsealings of secrets that the audit log had no room for",
    ),
    (
        Kind::Counter,
        "bowline_core_payload_bodies_dropped_total",
        "Bodies that went because their source keeps no more, or is deleted",
    ),
    (
        Kind::Counter,
        "bowline_core_lives_lost_total",
        "Times the lease of this process ran out and it took a new id",
    ),
    (Kind::Counter, "bowline_journal_events_total", "Events handed to the journal, by what became of them"),
    (Kind::Counter, "bowline_journal_failures_total", "Commits of the journal that failed, by reason"),
    (
        Kind::Counter,
        "bowline_journal_shed_total",
        "Events refused because too much was in flight, by the limit that was reached",
    ),
    (
        Kind::Counter,
        "bowline_journal_chunks_total",
        "Chunks of committed events, by what became of their stream entry",
    ),
    (Kind::Histogram, "bowline_journal_commit_seconds", "Time of one commit of the journal"),
    (Kind::Histogram, "bowline_journal_batch_events", "Events in one commit of the journal"),
    (Kind::Counter, "bowline_ingest_requests_total", "Inbound requests, by how they were answered"),
    (Kind::Histogram, "bowline_ingest_request_seconds", "Time from an inbound request to its answer"),
    (
        Kind::Counter,
        "bowline_ingest_rejections_kept_total",
        "Refused requests that were kept for people to look at",
    ),
    (
        Kind::Counter,
        "bowline_ingest_rejections_dropped_total",
        "Refused requests that were not kept, by reason",
    ),
    (
        Kind::Counter,
        "bowline_ingest_sources_failing_total",
        "Times a source was seen to fail, by whether that was told, had been by another replica, or could not be",
    ),
    (Kind::Counter, "bowline_dispatcher_attempts_total", "Attempts of deliveries, by what was decided"),
    (
        Kind::Histogram,
        "bowline_dispatcher_attempt_duration_seconds",
        "Time of one attempt, the answer's body included",
    ),
    (Kind::Gauge, "bowline_dispatcher_channels_held", "Channels of ordered endpoints that are worked on"),
    (
        Kind::Counter,
        "bowline_dispatcher_parked_total",
        "Deliveries put into the queue because their lane had no room",
    ),
    (Kind::Gauge, "bowline_dispatcher_janitor_held", "1 in the one process that is the janitor"),
    (Kind::Counter, "bowline_dispatcher_janitor_rows_total", "Rows the janitor took away, by table"),
    (
        Kind::Counter,
        "bowline_dispatcher_janitor_partitions_total",
        "Day partitions the janitor detached and dropped, by step",
    ),
    (Kind::Counter, "bowline_dispatcher_janitor_failures_total", "Work of the janitor that failed, by task"),
    (Kind::Histogram, "bowline_dispatcher_janitor_round_seconds", "Time of one round of the janitor"),
    (Kind::Counter, "bowline_dispatcher_refused_records_total", "Outcomes that Postgres refuses to record"),
    (Kind::Counter, "bowline_admin_calls_total", "Calls of the admin API, by method and code"),
    (Kind::Histogram, "bowline_admin_call_seconds", "Time of one call of the admin API, by method"),
];

/// Tells the recorder, once it is there.
pub(super) fn describe() {
    for (kind, name, help) in HELP {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn a_metric_is_shown_with_its_help() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::counter!("bowline_dispatcher_parked_total").increment(1);
        });
        let shown = recorder.handle().render();
        assert!(shown.contains("# HELP bowline_dispatcher_parked_total Deliveries put into"), "{shown}");
    }

    #[test]
    fn each_is_described_once_and_its_kind_fits_its_name() {
        for (index, (kind, name, _)) in HELP.iter().enumerate() {
            assert!(HELP[..index].iter().all(|(_, other, _)| other != name), "{name}");
            assert_eq!(matches!(kind, Kind::Counter), name.ends_with("_total"), "{name}");
        }
    }
}
