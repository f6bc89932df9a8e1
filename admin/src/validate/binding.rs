//! A binding as a caller wants it.

use std::collections::BTreeMap;

use bowline_core::binding::{BindingSpec, Field, FieldFormat, Projection};
use bowline_core::query::Query;
use bowline_proto::v1;
use bowline_proto::v1::binding_query::Query as WireQuery;
use bowline_proto::v1::projected_field::Origin;

use super::{Violations, excerpt, query};
use crate::convert;

const FIELDS_MAX: usize = 64;
const FIELD_NAME_BYTES_MAX: usize = 63;
const LITERAL_BYTES_MAX: usize = 16 * 1024;
const TEMPLATE_CHARS_MAX: usize = 200;

/// A checked binding; `name` may still be empty, and is generated then.
#[derive(Debug)]
pub(crate) struct BindingDraft {
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) spec: BindingSpec,
}

/// `None` only where something was added to the violations.
pub(crate) fn check(violations: &mut Violations, binding: &v1::Binding) -> Option<BindingDraft> {
    if !binding.name.is_empty() {
        super::slug(violations, "binding.name", &binding.name);
    }
    super::display_name(violations, "binding.display_name", &binding.display_name);
    super::labels(violations, "binding.labels", &binding.labels);
    let query = check_query(violations, binding.query.as_ref());
    let projection = check_projection(violations, binding.projection.as_ref());
    let template = binding.widget.as_ref().map(|widget| widget.template.clone()).unwrap_or_default();
    if template.chars().count() > TEMPLATE_CHARS_MAX || template.chars().any(char::is_control) {
        violations.add(
            "binding.widget.template",
            format!("must be at most {TEMPLATE_CHARS_MAX} characters, without control characters"),
        );
    }
    Some(BindingDraft {
        name: binding.name.clone(),
        display_name: binding.display_name.clone(),
        labels: binding.labels.clone(),
        spec: BindingSpec { query: query?, projection, template },
    })
}

fn check_query(violations: &mut Violations, wire: Option<&v1::BindingQuery>) -> Option<Query> {
    match wire.and_then(|wire| wire.query.as_ref()) {
        None => {
            violations.add("binding.query", "must be one of latest, aggregate and list");
            None
        }
        Some(WireQuery::Latest(_)) => Some(Query::Latest),
        Some(WireQuery::Aggregate(asked)) => {
            query::aggregate(violations, "binding.query.aggregate", asked).map(Query::Aggregate)
        }
        Some(WireQuery::List(asked)) => {
            Some(Query::List(query::list(violations, "binding.query.list", asked)))
        }
    }
}

fn check_projection(violations: &mut Violations, wire: Option<&v1::Projection>) -> Projection {
    let mut projection = Projection::new();
    let Some(wire) = wire else { return projection };
    if wire.fields.len() > FIELDS_MAX {
        violations.add("binding.projection.fields", format!("must hold at most {FIELDS_MAX} fields"));
        return projection;
    }
    for (name, field) in &wire.fields {
        let at = format!("binding.projection.fields[{}]", excerpt(name));
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            violations.add(
                &at,
                format!("a name must be 1 to {FIELD_NAME_BYTES_MAX} bytes, without control characters"),
            );
        }
        if let Some(field) = check_field(violations, &at, field) {
            projection.insert(name.clone(), field);
        }
    }
    projection
}

