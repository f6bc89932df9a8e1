//! The fields of an endpoint: which a caller may write, which are set, and how a change is laid over
//! what is stored.

use bowline_proto::v1::{Endpoint, EndpointState};

use crate::mask::Mask;
use crate::validate::{auth, headers};

pub(super) const WRITABLE: [&str; 20] = [
    "name",
    "display_name",
    "labels",
    "url",
    "event_types",
    "channels",
    "format",
    "headers",
    "auth",
    "tls",
    "timeout",
    "retry",
    "concurrency",
    "disable",
    "filter",
    "transform",
    "secret_revealable",
    "custom_format",
    "rate",
    "ordering",
];

pub(super) fn is_set(endpoint: &Endpoint, field: &str) -> bool {
    match field {
        "name" => !endpoint.name.is_empty(),
        "display_name" => !endpoint.display_name.is_empty(),
        "labels" => !endpoint.labels.is_empty(),
        "url" => !endpoint.url.is_empty(),
        "event_types" => !endpoint.event_types.is_empty(),
        "channels" => !endpoint.channels.is_empty(),
        "format" => !endpoint.format.is_empty(),
        "headers" => !endpoint.headers.is_empty(),
        "auth" => endpoint.auth.is_some(),
        "tls" => endpoint.tls.is_some(),
        "timeout" => endpoint.timeout.is_some(),
        "retry" => endpoint.retry.is_some(),
        "concurrency" => endpoint.concurrency != 0,
        "disable" => endpoint.disable.is_some(),
        "filter" => !endpoint.filter.is_empty(),
        "transform" => !endpoint.transform.is_empty(),
        "secret_revealable" => endpoint.secret_revealable.is_some(),
        "custom_format" => endpoint.custom_format.is_some(),
        "rate" => endpoint.rate != 0.0,
        "ordering" => endpoint.ordering != 0,
        _ => false,
    }
}

/// `old` with the fields of the mask from `new`.
pub(super) fn merge(old: Endpoint, new: Endpoint, mask: &Mask) -> Endpoint {
    let mut merged = old;
    macro_rules! take {
        ($($field:ident),*) => {$(
            if mask.has(stringify!($field)) {
                merged.$field = new.$field;
            }
        )*};
    }
    take!(name, display_name, labels, url, event_types, channels);
    take!(format, headers, auth, tls, timeout, retry, concurrency, disable, filter, transform);
    take!(secret_revealable, custom_format, rate, ordering);
    merged
}

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
    use bowline_proto::v1::{self, DisablePolicy, EndpointAuth, EndpointTls, RetryPolicy};
    use prost_types::FieldMask;

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
    fn every_writable_field_is_seen_and_taken() {
        for field in WRITABLE {
            assert!(is_set(&full(), field), "{field}");
            assert!(!is_set(&Endpoint::default(), field), "{field}");
            let mask =
                Mask::new(Some(&FieldMask { paths: vec![field.into()] }), &WRITABLE, |_| false).unwrap();
            let merged = merge(Endpoint::default(), full(), &mask);
            assert!(WRITABLE.iter().all(|other| is_set(&merged, other) == (*other == field)), "{field}");
        }
    }

    #[test]
    fn output_fields_do_not_count() {
        let plain = without_output(full());
        assert_eq!((plain.id.as_str(), plain.etag.as_str(), plain.state), ("", "", 0));
        assert_eq!(without_output(plain.clone()), plain);
    }
}
