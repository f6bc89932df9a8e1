//! `BindingService`: queries whose answers are kept fresh.

mod fields;
mod looks;
mod watch;

use std::sync::Arc;

use bowline_core::binding::{Binding, Refresher};
use bowline_core::id::{BindingId, SourceId, TenantId};
use bowline_core::store::bindings::{self, BindingQuery};
use bowline_core::store::sources;
use bowline_proto::v1;
use bowline_proto::v1::binding_service_server::BindingService;
use chrono::Utc;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, Repeat, audited, begin};
use crate::etag;
use crate::fault::{Fault, Kind};
use crate::mask::Mask;
use crate::page::{Listing, PAGE_BYTES_MAX, page_size};
use crate::present;
use crate::quota::Quota;
use crate::streaming::{Nothing, Room, answer};
use crate::validate::binding::BindingDraft;
use crate::validate::{self, Violations, excerpt};
use looks::Looks;

/// A binding may be a megabyte: a page is read in parts.
const READ_AT_ONCE: i64 = 16;
const BINDINGS_PER_TENANT_MAX: i64 = 20_000;

pub(crate) struct Bindings {
    context: Arc<AdminContext>,
    refresher: Arc<Refresher>,
    quota: Quota,
    looks: Arc<Looks>,
    stopping: CancellationToken,
}

impl Bindings {
    pub(crate) fn new(
        context: Arc<AdminContext>,
        refresher: Arc<Refresher>,
        room: Arc<Room>,
        stopping: CancellationToken,
    ) -> Self {
        let quota = Quota::new(Kind::Binding, BINDINGS_PER_TENANT_MAX);
        let looks = Arc::new(Looks::new(Arc::clone(&context), room));
        Self { context, refresher, quota, looks, stopping }
    }

    async fn create(
        &self,
        call: &Call,
        request: v1::CreateBindingRequest,
    ) -> Result<v1::CreateBindingResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let wire = request.binding.unwrap_or_default();
        let mut violations = Violations::default();
        validate::request_id(&mut violations, &request.request_id);
        let source_id: Option<SourceId> =
            validate::optional_id(&mut violations, "binding.source_id", &wire.source_id);
        if wire.source_id.is_empty() {
            violations.add("binding.source_id", "is required");
        }
        let draft = validate::binding::check(&mut violations, &wire);
        violations.finish()?;
        let (Some(draft), Some(source_id)) = (draft, source_id) else {
            return Err(Fault::field("binding", "is required"));
        };

