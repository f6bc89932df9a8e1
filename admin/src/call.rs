//! One call: its id, its caller, and which tenant's data it is about.

use std::sync::Arc;

use bowline_core::id::{DEFAULT_TENANT, TenantId};
use bowline_core::store::api_keys;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::auth::Caller;
use crate::fault::{Fault, Kind, to_status};
use crate::validate;

/// Put into a request's extensions by the gate.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: Arc<str>,
    pub(crate) caller: Caller,
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
