//! `SourceService`: where inbound webhooks come in.

mod change;
mod fields;
mod presets;
mod rejections;
mod secret;

use std::sync::Arc;

use bowline_core::id::{SourceId, TenantId};
use bowline_core::source::Source;
use bowline_core::store::sources::{self, SourceQuery, WriteError};
use bowline_core::store::stored_secrets;
use bowline_proto::v1;
use bowline_proto::v1::source_service_server::SourceService;
use chrono::Utc;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, Repeat, audited, begin};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::present;
use crate::quota::Quota;
use crate::signing::{self, Use};
use crate::validate::source::SourceDraft;
use crate::validate::{self, Violations, filter};
use secret::Given;

const SOURCES_PER_TENANT_MAX: i64 = 20_000;

pub(crate) struct Sources {
    context: Arc<AdminContext>,
    quota: Quota,
}

impl Sources {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context, quota: Quota::new(Kind::Source, SOURCES_PER_TENANT_MAX) }
    }

    async fn create(
        &self,
        call: &Call,
        mut request: v1::CreateSourceRequest,
    ) -> Result<v1::CreateSourceResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let wire = request.source.take().unwrap_or_default();
        let mut violations = Violations::default();
        validate::request_id(&mut violations, &request.request_id);
        let draft = validate::source::check(&mut violations, &wire);
        let given = Given::read(&mut violations, &mut request, &draft);
        violations.finish()?;

        let asked = v1::CreateSourceRequest {
            source: Some(fields::without_output(wire)),
            ..v1::CreateSourceRequest::default()
        };
        let repeat = Repeat::new(tenant, "CreateSource", &request.request_id, &asked);
        let secret = given.first(&draft);
        let mut client = context.client().await?;
        self.quota.check(tenant, sources::count(&client, tenant)).await?;
        let change = begin(&mut client).await?;
        if let Some(earlier) = change.earlier(&repeat).await? {
            let id = SourceId(earlier);
            let stored = stored_secrets::of_owner(&change.tx, earlier).await?;
            if !given.are_among(&context.vault, &stored)? {
                return Err(Fault::RequestIdReused);
            }
            drop(change);
            drop(client);
            let source = self.read(Some(tenant), id).await?;
            return Ok(v1::CreateSourceResponse { source: Some(source), secret: String::new() });
        }
        let source = new_source(tenant, draft, change.version);
        sources::insert(&change.tx, &source).await.map_err(|error| taken(error, &source))?;
        given.store(&context.vault, &change, &source, secret.as_ref()).await?;
        change.keep(&repeat, source.id.0).await?;
        let act = Act {
            tenant: Some(tenant),
            request_id: request.request_id,
            ..Act::new("CreateSource", source.id.to_string())
        };
        change.commit(context, call, &act).await?;
        drop(client);
        let shown = self.read(Some(tenant), source.id).await?;
        Ok(v1::CreateSourceResponse { source: Some(shown), secret: signing::shown(secret.as_ref()) })
    }

    async fn get(&self, call: &Call, request: v1::GetSourceRequest) -> Result<v1::GetSourceResponse, Fault> {
        let id = validate::id("id", &request.id)?;
        Ok(v1::GetSourceResponse { source: Some(self.read(call.scope(), id).await?) })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListSourcesRequest,
    ) -> Result<v1::ListSourcesResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let listing = Listing::new("ListSources", tenant, request.filter.as_ref());
        let wire = request.filter.unwrap_or_default();
        let mut violations = Violations::default();
        let (name, preset) =
            filter::named(&mut violations, &wire.name, ("filter.preset", &wire.preset), &wire.labels);
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let query = SourceQuery {
            name,
            preset,
            labels: wire.labels,
            enabled: wire.enabled,
            after: listing.position(&request.page_token)?,
            limit: size + 1,
        };
        let client = context.client().await?;
        let mut rows = sources::list(&client, tenant, &query).await?;
        let next_page_token = listing.cut(&mut rows, size, |source| source.id.0);
        let owners: Vec<_> = rows.iter().map(|source| source.id.0).collect();
        let mut secrets = stored_secrets::of_owners(&client, &owners).await?;
        let now = Utc::now();
        let shown = rows
            .iter()
            .map(|source| {
                let own = signing::active(secrets.remove(&source.id.0).unwrap_or_default(), now);
                present::source(source, &own, &context.public_url)
            })
            .collect::<Result<_, _>>()?;
        Ok(v1::ListSourcesResponse { sources: shown, next_page_token })
    }

    async fn read(&self, scope: Option<TenantId>, id: SourceId) -> Result<v1::Source, Fault> {
        let client = self.context.client().await?;
        let source = found(sources::find(&client, scope, id).await?, id)?;
        let secrets = stored_secrets::of_owner(&client, id.0).await?;
        present::source(&source, &signing::active(secrets, Utc::now()), &self.context.public_url)
    }
}

