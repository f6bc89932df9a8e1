//! Who calls, and what they may do: a layer in front of every service.
//!
//! 1. `grpc.health.v1` is open; reflection is where the deployment says so; all else needs a key.
//! 2. The bootstrap key is compared in constant time; any other is looked up by its SHA-256.
//! 3. The role must allow the method; the handler finds the [`Caller`] in the request's extensions.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::TenantId;
use bowline_core::secrets::{Secret, is_same};
use bowline_core::store::{self, Pool, api_keys};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use moka::future::Cache;
use sha2::{Digest, Sha256};

use crate::fault::Fault;

const KEY_BYTES_MAX: usize = 512;
/// How long a looked-up key is believed: a revoked one works no longer than this.
const KEY_CACHE_TTL: Duration = Duration::from_secs(1);
/// Unknown keys are kept too, so that a flood of them costs Postgres one look a second each.
const KEY_CACHE_MAX: u64 = 10_000;

type KeyHash = [u8; 32];

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Admin,
    /// All but keys, tenants and secrets.
    Operator,
    /// Publish only.
    Publisher,
    /// Read only.
    Viewer,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Admin, Self::Operator, Self::Publisher, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// `bootstrap`, or the id of the key: as the audit log has it.
    pub(crate) actor: Arc<str>,
    pub(crate) role: Role,
    /// The tenant the key is bound to; `None`: all of them.
    pub(crate) tenant: Option<TenantId>,
}

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Open,
    /// A valid key of any role.
    AnyKey,
    Read,
    Write,
    Publish,
    Secrets,
    /// Whose data there is, who may call, and who did what.
    Keys,
}

impl Access {
    fn allows(self, role: Role) -> bool {
        match self {
            Self::Open | Self::AnyKey => true,
            Self::Read => matches!(role, Role::Admin | Role::Operator | Role::Viewer),
            Self::Write => matches!(role, Role::Admin | Role::Operator),
            Self::Publish => matches!(role, Role::Admin | Role::Operator | Role::Publisher),
            Self::Secrets | Self::Keys => role == Role::Admin,
        }
    }

    /// By path, such as `/bowline.v1.SourceService/CreateSource`.
    fn of(path: &str, open_reflection: bool) -> Self {
        if path.starts_with("/grpc.health.v1.Health/") {
            return Self::Open;
        }
        if path.starts_with("/grpc.reflection.") && open_reflection {
            return Self::Open;
        }
        // No such method: whoever has a key may learn that it is not implemented.
        METHODS.iter().find(|(known, _)| *known == path).map_or(Self::AnyKey, |(_, access)| *access)
    }
}

