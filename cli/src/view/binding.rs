//! Bindings as they are shown.

use bowline_proto::v1;
use bowline_proto::v1::binding_query::Query;
use prost_types::value::Kind;
use serde::Serialize;
use serde_json::Value;

use super::time;
use crate::output::Row;

#[derive(Debug, Serialize)]
pub struct BindingView {
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub source_id: String,
    /// `latest`, `aggregate` or `list`.
    pub query: &'static str,
    pub template: String,
    /// Null in a list.
    pub data: Value,
    pub stale: bool,
    pub revision: i64,
    pub refresh_time: String,
    pub refresh_error: String,
    pub etag: String,
}

impl From<v1::Binding> for BindingView {
    fn from(binding: v1::Binding) -> Self {
        let widget = binding.widget.unwrap_or_default();
        Self {
            query: match binding.query.and_then(|query| query.query) {
                Some(Query::Latest(_)) => "latest",
                Some(Query::Aggregate(_)) => "aggregate",
                Some(Query::List(_)) => "list",
                None => "",
            },
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
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.clone()),
            ("name", self.name.clone()),
            ("source", self.source_id.clone()),
            ("query", self.query.to_owned()),
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
