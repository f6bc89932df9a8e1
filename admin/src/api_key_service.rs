//! `ApiKeyService`: who may call.

use std::sync::Arc;

use bowline_core::id::ApiKeyId;
use bowline_core::secrets::Secret;
use bowline_core::store::api_keys::{self, ListedKey, NewKey};
use bowline_proto::v1;
use bowline_proto::v1::api_key_service_server::ApiKeyService;
use chrono::Utc;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::audit_service::ALL;
use crate::call::Call;
use crate::change::{Act, audited, begin_work};
use crate::convert::timestamp;
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::signing;
use crate::validate::{self, Violations};

const KEYS_PER_TENANT_MAX: i64 = 1000;
/// By which people and scanners know one.
const TOKEN_PREFIX: &str = "bwl_";

pub(crate) struct ApiKeys {
    context: Arc<AdminContext>,
}

impl ApiKeys {
    pub(crate) fn new(context: Arc<AdminContext>) -> Self {
        Self { context }
    }

    async fn create(
        &self,
        call: &Call,
        request: v1::CreateApiKeyRequest,
    ) -> Result<v1::CreateApiKeyResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant_or_all(context, &request.tenant_id, request.all_tenants).await?;
        let wire = request.api_key.unwrap_or_default();
        let mut violations = Violations::default();
        validate::display_name(&mut violations, "api_key.display_name", &wire.display_name);
        let role = match wire.role() {
            v1::ApiKeyRole::Admin => "admin",
            v1::ApiKeyRole::Operator => "operator",
            v1::ApiKeyRole::Publisher => "publisher",
            v1::ApiKeyRole::Viewer => "viewer",
            v1::ApiKeyRole::Unspecified => {
                violations.add("api_key.role", "must be ADMIN, OPERATOR, PUBLISHER or VIEWER");
                ""
            }
        };
        let expires_at =
            validate::timestamp(&mut violations, "api_key.expire_time", wire.expire_time.as_ref());
        if expires_at.is_some_and(|at| at <= Utc::now()) {
            violations.add("api_key.expire_time", "must be in the future");
        }
        violations.finish()?;

        let token = Secret::new(format!("{TOKEN_PREFIX}{}", signing::shown(Some(&Secret::generate()))));
        let hash = Sha256::digest(token.expose()).into();
        let mut client = context.client().await?;
        let work = begin_work(&mut client).await?;
        if api_keys::count(&work.tx, tenant).await? >= KEYS_PER_TENANT_MAX {
            return Err(Fault::LimitReached { kind: Kind::ApiKey, max: KEYS_PER_TENANT_MAX });
        }
        let new = NewKey { tenant_id: tenant, display_name: &wire.display_name, role, hash, expires_at };
        let key = api_keys::insert(&work.tx, &new).await?;
        work.commit(context, call, &Act { tenant, ..Act::new("CreateApiKey", key.id.to_string()) }).await?;
        Ok(v1::CreateApiKeyResponse { api_key: Some(shown(key)), token: signing::shown(Some(&token)) })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListApiKeysRequest,
    ) -> Result<v1::ListApiKeysResponse, Fault> {
        let tenant = call.tenant_or_all(&self.context, &request.tenant_id, request.all_tenants).await?;
        let listing = Listing::new("ListApiKeys", tenant.unwrap_or(ALL), None::<&v1::ApiKey>);
        let size = page_size(request.page_size)?;
        let after = listing.position(&request.page_token)?;
        let client = self.context.client().await?;
        let mut rows = api_keys::list(&client, tenant, after, size + 1).await?;
        let next_page_token = listing.cut(&mut rows, size, |row| row.id.0);
        Ok(v1::ListApiKeysResponse { api_keys: rows.into_iter().map(shown).collect(), next_page_token })
    }

    async fn revoke(
        &self,
        call: &Call,
        request: v1::RevokeApiKeyRequest,
    ) -> Result<v1::RevokeApiKeyResponse, Fault> {
        let id: ApiKeyId = validate::id("id", &request.id)?;
        let mut client = self.context.client().await?;
        let work = begin_work(&mut client).await?;
        let key = api_keys::revoke(&work.tx, call.scope(), id)
            .await?
            .ok_or_else(|| Fault::not_found(Kind::ApiKey, id.to_string()))?;
        let act = Act { tenant: key.tenant_id, ..Act::new("RevokeApiKey", id.to_string()) };
        work.commit(&self.context, call, &act).await?;
        Ok(v1::RevokeApiKeyResponse { api_key: Some(shown(key)) })
    }
}

fn shown(key: ListedKey) -> v1::ApiKey {
    let role = match key.role.as_str() {
        "admin" => v1::ApiKeyRole::Admin,
        "operator" => v1::ApiKeyRole::Operator,
        "publisher" => v1::ApiKeyRole::Publisher,
        "viewer" => v1::ApiKeyRole::Viewer,
        // A newer version's; here it is refused.
        _ => v1::ApiKeyRole::Unspecified,
    };
    v1::ApiKey {
        id: key.id.to_string(),
        tenant_id: key.tenant_id.map(|id| id.to_string()).unwrap_or_default(),
        display_name: key.display_name,
        role: role.into(),
        expire_time: key.expires_at.map(timestamp),
        create_time: Some(timestamp(key.create_time)),
        last_use_time: key.last_used_at.map(timestamp),
        revoke_time: key.revoked_at.map(timestamp),
    }
}

#[tonic::async_trait]
impl ApiKeyService for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("CreateApiKey", "");
        let outcome = self.create(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn revoke_api_key(
        &self,
        request: Request<v1::RevokeApiKeyRequest>,
    ) -> Result<Response<v1::RevokeApiKeyResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("RevokeApiKey", &message.id);
        let outcome = self.revoke(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}
