//! `TenantService`: whose data there is.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::{DEFAULT_TENANT, TenantId};
use bowline_core::store::tenants::{self, TenantRow};
use bowline_core::tenant::TenantSettings;
use bowline_proto::v1;
use bowline_proto::v1::tenant_service_server::TenantService;
use chrono::Utc;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::audit_service::ALL;
use crate::call::Call;
use crate::change::{Act, audited, begin};
use crate::convert::{duration, timestamp};
use crate::etag;
use crate::fault::{Fault, Kind};
use crate::mask::{Field, Mask, fields};
use crate::page::{Listing, page_size};
use crate::validate::{self, Range, Violations};

const WRITABLE: &[Field<v1::Tenant>] = fields! {
    v1::Tenant: name, display_name, labels, retention, strict_event_catalog
};
const DAY: u64 = 24 * 3600;
const RETENTION: Range =
    Range { min: Duration::from_secs(DAY), max: Duration::from_secs(3650 * DAY), text: "1 to 3650 days" };

pub(crate) struct Tenants {
    context: Arc<AdminContext>,
}

impl Tenants {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context }
    }

    async fn create(
        &self,
        call: &Call,
        request: v1::CreateTenantRequest,
    ) -> Result<v1::CreateTenantResponse, Fault> {
        of_all_tenants(call)?;
        let wire = request.tenant.unwrap_or_default();
        let settings = check(&wire)?;
        let mut client = self.context.client().await?;
        let change = begin(&mut client).await?;
        let row = TenantRow {
            id: TenantId::new(),
            name: wire.name,
            display_name: wire.display_name,
            labels: wire.labels,
            settings,
            config_version: change.version,
            create_time: Utc::now(),
            update_time: Utc::now(),
        };
        let taken = |error| Fault::of_write(error, Kind::Tenant, &row.name);
        let made = tenants::insert(&change.tx, &row).await.map_err(taken)?;
        let act = Act { tenant: Some(made.id), ..Act::new("CreateTenant", made.id.to_string()) };
        change.commit(&self.context, call, &act).await?;
        Ok(v1::CreateTenantResponse { tenant: Some(shown(made)) })
    }

    async fn get(&self, call: &Call, request: v1::GetTenantRequest) -> Result<v1::GetTenantResponse, Fault> {
        let id = validate::id("id", &request.id)?;
        let client = self.context.client().await?;
        let found = seen(call, id, tenants::find(&client, id).await?)?;
        Ok(v1::GetTenantResponse { tenant: Some(shown(found)) })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListTenantsRequest,
    ) -> Result<v1::ListTenantsResponse, Fault> {
        of_all_tenants(call)?;
        let mut violations = Violations::default();
        if !request.name.is_empty() {
            validate::slug(&mut violations, "name", &request.name);
        }
        violations.finish()?;
        let filter = v1::ListTenantsRequest { name: request.name.clone(), ..Default::default() };
        let listing = Listing::new("ListTenants", ALL, Some(&filter));
        let size = page_size(request.page_size)?;
        let after = listing.position(&request.page_token)?;
        let name = (!request.name.is_empty()).then_some(request.name.as_str());
        let client = self.context.client().await?;
        let mut rows = tenants::list(&client, name, after, size + 1).await?;
        let next_page_token = listing.cut(&mut rows, size, |row| row.id.0);
        Ok(v1::ListTenantsResponse { tenants: rows.into_iter().map(shown).collect(), next_page_token })
    }

    async fn update(
        &self,
        call: &Call,
        request: v1::UpdateTenantRequest,
    ) -> Result<v1::UpdateTenantResponse, Fault> {
        let wire = request.tenant.unwrap_or_default();
        let id = validate::id("tenant.id", &wire.id)?;
        let mask = Mask::new(request.update_mask.as_ref(), WRITABLE, &wire)?;
        let mut client = self.context.client().await?;
        let change = begin(&mut client).await?;
        let old = seen(call, id, tenants::find(&change.tx, id).await?)?;
        etag::check(&wire.etag, old.config_version, Kind::Tenant, id)?;
        let merged = mask.merge(shown(old.clone()), wire);
        let settings = check(&merged)?;
        let new = TenantRow {
            name: merged.name,
            display_name: merged.display_name,
            labels: merged.labels,
            settings,
            config_version: change.version,
            ..old
        };
        let taken = |error| Fault::of_write(error, Kind::Tenant, &new.name);
        let changed = tenants::update(&change.tx, &new).await.map_err(taken)?;
        let act = Act { tenant: Some(id), ..Act::new("UpdateTenant", id.to_string()) };
        change.commit(&self.context, call, &act).await?;
        Ok(v1::UpdateTenantResponse { tenant: Some(shown(changed)) })
    }

    async fn delete(
        &self,
        call: &Call,
        request: v1::DeleteTenantRequest,
    ) -> Result<v1::DeleteTenantResponse, Fault> {
        of_all_tenants(call)?;
        let id: TenantId = validate::id("id", &request.id)?;
        if id == DEFAULT_TENANT {
            return Err(Fault::field("id", "must not be that of the tenant `default`"));
        }
        let mut client = self.context.client().await?;
        let change = begin(&mut client).await?;
        let old = seen(call, id, tenants::find(&change.tx, id).await?)?;
        etag::check(&request.etag, old.config_version, Kind::Tenant, id)?;
        if !tenants::delete(&change.tx, id, change.version).await? {
            return Err(Fault::TenantNotEmpty { id: id.to_string() });
        }
        let act = Act { tenant: Some(id), ..Act::new("DeleteTenant", id.to_string()) };
        change.commit(&self.context, call, &act).await?;
        Ok(v1::DeleteTenantResponse {})
    }
}

