//! `bowline binding`: queries whose answers are kept fresh.

use std::collections::BTreeMap;

use bowline_proto::v1;
use bowline_proto::v1::binding_query::Query;
use bowline_proto::v1::projected_field::Origin;
use clap::{Args, Subcommand};

use super::paging::{self, Paging};
use super::payload::{Fold, Sorting};
use super::{key_value, mask, name, there};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::BindingView;

#[derive(Debug, Subcommand)]
pub enum BindingCommand {
    /// Make a binding
    #[command(after_help = "Examples:
  bowline binding create --source machines --template metric \\
    --field value=value:number --literal 'label=Errors (1h)' aggregate --window 1h --op sum --field errors
  bowline binding create --source machines --field note=note:text latest")]
    Create(Box<Create>),
    /// Show one binding with its data
    Get(Which),
    /// List bindings
    List(ListBindings),
    /// Change what is given, and nothing else
    #[command(after_help = "Examples:
  bowline binding update errors --template gauge
  bowline binding update errors aggregate --window 24h --op max --field errors")]
    Update(Box<Update>),
    /// Run the query and the projection now
    Evaluate(Which),
    /// Show the binding whenever its data changes, until stopped
    Watch(Which),
    /// End a binding and its watches
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Which {
    /// Name or id of the binding
    #[arg(value_name = "BINDING")]
    which: String,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    binding: Which,
    /// Only if nobody changed it since: the etag that `binding get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

#[derive(Debug, Args)]
pub struct Create {
    /// The source: its name or id
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// A slug; default: one is made
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    #[command(flatten)]
    shown: Shown,
    #[command(subcommand)]
    query: Asked,
}

#[derive(Debug, Args)]
pub struct Update {
    #[command(flatten)]
    binding: Which,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    shown: Shown,
    /// Only if nobody changed it since: the etag that `binding get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    #[command(subcommand)]
    query: Option<Asked>,
}

/// The widget. A change replaces all of its fields.
#[derive(Debug, Args)]
struct Shown {
    /// Name of the widget's template
    #[arg(long)]
    template: Option<String>,
    /// A field of the widget: its name, the path into the result, and perhaps the format: text, number,
    /// integer, percent or datetime; may be repeated. The result of `aggregate` has `value`, `count`, `window` and
    /// `op`; that of `latest` is the payload's body (`order.total`), that of `list` its bodies (`[0].order.total`);
    /// `$` is the whole
    #[arg(long = "field", id = "projected", value_parser = projected, value_name = "NAME=PATH[:FORMAT]")]
    fields: Vec<(String, v1::ProjectedField)>,
    /// A field of the widget that is always the same text; may be repeated
    #[arg(long = "literal", value_parser = key_value, value_name = "NAME=TEXT")]
    literals: Vec<(String, String)>,
}

impl Shown {
    /// Writes what was given into `binding`; the names of the fields that were.
    fn apply(self, binding: &mut v1::Binding) -> Vec<&'static str> {
        let mut given = Vec::new();
        let literals = self.literals.into_iter().map(|(name, text)| {
            let value = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text)) };
            (name, v1::ProjectedField { origin: Some(Origin::Literal(value)), format: 0 })
        });
        let fields: BTreeMap<_, _> = self.fields.into_iter().chain(literals).collect();
        if !fields.is_empty() {
            binding.projection = Some(v1::Projection { fields });
            given.push("projection");
        }
        if let Some(template) = self.template {
            binding.widget = Some(v1::Widget { template, data: None });
            given.push("widget");
        }
        given
    }
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

impl From<Asked> for v1::BindingQuery {
    fn from(asked: Asked) -> Self {
        let query = match asked {
            Asked::Latest => Query::Latest(v1::LatestQuery {}),
            Asked::Aggregate(fold) => Query::Aggregate(fold.into()),
            Asked::List(sorting) => Query::List(sorting.into()),
        };
        Self { query: Some(query) }
    }
}

#[derive(Debug, Args)]
pub struct ListBindings {
    /// Only of this source: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SOURCE")]
    source: String,
    #[command(flatten)]
    paging: Paging,
}

const FORMATS: [(&str, v1::FieldFormat); 5] = [
    ("text", v1::FieldFormat::Text),
    ("number", v1::FieldFormat::Number),
    ("integer", v1::FieldFormat::Integer),
    ("percent", v1::FieldFormat::Percent),
    ("datetime", v1::FieldFormat::Datetime),
];

