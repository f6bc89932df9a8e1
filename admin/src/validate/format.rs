//! The format of an endpoint, and what it says for itself where that is `custom`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_core::format::{self, Custom, Format, FormatFault, Value};
use bowline_proto::v1;

use super::{Violations, excerpt};

const CUSTOM_HEADERS_MAX: usize = 32;

/// The format with what the endpoint brings of its own; `None` only if that was a violation.
pub(super) fn check(
    violations: &mut Violations,
    endpoint: &v1::Endpoint,
    name: &str,
    custom: Option<&Custom>,
) -> Option<Arc<Format>> {
    if endpoint.custom_format.is_some() && custom.is_none() {
        // It has been said what is wrong with it.
        return None;
    }
    match format::of(name, custom) {
        Ok(format) => Some(format),
        Err(FormatFault::Unknown(name)) => {
            let known: Vec<&str> = format::all().iter().map(|format| format.name()).collect();
            let problem = format!("`{}` is not one of {}", excerpt(&name), known.join(", "));
            violations.add("endpoint.format", problem);
            None
        }
        Err(FormatFault::CustomMissing(_)) => {
            violations.add("endpoint.custom_format", "is required by the format `custom`");
            None
        }
        Err(FormatFault::Header { name, problem }) => {
            violations.add(format!("endpoint.custom_format.headers[{}]", excerpt(&name)), problem);
            None
        }
        Err(FormatFault::NotCustom(_)) => {
            violations.add("endpoint.custom_format", "is for the format `custom` alone");
            None
        }
        Err(fault @ (FormatFault::Scheme(_) | FormatFault::NoSigning)) => {
            violations.add("endpoint.custom_format.scheme", fault);
            None
        }
    }
}

pub(super) fn custom(violations: &mut Violations, wire: &v1::CustomFormat) -> Option<Custom> {
    let field = "endpoint.custom_format";
    if wire.headers.len() > CUSTOM_HEADERS_MAX {
        violations.add(format!("{field}.headers"), format!("must hold at most {CUSTOM_HEADERS_MAX} entries"));
        return None;
    }
    let mut headers = BTreeMap::new();
    for (name, word) in &wire.headers {
        match serde_json::from_value::<Value>(serde_json::Value::String(word.clone())) {
            Ok(value) => {
                headers.insert(name.clone(), value);
            }
            Err(error) => violations.add(format!("{field}.headers[{}]", excerpt(name)), error),
        }
    }
    let Some(scheme) = &wire.scheme else {
        violations.add(format!("{field}.scheme"), "is required");
        return None;
    };
    let (scheme, _) = super::scheme::read(violations, &format!("{field}.scheme"), scheme)?;
    (headers.len() == wire.headers.len()).then_some(Custom { scheme, headers })
}

#[cfg(test)]
mod tests {
    use bowline_core::egress::EgressPolicy;
    use serde_json::json;

    use super::*;
    use crate::convert::struct_of_json;

    fn faults(format: &str, scheme: serde_json::Value, headers: &[(&str, &str)]) -> Vec<String> {
        let custom = v1::CustomFormat {
            scheme: struct_of_json(scheme),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        };
        let endpoint = v1::Endpoint {
            url: "https://hooks.example.com/in".into(),
            format: format.into(),
            custom_format: Some(custom),
            ..v1::Endpoint::default()
        };
        super::super::faults(|it| super::super::endpoint::check(it, &endpoint, &EgressPolicy::default()))
    }

    fn hmac() -> serde_json::Value {
        json!({
            "algorithm": "hmac-sha512",
            "content": "{body}",
            "signature": {"sources": ["header:x-acme-signature"], "encoding": "hex"},
        })
    }

    #[test]
    fn a_custom_format_signs_and_owns_its_headers() {
        let field = "endpoint.custom_format";
        assert_eq!(faults("custom", hmac(), &[("X-Acme-Event", "event_type")]), Vec::<String>::new());
        assert_eq!(faults("standard", hmac(), &[]), [field]);
        assert_eq!(faults("custom", json!({}), &[]), [format!("{field}.scheme.algorithm")]);
        assert_eq!(faults("custom", hmac(), &[("X-A", "moon")]), [format!("{field}.headers[X-A]")]);
        for name in ["host", "x-acme-signature", "webhook-id", "a b"] {
            assert_eq!(
                faults("custom", hmac(), &[(name, "event_id")]),
                [format!("{field}.headers[{name}]")],
                "{name}"
            );
        }
        assert_eq!(faults("custom", hmac(), &[("x-data", "data")]), [format!("{field}.headers[x-data]")]);
        let mut violations = Violations::default();
        let bare = v1::Endpoint {
            url: "https://hooks.example.com/in".into(),
            format: "custom".into(),
            ..v1::Endpoint::default()
        };
        super::super::endpoint::check(&mut violations, &bare, &EgressPolicy::default());
        assert!(violations.finish().is_err(), "it needs a scheme");
        let fetched = json!({
            "algorithm": "rsa-sha256",
            "content": "{body}",
            "signature": {"sources": ["header:x-acme-signature"], "encoding": "base64"},
            "key": {"decode": "pem"},
        });
        assert_eq!(faults("custom", fetched, &[]), [format!("{field}.scheme")], "nothing here signs by it");
    }
}
