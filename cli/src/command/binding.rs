//! `bowline binding`: queries whose answers are kept fresh.

use std::collections::BTreeMap;

use bowline_proto::v1;
use bowline_proto::v1::binding_query::Query;
use bowline_proto::v1::projected_field::Origin;
use clap::{Args, Subcommand};

use super::paging::{self, Paging};
use super::payload::{Fold, Sorting};
use super::{key_value, name};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::BindingView;

#[derive(Debug, Subcommand)]
pub enum BindingCommand {
    /// Make a binding
    #[command(after_help = "Examples:
  bowline binding create --source src_... --template metric \\
    --field value=value:number --literal 'label=Errors (1h)' aggregate --window 1h --op sum --field errors
  bowline binding create --source src_... --field note=note:text latest")]
    Create(Box<Create>),
    /// Show one binding with its data
    Get(Which),
    /// List bindings
    List(ListBindings),
    /// Run the query and the projection now
    Evaluate(Which),
    /// Show the binding whenever its data changes, until stopped
    Watch(Which),
    /// End a binding
    Delete(Which),
}

#[derive(Debug, Args)]
pub struct Which {
    /// The binding (`bnd_...`)
    id: String,
}

#[derive(Debug, Args)]
pub struct Create {
    /// The source: its name or id
    #[arg(long, value_name = "ID")]
    source: String,
    /// A slug; default: one is made
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Name of the widget's template
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
    /// A field of the widget: its name, the path into the result, and perhaps the format: text, number,
    /// integer, percent or datetime
    #[arg(long = "field", id = "projected", value_parser = projected, value_name = "NAME=PATH[:FORMAT]")]
    fields: Vec<(String, v1::ProjectedField)>,
    /// A field of the widget that is always the same text
    #[arg(long = "literal", value_parser = key_value, value_name = "NAME=TEXT")]
    literals: Vec<(String, String)>,
    #[command(subcommand)]
    query: Asked,
}

#[derive(Debug, Subcommand)]
enum Asked {
    /// The body of the newest payload
    Latest,
    /// A number of each payload, folded
    Aggregate(Fold),
    /// Bodies
    List(Sorting),
}

#[derive(Debug, Args)]
pub struct ListBindings {
    /// Only of this source: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    source: String,
    #[command(flatten)]
    paging: Paging,
}

fn projected(text: &str) -> Result<(String, v1::ProjectedField), String> {
    let (name, rest) = key_value(text)?;
    let formats = [
        ("text", v1::FieldFormat::Text),
        ("number", v1::FieldFormat::Number),
        ("integer", v1::FieldFormat::Integer),
        ("percent", v1::FieldFormat::Percent),
        ("datetime", v1::FieldFormat::Datetime),
    ];
    // A JSONPath may hold colons itself.
    let formatted = rest.rsplit_once(':').and_then(|(path, word)| {
        formats.iter().find(|(name, _)| *name == word).map(|(_, format)| (path.to_owned(), *format))
    });
    let (path, format) = formatted.unwrap_or((rest, v1::FieldFormat::Unspecified));
    Ok((name, v1::ProjectedField { origin: Some(Origin::Source(path)), format: format.into() }))
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: BindingCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        BindingCommand::Create(create) => make(*create, admin, tenant, form).await,
        BindingCommand::Get(which) => {
            let answer = admin.bindings().get_binding(v1::GetBindingRequest { id: which.id }).await?;
            show(form, answer.into_inner().binding)
        }
        BindingCommand::Evaluate(which) => {
            let request = v1::EvaluateBindingRequest { id: which.id };
            show(form, admin.bindings().evaluate_binding(request).await?.into_inner().binding)
        }
        BindingCommand::List(list) => show_list(list, admin, tenant, form).await,
        BindingCommand::Watch(which) => watch(which.id, admin, form).await,
        BindingCommand::Delete(which) => {
            let request = v1::DeleteBindingRequest { id: which.id.clone(), ..Default::default() };
            admin.bindings().delete_binding(request).await?;
            match form {
                Form::Json => output::json(&serde_json::json!({ "deleted": which.id })),
                Form::Table => output::text(&format!("deleted {}\n", which.id)),
            }
        }
    }
}

async fn make(create: Create, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let query = match create.query {
        Asked::Latest => Query::Latest(v1::LatestQuery {}),
        Asked::Aggregate(fold) => Query::Aggregate(fold.into()),
        Asked::List(sorting) => Query::List(sorting.into()),
    };
    let literals = create.literals.into_iter().map(|(name, text)| {
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text)) };
        (name, v1::ProjectedField { origin: Some(Origin::Literal(value)), format: 0 })
    });
    let fields: BTreeMap<_, _> = create.fields.into_iter().chain(literals).collect();
    let binding = v1::Binding {
        name: create.name,
        source_id: name::source_id(admin, tenant, &create.source).await?,
        query: Some(v1::BindingQuery { query: Some(query) }),
        projection: Some(v1::Projection { fields }),
        widget: Some(v1::Widget { template: create.template, data: None }),
        ..v1::Binding::default()
    };
    let request = v1::CreateBindingRequest {
        tenant_id: tenant.to_owned(),
        binding: Some(binding),
        ..v1::CreateBindingRequest::default()
    };
    show(form, admin.bindings().create_binding(request).await?.into_inner().binding)
}

async fn show_list(list: ListBindings, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let filter = v1::BindingFilter {
        source_id: name::source_id(admin, tenant, &list.source).await?,
        ..v1::BindingFilter::default()
    };
    let bindings = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListBindingsRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.bindings().list_bindings(request).await?.into_inner();
            let bindings: Vec<BindingView> = page.bindings.into_iter().map(Into::into).collect();
            Ok((bindings, page.next_page_token))
        }
    })
    .await?;
    paging::show(form, "bindings", &bindings, None)
}

async fn watch(id: String, admin: &Admin, form: Form) -> Result<(), Failure> {
    let request = v1::WatchBindingRequest { id, cursor: String::new() };
    let mut states = admin.bindings().watch_binding(request).await?.into_inner();
    while let Some(state) = states.message().await? {
        if state.binding.is_some() {
            show(form, state.binding)?;
        }
    }
    Ok(())
}

fn show(form: Form, binding: Option<v1::Binding>) -> Result<(), Failure> {
    let view = BindingView::from(binding.unwrap_or_default());
    let lines = view.lines();
    output::one(form, &view, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projected_field_has_a_path_and_perhaps_a_format() {
        for (text, path, format) in [
            ("a=b.c:number", "b.c", v1::FieldFormat::Number),
            ("a=$['x:y']", "$['x:y']", v1::FieldFormat::Unspecified),
            ("a=$[1:2]:text", "$[1:2]", v1::FieldFormat::Text),
        ] {
            let (name, field) = projected(text).unwrap();
            assert_eq!((name.as_str(), field.format()), ("a", format));
            assert_eq!(field.origin, Some(Origin::Source(path.into())));
        }
        assert!(projected("a").is_err());
    }
}
