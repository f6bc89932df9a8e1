//! The methods of the API: what each asks of its caller, and how it is served.

use crate::auth::Role;

/// A method, as one look at its path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    /// As metrics and the audit log have it; `None`: it is none of the API.
    pub(crate) name: Option<&'static str>,
    pub(crate) access: Access,
    /// It answers with a stream: such are named so.
    pub(crate) is_stream: bool,
}

impl Method {
    /// By path, such as `/bowline.v1.SourceService/CreateSource`.
    pub(crate) fn of(path: &str) -> Self {
        let other = |access| Self { name: None, access, is_stream: false };
        if path.starts_with("/grpc.health.v1.Health/") {
            return other(Access::Open);
        }
        if path.starts_with("/grpc.reflection.") {
            return other(Access::Reflection);
        }
        // No such method: whoever has a key may learn that it is not implemented.
        let Some((path, access)) = METHODS.iter().find(|(known, _)| *known == path) else {
            return other(Access::AnyKey);
        };
        let name = path.rsplit('/').next();
        Self { name, access: *access, is_stream: name.is_some_and(|name| name.starts_with("Watch")) }
    }

    /// A test waits for a dispatcher, and then for the receiver as long as its endpoint allows.
    pub(crate) fn is_test(self) -> bool {
        self.name == Some("SendEndpointTest")
    }

    /// Whether a call waits in its tenant's line for a connection to Postgres. Events that are published go another
    /// way, and who waits for other replicas without a connection would only hold up the line.
    pub(crate) fn waits_in_line(self) -> bool {
        let waits_for_others =
            self.is_test() || matches!(self.name, Some("RotateSourceSecret" | "SetSourceSecret"));
        let is_other = self.name.is_none() || self.access == Access::Publish || self.is_stream;
        !is_other && !waits_for_others
    }

    /// Whether what it answers may be so much that who asks for it and does not read it is to be bounded. Events that
    /// are published are answered by their ids.
    pub(crate) fn may_answer_much(self) -> bool {
        self.name.is_some() && self.access != Access::Publish
    }
}

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// Open where the deployment says so; else a valid key of any role.
    Reflection,
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
    pub(crate) fn allows(self, role: Role) -> bool {
        match self {
            Self::Open | Self::Reflection | Self::AnyKey => true,
            Self::Read => matches!(role, Role::Admin | Role::Operator | Role::Viewer),
            Self::Write => matches!(role, Role::Admin | Role::Operator),
            Self::Publish => matches!(role, Role::Admin | Role::Operator | Role::Publisher),
            Self::Secrets | Self::Keys => role == Role::Admin,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn access(path: &str) -> Access {
        Method::of(path).access
    }

    #[test]
    fn every_method_of_the_api_has_its_rule() {
        let set =
            <prost_types::FileDescriptorSet as prost::Message>::decode(bowline_proto::FILE_DESCRIPTOR_SET)
                .unwrap();
        for service in set.file.iter().flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/bowline.v1.{}/{}", service.name(), method.name());
                let known = Method::of(&path);
                assert_eq!(known.name, Some(method.name()), "{path} needs a rule");
                assert_ne!(known.access, Access::Open, "{path} must not be open");
                assert_eq!(known.is_stream, method.server_streaming(), "{path}");
            }
        }
    }

    #[test]
    fn what_is_open() {
        assert_eq!(access("/grpc.health.v1.Health/Check"), Access::Open);
        assert_eq!(access("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), Access::Reflection);
        assert_eq!(access("/grpc.reflection.v1alpha.ServerReflection/x"), Access::Reflection);
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
}
