//! A query over payloads as a caller wants it.

use bowline_core::query::{Aggregate, FieldPath, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, List, Op, Order, Span};
use bowline_proto::v1;

use super::Violations;

/// `field` is where the query stands in the request. The result is of use only if nothing was added
/// to the violations.
pub(crate) fn aggregate(
    violations: &mut Violations,
    field: &str,
    wire: &v1::AggregateQuery,
) -> Option<Aggregate> {
    let window = span(wire.window());
    if window.is_none() {
        violations.add(format!("{field}.window"), "must be one of 15M, 1H, 24H and 7D");
    }
    let op = op(wire.op());
    if op.is_none() {
        violations.add(format!("{field}.op"), "must be one of SUM, COUNT, AVG, MIN and MAX");
    }
    let at = format!("{field}.field");
    if wire.field.is_empty() && op.is_some_and(|op| op != Op::Count) {
        violations.add(&at, "is required: only COUNT does without");
    }
    let path = path(violations, &at, &wire.field);
    Some(Aggregate { window: window?, op: op?, field: path })
}

pub(crate) fn list(violations: &mut Violations, field: &str, wire: &v1::ListQuery) -> List {
    let limit = match u32::try_from(wire.limit) {
        Ok(0) => LIST_LIMIT_DEFAULT,
        Ok(limit) if limit <= LIST_LIMIT_MAX => limit,
        _ => {
            violations.add(
                format!("{field}.limit"),
                format!("must be 1 to {LIST_LIMIT_MAX}, or 0 for {LIST_LIMIT_DEFAULT}"),
            );
            LIST_LIMIT_DEFAULT
        }
    };
    if v1::SortOrder::try_from(wire.order).is_err() {
        violations.add(format!("{field}.order"), "must be ASC or DESC");
    }
    let order = match wire.order() {
        v1::SortOrder::Asc => Order::Asc,
        v1::SortOrder::Desc | v1::SortOrder::Unspecified => Order::Desc,
    };
    List { limit, sort_by: path(violations, &format!("{field}.sort_by"), &wire.sort_by), order }
}

/// A path that may be left out.
pub(crate) fn path(violations: &mut Violations, field: &str, text: &str) -> Option<FieldPath> {
    if text.is_empty() {
        return None;
    }
    FieldPath::parse(text).map_err(|error| violations.add(field, error)).ok()
}

fn span(wire: v1::AggregateWindow) -> Option<Span> {
    match wire {
        v1::AggregateWindow::Unspecified => None,
        v1::AggregateWindow::AggregateWindow15m => Some(Span::QuarterHour),
        v1::AggregateWindow::AggregateWindow1h => Some(Span::Hour),
        v1::AggregateWindow::AggregateWindow24h => Some(Span::Day),
        v1::AggregateWindow::AggregateWindow7d => Some(Span::Week),
    }
}

fn op(wire: v1::AggregateOp) -> Option<Op> {
    match wire {
        v1::AggregateOp::Unspecified => None,
        v1::AggregateOp::Sum => Some(Op::Sum),
        v1::AggregateOp::Count => Some(Op::Count),
        v1::AggregateOp::Avg => Some(Op::Avg),
        v1::AggregateOp::Min => Some(Op::Min),
        v1::AggregateOp::Max => Some(Op::Max),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    #[test]
    fn aggregates() {
        let of = |window: v1::AggregateWindow, op: v1::AggregateOp, field: &str| v1::AggregateQuery {
            window: window.into(),
            op: op.into(),
            field: field.into(),
        };
        let check = |wire: &v1::AggregateQuery| faults(|v| drop(aggregate(v, "q", wire)));
        let hour = v1::AggregateWindow::AggregateWindow1h;
        assert_eq!(check(&of(hour, v1::AggregateOp::Sum, "a.b")), [""; 0]);
        assert_eq!(check(&of(hour, v1::AggregateOp::Count, "")), [""; 0]);
        assert_eq!(check(&of(hour, v1::AggregateOp::Avg, "")), ["q.field"]);
        assert_eq!(check(&v1::AggregateQuery::default()), ["q.window", "q.op"]);
        let bad = v1::AggregateQuery { window: 9, op: 9, field: "a..b".into() };
        assert_eq!(check(&bad), ["q.window", "q.op", "q.field"]);
    }

    #[test]
    fn lists() {
        let of = |limit, sort_by: &str, order| v1::ListQuery { limit, sort_by: sort_by.into(), order };
        let check = |wire: &v1::ListQuery| faults(|v| drop(list(v, "q", wire)));
        for (limit, taken) in [(0, 10), (1, 1), (1000, 1000)] {
            assert_eq!(check(&of(limit, "", 0)), [""; 0]);
            assert_eq!(list(&mut Violations::default(), "q", &of(limit, "", 0)).limit, taken);
        }
        assert_eq!(check(&of(1001, "$[", 7)), ["q.limit", "q.order", "q.sort_by"]);
        assert_eq!(check(&of(-1, "", 0)), ["q.limit"]);
        assert_eq!(list(&mut Violations::default(), "q", &of(0, "", 0)).order, Order::Desc);
    }
}
