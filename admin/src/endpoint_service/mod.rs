//! `EndpointService`: where outbound webhooks go.

mod change;
mod example;
mod fields;
mod reveal;
mod trial;

use std::sync::Arc;

use bowline_core::endpoint::{Endpoint, EndpointState};
use bowline_core::id::{EndpointId, TenantId};
use bowline_core::secrets::StoredSecret;
use bowline_core::secrets::name::SIGNING;
use bowline_core::store::endpoints::{self, EndpointQuery};
use bowline_core::store::stored_secrets;
use bowline_proto::v1;
use bowline_proto::v1::endpoint_service_server::EndpointService;
use chrono::Utc;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, Repeat, audited, begin};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, PAGE_BYTES_MAX, page_size};
use crate::present;
use crate::quota::Quota;
use crate::signing::{self, Use};
use crate::validate::endpoint::EndpointDraft;
use crate::validate::{self, Violations, filter};

const ENDPOINTS_PER_TENANT_MAX: i64 = 200_000;

pub(crate) struct Endpoints {
    context: Arc<AdminContext>,
    quota: Quota,
}

impl Endpoints {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context, quota: Quota::new(Kind::Endpoint, ENDPOINTS_PER_TENANT_MAX) }
    }

    async fn create(
        &self,
        call: &Call,
        request: v1::CreateEndpointRequest,
    ) -> Result<v1::CreateEndpointResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let secret_kind = request.secret_kind();
        let wire = request.endpoint.unwrap_or_default();
        let mut violations = Violations::default();
        validate::request_id(&mut violations, &request.request_id);
        let draft = validate::endpoint::check(&mut violations, &wire, &context.egress);
        draft.sealing.check_new(&mut violations);
        self.check_subscription(&mut violations, tenant, &wire.event_types).await?;
        let used = secret_use(&draft);
        if draft.format.is_some() {
            used.check(&mut violations, &request.secret);
            used.check_kind(&mut violations, &request.secret, secret_kind);
        }
        violations.finish()?;

        let asked = v1::CreateEndpointRequest {
            endpoint: Some(fields::without_secrets(fields::without_output(wire))),
            secret_kind: request.secret_kind,
            ..v1::CreateEndpointRequest::default()
        };
        let repeat = Repeat::new(tenant, "CreateEndpoint", &request.request_id, &asked);
        let secret = match secret_kind {
            v1::SecretKind::Unspecified => used.first(&request.secret),
            kind => used.next_of("", kind, &[]),
        };
        let mut client = context.client().await?;
        self.quota.check(tenant, endpoints::count(&client, tenant)).await?;
        let change = begin(&mut client).await?;
        if let Some(earlier) = change.earlier(&repeat).await? {
            let signing = stored_secrets::of_owner(&change.tx, earlier).await?;
            let given = &request.secret;
            let first = stored_secrets::of_creation(&change.tx, earlier).await?;
            if (!given.is_empty() && !signing::is_among(&context.vault, &signing, SIGNING, given)?)
                || !draft.sealing.repeats(&context.vault, &first)?
            {
                return Err(Fault::RequestIdReused);
            }
            drop(change);
            drop(client);
            let endpoint = self.read(Some(tenant), EndpointId(earlier)).await?;
            return Ok(v1::CreateEndpointResponse { endpoint: Some(endpoint), secret: String::new() });
        }
        let sealing = draft.sealing.all_new();
        let id = EndpointId::new();
        let signing_secret = secret
            .as_ref()
            .map(|secret| used.seal(&context.vault, tenant, id.0, SIGNING, secret.clone()))
            .transpose()?;
        let endpoint = new_endpoint(id, tenant, draft, change.version);
        let taken = |error| Fault::of_write(error, Kind::Endpoint, &endpoint.name);
        endpoints::insert(&change.tx, &endpoint).await.map_err(taken)?;
        if let Some(sealed) = &signing_secret {
            stored_secrets::insert(&change.tx, sealed, change.version).await?;
        }
        sealing.write(&change, context, &endpoint).await?;
        change.keep(&repeat, endpoint.id.0).await?;
        let act = Act {
            tenant: Some(tenant),
            request_id: request.request_id,
            ..Act::new("CreateEndpoint", endpoint.id.to_string())
        };
        change.commit(context, call, &act).await?;
        drop(client);
        let shown = self.read(Some(tenant), endpoint.id).await?;
        Ok(v1::CreateEndpointResponse { endpoint: Some(shown), secret: signing::shown(secret.as_ref()) })
    }

    /// Against the catalog as it is now, also where another replica has just written it.
    pub(super) async fn check_subscription(
        &self,
        violations: &mut Violations,
        tenant: TenantId,
        event_types: &[String],
    ) -> Result<(), Fault> {
        if event_types.iter().any(|name| !name.ends_with('*')) {
            self.context.snapshot.refresh().await?;
            if let Some(catalog) = self.context.snapshot.catalog(tenant) {
                validate::event_type::subscribed(violations, &catalog, event_types);
            }
        }
        Ok(())
    }

    async fn get(
        &self,
        call: &Call,
        request: v1::GetEndpointRequest,
    ) -> Result<v1::GetEndpointResponse, Fault> {
        let id = validate::id("id", &request.id)?;
        Ok(v1::GetEndpointResponse { endpoint: Some(self.read(call.scope(), id).await?) })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListEndpointsRequest,
    ) -> Result<v1::ListEndpointsResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let listing = Listing::new("ListEndpoints", tenant, request.filter.as_ref());
        let wire = request.filter.unwrap_or_default();
        let mut violations = Violations::default();
        let (name, format) =
            filter::named(&mut violations, &wire.name, ("filter.format", &wire.format), &wire.labels);
        let state = filter::endpoint_state(&mut violations, &wire);
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let query = EndpointQuery {
            name,
            format,
            labels: wire.labels,
            state,
            after: listing.position(&request.page_token)?,
            limit: size + 1,
        };
        let client = context.client().await?;
        let mut rows = endpoints::list(&client, tenant, &query).await?;
        let mut next_page_token = listing.cut(&mut rows, size, |endpoint| endpoint.id.0);
        let owners: Vec<_> = rows.iter().map(|endpoint| endpoint.id.0).collect();
        let mut secrets = stored_secrets::of_owners(&client, &owners).await?;
        let mut shown: Vec<v1::Endpoint> = Vec::with_capacity(rows.len());
        let mut bytes = 0;
        for (at, endpoint) in rows.iter().enumerate() {
            let own = signing_now(secrets.remove(&endpoint.id.0).unwrap_or_default());
            let one = present::endpoint(endpoint, &own, &context.public_url);
            bytes += one.encoded_len();
            if bytes > PAGE_BYTES_MAX && at > 0 {
                next_page_token = listing.token(&rows[at - 1].id.0);
                break;
            }
            shown.push(one);
        }
        Ok(v1::ListEndpointsResponse { endpoints: shown, next_page_token })
    }

    async fn read(&self, scope: Option<TenantId>, id: EndpointId) -> Result<v1::Endpoint, Fault> {
        let client = self.context.client().await?;
        let endpoint = found(endpoints::find(&client, scope, id).await?, id)?;
        let secrets = stored_secrets::of_owner(&client, id.0).await?;
        Ok(present::endpoint(&endpoint, &signing_now(secrets), &self.context.public_url))
    }
}

