//! A source, an endpoint, a binding or a tenant as people call it: by its name, or by its id.
//!
//! Names are slugs and hold no `_`, ids begin with `src_`, `ep_`, `bnd_` and `ten_`: the two never meet.

use bowline_proto::v1;
use clap::Args;
use tonic::Code;

use super::there;
use crate::client::Admin;
use crate::failure::Failure;

/// The source that a question is about, in either way to say it.
#[derive(Debug, Args)]
pub(crate) struct WhichSource {
    /// Name or id of the source
    #[arg(value_name = "SOURCE", required_unless_present = "source_flag")]
    source: Option<String>,
    /// The same by a flag, as lists of events take it
    #[arg(long = "source", id = "source_flag", value_name = "SOURCE", conflicts_with = "source")]
    flag: Option<String>,
}

impl WhichSource {
    /// # Errors
    /// When there is no source of that name.
    pub(crate) async fn id(self, admin: &Admin, tenant: &str) -> Result<String, Failure> {
        source_id(admin, tenant, &self.source.or(self.flag).unwrap_or_default()).await
    }
}

/// The source with this id or name.
///
/// # Errors
/// When there is none.
pub(crate) async fn source(admin: &Admin, tenant: &str, which: &str) -> Result<v1::Source, Failure> {
    if which.starts_with("src_") {
        let request = v1::GetSourceRequest { id: which.to_owned() };
        let found = admin.sources().get_source(request).await?.into_inner().source;
        return there(found, "source");
    }
    let request = v1::ListSourcesRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(v1::SourceFilter { name: named(which, "source")?, ..v1::SourceFilter::default() }),
        ..v1::ListSourcesRequest::default()
    };
    let found = admin.sources().list_sources(request).await?.into_inner().sources;
    found.into_iter().next().ok_or_else(|| absent("source", which))
}

/// The endpoint with this id or name.
///
/// # Errors
/// When there is none.
pub(crate) async fn endpoint(admin: &Admin, tenant: &str, which: &str) -> Result<v1::Endpoint, Failure> {
    if which.starts_with("ep_") {
        let request = v1::GetEndpointRequest { id: which.to_owned() };
        let found = admin.endpoints().get_endpoint(request).await?.into_inner().endpoint;
        return there(found, "endpoint");
    }
    let request = v1::ListEndpointsRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(v1::EndpointFilter { name: named(which, "endpoint")?, ..v1::EndpointFilter::default() }),
        ..v1::ListEndpointsRequest::default()
    };
    let found = admin.endpoints().list_endpoints(request).await?.into_inner().endpoints;
    found.into_iter().next().ok_or_else(|| absent("endpoint", which))
}

/// For a filter: the id of a source given by name or id; empty stays empty.
///
/// # Errors
/// When there is no source of that name.
pub(crate) async fn source_id(admin: &Admin, tenant: &str, which: &str) -> Result<String, Failure> {
    if which.is_empty() || which.starts_with("src_") {
        return Ok(which.to_owned());
    }
    Ok(source(admin, tenant, which).await?.id)
}

/// As [`source_id`], of an endpoint.
///
/// # Errors
/// When there is no endpoint of that name.
pub(crate) async fn endpoint_id(admin: &Admin, tenant: &str, which: &str) -> Result<String, Failure> {
    if which.is_empty() || which.starts_with("ep_") {
        return Ok(which.to_owned());
    }
    Ok(endpoint(admin, tenant, which).await?.id)
}

/// The id of the binding with this id or name.
///
/// # Errors
/// When there is none of that name.
pub(crate) async fn binding_id(admin: &Admin, tenant: &str, which: &str) -> Result<String, Failure> {
    if which.starts_with("bnd_") {
        return Ok(which.to_owned());
    }
    let request = v1::ListBindingsRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(v1::BindingFilter { name: named(which, "binding")?, ..v1::BindingFilter::default() }),
        ..v1::ListBindingsRequest::default()
    };
    let found = admin.bindings().list_bindings(request).await?.into_inner().bindings;
    found.into_iter().next().map(|binding| binding.id).ok_or_else(|| absent("binding", which))
}

/// The id of the event type with this id or name.
///
/// # Errors
/// When there is none of that name.
pub(crate) async fn event_type_id(admin: &Admin, tenant: &str, which: &str) -> Result<String, Failure> {
    if which.starts_with("typ_") {
        return Ok(which.to_owned());
    }
    let filter = v1::EventTypeFilter { name: named(which, "event type")?, ..v1::EventTypeFilter::default() };
    let request = v1::ListEventTypesRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(filter),
        ..v1::ListEventTypesRequest::default()
    };
    let found = admin.event_types().list_event_types(request).await?.into_inner().event_types;
    found.into_iter().next().map(|event_type| event_type.id).ok_or_else(|| absent("event-type", which))
}

/// The tenant with this id or name.
///
/// # Errors
/// When there is none.
pub(crate) async fn tenant(admin: &Admin, which: &str) -> Result<v1::Tenant, Failure> {
    if which.starts_with("ten_") {
        let got = admin.tenants().get_tenant(v1::GetTenantRequest { id: which.to_owned() }).await?;
        return there(got.into_inner().tenant, "tenant");
    }
    let request =
        v1::ListTenantsRequest { name: named(which, "tenant")?, ..v1::ListTenantsRequest::default() };
    let found = admin.tenants().list_tenants(request).await?.into_inner().tenants;
    found.into_iter().next().ok_or_else(|| absent("tenant", which))
}

/// The id of the tenant that `--tenant` names; empty stays empty: then it is the key's.
///
/// # Errors
/// When there is none of that name, or the key may not look for it.
pub(crate) async fn tenant_id(admin: &Admin, which: &str) -> Result<String, Failure> {
    if which.is_empty() || which.starts_with("ten_") {
        return Ok(which.to_owned());
    }
    match tenant(admin, which).await {
        Ok(tenant) => Ok(tenant.id),
        Err(Failure::Api(status)) if status.code() == Code::PermissionDenied => {
            Err(Failure::Answer(format!(
                "--tenant {which:?}: this key belongs to one tenant and cannot look others up by name; leave \
             --tenant out to work in its own, or give the id (`ten_...`)"
            )))
        }
        Err(failure) => Err(failure),
    }
}

/// An empty name would match everything.
fn named(which: &str, noun: &str) -> Result<String, Failure> {
    if which.is_empty() {
        return Err(Failure::Usage(format!("the name or id of the {noun} is empty")));
    }
    Ok(which.to_owned())
}

fn absent(noun: &str, which: &str) -> Failure {
    Failure::Answer(format!("there is no {noun} {which:?}: `bowline {noun} list` shows those there are"))
}