        let asked = v1::CreateBindingRequest {
            binding: Some(fields::without_output(wire)),
            ..v1::CreateBindingRequest::default()
        };
        let repeat = Repeat::new(tenant, "CreateBinding", &request.request_id, &asked);
        let mut client = context.client().await?;
        self.quota.check(tenant, bindings::count(&client, tenant)).await?;
        let change = begin(&mut client).await?;
        if let Some(earlier) = change.earlier(&repeat).await? {
            drop(change);
            drop(client);
            let binding = self.read(Some(tenant), BindingId(earlier)).await?;
            return Ok(v1::CreateBindingResponse { binding: Some(binding) });
        }
        if sources::find(&change.tx, Some(tenant), source_id).await?.is_none() {
            return Err(Fault::not_found(Kind::Source, source_id.to_string()));
        }
        let binding = new_binding(tenant, source_id, draft, change.version);
        let taken = |error| Fault::of_write(error, Kind::Binding, &binding.name);
        bindings::insert(&change.tx, &binding).await.map_err(taken)?;
        change.keep(&repeat, binding.id.0).await?;
        let act = Act {
            tenant: Some(tenant),
            request_id: request.request_id,
            ..Act::new("CreateBinding", binding.id.to_string())
        };
        change.commit(context, call, &act).await?;
        drop(client);
        let shown = self.evaluated(Some(tenant), binding.id).await?;
        Ok(v1::CreateBindingResponse { binding: Some(shown) })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListBindingsRequest,
    ) -> Result<v1::ListBindingsResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let listing = Listing::new("ListBindings", tenant, request.filter.as_ref());
        let wire = request.filter.unwrap_or_default();
        let mut violations = Violations::default();
        if !wire.name.is_empty() {
            validate::slug(&mut violations, "filter.name", &wire.name);
        }
        validate::labels(&mut violations, "filter.labels", &wire.labels);
        let source_id = validate::optional_id(&mut violations, "filter.source_id", &wire.source_id);
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let mut query = BindingQuery {
            name: (!wire.name.is_empty()).then_some(wire.name),
            source_id,
            labels: wire.labels,
            after: listing.position(&request.page_token)?,
            limit: READ_AT_ONCE,
        };
        let client = context.client().await?;
        let mut response = v1::ListBindingsResponse::default();
        let mut bytes = 0;
        loop {
            let rows = bindings::list(&client, tenant, &query).await?;
            for binding in &rows {
                let one = present::binding(binding, None)?;
                bytes += one.encoded_len();
                let full = response.bindings.len() as i64 == size || bytes > PAGE_BYTES_MAX;
                if let Some(last) = query.after.filter(|_| full && !response.bindings.is_empty()) {
                    response.next_page_token = listing.token(&last);
                    return Ok(response);
                }
                query.after = Some(binding.id.0);
                response.bindings.push(one);
            }
            if (rows.len() as i64) < READ_AT_ONCE {
                return Ok(response);
            }
        }
    }

    async fn update(
        &self,
        call: &Call,
        request: v1::UpdateBindingRequest,
    ) -> Result<v1::UpdateBindingResponse, Fault> {
        let context = &*self.context;
        let wire = request.binding.unwrap_or_default();
        let id: BindingId = validate::id("binding.id", &wire.id)?;
        let mask = Mask::new(request.update_mask.as_ref(), fields::WRITABLE, &wire)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(bindings::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&wire.etag, old.config_version, Kind::Binding, id)?;
        let merged = mask.merge(present::binding(&old, None)?, wire);
        let mut violations = Violations::default();
        let draft = validate::binding::check(&mut violations, &merged);
        if merged.name.is_empty() {
            violations.add("binding.name", "must not be empty");
        }
        violations.finish()?;
        let draft = draft.ok_or_else(|| Fault::field("binding.query", "is required"))?;
        let new = Binding {
            name: draft.name,
            display_name: draft.display_name,
            labels: draft.labels,
            spec: draft.spec,
            config_version: change.version,
            update_time: Utc::now(),
            ..old
        };
        let taken = |error| Fault::of_write(error, Kind::Binding, &new.name);
        bindings::update(&change.tx, &new).await.map_err(taken)?;
        let act = Act { tenant: Some(new.tenant_id), ..Act::new("UpdateBinding", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        Ok(v1::UpdateBindingResponse { binding: Some(self.evaluated(call.scope(), id).await?) })
    }

    async fn delete(
        &self,
        call: &Call,
        request: v1::DeleteBindingRequest,
    ) -> Result<v1::DeleteBindingResponse, Fault> {
        let context = &*self.context;
        let id: BindingId = validate::id("id", &request.id)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(bindings::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&request.etag, old.config_version, Kind::Binding, id)?;
        bindings::mark_deleted(&change.tx, id, change.version).await?;
        let act = Act { tenant: Some(old.tenant_id), ..Act::new("DeleteBinding", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        self.refresher.watches.tell(id).await;
        Ok(v1::DeleteBindingResponse {})
    }

    async fn evaluate(&self, call: &Call, id: &str) -> Result<v1::Binding, Fault> {
        let id: BindingId = validate::id("id", id)?;
        let client = self.context.client().await?;
        found(bindings::find(&client, call.scope(), id).await?, id)?;
        drop(client);
        self.evaluated(call.scope(), id).await
    }

    /// With data of now.
    async fn evaluated(&self, scope: Option<TenantId>, id: BindingId) -> Result<v1::Binding, Fault> {
        self.refresher.refresh_now(id).await?;
        self.read(scope, id).await
    }

    async fn read(&self, scope: Option<TenantId>, id: BindingId) -> Result<v1::Binding, Fault> {
        let client = self.context.client().await?;
        let binding = found(bindings::find(&client, scope, id).await?, id)?;
        let kept = bindings::kept(&client, id).await?;
        present::binding(&binding, kept.as_ref())
    }
}

fn found(binding: Option<Binding>, id: BindingId) -> Result<Binding, Fault> {
    binding.ok_or_else(|| Fault::not_found(Kind::Binding, id.to_string()))
}

fn new_binding(tenant_id: TenantId, source_id: SourceId, draft: BindingDraft, version: i64) -> Binding {
    let id = BindingId::new();
    let now = Utc::now();
    let name =
        if draft.name.is_empty() { validate::made_name("binding", &id.to_string()) } else { draft.name };
    Binding {
        id,
        tenant_id,
        source_id,
        name,
        display_name: draft.display_name,
        labels: draft.labels,
        spec: draft.spec,
        config_version: version,
        create_time: now,
        update_time: now,
        stale: false,
    }
}

#[tonic::async_trait]
impl BindingService for Bindings {
    type WatchBindingStream = Nothing<v1::WatchBindingResponse>;

    async fn create_binding(
        &self,
        request: Request<v1::CreateBindingRequest>,
    ) -> Result<Response<v1::CreateBindingResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let name = message.binding.as_ref().map(|binding| binding.name.clone()).unwrap_or_default();
        let act = Act { request_id: message.request_id.clone(), ..Act::new("CreateBinding", name) };
        let outcome = self.create(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn get_binding(
        &self,
        request: Request<v1::GetBindingRequest>,
    ) -> Result<Response<v1::GetBindingResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let read = async { self.read(call.scope(), validate::id("id", &message.id)?).await };
        call.answer(read.await.map(|binding| v1::GetBindingResponse { binding: Some(binding) }))
    }

    async fn list_bindings(
        &self,
        request: Request<v1::ListBindingsRequest>,
    ) -> Result<Response<v1::ListBindingsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn update_binding(
        &self,
        request: Request<v1::UpdateBindingRequest>,
    ) -> Result<Response<v1::UpdateBindingResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let id = message.binding.as_ref().map_or("", |binding| binding.id.as_str());
        let act = Act::new("UpdateBinding", excerpt(id));
        let outcome = self.update(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn delete_binding(
        &self,
        request: Request<v1::DeleteBindingRequest>,
    ) -> Result<Response<v1::DeleteBindingResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("DeleteBinding", &message.id);
        let outcome = self.delete(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn evaluate_binding(
        &self,
        request: Request<v1::EvaluateBindingRequest>,
    ) -> Result<Response<v1::EvaluateBindingResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let outcome = self.evaluate(&call, &message.id).await;
        call.answer(outcome.map(|binding| v1::EvaluateBindingResponse { binding: Some(binding) }))
    }

    async fn watch_binding(
        &self,
        request: Request<v1::WatchBindingRequest>,
    ) -> Result<Response<Self::WatchBindingStream>, Status> {
        let (call, message) = Call::open(request)?;
        answer(&call, self.watch(&call, message).await)
    }
}