fn secret_use(draft: &EndpointDraft) -> Use<'_> {
    draft
        .format
        .as_ref()
        .map_or(Use::None, |format| Use::Sign { scheme: format.scheme(), optional: format.secret_optional() })
}

/// Of an endpoint's secrets those that sign now.
fn signing_now(secrets: Vec<StoredSecret>) -> Vec<StoredSecret> {
    signing::active(signing::only(secrets), Utc::now())
}

fn found(endpoint: Option<Endpoint>, id: EndpointId) -> Result<Endpoint, Fault> {
    endpoint.ok_or_else(|| Fault::not_found(Kind::Endpoint, id.to_string()))
}

fn new_endpoint(id: EndpointId, tenant_id: TenantId, draft: EndpointDraft, version: i64) -> Endpoint {
    let now = Utc::now();
    let name = if draft.name.is_empty() {
        validate::made_name(&draft.spec.format, &id.to_string())
    } else {
        draft.name
    };
    Endpoint {
        id,
        tenant_id,
        name,
        display_name: draft.display_name,
        labels: draft.labels,
        spec: draft.spec,
        state: EndpointState::Enabled,
        disabled_reason: String::new(),
        config_version: version,
        created_version: version,
        create_time: now,
        update_time: now,
    }
}

#[tonic::async_trait]
impl EndpointService for Endpoints {
    async fn create_endpoint(
        &self,
        request: Request<v1::CreateEndpointRequest>,
    ) -> Result<Response<v1::CreateEndpointResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let name = message.endpoint.as_ref().map(|endpoint| endpoint.name.clone()).unwrap_or_default();
        let act = Act { request_id: message.request_id.clone(), ..Act::new("CreateEndpoint", name) };
        let outcome = self.create(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn get_endpoint(
        &self,
        request: Request<v1::GetEndpointRequest>,
    ) -> Result<Response<v1::GetEndpointResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.get(&call, message).await)
    }

    async fn list_endpoints(
        &self,
        request: Request<v1::ListEndpointsRequest>,
    ) -> Result<Response<v1::ListEndpointsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn update_endpoint(
        &self,
        request: Request<v1::UpdateEndpointRequest>,
    ) -> Result<Response<v1::UpdateEndpointResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act =
            Act::new("UpdateEndpoint", message.endpoint.as_ref().map_or("", |endpoint| endpoint.id.as_str()));
        let outcome = self.update(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn delete_endpoint(
        &self,
        request: Request<v1::DeleteEndpointRequest>,
    ) -> Result<Response<v1::DeleteEndpointResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("DeleteEndpoint", &message.id);
        let outcome = self.delete(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn rotate_endpoint_secret(
        &self,
        request: Request<v1::RotateEndpointSecretRequest>,
    ) -> Result<Response<v1::RotateEndpointSecretResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("RotateEndpointSecret", &message.id);
        let outcome = self.rotate(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn set_endpoint_state(
        &self,
        request: Request<v1::SetEndpointStateRequest>,
    ) -> Result<Response<v1::SetEndpointStateResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("SetEndpointState", &message.id);
        let outcome = self.set_state(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn reveal_endpoint_secret(
        &self,
        request: Request<v1::RevealEndpointSecretRequest>,
    ) -> Result<Response<v1::RevealEndpointSecretResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("RevealEndpointSecret", &message.id);
        let outcome = self.reveal(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn send_endpoint_test(
        &self,
        request: Request<v1::SendEndpointTestRequest>,
    ) -> Result<Response<v1::SendEndpointTestResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("SendEndpointTest", &message.id);
        let outcome = self.send_test(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn get_endpoint_stats(
        &self,
        request: Request<v1::GetEndpointStatsRequest>,
    ) -> Result<Response<v1::GetEndpointStatsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.stats(&call, message).await)
    }
}
