//! Expressions as a caller wants them.

use bowline_core::expression::{Place, Program};
use bowline_proto::v1;

use super::Violations;

/// The text, if there is one and it compiles; else the violation says where it breaks.
pub(super) fn check(violations: &mut Violations, field: &str, text: &str, place: Place) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if let Err(fault) = Program::compile(text, place) {
        violations.add(field, fault);
    }
    Some(text.to_owned())
}

/// The expressions of a source, as its spec holds them.
pub(super) struct OfSource {
    pub(super) event_type: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) dedup_key: Option<String>,
    pub(super) verify: Option<String>,
}

pub(super) fn of_source(violations: &mut Violations, source: &v1::Source) -> OfSource {
    for (field, constant, expression) in [
        ("source.event_type_cel", &source.event_type, &source.event_type_cel),
        ("source.channel_cel", &source.channel, &source.channel_cel),
    ] {
        if !constant.is_empty() && !expression.is_empty() {
            violations.add(field, "must not be set beside the constant");
        }
    }
    if source.insecure && !source.verify.is_empty() {
        violations.add("source.verify", "must not be set beside insecure: nothing would verify by it");
    }
    OfSource {
        event_type: check(violations, "source.event_type_cel", &source.event_type_cel, Place::Name),
        channel: check(violations, "source.channel_cel", &source.channel_cel, Place::Name),
        dedup_key: check(violations, "source.dedup_key", &source.dedup_key, Place::DedupKey),
        verify: check(violations, "source.verify", &source.verify, Place::Verify),
    }
}