fn of_all_tenants(call: &Call) -> Result<(), Fault> {
    if call.scope().is_some() { Err(Fault::KeyOfOneTenant) } else { Ok(()) }
}

/// Another tenant's is answered as one that does not exist.
fn seen(call: &Call, id: TenantId, found: Option<TenantRow>) -> Result<TenantRow, Fault> {
    found
        .filter(|row| call.scope().is_none_or(|own| own == row.id))
        .ok_or_else(|| Fault::not_found(Kind::Tenant, id.to_string()))
}

fn check(wire: &v1::Tenant) -> Result<TenantSettings, Fault> {
    let mut violations = Violations::default();
    validate::slug(&mut violations, "tenant.name", &wire.name);
    validate::display_name(&mut violations, "tenant.display_name", &wire.display_name);
    validate::labels(&mut violations, "tenant.labels", &wire.labels);
    let retention = wire.retention.as_ref();
    let retention = retention
        .and_then(|retention| validate::duration(&mut violations, "tenant.retention", retention, RETENTION));
    violations.finish()?;
    Ok(TenantSettings { retention, strict_event_catalog: wire.strict_event_catalog })
}

fn shown(row: TenantRow) -> v1::Tenant {
    v1::Tenant {
        id: row.id.to_string(),
        name: row.name,
        display_name: row.display_name,
        labels: row.labels,
        create_time: Some(timestamp(row.create_time)),
        update_time: Some(timestamp(row.update_time)),
        etag: etag::of(row.config_version),
        retention: row.settings.retention.map(duration),
        strict_event_catalog: row.settings.strict_event_catalog,
    }
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("CreateTenant", message.tenant.as_ref().map_or("", |tenant| tenant.name.as_str()));
        let outcome = self.create(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::GetTenantResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.get(&call, message).await)
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::UpdateTenantResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("UpdateTenant", message.tenant.as_ref().map_or("", |tenant| tenant.id.as_str()));
        let outcome = self.update(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("DeleteTenant", &message.id);
        let outcome = self.delete(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}
