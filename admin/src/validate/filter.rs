//! What a list is narrowed by.

use bowline_core::delivery::{DeadReason, Decision};
use bowline_core::endpoint::EndpointState;
use bowline_core::store::dead_letters::DeadLetterQuery;
use bowline_core::store::deliveries::{DeliveryQuery, StateFilter};
use bowline_core::store::events::{EventQuery, IdRange};
use bowline_proto::v1;
use prost_types::Timestamp;

use super::{Violations, optional_id};

const TEXT_MAX: usize = 256;

/// A text that is compared as it is: anything that could be stored is a fair question.
pub(super) fn text(violations: &mut Violations, field: &str, text: &str) -> Option<String> {
    if text.len() > TEXT_MAX || text.contains('\0') {
        violations.add(field, format!("must be at most {TEXT_MAX} bytes, without NUL"));
    }
    (!text.is_empty()).then(|| text.to_string())
}

/// Times as bounds of ids, which begin with the time of receipt.
pub(super) fn range(
    violations: &mut Violations,
    start: Option<&Timestamp>,
    end: Option<&Timestamp>,
) -> IdRange {
    let start = super::timestamp(violations, "filter.start_time", start);
    let end = super::timestamp(violations, "filter.end_time", end);
    if let (Some(start), Some(end)) = (start, end)
        && end <= start
    {
        violations.add("filter.end_time", "must be later than start_time");
    }
    IdRange::between(start, end)
}

/// A watch has a beginning of its own, and no end.
pub(crate) fn not_in_a_watch(
    violations: &mut Violations,
    start: Option<&Timestamp>,
    end: Option<&Timestamp>,
) {
    for (field, given) in [("filter.start_time", start), ("filter.end_time", end)] {
        if given.is_some() {
            violations
                .add(field, "must be absent in a watch: `start_time` beside the filter says where to begin");
        }
    }
}

pub(crate) fn events(violations: &mut Violations, filter: &v1::EventFilter) -> EventQuery {
    EventQuery {
        source_id: optional_id(violations, "filter.source_id", &filter.source_id),
        event_type: text(violations, "filter.event_type", &filter.event_type),
        channel: text(violations, "filter.channel", &filter.channel),
        range: range(violations, filter.start_time.as_ref(), filter.end_time.as_ref()),
    }
}

pub(crate) fn deliveries(violations: &mut Violations, filter: &v1::DeliveryFilter) -> DeliveryQuery {
    let state = match filter.state() {
        v1::DeliveryState::Unspecified if filter.state == 0 => None,
        v1::DeliveryState::Waiting => Some(StateFilter::Waiting),
        v1::DeliveryState::Delivered => Some(StateFilter::Decided(Decision::Delivered)),
        v1::DeliveryState::Dead => Some(StateFilter::Decided(Decision::Dead)),
        v1::DeliveryState::Cancelled => Some(StateFilter::Decided(Decision::Cancelled)),
        v1::DeliveryState::Expired => Some(StateFilter::Decided(Decision::Expired)),
        v1::DeliveryState::Unspecified | v1::DeliveryState::Pending | v1::DeliveryState::Unmatched => {
            violations.add("filter.state", "must be WAITING, DELIVERED, DEAD, CANCELLED or EXPIRED");
            None
        }
    };
    if filter.status_code != 0 && !(100..=599).contains(&filter.status_code) {
        violations.add("filter.status_code", "must be 100 to 599");
    }
    DeliveryQuery {
        endpoint_id: optional_id(violations, "filter.endpoint_id", &filter.endpoint_id),
        event_id: optional_id(violations, "filter.event_id", &filter.event_id),
        event_type: text(violations, "filter.event_type", &filter.event_type),
        channel: text(violations, "filter.channel", &filter.channel),
        state,
        status_code: i16::try_from(filter.status_code).ok().filter(|code| *code != 0),
        range: range(violations, filter.start_time.as_ref(), filter.end_time.as_ref()),
    }
}

