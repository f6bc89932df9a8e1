//! What a list of the audit log is narrowed by, and which of its two parts it is about: what was written down,
//! and what was received.

use bowline_core::id::{EventId, SourceId};
use bowline_core::store::audit_log::AuditQuery;
use bowline_core::store::events::IdRange;
use bowline_proto::v1;
use tonic::Code;
use uuid::Uuid;

use super::Violations;
use super::filter::{range, text};
use crate::fault::outcome_of;

/// The action of a receipt. No method has this name.
pub(crate) const RECEIVE_PAYLOAD: &str = "ReceivePayload";
pub(crate) const OUTCOME_OK: &str = "OK";

/// `None`: nothing there can be meant, and it is not read.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) log: Option<AuditQuery>,
    pub(crate) receipts: Option<ReceiptQuery>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiptQuery {
    pub(crate) source: Option<SourceId>,
    pub(crate) range: IdRange,
}

pub(crate) fn read(violations: &mut Violations, filter: &v1::AuditFilter) -> Asked {
    let names = (0..=16).map(|code| outcome_of(Code::from_i32(code)));
    if !filter.outcome.is_empty() && !names.into_iter().any(|name| name == filter.outcome) {
        violations.add("filter.outcome", "must be OK or the name of a gRPC code, such as PERMISSION_DENIED");
    }
    let log = AuditQuery {
        actor: text(violations, "filter.actor", &filter.actor),
        action: text(violations, "filter.action", &filter.action),
        resource: text(violations, "filter.resource", &filter.resource),
        outcome: text(violations, "filter.outcome", &filter.outcome),
        range: range(violations, filter.start_time.as_ref(), filter.end_time.as_ref()),
    };
    let receipts = receipts(filter, log.range);
    // A source does nothing but receive.
    let of_receipts_alone = filter.action == RECEIVE_PAYLOAD || filter.actor.parse::<SourceId>().is_ok();
    Asked { log: (!of_receipts_alone).then_some(log), receipts }
}

fn receipts(filter: &v1::AuditFilter, range: IdRange) -> Option<ReceiptQuery> {
    let asked_for = filter.action == RECEIVE_PAYLOAD || (filter.receipts && filter.action.is_empty());
    if !asked_for || !["", OUTCOME_OK].contains(&filter.outcome.as_str()) {
        return None;
    }
    let source = match filter.actor.as_str() {
        "" => None,
        actor => Some(actor.parse().ok()?),
    };
    let range = match filter.resource.as_str() {
        "" => range,
        resource => one(resource.parse().ok()?, range),
    };
    Some(ReceiptQuery { source, range })
}

fn one(event: EventId, range: IdRange) -> IdRange {
    let next = Uuid::from_u128(event.0.as_u128().saturating_add(1));
    IdRange { from: range.from.max(event.0), until: range.until.min(next) }
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    fn asked(filter: &v1::AuditFilter) -> (bool, Option<ReceiptQuery>) {
        let mut violations = Violations::default();
        let asked = read(&mut violations, filter);
        assert!(violations.is_empty(), "{filter:?}");
        (asked.log.is_some(), asked.receipts)
    }

    #[test]
    fn an_outcome_is_a_code() {
        let named = |outcome: &str| {
            let filter = v1::AuditFilter { outcome: outcome.into(), ..v1::AuditFilter::default() };
            faults(|violations| read(violations, &filter))
        };
        assert_eq!(named("DEADLINE_EXCEEDED"), Vec::<String>::new());
        assert_eq!(named("PermissionDenied"), ["filter.outcome"]);
    }

    #[test]
    fn each_part_is_read_only_where_it_can_be_meant() {
        let (source, event) = (SourceId::new(), EventId::new());
        let filter = |actor: &str, action: &str, outcome: &str| v1::AuditFilter {
            actor: actor.into(),
            action: action.into(),
            outcome: outcome.into(),
            receipts: true,
            ..v1::AuditFilter::default()
        };
        let all = ReceiptQuery { source: None, range: IdRange::default() };
        let of_source = ReceiptQuery { source: Some(source), ..all };
        let id = source.to_string();
        for (filter, log, receipts) in [
            (v1::AuditFilter::default(), true, None),
            (v1::AuditFilter { receipts: false, ..filter("", RECEIVE_PAYLOAD, "") }, false, Some(all)),
            (filter("", "", ""), true, Some(all)),
            (filter("", "", "OK"), true, Some(all)),
            (filter("", "", "NOT_FOUND"), true, None),
            (filter("", "CreateSource", ""), true, None),
            (filter("bootstrap", "", ""), true, None),
            (filter(&id, "", ""), false, Some(of_source)),
            (filter(&id, RECEIVE_PAYLOAD, "OK"), false, Some(of_source)),
            (v1::AuditFilter { receipts: false, ..filter(&id, "", "") }, false, None),
            (v1::AuditFilter { resource: id.clone(), ..filter("", "", "") }, true, None),
        ] {
            assert_eq!(asked(&filter), (log, receipts), "{filter:?}");
        }
        let one = v1::AuditFilter { resource: event.to_string(), ..filter("", "", "") };
        let (_, receipts) = asked(&one);
        let range = receipts.unwrap().range;
        assert!(range.from == event.0 && range.until.as_u128() == event.0.as_u128() + 1);
    }
}
