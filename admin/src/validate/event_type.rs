//! Event types as a caller wants them, and what a strict catalog asks of an endpoint.

use std::collections::BTreeMap;

use bowline_core::catalog::{Catalog, SCHEMA_BYTES_MAX, Schema};
use bowline_core::event::OWN_EVENTS;
use bowline_proto::v1;
use serde_json::Value;

use super::{Violations, excerpt};

const NAME_BYTES_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 1_000;

/// A checked type, but for its name.
pub(crate) struct EventTypeDraft {
    pub(crate) description: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) json_schema: Option<Value>,
}

/// As events have it, also those of providers (`orders/create`).
pub(crate) fn name(violations: &mut Violations, field: &str, name: &str) {
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '*';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(odd) {
        violations.add(
            field,
            format!("must be 1 to {NAME_BYTES_MAX} bytes without whitespace, control characters and `*`"),
        );
    } else if name.starts_with(OWN_EVENTS) {
        violations.add(field, format!("must not start with `{OWN_EVENTS}`: those are Bowline's own"));
    }
}

pub(crate) fn check(violations: &mut Violations, event_type: &v1::EventType) -> EventTypeDraft {
    let description = &event_type.description;
    if description.chars().count() > DESCRIPTION_CHARS_MAX || description.contains('\0') {
        violations.add(
            "event_type.description",
            format!("must be at most {DESCRIPTION_CHARS_MAX} characters, without NUL"),
        );
    }
    super::labels(violations, "event_type.labels", &event_type.labels);
    EventTypeDraft {
        description: description.clone(),
        labels: event_type.labels.clone(),
        json_schema: check_schema(violations, &event_type.json_schema),
    }
}

fn check_schema(violations: &mut Violations, text: &str) -> Option<Value> {
    const FIELD: &str = "event_type.json_schema";
    if text.is_empty() {
        return None;
    }
    if text.len() > SCHEMA_BYTES_MAX {
        violations.add(FIELD, format!("must be at most {SCHEMA_BYTES_MAX} bytes"));
        return None;
    }
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(error) => {
            violations.add(FIELD, format!("is not JSON: {error}"));
            return None;
        }
    };
    // It is kept as jsonb, which has no such character.
    if schema.to_string().contains("\\u0000") {
        violations.add(FIELD, "must not hold NUL characters");
        return None;
    }
    match Schema::compile(&schema) {
        Ok(_) => Some(schema),
        Err(fault) => {
            violations.add(FIELD, format!("is no JSON Schema that can be used: {fault}"));
            None
        }
    }
}

/// An endpoint of a tenant with a strict catalog asks for types that are in it.
pub(crate) fn subscribed(violations: &mut Violations, catalog: &Catalog, event_types: &[String]) {
    for (index, name) in event_types.iter().enumerate().filter(|(_, name)| !name.ends_with('*')) {
        if catalog.lacks(name) {
            violations.add(
                format!("endpoint.event_types[{index}]"),
                format!("`{}` is not in the catalog of this tenant, which is strict", excerpt(name)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn faults(check: impl FnOnce(&mut Violations)) -> Vec<String> {
        let mut violations = Violations::default();
        check(&mut violations);
        match violations.finish() {
            Err(Fault::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn names_are_those_that_events_have() {
        for good in ["order.created", "orders/create", "push", &"a".repeat(256)] {
            assert_eq!(faults(|it| name(it, "name", good)), [""; 0], "{good}");
        }
        for bad in ["", "a b", "a\n", "order.*", "bowline.mine", &"a".repeat(257)] {
            assert_eq!(faults(|it| name(it, "name", bad)), ["name"], "{bad}");
        }
    }

    #[test]
    fn a_schema_is_checked_when_it_is_saved() {
        let of = |json_schema: &str| {
            let wire = v1::EventType { json_schema: json_schema.into(), ..v1::EventType::default() };
            faults(|it| drop(check(it, &wire)))
        };
        for good in ["", "{}", "true", r#"{"type": "object"}"#] {
            assert_eq!(of(good), [""; 0], "{good}");
        }
        let long = format!("{{\"description\": \"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX));
        for bad in ["{", "5", r#"{"type": "thing"}"#, r#"{"const": "\u0000"}"#, &long] {
            assert_eq!(of(bad), ["event_type.json_schema"], "{}", excerpt(bad));
        }
    }

    #[test]
    fn a_strict_catalog_names_what_it_lacks() {
        let asked = ["order.created".to_owned(), "order.*".into(), "*".into(), "bowline.x".into()];
        let mut catalog = Catalog::default();
        assert_eq!(faults(|it| subscribed(it, &catalog, &asked)), [""; 0]);
        catalog.strict = true;
        assert_eq!(faults(|it| subscribed(it, &catalog, &asked)), ["endpoint.event_types[0]"]);
    }
}
