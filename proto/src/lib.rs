//! The gRPC admin API of Bowline: messages, clients and servers generated from `bowline/v1/*.proto`.
//!
//! One service a file, resources in files of their own; `errors.proto` lists every reason an error
//! can carry. The protos are the documentation: each field names its unit and its limits, each
//! method its status codes.

/// Package `bowline.v1`.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("bowline.v1");
}

/// Every file of the API as an encoded `FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bowline_descriptor.bin"));

/// `ErrorInfo.domain` of every error of this API.
pub const ERROR_DOMAIN: &str = "bowline";

impl v1::ErrorReason {
    /// The reason as `ErrorInfo.reason` carries it: the name without its prefix.
    pub fn as_reason(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn the_descriptor_set_holds_every_service() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut services: Vec<&str> = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(prost_types::ServiceDescriptorProto::name))
            .collect();
        services.sort_unstable();
        assert_eq!(
            services,
            [
                "ApiKeyService",
                "AuditService",
                "BindingService",
                "DeadLetterService",
                "DeliveryService",
                "EndpointService",
                "EventService",
                "EventTypeService",
                "OperationService",
                "PayloadService",
                "SourceService",
                "TenantService"
            ]
        );
    }

    #[test]
    fn reasons_leave_their_prefix_out() {
        assert_eq!(v1::ErrorReason::EtagMismatch.as_reason(), "ETAG_MISMATCH");
    }
}