/// Every method of the API and what it asks.
const METHODS: [(&str, Access); 63] = [
    ("/bowline.v1.SourceService/CreateSource", Access::Write),
    ("/bowline.v1.SourceService/GetSource", Access::Read),
    ("/bowline.v1.SourceService/ListSources", Access::Read),
    ("/bowline.v1.SourceService/UpdateSource", Access::Write),
    ("/bowline.v1.SourceService/DeleteSource", Access::Write),
    ("/bowline.v1.SourceService/RotateSourceSecret", Access::Secrets),
    ("/bowline.v1.SourceService/SetSourceSecret", Access::Secrets),
    ("/bowline.v1.SourceService/ListPresets", Access::Read),
    ("/bowline.v1.SourceService/ListRejections", Access::Read),
    ("/bowline.v1.SourceService/GetRejection", Access::Read),
    ("/bowline.v1.SourceService/ReprocessRejection", Access::Write),
    ("/bowline.v1.EndpointService/CreateEndpoint", Access::Write),
    ("/bowline.v1.EndpointService/GetEndpoint", Access::Read),
    ("/bowline.v1.EndpointService/ListEndpoints", Access::Read),
    ("/bowline.v1.EndpointService/UpdateEndpoint", Access::Write),
    ("/bowline.v1.EndpointService/DeleteEndpoint", Access::Write),
    ("/bowline.v1.EndpointService/RotateEndpointSecret", Access::Secrets),
    ("/bowline.v1.EndpointService/SetEndpointState", Access::Write),
    ("/bowline.v1.EventService/PublishEvent", Access::Publish),
    ("/bowline.v1.EventService/GetEvent", Access::Read),
    ("/bowline.v1.EventService/ListEvents", Access::Read),
    ("/bowline.v1.EventService/WatchEvents", Access::Read),
    ("/bowline.v1.DeliveryService/WatchDeliveries", Access::Read),
    ("/bowline.v1.DeliveryService/ListDeliveries", Access::Read),
    ("/bowline.v1.DeliveryService/GetDelivery", Access::Read),
    ("/bowline.v1.DeadLetterService/ListDeadLetters", Access::Read),
    ("/bowline.v1.DeadLetterService/RedriveDeadLetters", Access::Write),
    ("/bowline.v1.PayloadService/GetLatestPayload", Access::Read),
    ("/bowline.v1.PayloadService/AggregatePayloads", Access::Read),
    ("/bowline.v1.PayloadService/ListPayloads", Access::Read),
    ("/bowline.v1.EndpointService/RevealEndpointSecret", Access::Secrets),
    ("/bowline.v1.EndpointService/SendEndpointTest", Access::Write),
    ("/bowline.v1.EndpointService/GetEndpointStats", Access::Read),
    ("/bowline.v1.EventService/PublishEventBatch", Access::Publish),
    ("/bowline.v1.EventService/ReplayEvents", Access::Write),
    ("/bowline.v1.DeliveryService/RetryDelivery", Access::Write),
    ("/bowline.v1.DeliveryService/CancelDelivery", Access::Write),
    ("/bowline.v1.DeadLetterService/PurgeDeadLetters", Access::Write),
    ("/bowline.v1.OperationService/GetOperation", Access::Read),
    ("/bowline.v1.OperationService/ListOperations", Access::Read),
    ("/bowline.v1.OperationService/WatchOperation", Access::Read),
    ("/bowline.v1.OperationService/CancelOperation", Access::Write),
    ("/bowline.v1.EventTypeService/CreateEventType", Access::Write),
    ("/bowline.v1.EventTypeService/GetEventType", Access::Read),
    ("/bowline.v1.EventTypeService/ListEventTypes", Access::Read),
    ("/bowline.v1.EventTypeService/UpdateEventType", Access::Write),
    ("/bowline.v1.EventTypeService/DeleteEventType", Access::Write),
    ("/bowline.v1.BindingService/CreateBinding", Access::Write),
    ("/bowline.v1.BindingService/GetBinding", Access::Read),
    ("/bowline.v1.BindingService/ListBindings", Access::Read),
    ("/bowline.v1.BindingService/UpdateBinding", Access::Write),
    ("/bowline.v1.BindingService/DeleteBinding", Access::Write),
    ("/bowline.v1.BindingService/EvaluateBinding", Access::Read),
    ("/bowline.v1.BindingService/WatchBinding", Access::Read),
    ("/bowline.v1.TenantService/CreateTenant", Access::Keys),
    ("/bowline.v1.TenantService/GetTenant", Access::Read),
    ("/bowline.v1.TenantService/ListTenants", Access::Read),
    ("/bowline.v1.TenantService/UpdateTenant", Access::Keys),
    ("/bowline.v1.TenantService/DeleteTenant", Access::Keys),
    ("/bowline.v1.ApiKeyService/CreateApiKey", Access::Keys),
    ("/bowline.v1.ApiKeyService/ListApiKeys", Access::Keys),
    ("/bowline.v1.ApiKeyService/RevokeApiKey", Access::Keys),
    ("/bowline.v1.AuditService/ListAuditEntries", Access::Keys),
];

/// The name of a method of the API, as metrics and the audit log have it.
pub(crate) fn method_name(path: &str) -> Option<&'static str> {
    let (path, _) = METHODS.iter().find(|(known, _)| *known == path)?;
    path.rsplit('/').next()
}

/// Whether a call of this method waits in its tenant's line for a connection to Postgres. Events that are published go
/// another way, and what needs an admin's key waits for other replicas, as a test of an endpoint does.
pub(crate) fn waits_in_line(path: &str) -> bool {
    let access = METHODS.iter().find(|(known, _)| *known == path).map(|(_, access)| *access);
    matches!(access, Some(Access::Read | Access::Write))
        && !is_stream(path)
        && !path.ends_with("/SendEndpointTest")
}

/// Whether what a method answers may be so much that who asks for it and does not read it is to be bounded here. Streams
/// have bounds of their own, and events that are published are answered by their ids.
pub(crate) fn may_answer_much(path: &str) -> bool {
    let access = METHODS.iter().find(|(known, _)| *known == path).map(|(_, access)| *access);
    access.is_some_and(|access| access != Access::Publish) && !is_stream(path)
}

/// Whether a method answers with a stream: such are named so.
pub(crate) fn is_stream(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|method| method.starts_with("Watch"))
}

/// Tells callers apart.
pub(crate) struct Gate {
    pool: Pool,
    bootstrap: Option<KeyHash>,
    open_reflection: bool,
    known: Cache<KeyHash, Option<Caller>>,
}

impl Gate {
    pub(crate) fn new(pool: Pool, bootstrap_key: Option<&Secret>, open_reflection: bool) -> Self {
        Self {
            pool,
            bootstrap: bootstrap_key.map(|key| hash(key.expose())),
            open_reflection,
            known: Cache::builder().max_capacity(KEY_CACHE_MAX).time_to_live(KEY_CACHE_TTL).build(),
        }
    }

    /// `Ok(None)` for open methods.
    pub(crate) async fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, Denied> {
        let access = Access::of(path, self.open_reflection);
        if access == Access::Open {
            return Ok(None);
        }
        let key = bearer(headers).map_err(Denied::unknown)?;
        let caller = self.caller(hash(key)).await.map_err(Denied::unknown)?;
        if access.allows(caller.role) {
            return Ok(Some(caller));
        }
        let method = method_name(path).unwrap_or("this method");
        let fault = Fault::RoleInsufficient { role: caller.role.as_str(), method };
        Err(Denied { caller: Some(caller), fault })
    }

