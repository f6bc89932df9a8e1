//! An endpoint as a caller wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::defaults;
use bowline_core::egress::EgressPolicy;
use bowline_core::endpoint::{Backoff, DisablePolicy, EndpointSpec, RetryPolicy};
use bowline_core::expression::Place;
use bowline_core::format::{self, Format};
use bowline_proto::v1;
use bowline_proto::v1::retry_policy::Backoff as WireBackoff;
use url::Url;

use super::{Range, Violations, excerpt, headers};
use crate::sealing::Sealing;

const URL_BYTES_MAX: usize = 2048;
const LIST_MAX: usize = 256;
const CONCURRENCY_MAX: u32 = 256;
const WAITS_MAX: usize = 99;
const DISABLE_FAILURES_MAX: u32 = 100_000;
const FACTOR_DEFAULT: f64 = 2.0;

const DAY: u64 = 24 * 3600;
const TIMEOUT: Range =
    Range { min: defaults::ATTEMPT_TIMEOUT_MIN, max: defaults::ATTEMPT_TIMEOUT_MAX, text: "1 to 60 s" };
const WAIT: Range = Range { min: Duration::ZERO, max: Duration::from_secs(7 * DAY), text: "0 s to 7 days" };
const INITIAL: Range =
    Range { min: Duration::from_millis(100), max: Duration::from_secs(DAY), text: "100 ms to 24 h" };
const MAX_AGE: Range =
    Range { min: Duration::from_secs(60), max: Duration::from_secs(30 * DAY), text: "1 min to 30 days" };
const DISABLE_AFTER: Range =
    Range { min: Duration::ZERO, max: Duration::from_secs(30 * DAY), text: "0 s to 30 days" };

/// A checked endpoint; `name` may still be empty, and is generated then.
#[derive(Debug)]
pub(crate) struct EndpointDraft {
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) spec: EndpointSpec,
    /// What its specification leaves out, because it is sealed.
    pub(crate) sealing: Sealing,
    /// The format the spec names; `None` only if that was a violation.
    pub(crate) format: Option<Arc<Format>>,
}

/// Checks an endpoint. The draft is of use only if nothing was added to the violations.
pub(crate) fn check(
    violations: &mut Violations,
    endpoint: &v1::Endpoint,
    egress: &EgressPolicy,
) -> EndpointDraft {
    if !endpoint.name.is_empty() {
        super::slug(violations, "endpoint.name", &endpoint.name);
    }
    super::display_name(violations, "endpoint.display_name", &endpoint.display_name);
    super::labels(violations, "endpoint.labels", &endpoint.labels);
    check_url(violations, &endpoint.url, egress);
    check_filters(violations, endpoint);
    let format_name = if endpoint.format.is_empty() { format::STANDARD } else { &endpoint.format };
    let custom = endpoint.custom_format.as_ref().and_then(|wire| super::format::custom(violations, wire));
    let format = super::format::check(violations, endpoint, format_name, custom.as_ref());
    let headers = headers::check(violations, &endpoint.headers, format.as_deref());
    let filter = super::expression::check(violations, "endpoint.filter", &endpoint.filter, Place::Filter);
    let transform =
        super::expression::check(violations, "endpoint.transform", &endpoint.transform, Place::Transform);
    let spec = EndpointSpec {
        url: endpoint.url.clone(),
        event_types: endpoint.event_types.clone(),
        channels: endpoint.channels.clone(),
        filter,
        transform,
        format: format_name.to_string(),
        custom,
        headers: headers.plain,
        sealed_headers: headers.sealed,
        timeout: endpoint
            .timeout
            .as_ref()
            .and_then(|timeout| super::duration(violations, "endpoint.timeout", timeout, TIMEOUT))
            .unwrap_or(defaults::ATTEMPT_TIMEOUT),
        retry: endpoint.retry.as_ref().map(|retry| check_retry(violations, retry)).unwrap_or_default(),
        concurrency: check_concurrency(violations, endpoint.concurrency),
        disable: match &endpoint.disable {
            Some(disable) => check_disable(violations, disable),
            None => disable_default(format_name),
        },
        // Chimpbase shows a webhook's secret to its owner at any time.
        secret_revealable: endpoint.secret_revealable.unwrap_or(format_name == "chimpbase"),
    };
    EndpointDraft {
        name: endpoint.name.clone(),
        display_name: endpoint.display_name.clone(),
        labels: endpoint.labels.clone(),
        spec,
        sealing: headers.sealing,
        format,
    }
}

/// RKT disables an endpoint at the tenth failure in a row, however soon that comes.
pub(crate) fn disable_default(format: &str) -> DisablePolicy {
    match format {
        "rkt" => DisablePolicy { after_failures: 10, after: Duration::ZERO },
        _ => DisablePolicy::default(),
    }
}

