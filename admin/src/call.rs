//! One call: its id, its caller, and which tenant's data it is about.

use std::sync::Arc;

use bowline_core::headers::encode_headers;
use bowline_core::id::{DEFAULT_TENANT, TenantId};
use bowline_core::store::api_keys;
use bowline_core::trace_context;
use bytes::Bytes;
use http::HeaderMap;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::auth::Caller;
use crate::fault::{Fault, Kind, to_status};
use crate::method::Method;
use crate::validate;

const TRACE_BYTES_MAX: usize = 1024;

/// Put into a request's extensions by the gate.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: Arc<str>,
    pub(crate) method: Method,
    pub(crate) caller: Caller,
    /// The caller's trace, as the headers of an event it publishes.
    pub(crate) trace: Bytes,
}

/// `traceparent`, and `tracestate` with it; nothing where the first is none.
pub(crate) fn trace_of(headers: &HeaderMap) -> Bytes {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(parent) = value(trace_context::TRACEPARENT).filter(|text| trace_context::is_valid(text)) else {
        return Bytes::new();
    };
    let state = value(trace_context::TRACESTATE)
        .filter(|state| state.len() <= trace_context::TRACESTATE_BYTES_MAX)
        .map(|state| (trace_context::TRACESTATE, state.as_bytes()));
    let parent = (trace_context::TRACEPARENT, parent.as_bytes());
    encode_headers(std::iter::once(parent).chain(state), TRACE_BYTES_MAX)
}

impl Call {
    /// The call a request belongs to, and its message.
    pub(crate) fn open<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let (_, extensions, message) = request.into_parts();
        match extensions.get::<Self>() {
            Some(call) => Ok((call.clone(), message)),
            // Only a server without the gate in front of it comes here: refuse rather than serve.
            None => Err(to_status(&Fault::KeyMissing, "")),
        }
    }

    pub(crate) fn answer<T>(&self, outcome: Result<T, Fault>) -> Result<Response<T>, Status> {
        outcome.map(Response::new).map_err(|fault| to_status(&fault, &self.id))
    }

    /// Whose resources this call may see: `None` means everybody's.
    pub(crate) fn scope(&self) -> Option<TenantId> {
        self.caller.tenant
    }

    /// As [`Self::tenant`]; `None` for all of them, which a key of one tenant cannot ask for.
    pub(crate) async fn tenant_or_all(
        &self,
        context: &AdminContext,
        given: &str,
        all: bool,
    ) -> Result<Option<TenantId>, Fault> {
        if !all {
            return self.tenant(context, given).await.map(Some);
        }
        if !given.is_empty() {
            return Err(Fault::field("tenant_id", "must be empty beside all_tenants"));
        }
        if self.caller.tenant.is_some() { Err(Fault::KeyOfOneTenant) } else { Ok(None) }
    }

    /// The tenant a Create, List or Publish is about.
    pub(crate) async fn tenant(&self, context: &AdminContext, given: &str) -> Result<TenantId, Fault> {
        let tenant = match (given, self.caller.tenant) {
            ("", Some(own)) => return Ok(own),
            ("", None) => return Ok(DEFAULT_TENANT),
            (given, own) => {
                let tenant: TenantId = validate::id("tenant_id", given)?;
                match own {
                    Some(own) if own == tenant => return Ok(own),
                    // The same answer as for a tenant that does not exist.
                    Some(_) => return Err(Fault::not_found(Kind::Tenant, given)),
                    None => tenant,
                }
            }
        };
        if tenant == DEFAULT_TENANT {
            return Ok(tenant);
        }
        let client = context.client().await?;
        if api_keys::tenant_exists(&client, tenant).await? {
            Ok(tenant)
        } else {
            Err(Fault::not_found(Kind::Tenant, given))
        }
    }
}
