//! An endpoint as a caller wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::defaults;
use bowline_core::egress::EgressPolicy;
use bowline_core::endpoint::{DisablePolicy, EndpointOrdering, EndpointSpec};
use bowline_core::expression::Place;
use bowline_core::format::{self, Format};
use bowline_proto::v1;

use super::{Range, Violations, auth, headers, url};
use crate::sealing::Sealing;

const LIST_MAX: usize = 256;
const CONCURRENCY_MAX: u32 = 256;
const DISABLE_FAILURES_MAX: u32 = 100_000;

const DAY: u64 = 24 * 3600;
const TIMEOUT: Range =
    Range { min: defaults::ATTEMPT_TIMEOUT_MIN, max: defaults::ATTEMPT_TIMEOUT_MAX, text: "1 to 60 s" };
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
    url::check(violations, "endpoint.url", &endpoint.url, egress);
    check_filters(violations, endpoint);
    let format_name = if endpoint.format.is_empty() { format::STANDARD } else { &endpoint.format };
    let custom = endpoint.custom_format.as_ref().and_then(|wire| super::format::custom(violations, wire));
    let format = super::format::check(violations, endpoint, format_name, custom.as_ref());
    let mut headers = headers::check(violations, &endpoint.headers, format.as_deref());
    let auth = auth::check(violations, endpoint, egress, &mut headers.sealing);
    let tls = auth::check_tls(violations, endpoint, &mut headers.sealing);
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
        auth,
        tls,
        timeout: endpoint
            .timeout
            .as_ref()
            .and_then(|timeout| super::duration(violations, "endpoint.timeout", timeout, TIMEOUT))
            .unwrap_or(defaults::ATTEMPT_TIMEOUT),
        retry: endpoint
            .retry
            .as_ref()
            .map(|retry| super::retry::check(violations, retry))
            .unwrap_or_default(),
        concurrency: check_concurrency(violations, endpoint.concurrency),
        rate_per_s: super::rate(violations, "endpoint.rate", "requests", endpoint.rate),
        disable: match &endpoint.disable {
            Some(disable) => check_disable(violations, disable),
            None => disable_default(format_name),
        },
        ordering: check_ordering(violations, endpoint.ordering),
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

fn check_ordering(violations: &mut Violations, ordering: i32) -> EndpointOrdering {
    match v1::EndpointOrdering::try_from(ordering) {
        Ok(v1::EndpointOrdering::Unspecified) => EndpointOrdering::None,
        Ok(v1::EndpointOrdering::PerChannel) => EndpointOrdering::PerChannel,
        Ok(v1::EndpointOrdering::Strict) => EndpointOrdering::Strict,
        Err(_) => {
            violations.add("endpoint.ordering", "must be PER_CHANNEL, STRICT, or unspecified for no order");
            EndpointOrdering::None
        }
    }
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

    fn faults(endpoint: &v1::Endpoint) -> Vec<String> {
        super::super::faults(|it| check(it, endpoint, &EgressPolicy::default()))
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
            "https://a.example/\0",
            "https://a.example/\r\nx: y",
        ]);
        for bad in urls {
            assert_eq!(faults(&v1::Endpoint { url: bad.into(), ..endpoint() }), ["endpoint.url"], "{bad}");
        }
        let long = format!("https://a.example/{}", "x".repeat(2048));
        assert_eq!(faults(&v1::Endpoint { url: long, ..endpoint() }), ["endpoint.url"]);
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
            ordering: 3,
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
                "endpoint.disable.after",
                "endpoint.ordering"
            ]
        );
    }
}
