//! The fields of an endpoint: which a caller may write, and which it cannot decide.

use bowline_proto::v1::{Endpoint, EndpointState};

use crate::mask::{Field, fields};
use crate::validate::{auth, headers};

pub(super) const WRITABLE: &[Field<Endpoint>] = fields! {
    Endpoint:
    name, display_name, labels, url, event_types, channels, format, headers, auth, tls, timeout, retry,
    concurrency, disable, filter, transform, secret_revealable, custom_format, rate, ordering
};

/// What a caller asks for, without what it cannot decide: two requests that differ only there are
/// the same.
pub(super) fn without_output(endpoint: Endpoint) -> Endpoint {
    Endpoint {
        id: String::new(),
        tenant_id: String::new(),
        create_time: None,
        update_time: None,
        etag: String::new(),
        state: EndpointState::Unspecified.into(),
        disabled_reason: String::new(),
        secrets: Vec::new(),
        jwks_url: String::new(),
        ..endpoint
    }
}

/// Without the values that are sealed, of which no fingerprint may lie about.
pub(super) fn without_secrets(endpoint: Endpoint) -> Endpoint {
    Endpoint {
        headers: headers::without_credentials(endpoint.headers),
        auth: endpoint.auth.map(auth::without_secrets),
        tls: endpoint.tls.map(auth::without_key),
        ..endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Mask;
    use bowline_proto::v1::{self, DisablePolicy, EndpointAuth, EndpointTls, RetryPolicy};

    fn full() -> Endpoint {
        Endpoint {
            id: "ep_x".into(),
            name: "n".into(),
            display_name: "N".into(),
            labels: [("a".into(), "b".into())].into(),
            etag: "v1".into(),
            url: "https://a.example".into(),
            event_types: vec!["a".into()],
            channels: vec!["c".into()],
            format: "raw".into(),
            headers: [("a".into(), "b".into())].into(),
            auth: Some(EndpointAuth::default()),
            tls: Some(EndpointTls::default()),
            timeout: Some(prost_types::Duration::default()),
            retry: Some(RetryPolicy::default()),
            concurrency: 1,
            disable: Some(DisablePolicy::default()),
            filter: "true".into(),
            transform: "{}".into(),
            secret_revealable: Some(true),
            custom_format: Some(v1::CustomFormat::default()),
            rate: 1.0,
            ordering: 1,
            state: 2,
            ..Endpoint::default()
        }
    }

    #[test]
    fn what_is_not_output_may_be_written() {
        let all = Mask::of(&["*"], WRITABLE, &full()).unwrap();
        assert_eq!(all.merge(Endpoint::default(), full()), without_output(full()));
    }
}