fn secret_use(draft: &SourceDraft) -> Use<'_> {
    match &draft.scheme {
        Some(scheme) => Use::Verify(scheme),
        // Text that the expression asks for by its name.
        None if draft.spec.verify_cel.is_some() => Use::Text,
        None => Use::None,
    }
}

fn found(source: Option<Source>, id: SourceId) -> Result<Source, Fault> {
    source.ok_or_else(|| Fault::not_found(Kind::Source, id.to_string()))
}

fn taken(error: WriteError, source: &Source) -> Fault {
    match error {
        WriteError::NameTaken => Fault::NameTaken { kind: Kind::Source, name: source.name.clone() },
        WriteError::PathTaken => Fault::PathTaken { path: source.path.clone().unwrap_or_default() },
        WriteError::Store(error) => error.into(),
    }
}

fn new_source(tenant_id: TenantId, draft: SourceDraft, version: i64) -> Source {
    let id = SourceId::new();
    let now = Utc::now();
    let name = if draft.name.is_empty() {
        validate::made_name(&draft.spec.preset, &id.to_string())
    } else {
        draft.name
    };
    Source {
        id,
        tenant_id,
        name,
        display_name: draft.display_name,
        labels: draft.labels,
        path: draft.path,
        spec: draft.spec,
        enabled: draft.enabled,
        generation: 1,
        config_version: version,
        create_time: now,
        update_time: now,
    }
}

#[tonic::async_trait]
impl SourceService for Sources {
    async fn create_source(
        &self,
        request: Request<v1::CreateSourceRequest>,
    ) -> Result<Response<v1::CreateSourceResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let name = message.source.as_ref().map(|source| source.name.clone()).unwrap_or_default();
        let act = Act { request_id: message.request_id.clone(), ..Act::new("CreateSource", name) };
        let outcome = self.create(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn get_source(
        &self,
        request: Request<v1::GetSourceRequest>,
    ) -> Result<Response<v1::GetSourceResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.get(&call, message).await)
    }

    async fn list_sources(
        &self,
        request: Request<v1::ListSourcesRequest>,
    ) -> Result<Response<v1::ListSourcesResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn update_source(
        &self,
        request: Request<v1::UpdateSourceRequest>,
    ) -> Result<Response<v1::UpdateSourceResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("UpdateSource", message.source.as_ref().map_or("", |source| source.id.as_str()));
        let outcome = self.update(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn delete_source(
        &self,
        request: Request<v1::DeleteSourceRequest>,
    ) -> Result<Response<v1::DeleteSourceResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("DeleteSource", &message.id);
        let outcome = self.delete(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn rotate_source_secret(
        &self,
        request: Request<v1::RotateSourceSecretRequest>,
    ) -> Result<Response<v1::RotateSourceSecretResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("RotateSourceSecret", &message.id);
        let outcome = self.rotate(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn set_source_secret(
        &self,
        request: Request<v1::SetSourceSecretRequest>,
    ) -> Result<Response<v1::SetSourceSecretResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("SetSourceSecret", &message.id);
        let outcome = self.set_secret(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn list_presets(
        &self,
        request: Request<v1::ListPresetsRequest>,
    ) -> Result<Response<v1::ListPresetsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(presets::list(&message))
    }

    async fn list_rejections(
        &self,
        request: Request<v1::ListRejectionsRequest>,
    ) -> Result<Response<v1::ListRejectionsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.refused_by(&call, message).await)
    }

    async fn get_rejection(
        &self,
        request: Request<v1::GetRejectionRequest>,
    ) -> Result<Response<v1::GetRejectionResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.refused_request(&call, message).await)
    }

    async fn reprocess_rejection(
        &self,
        request: Request<v1::ReprocessRejectionRequest>,
    ) -> Result<Response<v1::ReprocessRejectionResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("ReprocessRejection", &message.id);
        let outcome = self.reprocess(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}
