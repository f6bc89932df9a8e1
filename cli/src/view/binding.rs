//! Bindings as they are shown.

use std::collections::BTreeMap;

use bowline_proto::v1;
use bowline_proto::v1::binding_query::Query;
use bowline_proto::v1::projected_field::Origin;
use prost_types::value::Kind;
use serde::Serialize;
use serde_json::Value;

use super::{time, word};
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct BindingView {
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub source_id: String,
    /// `latest`, `aggregate` or `list`.
    pub query: &'static str,
    /// What it asks with: `window`, `op` and `field` of `aggregate`, `limit`, `sort_by` and `order` of `list`.
    pub parameters: BTreeMap<&'static str, Value>,
    /// Of the widget, by name.
    pub fields: BTreeMap<String, FieldView>,
    pub template: String,
    /// Null in a list.
    pub data: Value,
    pub stale: bool,
    pub revision: i64,
    pub refresh_time: String,
    pub refresh_error: String,
    pub etag: String,
}

/// Where the value of a field comes from.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum FieldView {
    /// Of the result; without a format the value as it is.
    Projected {
        path: String,
        format: String,
    },
    Literal {
        literal: Value,
    },
}

impl From<v1::ProjectedField> for FieldView {
    fn from(field: v1::ProjectedField) -> Self {
        let format = word(field.format().as_str_name(), "FIELD_FORMAT_");
        match field.origin {
            Some(Origin::Literal(value)) => {
                Self::Literal { literal: value.kind.map(json).unwrap_or_default() }
            }
            Some(Origin::Source(path)) => Self::Projected { path, format },
            None => Self::Projected { path: String::new(), format },
        }
    }
}

impl FieldView {
    /// As `--field` takes it: `value:number`; a literal as JSON.
    fn line(&self) -> String {
        match self {
            Self::Literal { literal } => literal.to_string(),
            Self::Projected { path, format } if format.is_empty() => path.clone(),
            Self::Projected { path, format } => format!("{path}:{format}"),
        }
    }
}

/// The name of a query, and what it asks with.
fn query(query: Option<v1::BindingQuery>) -> (&'static str, BTreeMap<&'static str, Value>) {
    match query.and_then(|query| query.query) {
        Some(Query::Latest(_)) => ("latest", BTreeMap::new()),
        Some(Query::Aggregate(asked)) => {
            let parameters = [
                ("window", word(asked.window().as_str_name(), "AGGREGATE_WINDOW_").into()),
                ("op", word(asked.op().as_str_name(), "AGGREGATE_OP_").into()),
                ("field", asked.field.into()),
            ];
            ("aggregate", parameters.into())
        }
        Some(Query::List(asked)) => {
            let parameters = [
                ("limit", asked.limit.into()),
                ("order", word(asked.order().as_str_name(), "SORT_ORDER_").into()),
                ("sort_by", asked.sort_by.into()),
            ];
            ("list", parameters.into())
        }
        None => ("", BTreeMap::new()),
    }
}

impl From<v1::Binding> for BindingView {
    fn from(binding: v1::Binding) -> Self {
        let widget = binding.widget.unwrap_or_default();
        let fields = binding.projection.unwrap_or_default().fields;
        let (query, parameters) = query(binding.query);
        Self {
            query,
            parameters,
            fields: fields.into_iter().map(|(name, field)| (name, field.into())).collect(),
            refresh_time: time(binding.refresh_time.as_ref()),
            id: binding.id,
            tenant_id: binding.tenant_id,
            name: binding.name,
            source_id: binding.source_id,
            template: widget.template,
            data: widget.data.map(|data| json(Kind::StructValue(data))).unwrap_or_default(),
            stale: binding.stale,
            revision: binding.revision,
            refresh_error: binding.refresh_error,
            etag: binding.etag,
        }
    }
}

impl BindingView {
    /// As the command line asks it: `aggregate --window 1h --op sum --field errors`.
    fn query_line(&self) -> String {
        let flags = self.parameters.iter().filter_map(|(name, value)| match value {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(format!(" --{} {text}", name.replace('_', "-"))),
            other => Some(format!(" --{} {other}", name.replace('_', "-"))),
        });
        std::iter::once(self.query.to_owned()).chain(flags).collect()
    }

    fn fields_line(&self) -> String {
        if self.fields.is_empty() {
            return "none: its data stays {}".to_owned();
        }
        let fields: Vec<String> =
            self.fields.iter().map(|(name, field)| format!("{name}={}", field.line())).collect();
        fields.join(", ")
    }

    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.clone()),
            ("name", self.name.clone()),
            ("source", self.source_id.clone()),
            ("query", self.query_line()),
            ("fields", self.fields_line()),
            ("template", self.template.clone()),
            ("data", if self.data.is_null() { String::new() } else { self.data.to_string() }),
            ("stale", if self.stale { "yes: the source is deleted".to_owned() } else { String::new() }),
            ("refreshed", self.refresh_time.clone()),
            ("refresh error", self.refresh_error.clone()),
        ]
    }
}

impl Row for BindingView {
    const HEADINGS: &'static [&'static str] = &["NAME", "QUERY", "TEMPLATE", "STALE", "ID", "SOURCE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.query.to_owned(),
            self.template.clone(),
            if self.stale { "yes".to_owned() } else { "no".to_owned() },
            self.id.clone(),
            self.source_id.clone(),
        ]
    }
}

fn json(kind: Kind) -> Value {
    let of = |value: prost_types::Value| value.kind.map(json).unwrap_or_default();
    match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(flag) => flag.into(),
        Kind::NumberValue(number) => super::number(number),
        Kind::StringValue(text) => text.into(),
        Kind::ListValue(list) => list.values.into_iter().map(of).collect(),
        Kind::StructValue(data) => data.fields.into_iter().map(|(name, value)| (name, of(value))).collect(),
    }
}