    async fn caller(&self, key: KeyHash) -> Result<Caller, Fault> {
        if self.bootstrap.is_some_and(|bootstrap| is_same(&bootstrap, &key)) {
            return Ok(Caller { actor: "bootstrap".into(), role: Role::Admin, tenant: None });
        }
        let found = self.known.try_get_with(key, self.look_up(key)).await;
        match found {
            Ok(Some(caller)) => Ok(caller),
            Ok(None) => Err(Fault::KeyInvalid),
            // Shared between those who waited for one look: said again in words of its own.
            Err(error) if error.is_crowded() => Err(Fault::Crowded),
            Err(error) if error.is_unavailable() => Err(Fault::StoreAway),
            Err(error) => Err(Fault::Unreadable(error.to_string())),
        }
    }

    async fn look_up(&self, key: KeyHash) -> Result<Option<Caller>, store::Error> {
        let client = self.pool.get().await?;
        let Some(found) = api_keys::find_active(&client, &key).await? else { return Ok(None) };
        let Some(role) = Role::parse(&found.role) else {
            tracing::error!(key_id = %found.id, role = found.role, "api key has a role this version does not know");
            return Ok(None);
        };
        if let Err(error) = api_keys::used(&client, found.id).await {
            tracing::debug!(%error, key_id = %found.id, "when a key was used was not kept");
        }
        Ok(Some(Caller { actor: found.id.to_string().into(), role, tenant: found.tenant_id }))
    }
}

/// A call that was not let through, and by whom it was if that is known.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) caller: Option<Caller>,
    pub(crate) fault: Fault,
}

impl Denied {
    fn unknown(fault: Fault) -> Self {
        Self { caller: None, fault }
    }
}

/// Hashing first makes the comparison independent of length and content.
fn hash(key: &[u8]) -> KeyHash {
    Sha256::digest(key).into()
}

fn bearer(headers: &HeaderMap) -> Result<&[u8], Fault> {
    let value = headers.get(AUTHORIZATION).ok_or(Fault::KeyMissing)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7).ok_or(Fault::KeyMissing)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(Fault::KeyMissing);
    }
    let key = key.trim_ascii();
    if key.is_empty() || key.len() > KEY_BYTES_MAX { Err(Fault::KeyInvalid) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(path: &str) -> Access {
        Access::of(path, false)
    }

    #[test]
    fn every_method_of_the_api_has_its_rule() {
        let set =
            <prost_types::FileDescriptorSet as prost::Message>::decode(bowline_proto::FILE_DESCRIPTOR_SET)
                .unwrap();
        for service in set.file.iter().flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/bowline.v1.{}/{}", service.name(), method.name());
                assert_ne!(access(&path), Access::AnyKey, "{path} needs a rule");
                assert_ne!(access(&path), Access::Open, "{path} must not be open");
                assert_eq!(is_stream(&path), method.server_streaming(), "{path}");
            }
        }
    }

    #[test]
    fn what_is_open() {
        assert_eq!(access("/grpc.health.v1.Health/Check"), Access::Open);
        assert_eq!(access("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), Access::AnyKey);
        assert_eq!(Access::of("/grpc.reflection.v1alpha.ServerReflection/x", true), Access::Open);
        assert_eq!(access("/bowline.v1.SourceService/Nothing"), Access::AnyKey);
        assert_eq!(access("/"), Access::AnyKey);
    }

    #[test]
    fn roles() {
        let allowed = |access: Access| {
            [Role::Admin, Role::Operator, Role::Publisher, Role::Viewer].map(|role| access.allows(role))
        };
        assert_eq!(allowed(access("/bowline.v1.SourceService/GetSource")), [true, true, false, true]);
        assert_eq!(allowed(access("/bowline.v1.EventService/PublishEvent")), [true, true, true, false]);
        assert_eq!(
            allowed(access("/bowline.v1.EndpointService/SetEndpointState")),
            [true, true, false, false]
        );
        assert_eq!(
            allowed(access("/bowline.v1.SourceService/RotateSourceSecret")),
            [true, false, false, false]
        );
    }

    #[test]
    fn bearer_headers() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(read("Bearer bwl_test").unwrap(), b"bwl_test");
        assert_eq!(read("bearer  bwl_test ").unwrap(), b"bwl_test");
        assert!(matches!(read("Basic bwl_test"), Err(Fault::KeyMissing)));
        assert!(matches!(read("Bear"), Err(Fault::KeyMissing)));
        assert!(matches!(read("Bearer "), Err(Fault::KeyMissing | Fault::KeyInvalid)));
        assert!(matches!(read(&format!("Bearer {}", "x".repeat(600))), Err(Fault::KeyInvalid)));
        assert!(matches!(bearer(&HeaderMap::new()), Err(Fault::KeyMissing)));
    }
}
