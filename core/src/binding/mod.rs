//! A binding: a query over a source and a projection, whose data is kept fresh.
//!
//! 1. The journal notes which sources have received something ([`Touched`]).
//! 2. [`refresh`] evaluates their bindings, at most every 250 ms each and always once after the last
//!    payload, in turns of their tenants ([`agenda`]); Postgres tells it what it did not hear of.
//! 3. [`project`] makes the data, `store::bindings` keeps it.
//! 4. [`watch`] wakes those who watch, in every replica: over Redis, and by polling.

mod agenda;
mod project;
mod refresh;
mod touched;
mod watch;

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use project::{Field, FieldFormat, Projection, project};
pub use refresh::{Refreshed, Refresher};
pub use touched::Touched;
pub use watch::{Watch, Watches};

use crate::id::{BindingId, SourceId, TenantId};
use crate::query::{Aggregate, Aggregated, PathError, Queries, Query, QueryError, SourceWindow};
use crate::store::Connection;

/// As JSON.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// A binding as it is stored; its data is apart.
#[derive(Debug, Clone)]
pub struct Binding {
    pub id: BindingId,
    pub tenant_id: TenantId,
    pub source_id: SourceId,
    /// A slug, unique per tenant.
    pub name: String,
    pub display_name: String,
    pub labels: BTreeMap<String, String>,
    pub spec: BindingSpec,
    pub config_version: i64,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    /// The source is gone.
    pub stale: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingSpec {
    pub query: Query,
    #[serde(default)]
    pub projection: Projection,
    #[serde(default)]
    pub template: String,
}

impl BindingSpec {
    /// A path that was stored by a version which allowed it, and is not followed any more: which one, and why.
    pub fn refused(&self) -> Option<(String, &PathError)> {
        let of_query = match &self.query {
            Query::Latest => None,
            Query::Aggregate(asked) => asked.field.as_ref().map(|path| ("query.aggregate.field", path)),
            Query::List(asked) => asked.sort_by.as_ref().map(|path| ("query.list.sort_by", path)),
        };
        if let Some((field, path)) = of_query
            && let Some(error) = path.refused()
        {
            return Some((field.to_owned(), error));
        }
        self.projection.iter().find_map(|(name, field)| match field {
            Field::Literal { .. } => None,
            Field::Source { source, .. } => {
                Some((format!("projection.fields[{name}].source"), source.refused()?))
            }
        })
    }
}

/// Runs the query and the projection: the data as JSON.
async fn evaluate(
    client: &Connection,
    queries: &Queries,
    window: SourceWindow,
    spec: &BindingSpec,
) -> Result<Vec<u8>, QueryError> {
    let result = match &spec.query {
        Query::Latest => queries
            .latest(client, window)
            .await?
            .map_or_else(|| Bytes::from_static(b"null"), |latest| json_of(latest.body)),
        Query::Aggregate(asked) => {
            let answer = queries.aggregate(client, window, asked, Utc::now()).await?;
            json_of_aggregate(asked, answer)
        }
        Query::List(asked) => {
            let page = queries.list(client, window, asked, None).await?;
            let bodies: Vec<Bytes> = page.payloads.into_iter().map(|payload| json_of(payload.body)).collect();
            [b"[", bodies.join(&b","[..]).as_slice(), b"]"].concat().into()
        }
    };
    let projection = spec.projection.clone();
    let made = queries.work(window.tenant_id, result.len(), move |time| {
        project(&projection, &result, time).map(|data| Value::Object(data).to_string().into_bytes())
    });
    made.await?.ok_or(QueryError::ProjectionTooLong)
}

/// The body, or its text where it is no JSON.
fn json_of(body: Bytes) -> Bytes {
    match serde_json::from_slice::<IgnoredAny>(&body) {
        Ok(_) if std::str::from_utf8(&body).is_ok() => body,
        _ => Value::String(String::from_utf8_lossy(&body).into_owned()).to_string().into(),
    }
}

fn json_of_aggregate(asked: &Aggregate, answer: Aggregated) -> Bytes {
    let value = project::json_of_number(answer.value);
    json!({"value": value, "count": answer.count, "window": asked.window, "op": asked.op}).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Op, Span};

    #[test]
    fn results_are_json_whatever_was_received() {
        assert_eq!(&json_of(Bytes::from_static(b" {\"a\":1}"))[..], b" {\"a\":1}");
        assert_eq!(&json_of(Bytes::from_static(b"a=\"1\""))[..], b"\"a=\\\"1\\\"\"");
        assert_eq!(&json_of(Bytes::from_static(b"\"\xff\""))[..], "\"\\\"\u{fffd}\\\"\"".as_bytes());
        let asked = Aggregate { window: Span::Hour, op: Op::Sum, field: None };
        for (value, shown) in
            [(1.0, "1"), (0.5, "0.5"), (f64::INFINITY, "\"Infinity\""), (f64::NAN, "\"NaN\"")]
        {
            let text = json_of_aggregate(&asked, Aggregated { value, count: 2 });
            let expected = format!("{{\"count\":2,\"op\":\"sum\",\"value\":{shown},\"window\":\"1h\"}}");
            assert_eq!(text, expected.as_bytes());
        }
    }

    #[test]
    fn a_stored_spec_with_a_refused_path_is_read_and_says_which() {
        let spec = |query: &str, source: &str| -> BindingSpec {
            let text = format!(r#"{{"query": {query}, "projection": {{"n": {{"source": "{source}"}}}}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let aggregate =
            |field: &str| format!(r#"{{"type":"aggregate","window":"1h","op":"sum","field":"{field}"}}"#);
        let list = r#"{"type":"list","limit":1,"sort_by":"$..a..b"}"#;
        let latest = r#"{"type":"latest"}"#;
        for (spec, field) in [
            (spec(&aggregate("$..[?@[?@]]"), "a"), Some("query.aggregate.field")),
            (spec(list, "a"), Some("query.list.sort_by")),
            (spec(latest, "$..[?@[?@]]"), Some("projection.fields[n].source")),
            (spec(&aggregate("$..a"), "$..a"), None),
        ] {
            assert_eq!(spec.refused().map(|(field, _)| field).as_deref(), field);
        }
    }
}