fn projected(text: &str) -> Result<(String, v1::ProjectedField), String> {
    let (name, rest) = key_value(text)?;
    let (path, format) = match rest.rsplit_once(':') {
        // A JSONPath may hold colons itself, and ends with a bracket then.
        Some((path, word)) if !word.contains([']', ')', '\'', '"']) => (path.to_owned(), format_of(word)?),
        _ => (rest, v1::FieldFormat::Unspecified),
    };
    Ok((name, v1::ProjectedField { origin: Some(Origin::Source(path)), format: format.into() }))
}

fn format_of(word: &str) -> Result<v1::FieldFormat, String> {
    let known = FORMATS.iter().find(|(name, _)| *name == word).map(|(_, format)| *format);
    known.ok_or_else(|| {
        let names = FORMATS.map(|(name, _)| name).join(", ");
        format!("`{word}` is no format: use {names}; a name with a colon is written as a JSONPath: $['a:b']")
    })
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: BindingCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        BindingCommand::Create(create) => make(*create, admin, tenant, form).await,
        BindingCommand::Get(which) => {
            let id = name::binding_id(admin, tenant, &which.which).await?;
            show(form, admin.bindings().get_binding(v1::GetBindingRequest { id }).await?.into_inner().binding)
        }
        BindingCommand::Update(update) => change(*update, admin, tenant, form).await,
        BindingCommand::Evaluate(which) => {
            let request =
                v1::EvaluateBindingRequest { id: name::binding_id(admin, tenant, &which.which).await? };
            show(form, admin.bindings().evaluate_binding(request).await?.into_inner().binding)
        }
        BindingCommand::List(list) => show_list(list, admin, tenant, form).await,
        BindingCommand::Watch(which) => {
            watch(name::binding_id(admin, tenant, &which.which).await?, admin, form).await
        }
        BindingCommand::Delete(delete) => {
            let id = name::binding_id(admin, tenant, &delete.binding.which).await?;
            let request = v1::DeleteBindingRequest { id: id.clone(), etag: delete.etag };
            admin.bindings().delete_binding(request).await?;
            output::deleted(form, id)
        }
    }
}

async fn make(create: Create, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let mut binding = v1::Binding {
        name: create.name,
        source_id: name::source_id(admin, tenant, &create.source).await?,
        query: Some(create.query.into()),
        ..v1::Binding::default()
    };
    create.shown.apply(&mut binding);
    let request = v1::CreateBindingRequest {
        tenant_id: tenant.to_owned(),
        binding: Some(binding),
        ..v1::CreateBindingRequest::default()
    };
    show_changed(form, admin.bindings().create_binding(request).await?.into_inner().binding)
}

async fn change(update: Update, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let id = name::binding_id(admin, tenant, &update.binding.which).await?;
    let mut binding = v1::Binding { id, etag: update.etag, ..v1::Binding::default() };
    let mut fields = update.shown.apply(&mut binding);
    if let Some(name) = update.name {
        binding.name = name;
        fields.push("name");
    }
    if let Some(query) = update.query {
        binding.query = Some(query.into());
        fields.push("query");
    }
    let update_mask = Some(mask::of(fields, [])?);
    let request = v1::UpdateBindingRequest { binding: Some(binding), update_mask };
    show_changed(form, admin.bindings().update_binding(request).await?.into_inner().binding)
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

/// With a word where nothing will ever be shown.
fn show_changed(form: Form, binding: Option<v1::Binding>) -> Result<(), Failure> {
    let binding = there(binding, "binding")?;
    if binding.projection.as_ref().is_none_or(|projection| projection.fields.is_empty()) {
        eprintln!(
            "warning: binding {name} has no fields: its data stays {{}} until \
             `bowline binding update {name} --field NAME=PATH`",
            name = binding.name,
        );
    }
    show(form, Some(binding))
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

    #[test]
    fn an_unknown_format_is_refused_by_those_there_are() {
        for bad in ["a=n:integerr", "a=[0].n:Number", "a=$.n:", "a=xml:lang"] {
            let refused = projected(bad).unwrap_err();
            assert!(refused.contains("text, number, integer, percent, datetime"), "{bad}: {refused}");
        }
        assert!(projected("a=xml:lang").unwrap_err().ends_with("$['a:b']"));
        assert!(projected("a=$['xml:lang']").is_ok());
    }
}
