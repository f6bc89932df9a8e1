//! `bowline event-type`: the catalog of a tenant. Whether it is strict is said by `bowline tenant update`.

use std::path::PathBuf;

use bowline_proto::v1;
use clap::{Args, Subcommand};

use super::paging::{self, Paging};
use super::{key_value, mask, name};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::EventTypeView;

/// More than the API takes, so that it says so.
const SCHEMA_BYTES_MAX: u64 = 128 * 1024;

#[derive(Debug, Subcommand)]
pub enum EventTypeCommand {
    /// Add a type to the catalog
    #[command(after_help = "Examples:
  bowline event-type create order.created --schema-file order.schema.json
  bowline event-type create order.seen --description 'Somebody looked at an order'")]
    Create(Create),
    /// Show one type with its schema
    Get(Which),
    /// List the types of the tenant, oldest first
    List(List),
    /// Change what is given, and nothing else
    Update(Update),
    /// Take a type out of the catalog; events that have it stay
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Which {
    /// Name or id of the type
    #[arg(value_name = "TYPE")]
    which: String,
}

/// What can be said of a type.
#[derive(Debug, Args)]
struct Fields {
    /// What it tells, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// File with the JSON Schema of its payloads
    #[arg(long, value_name = "FILE")]
    schema_file: Option<PathBuf>,
    /// A label; may be repeated. A change replaces all labels
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct Create {
    /// The type as events have it, such as order.created
    name: String,
    #[command(flatten)]
    fields: Fields,
    /// Makes the call safe to repeat for 24 h
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    request_id: String,
}

#[derive(Debug, Args)]
pub struct List {
    /// Only those with this label; may be repeated
    #[arg(long = "label", value_parser = key_value, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub struct Update {
    #[command(flatten)]
    event_type: Which,
    #[command(flatten)]
    fields: Fields,
    /// Any payload fits from now on
    #[arg(long, conflicts_with = "schema_file")]
    clear_schema: bool,
    /// Only if nobody changed it since: the etag that `event-type get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    event_type: Which,
    /// Only if nobody changed it since: the etag that `event-type get` shows
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// # Errors
/// What the admin API refuses, or a file that cannot be read.
pub async fn run(command: EventTypeCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        EventTypeCommand::Create(create) => make(create, admin, tenant, form).await,
        EventTypeCommand::Get(which) => {
            let id = name::event_type_id(admin, tenant, &which.which).await?;
            let request = v1::GetEventTypeRequest { id };
            show(form, admin.event_types().get_event_type(request).await?.into_inner().event_type)
        }
        EventTypeCommand::List(list) => show_list(list, admin, tenant, form).await,
        EventTypeCommand::Update(update) => change(update, admin, tenant, form).await,
        EventTypeCommand::Delete(delete) => {
            let id = name::event_type_id(admin, tenant, &delete.event_type.which).await?;
            let request = v1::DeleteEventTypeRequest { id: id.clone(), etag: delete.etag };
            admin.event_types().delete_event_type(request).await?;
            output::deleted(form, id)
        }
    }
}

impl Fields {
    /// Writes what was given into `event_type`; the names of the fields that were.
    fn apply(self, event_type: &mut v1::EventType) -> Result<Vec<&'static str>, Failure> {
        let mut given = Vec::new();
        if let Some(description) = self.description {
            event_type.description = description;
            given.push("description");
        }
        if let Some(path) = self.schema_file {
            event_type.json_schema = read_schema(&path)?;
            given.push("json_schema");
        }
        if !self.labels.is_empty() {
            event_type.labels = self.labels.into_iter().collect();
            given.push("labels");
        }
        Ok(given)
    }
}

fn read_schema(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read as _;

    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(SCHEMA_BYTES_MAX).read_to_string(&mut text));
    let wrong =
        |problem: String| Failure::Configuration(format!("--schema-file {}: {problem}", path.display()));
    read.map_err(|error| wrong(error.to_string()))?;
    // The API takes no text for no schema: a file that was not written yet would remove it.
    if text.trim().is_empty() {
        return Err(wrong(
            "is empty; `bowline event-type update TYPE --clear-schema` removes a schema".to_owned(),
        ));
    }
    Ok(text)
}

async fn make(create: Create, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let mut event_type = v1::EventType { name: create.name, ..v1::EventType::default() };
    create.fields.apply(&mut event_type)?;
    let request = v1::CreateEventTypeRequest {
        tenant_id: tenant.to_owned(),
        event_type: Some(event_type),
        request_id: create.request_id,
    };
    show(form, admin.event_types().create_event_type(request).await?.into_inner().event_type)
}

async fn change(update: Update, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let id = name::event_type_id(admin, tenant, &update.event_type.which).await?;
    let mut event_type = v1::EventType { id, etag: update.etag, ..v1::EventType::default() };
    let fields = update.fields.apply(&mut event_type)?;
    let update_mask = Some(mask::of(fields, update.clear_schema.then_some("json_schema"))?);
    let request = v1::UpdateEventTypeRequest { event_type: Some(event_type), update_mask };
    show(form, admin.event_types().update_event_type(request).await?.into_inner().event_type)
}

async fn show_list(list: List, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let filter = v1::EventTypeFilter { name: String::new(), labels: list.labels.into_iter().collect() };
    let listed = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListEventTypesRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.event_types().list_event_types(request).await?.into_inner();
            let types: Vec<EventTypeView> = page.event_types.into_iter().map(Into::into).collect();
            Ok((types, page.next_page_token))
        }
    })
    .await?;
    paging::show(form, "event_types", &listed, None)
}

fn show(form: Form, event_type: Option<v1::EventType>) -> Result<(), Failure> {
    let view = EventTypeView::from(event_type.unwrap_or_default());
    output::one(form, &view, &view.lines())
}
