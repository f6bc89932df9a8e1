//! Bindings as the API shows them.

use bowline_core::binding::{Binding, Field, FieldFormat};
use bowline_core::query::{FieldPath, Op, Order, Query, Span};
use bowline_core::store::bindings::Kept;
use bowline_proto::v1;
use bowline_proto::v1::binding_query::Query as WireQuery;
use bowline_proto::v1::projected_field::Origin;

use crate::convert::{struct_of_json, timestamp, value_of_json};
use crate::etag;
use crate::fault::Fault;

/// The binding, with its data where that is given.
pub(crate) fn binding(binding: &Binding, kept: Option<&Kept>) -> Result<v1::Binding, Fault> {
    let data = kept
        .map(|kept| serde_json::from_slice(&kept.data))
        .transpose()
        .map_err(|error| Fault::Unreadable(format!("the data of binding {}: {error}", binding.id)))?
        .and_then(struct_of_json);
    Ok(v1::Binding {
        id: binding.id.to_string(),
        tenant_id: binding.tenant_id.to_string(),
        name: binding.name.clone(),
        display_name: binding.display_name.clone(),
        labels: binding.labels.clone(),
        create_time: Some(timestamp(binding.create_time)),
        update_time: Some(timestamp(binding.update_time)),
        etag: etag::of(binding.config_version),
        source_id: binding.source_id.to_string(),
        query: Some(query(&binding.spec.query)),
        projection: Some(v1::Projection {
            fields: binding
                .spec
                .projection
                .iter()
                .map(|(name, field)| (name.clone(), projected(field)))
                .collect(),
        }),
        widget: Some(v1::Widget { template: binding.spec.template.clone(), data }),
        stale: binding.stale,
        refresh_time: kept.map(|kept| timestamp(kept.refreshed_at)),
        revision: kept.map_or(0, |kept| kept.revision),
        refresh_error: kept.map(|kept| kept.error.clone()).unwrap_or_default(),
    })
}

fn query(query: &Query) -> v1::BindingQuery {
    let path =
        |path: &Option<FieldPath>| path.as_ref().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let wire = match query {
        Query::Latest => WireQuery::Latest(v1::LatestQuery {}),
        Query::Aggregate(asked) => WireQuery::Aggregate(v1::AggregateQuery {
            window: match asked.window {
                Span::QuarterHour => v1::AggregateWindow::AggregateWindow15m,
                Span::Hour => v1::AggregateWindow::AggregateWindow1h,
                Span::Day => v1::AggregateWindow::AggregateWindow24h,
                Span::Week => v1::AggregateWindow::AggregateWindow7d,
            }
            .into(),
            op: match asked.op {
                Op::Sum => v1::AggregateOp::Sum,
                Op::Count => v1::AggregateOp::Count,
                Op::Avg => v1::AggregateOp::Avg,
                Op::Min => v1::AggregateOp::Min,
                Op::Max => v1::AggregateOp::Max,
            }
            .into(),
            field: path(&asked.field),
        }),
        Query::List(asked) => WireQuery::List(v1::ListQuery {
            limit: asked.limit as i32,
            sort_by: path(&asked.sort_by),
            order: match asked.order {
                Order::Asc => v1::SortOrder::Asc,
                Order::Desc => v1::SortOrder::Desc,
            }
            .into(),
        }),
    };
    v1::BindingQuery { query: Some(wire) }
}

fn projected(field: &Field) -> v1::ProjectedField {
    match field {
        Field::Literal { literal } => v1::ProjectedField {
            origin: Some(Origin::Literal(value_of_json(literal.clone()))),
            format: v1::FieldFormat::Unspecified.into(),
        },
        Field::Source { source, format } => v1::ProjectedField {
            origin: Some(Origin::Source(source.as_str().to_owned())),
            format: match format {
                None => v1::FieldFormat::Unspecified,
                Some(FieldFormat::Text) => v1::FieldFormat::Text,
                Some(FieldFormat::Number) => v1::FieldFormat::Number,
                Some(FieldFormat::Integer) => v1::FieldFormat::Integer,
                Some(FieldFormat::Percent) => v1::FieldFormat::Percent,
                Some(FieldFormat::Datetime) => v1::FieldFormat::Datetime,
            }
            .into(),
        },
    }
}