fn check_field(violations: &mut Violations, at: &str, wire: &v1::ProjectedField) -> Option<Field> {
    let Ok(format) = v1::FieldFormat::try_from(wire.format) else {
        violations.add(format!("{at}.format"), "must be one of TEXT, NUMBER, INTEGER, PERCENT and DATETIME");
        return None;
    };
    match &wire.origin {
        None => {
            violations.add(at, "must have a source or a literal");
            None
        }
        Some(Origin::Source(path)) => {
            if path.is_empty() {
                violations.add(format!("{at}.source"), "must not be empty: `$` is the whole result");
            }
            let source = query::path(violations, &format!("{at}.source"), path)?;
            Some(Field::Source { source, format: format_of(format) })
        }
        Some(Origin::Literal(value)) => {
            if format != v1::FieldFormat::Unspecified {
                violations.add(format!("{at}.format"), "must not be given for a literal");
            }
            let literal = convert::json_of_value(value);
            let fits = literal.as_ref().is_some_and(|literal| {
                let text = literal.to_string();
                // The specification is kept as jsonb, which has no such character.
                text.len() <= LITERAL_BYTES_MAX && !text.contains("\\u0000")
            });
            if !fits {
                violations.add(
                    format!("{at}.literal"),
                    format!("must be JSON of at most {LITERAL_BYTES_MAX} bytes, without NUL characters"),
                );
            }
            literal.map(|literal| Field::Literal { literal })
        }
    }
}

fn format_of(wire: v1::FieldFormat) -> Option<FieldFormat> {
    match wire {
        v1::FieldFormat::Unspecified => None,
        v1::FieldFormat::Text => Some(FieldFormat::Text),
        v1::FieldFormat::Number => Some(FieldFormat::Number),
        v1::FieldFormat::Integer => Some(FieldFormat::Integer),
        v1::FieldFormat::Percent => Some(FieldFormat::Percent),
        v1::FieldFormat::Datetime => Some(FieldFormat::Datetime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(binding: &v1::Binding) -> Vec<String> {
        let mut violations = Violations::default();
        let draft = check(&mut violations, binding);
        let faults = violations.fields();
        assert!(draft.is_some() || !faults.is_empty());
        faults
    }

    fn with(fields: &[(&str, v1::ProjectedField)]) -> v1::Binding {
        let fields = fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect();
        v1::Binding {
            query: Some(v1::BindingQuery { query: Some(WireQuery::Latest(v1::LatestQuery {})) }),
            projection: Some(v1::Projection { fields }),
            ..v1::Binding::default()
        }
    }

    fn source(path: &str, format: i32) -> v1::ProjectedField {
        v1::ProjectedField { origin: Some(Origin::Source(path.into())), format }
    }

    #[test]
    fn fields_have_a_source_or_a_literal() {
        let literal = |text: &str, format| v1::ProjectedField {
            origin: Some(Origin::Literal(prost_types::Value {
                kind: Some(prost_types::value::Kind::StringValue(text.into())),
            })),
            format,
        };
        assert_eq!(
            faults(&with(&[("a", source("$", 0)), ("b", source("x.y", 4)), ("c", literal("x", 0))])),
            [""; 0]
        );
        let bad = [
            ("", source("a", 0)),
            ("a", v1::ProjectedField::default()),
            ("b", source("", 0)),
            ("c", source("a..b", 0)),
            ("d", source("a", 9)),
            ("e", literal("x", 1)),
            ("f", literal("\0", 0)),
        ];
        let of = |name: &str, more: &str| format!("binding.projection.fields[{name}]{more}");
        assert_eq!(
            faults(&with(&bad)),
            [
                of("", ""),
                of("a", ""),
                of("b", ".source"),
                of("c", ".source"),
                of("d", ".format"),
                of("e", ".format"),
                of("f", ".literal")
            ]
        );
    }

    #[test]
    fn every_fault_at_once() {
        let binding = v1::Binding {
            name: "Not A Slug".into(),
            widget: Some(v1::Widget { template: "t".repeat(201), data: None }),
            ..v1::Binding::default()
        };
        assert_eq!(faults(&binding), ["binding.name", "binding.query", "binding.widget.template"]);
        let nested = v1::Binding {
            query: Some(v1::BindingQuery {
                query: Some(WireQuery::Aggregate(v1::AggregateQuery::default())),
            }),
            ..v1::Binding::default()
        };
        assert_eq!(faults(&nested), ["binding.query.aggregate.window", "binding.query.aggregate.op"]);
    }
}