pub(crate) fn dead_letters(violations: &mut Violations, filter: &v1::DeadLetterFilter) -> DeadLetterQuery {
    let reason = match filter.reason() {
        v1::DeadReason::Unspecified if filter.reason == 0 => None,
        v1::DeadReason::Unspecified => {
            violations.add("filter.reason", "is not one of the reasons");
            None
        }
        v1::DeadReason::AttemptsExhausted => Some(DeadReason::AttemptsExhausted),
        v1::DeadReason::Gone => Some(DeadReason::Gone),
        v1::DeadReason::EgressRefused => Some(DeadReason::EgressRefused),
        v1::DeadReason::SecretMissing => Some(DeadReason::SecretMissing),
        v1::DeadReason::Unformattable => Some(DeadReason::Unformattable),
        v1::DeadReason::Poison => Some(DeadReason::Poison),
        v1::DeadReason::FilterFailed => Some(DeadReason::FilterFailed),
        v1::DeadReason::TransformFailed => Some(DeadReason::TransformFailed),
        v1::DeadReason::NotRetried => Some(DeadReason::NotRetried),
    };
    DeadLetterQuery {
        endpoint_id: optional_id(violations, "filter.endpoint_id", &filter.endpoint_id),
        event_id: optional_id(violations, "filter.event_id", &filter.event_id),
        event_type: text(violations, "filter.event_type", &filter.event_type),
        channel: text(violations, "filter.channel", &filter.channel),
        reason,
        range: range(violations, filter.start_time.as_ref(), filter.end_time.as_ref()),
    }
}

/// The fields that every filter of named resources has.
pub(crate) fn named(
    violations: &mut Violations,
    name: &str,
    kind: (&str, &str),
    labels: &std::collections::BTreeMap<String, String>,
) -> (Option<String>, Option<String>) {
    super::labels(violations, "filter.labels", labels);
    let (kind_field, kind) = kind;
    (text(violations, "filter.name", name), text(violations, kind_field, kind))
}

pub(crate) fn endpoint_state(
    violations: &mut Violations,
    filter: &v1::EndpointFilter,
) -> Option<EndpointState> {
    match filter.state() {
        v1::EndpointState::Unspecified if filter.state == 0 => None,
        v1::EndpointState::Enabled => Some(EndpointState::Enabled),
        v1::EndpointState::Paused => Some(EndpointState::Paused),
        v1::EndpointState::Disabled => Some(EndpointState::Disabled),
        v1::EndpointState::Unspecified => {
            violations.add("filter.state", "must be ENABLED, PAUSED or DISABLED");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_narrows_nothing() {
        let mut violations = Violations::default();
        assert_eq!(events(&mut violations, &v1::EventFilter::default()), EventQuery::default());
        assert_eq!(deliveries(&mut violations, &v1::DeliveryFilter::default()), DeliveryQuery::default());
        assert_eq!(
            dead_letters(&mut violations, &v1::DeadLetterFilter::default()),
            DeadLetterQuery::default()
        );
        assert!(violations.is_empty());
    }

    #[test]
    fn every_fault_at_once() {
        let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let mut violations = Violations::default();
        let filter = v1::DeliveryFilter {
            endpoint_id: "src_x".into(),
            event_id: "evt_".into(),
            event_type: "a\0".into(),
            state: 99,
            status_code: 99,
            start_time: time(10),
            end_time: time(10),
            ..v1::DeliveryFilter::default()
        };
        deliveries(&mut violations, &filter);
        let mut found = violations.fields();
        found.sort();
        assert_eq!(
            found,
            [
                "filter.end_time",
                "filter.endpoint_id",
                "filter.event_id",
                "filter.event_type",
                "filter.state",
                "filter.status_code"
            ]
        );
        let mut violations = Violations::default();
        dead_letters(
            &mut violations,
            &v1::DeadLetterFilter { reason: 99, ..v1::DeadLetterFilter::default() },
        );
        assert_eq!(violations.fields(), ["filter.reason"]);
    }
}
