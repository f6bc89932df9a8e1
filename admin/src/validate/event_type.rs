//! Event types as a caller wants them, and what a strict catalog asks of an endpoint.

use bowline_core::catalog::{Catalog, SCHEMA_BYTES_MAX, Schema};
use bowline_core::event::OWN_EVENTS;
use bowline_core::id::TenantId;
use bowline_proto::v1;

use super::{Violations, excerpt};
use crate::apart::apart;
use crate::fault::Fault;

pub(crate) const JSON_SCHEMA: &str = "event_type.json_schema";

const NAME_BYTES_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 1_000;

/// What to do about a type that a strict catalog does not have.
pub(crate) fn not_in_catalog(name: &str) -> String {
    let shown = excerpt(name);
    // What was cut would be another type.
    let given = if shown == name { name } else { "NAME" };
    format!(
        "`{shown}` is not in the catalog of this tenant, which is strict: add it (`bowline event-type create {given}`, \
         or CreateEventType), or use one that is there"
    )
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

pub(crate) fn check(violations: &mut Violations, event_type: &v1::EventType) {
    let description = &event_type.description;
    if description.chars().count() > DESCRIPTION_CHARS_MAX || description.contains('\0') {
        violations.add(
            "event_type.description",
            format!("must be at most {DESCRIPTION_CHARS_MAX} characters, without NUL"),
        );
    }
    super::labels(violations, "event_type.labels", &event_type.labels);
}

/// Whether a schema can be used, which takes a while to say.
pub(crate) async fn json_schema(
    violations: &mut Violations,
    tenant: TenantId,
    text: &str,
) -> Result<(), Fault> {
    if text.is_empty() {
        return Ok(());
    }
    if text.len() > SCHEMA_BYTES_MAX {
        violations
            .add(JSON_SCHEMA, format!("has {} bytes; at most {SCHEMA_BYTES_MAX} are accepted", text.len()));
        return Ok(());
    }
    let text = text.to_owned();
    if let Err(problem) = apart(tenant, move || compile(&text)).await? {
        violations.add(JSON_SCHEMA, problem);
    }
    Ok(())
}

fn compile(text: &str) -> Result<(), String> {
    let schema = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    Schema::compile(&schema).map_err(|fault| format!("is no JSON Schema that can be used: {fault}"))?;
    Ok(())
}

/// An endpoint of a tenant with a strict catalog asks for types that are in it.
pub(crate) fn subscribed(violations: &mut Violations, catalog: &Catalog, event_types: &[String]) {
    for (index, name) in event_types.iter().enumerate().filter(|(_, name)| !name.ends_with('*')) {
        if catalog.lacks(name) {
            violations.add(format!("endpoint.event_types[{index}]"), not_in_catalog(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use bowline_core::id::DEFAULT_TENANT;

    use super::*;

    #[test]
    fn names_are_those_that_events_have() {
        for good in ["order.created", "orders/create", "push", &"a".repeat(256)] {
            assert_eq!(faults(|it| name(it, "name", good)), [""; 0], "{good}");
        }
        for bad in ["", "a b", "a\n", "order.*", "bowline.mine", &"a".repeat(257)] {
            assert_eq!(faults(|it| name(it, "name", bad)), ["name"], "{bad}");
        }
    }

    #[tokio::test]
    async fn a_schema_is_checked_when_it_is_saved() {
        let long = format!("{{\"description\": \"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX));
        let deep = [vec![b'['; 1_000], vec![b']'; 1_000]].concat();
        let deep = std::str::from_utf8(&deep).unwrap();
        for (text, fits) in [
            ("", true),
            ("{}", true),
            ("true", true),
            (r#"{"type": "object", "const": "\u0000"}"#, true),
            ("{", false),
            ("5", false),
            (r#"{"type": "thing"}"#, false),
            (long.as_str(), false),
            (deep, false),
        ] {
            let mut violations = Violations::default();
            json_schema(&mut violations, DEFAULT_TENANT, text).await.unwrap();
            assert_eq!(violations.is_empty(), fits, "{}", excerpt(text));
        }
    }

    #[test]
    fn a_strict_catalog_names_what_it_lacks() {
        let asked = ["order.created".to_owned(), "order.*".into(), "*".into(), "bowline.x".into()];
        let mut catalog = Catalog::default();
        assert_eq!(faults(|it| subscribed(it, &catalog, &asked)), [""; 0]);
        catalog.strict = true;
        assert_eq!(faults(|it| subscribed(it, &catalog, &asked)), ["endpoint.event_types[0]"]);
        assert!(not_in_catalog("order.lost").contains("`bowline event-type create order.lost`"));
        assert!(not_in_catalog(&"a".repeat(200)).contains("create NAME`"));
    }
}
