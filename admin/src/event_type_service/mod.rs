//! `EventTypeService`: the catalog of a tenant.

mod fields;

use std::sync::Arc;

use bowline_core::catalog::{EventType, SCHEMAS_BYTES_MAX};
use bowline_core::id::{DEFAULT_TENANT, EventTypeId, TenantId};
use bowline_core::store::event_types::{self, EventTypeQuery};
use bowline_proto::v1;
use bowline_proto::v1::event_type_service_server::EventTypeService;
use chrono::Utc;
use deadpool_postgres::Transaction;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, Repeat, audited, begin};
use crate::etag;
use crate::fault::{Fault, Kind};
use crate::mask::Mask;
use crate::page::{Listing, page_size};
use crate::present;
use crate::quota::Quota;
use crate::validate::{self, Violations, excerpt};

const EVENT_TYPES_PER_TENANT_MAX: i64 = 5_000;
/// Below what a client takes in one message.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;

pub(crate) struct EventTypes {
    context: Arc<AdminContext>,
    quota: Quota,
}

impl EventTypes {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context, quota: Quota::new(Kind::EventType, EVENT_TYPES_PER_TENANT_MAX) }
    }

    async fn create(
        &self,
        call: &Call,
        request: v1::CreateEventTypeRequest,
    ) -> Result<v1::CreateEventTypeResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let wire = request.event_type.unwrap_or_default();
        let mut violations = Violations::default();
        validate::request_id(&mut violations, &request.request_id);
        validate::event_type::name(&mut violations, "event_type.name", &wire.name);
        validate::event_type::check(&mut violations, &wire);
        validate::event_type::json_schema(&mut violations, tenant, &wire.json_schema).await?;
        violations.finish()?;

        let asked = v1::CreateEventTypeRequest {
            event_type: Some(fields::without_output(wire.clone())),
            ..v1::CreateEventTypeRequest::default()
        };
        let repeat = Repeat::new(tenant, "CreateEventType", &request.request_id, &asked);
        let mut client = context.client().await?;
        self.quota.check(tenant, event_types::count(&client, tenant)).await?;
        let change = begin(&mut client).await?;
        if let Some(earlier) = change.earlier(&repeat).await? {
            drop(change);
            drop(client);
            let event_type = self.read(Some(tenant), EventTypeId(earlier)).await?;
            return Ok(v1::CreateEventTypeResponse { event_type: Some(event_type) });
        }
        let now = Utc::now();
        let new = EventType {
            id: EventTypeId::new(),
            tenant_id: tenant,
            name: wire.name,
            description: wire.description,
            labels: wire.labels,
            json_schema: Some(wire.json_schema).filter(|text| !text.is_empty()),
            config_version: change.version,
            create_time: now,
            update_time: now,
        };
        room_for_schema(&change.tx, &new).await?;
        let taken = |error| Fault::of_write(error, Kind::EventType, &new.name);
        event_types::insert(&change.tx, &new).await.map_err(taken)?;
        change.keep(&repeat, new.id.0).await?;
        let act = Act {
            tenant: Some(tenant),
            request_id: request.request_id,
            ..Act::new("CreateEventType", new.id.to_string())
        };
        change.commit(context, call, &act).await?;
        drop(client);
        let shown = self.read(Some(tenant), new.id).await?;
        Ok(v1::CreateEventTypeResponse { event_type: Some(shown) })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListEventTypesRequest,
    ) -> Result<v1::ListEventTypesResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let listing = Listing::new("ListEventTypes", tenant, request.filter.as_ref());
        let wire = request.filter.unwrap_or_default();
        let mut violations = Violations::default();
        if !wire.name.is_empty() {
            validate::event_type::name(&mut violations, "filter.name", &wire.name);
        }
        validate::labels(&mut violations, "filter.labels", &wire.labels);
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let query = EventTypeQuery {
            name: (!wire.name.is_empty()).then_some(wire.name),
            labels: wire.labels,
            after: listing.position(&request.page_token)?,
            limit: size + 1,
        };
        let client = context.client().await?;
        let mut rows = event_types::list(&client, tenant, &query).await?;
        let size = size.min(fitting(&rows));
        let next_page_token = listing.cut(&mut rows, size, |row| row.id.0);
        let event_types = rows.iter().map(present::event_type).collect();
        Ok(v1::ListEventTypesResponse { event_types, next_page_token })
    }

    async fn update(
        &self,
        call: &Call,
        request: v1::UpdateEventTypeRequest,
    ) -> Result<v1::UpdateEventTypeResponse, Fault> {
        let context = &*self.context;
        let wire = request.event_type.unwrap_or_default();
        let id: EventTypeId = validate::id("event_type.id", &wire.id)?;
        let mask = Mask::new(request.update_mask.as_ref(), fields::WRITABLE, &wire)?;
        // What is not written anew has been checked before, and nobody waits while what is new is checked.
        let checked = mask.merge(v1::EventType::default(), wire.clone());
        let mut violations = Violations::default();
        validate::event_type::check(&mut violations, &checked);
        // Of whom an all-tenant key speaks is known only later.
        let tenant = call.scope().unwrap_or(DEFAULT_TENANT);
        validate::event_type::json_schema(&mut violations, tenant, &checked.json_schema).await?;
        violations.finish()?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(event_types::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&wire.etag, old.config_version, Kind::EventType, id)?;
        let merged = mask.merge(present::event_type(&old), wire);
        let new = EventType {
            description: merged.description,
            labels: merged.labels,
            json_schema: Some(merged.json_schema).filter(|text| !text.is_empty()),
            config_version: change.version,
            update_time: Utc::now(),
            ..old
        };
        room_for_schema(&change.tx, &new).await?;
        event_types::update(&change.tx, &new).await?;
        let act = Act { tenant: Some(new.tenant_id), ..Act::new("UpdateEventType", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        Ok(v1::UpdateEventTypeResponse { event_type: Some(self.read(call.scope(), id).await?) })
    }

    async fn delete(
        &self,
        call: &Call,
        request: v1::DeleteEventTypeRequest,
    ) -> Result<v1::DeleteEventTypeResponse, Fault> {
        let context = &*self.context;
        let id: EventTypeId = validate::id("id", &request.id)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(event_types::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&request.etag, old.config_version, Kind::EventType, id)?;
        event_types::mark_deleted(&change.tx, id, change.version).await?;
        let act = Act { tenant: Some(old.tenant_id), ..Act::new("DeleteEventType", id.to_string()) };
        change.commit(context, call, &act).await?;
        Ok(v1::DeleteEventTypeResponse {})
    }

    async fn read(&self, scope: Option<TenantId>, id: EventTypeId) -> Result<v1::EventType, Fault> {
        let client = self.context.client().await?;
        Ok(present::event_type(&found(event_types::find(&client, scope, id).await?, id)?))
    }
}

/// How many of the rows fit into a page, at least one.
fn fitting(rows: &[EventType]) -> i64 {
    let mut left = PAGE_BYTES_MAX;
    let fits = |row: &&EventType| {
        let labels = row.labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let schema = row.json_schema.as_ref().map_or(0, String::len);
        left = left.saturating_sub(row.name.len() + row.description.len() + labels + schema);
        left > 0
    };
    i64::try_from(rows.iter().take_while(fits).count().max(1)).unwrap_or(i64::MAX)
}

/// Every process keeps every schema: a tenant has room for so much of them.
async fn room_for_schema(tx: &Transaction<'_>, new: &EventType) -> Result<(), Fault> {
    let Some(text) = &new.json_schema else { return Ok(()) };
    let others = event_types::schema_bytes(tx, new.tenant_id, new.id).await?;
    let all = others.saturating_add(i64::try_from(text.len()).unwrap_or(i64::MAX));
    if all > SCHEMAS_BYTES_MAX {
        let problem = format!(
            "makes {all} bytes with the other schemas of the tenant; at most {SCHEMAS_BYTES_MAX} are accepted"
        );
        return Err(Fault::field(validate::event_type::JSON_SCHEMA, problem));
    }
    Ok(())
}

fn found(event_type: Option<EventType>, id: EventTypeId) -> Result<EventType, Fault> {
    event_type.ok_or_else(|| Fault::not_found(Kind::EventType, id.to_string()))
}

#[tonic::async_trait]
impl EventTypeService for EventTypes {
    async fn create_event_type(
        &self,
        request: Request<v1::CreateEventTypeRequest>,
    ) -> Result<Response<v1::CreateEventTypeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let name =
            message.event_type.as_ref().map(|event_type| excerpt(&event_type.name)).unwrap_or_default();
        let act = Act { request_id: message.request_id.clone(), ..Act::new("CreateEventType", name) };
        let outcome = self.create(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn get_event_type(
        &self,
        request: Request<v1::GetEventTypeRequest>,
    ) -> Result<Response<v1::GetEventTypeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let read = async { self.read(call.scope(), validate::id("id", &message.id)?).await };
        call.answer(read.await.map(|event_type| v1::GetEventTypeResponse { event_type: Some(event_type) }))
    }

    async fn list_event_types(
        &self,
        request: Request<v1::ListEventTypesRequest>,
    ) -> Result<Response<v1::ListEventTypesResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn update_event_type(
        &self,
        request: Request<v1::UpdateEventTypeRequest>,
    ) -> Result<Response<v1::UpdateEventTypeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let id = message.event_type.as_ref().map_or("", |event_type| event_type.id.as_str());
        let act = Act::new("UpdateEventType", excerpt(id));
        let outcome = self.update(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn delete_event_type(
        &self,
        request: Request<v1::DeleteEventTypeRequest>,
    ) -> Result<Response<v1::DeleteEventTypeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("DeleteEventType", excerpt(&message.id));
        let outcome = self.delete(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}