fn check_url(violations: &mut Violations, text: &str, egress: &EgressPolicy) {
    let field = "endpoint.url";
    if text.is_empty() {
        violations.add(field, "is required");
    } else if text.len() > URL_BYTES_MAX {
        violations.add(field, format!("must be at most {URL_BYTES_MAX} bytes"));
    } else {
        match Url::parse(text) {
            Err(error) => violations.add(field, format!("is no URL: {error}")),
            Ok(url) => {
                if let Err(error) = egress.check_url(&url) {
                    violations.add(field, error);
                }
                if url.fragment().is_some() {
                    violations.add(field, "must not have a fragment (#...): it is never sent");
                }
            }
        }
    }
}

fn check_filters(violations: &mut Violations, endpoint: &v1::Endpoint) {
    for (field, entries) in
        [("endpoint.event_types", &endpoint.event_types), ("endpoint.channels", &endpoint.channels)]
    {
        if entries.len() > LIST_MAX {
            violations.add(field, format!("must hold at most {LIST_MAX} entries"));
        }
    }
    for (index, pattern) in endpoint.event_types.iter().take(LIST_MAX).enumerate() {
        super::event_type_pattern(violations, &format!("endpoint.event_types[{index}]"), pattern);
    }
    for (index, channel) in endpoint.channels.iter().take(LIST_MAX).enumerate() {
        super::channel(violations, &format!("endpoint.channels[{index}]"), channel);
    }
}

fn check_concurrency(violations: &mut Violations, concurrency: u32) -> u32 {
    if concurrency > CONCURRENCY_MAX {
        violations
            .add("endpoint.concurrency", format!("must be 1 to {CONCURRENCY_MAX}, or 0 for the default"));
    }
    if concurrency == 0 { defaults::ENDPOINT_CONCURRENCY } else { concurrency }
}

fn check_retry(violations: &mut Violations, retry: &v1::RetryPolicy) -> RetryPolicy {
    if retry.max_attempts > defaults::RETRY_ATTEMPTS_MAX {
        violations.add(
            "endpoint.retry.max_attempts",
            format!("must be 1 to {}, or 0 for the default", defaults::RETRY_ATTEMPTS_MAX),
        );
    }
    let backoff = match &retry.backoff {
        None => RetryPolicy::default().backoff,
        Some(WireBackoff::Schedule(schedule)) => check_schedule(violations, schedule),
        Some(WireBackoff::Exponential(exponential)) => check_exponential(violations, exponential),
    };
    let max_attempts = match (retry.max_attempts, &backoff) {
        (0, Backoff::Schedule { waits, .. }) => waits.len() as u32 + 1,
        (0, Backoff::Exponential { .. }) => RetryPolicy::default().max_attempts,
        (given, _) => given,
    };
    let max_age = retry
        .max_age
        .as_ref()
        .and_then(|age| super::duration(violations, "endpoint.retry.max_age", age, MAX_AGE));
    RetryPolicy { max_attempts, backoff, max_age }
}

fn check_schedule(violations: &mut Violations, schedule: &v1::ScheduleBackoff) -> Backoff {
    let field = "endpoint.retry.schedule";
    if !(1..=WAITS_MAX).contains(&schedule.waits.len()) {
        violations.add(format!("{field}.waits"), format!("must hold 1 to {WAITS_MAX} waits"));
    }
    let jitter = schedule.jitter.unwrap_or(defaults::RETRY_JITTER);
    if !(0.0..=1.0).contains(&jitter) {
        violations.add(format!("{field}.jitter"), "must be 0 to 1");
    }
    let waits = schedule
        .waits
        .iter()
        .take(WAITS_MAX)
        .enumerate()
        .filter_map(|(index, wait)| {
            super::duration(violations, &format!("{field}.waits[{index}]"), wait, WAIT)
        })
        .collect();
    Backoff::Schedule { waits, jitter }
}

fn check_exponential(violations: &mut Violations, wire: &v1::ExponentialBackoff) -> Backoff {
    let field = "endpoint.retry.exponential";
    let initial = match &wire.initial {
        None => defaults::RETRY_SCHEDULE[0],
        Some(initial) => {
            super::duration(violations, &format!("{field}.initial"), initial, INITIAL).unwrap_or_default()
        }
    };
    let max = match &wire.max {
        None => Duration::from_secs(DAY),
        Some(max) => super::duration(violations, &format!("{field}.max"), max, WAIT).unwrap_or(WAIT.max),
    };
    if max < initial {
        violations.add(format!("{field}.max"), "must not be less than initial");
    }
    let factor = if wire.factor == 0.0 { FACTOR_DEFAULT } else { wire.factor };
    if !(1.0..=10.0).contains(&factor) {
        violations.add(format!("{field}.factor"), "must be 1 to 10, or 0 for 2");
    }
    Backoff::Exponential { initial, factor, max }
}

fn check_disable(violations: &mut Violations, disable: &v1::DisablePolicy) -> DisablePolicy {
    if disable.after_failures > DISABLE_FAILURES_MAX {
        violations.add(
            "endpoint.disable.after_failures",
            format!("must be 1 to {DISABLE_FAILURES_MAX}, or 0 for never"),
        );
    }
    let after = disable
        .after
        .as_ref()
        .and_then(|after| super::duration(violations, "endpoint.disable.after", after, DISABLE_AFTER))
        .unwrap_or_default();
    DisablePolicy { after_failures: disable.after_failures, after }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn faults(endpoint: &v1::Endpoint) -> Vec<String> {
        let mut violations = Violations::default();
        check(&mut violations, endpoint, &EgressPolicy::default());
        match violations.finish() {
            Err(Fault::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            _ => Vec::new(),
        }
    }

    fn draft(endpoint: &v1::Endpoint) -> EndpointDraft {
        let mut violations = Violations::default();
        let draft = check(&mut violations, endpoint, &EgressPolicy::default());
        violations.finish().unwrap();
        draft
    }

    fn endpoint() -> v1::Endpoint {
        v1::Endpoint { url: "https://hooks.example.com/in".into(), ..v1::Endpoint::default() }
    }

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let draft = draft(&endpoint());
        assert_eq!(draft.spec, EndpointSpec::new("https://hooks.example.com/in", "standard"));
        let rkt = super::check(
            &mut Violations::default(),
            &v1::Endpoint { format: "rkt".into(), ..endpoint() },
            &EgressPolicy::default(),
        );
        assert_eq!(rkt.spec.disable, DisablePolicy { after_failures: 10, after: Duration::ZERO });
    }

    #[test]
    fn urls() {
        let urls = [
            "",
            "nonsense",
            "ftp://a.example/",
            "http://a.example/",
            "https://u:p@a.example/",
            "https://127.0.0.1/",
        ]
        .into_iter()
        .chain([
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://0x7f.1/",
            "https://localhost/",
            "https://a.example/#x",
        ]);
        for bad in urls {
            assert_eq!(faults(&v1::Endpoint { url: bad.into(), ..endpoint() }), ["endpoint.url"], "{bad}");
        }
        let long = format!("https://a.example/{}", "x".repeat(2048));
        assert_eq!(faults(&v1::Endpoint { url: long, ..endpoint() }), ["endpoint.url"]);
    }

    #[test]
    fn retries() {
        let retry = |retry| v1::Endpoint { retry: Some(retry), ..endpoint() };
        let schedule = |waits: Vec<i64>, jitter| v1::RetryPolicy {
            backoff: Some(WireBackoff::Schedule(v1::ScheduleBackoff {
                waits: waits.into_iter().map(seconds).collect(),
                jitter,
            })),
            ..v1::RetryPolicy::default()
        };
        let spec = draft(&retry(schedule(vec![0, 1], Some(0.0)))).spec;
        assert_eq!(spec.retry.max_attempts, 3);
        assert_eq!(
            spec.retry.backoff,
            Backoff::Schedule { waits: vec![Duration::ZERO, Duration::from_secs(1)], jitter: 0.0 }
        );
        assert_eq!(faults(&retry(schedule(vec![], None))), ["endpoint.retry.schedule.waits"]);
        assert_eq!(faults(&retry(schedule(vec![1, -1], None))), ["endpoint.retry.schedule.waits[1]"]);
        assert_eq!(faults(&retry(schedule(vec![1], Some(f64::NAN)))), ["endpoint.retry.schedule.jitter"]);
        let exponential = |initial, factor, max| {
            retry(v1::RetryPolicy {
                backoff: Some(WireBackoff::Exponential(v1::ExponentialBackoff {
                    initial: Some(seconds(initial)),
                    factor,
                    max: Some(seconds(max)),
                })),
                ..v1::RetryPolicy::default()
            })
        };
        assert_eq!(draft(&exponential(1, 0.0, 60)).spec.retry.max_attempts, 10);
        assert_eq!(faults(&exponential(60, 2.0, 1)), ["endpoint.retry.exponential.max"]);
        assert_eq!(faults(&exponential(1, 0.5, 60)), ["endpoint.retry.exponential.factor"]);
        let too_many =
            v1::RetryPolicy { max_attempts: 101, max_age: Some(seconds(1)), ..v1::RetryPolicy::default() };
        assert_eq!(faults(&retry(too_many)), ["endpoint.retry.max_attempts", "endpoint.retry.max_age"]);
    }

    #[test]
    fn every_fault_at_once() {
        let bad = v1::Endpoint {
            name: "-".into(),
            url: "x".into(),
            event_types: vec!["a".into(), "**".into()],
            channels: vec![String::new()],
            format: "fax".into(),
            timeout: Some(seconds(61)),
            concurrency: 257,
            disable: Some(v1::DisablePolicy { after_failures: 1, after: Some(seconds(-1)) }),
            ..v1::Endpoint::default()
        };
        assert_eq!(
            faults(&bad),
            [
                "endpoint.name",
                "endpoint.url",
                "endpoint.event_types[1]",
                "endpoint.channels[0]",
                "endpoint.format",
                "endpoint.timeout",
                "endpoint.concurrency",
                "endpoint.disable.after"
            ]
        );
    }
}
