//! The headers an endpoint sends along: what they may be, which are sealed, and what is shown of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bowline_core::endpoint::EndpointSpec;
use bowline_core::format::{Format, is_credential};
use bowline_core::secrets::name;

use super::{Violations, excerpt};
use crate::sealing::{Given, SEALED, Sealing};

/// Headers, told apart by what may be read of them.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) plain: BTreeMap<String, String>,
    /// Names of those whose values are sealed.
    pub(super) sealed: BTreeSet<String>,
    pub(super) sealing: Sealing,
}

/// Whether the value of a header is sealed, or stands for one that is.
fn is_sealed(header: &str, value: &str) -> bool {
    value == SEALED || header.parse().is_ok_and(|header| is_credential(&header))
}

pub(super) fn check(
    violations: &mut Violations,
    headers: &BTreeMap<String, String>,
    format: Option<&Format>,
) -> Headers {
    if let Some(Err(faults)) = format.map(|format| format.extra_headers(headers)) {
        for fault in faults {
            violations.add(field(&fault.name), fault.refusal);
        }
    }
    let mut seen = HashSet::new();
    let mut checked = Headers::default();
    for (header, value) in headers {
        if !seen.insert(header.to_ascii_lowercase()) {
            violations.add(field(header), "is there twice, in another case");
        }
        if !is_sealed(header, value) {
            checked.plain.insert(header.clone(), value.clone());
            continue;
        }
        if value.is_empty() {
            violations.add(field(header), "must not be empty: by its name it holds a credential");
        }
        checked.sealed.insert(header.clone());
        checked.sealing.add(name::of_header(header), field(header), Given::read(value));
    }
    checked
}

fn field(header: &str) -> String {
    format!("endpoint.headers[{}]", excerpt(header))
}

/// As the API shows them.
pub(crate) fn shown(spec: &EndpointSpec) -> BTreeMap<String, String> {
    let mut headers = without_credentials(spec.headers.clone());
    headers.extend(spec.sealed_headers.iter().map(|header| (header.clone(), SEALED.to_owned())));
    headers
}

/// The mark in place of each credential.
pub(crate) fn without_credentials(mut headers: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (header, value) in &mut headers {
        if is_sealed(header, value) {
            SEALED.clone_into(value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::format;

    fn checked(list: &[(&str, &str)]) -> (Headers, Vec<String>) {
        let headers = list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut violations = Violations::default();
        let headers = check(&mut violations, &headers, format::find("standard").map(|format| &**format));
        (headers, violations.fields())
    }

    #[test]
    fn what_may_be_sent_along() {
        let count = |name: &str, value: &str| checked(&[(name, value)]).1.len();
        assert_eq!((count("X-Team", "billing"), count("authorization", "Bearer x")), (0, 0));
        assert_eq!((count("Host", "x"), count("webhook-id", "x"), count("bad name", "x")), (1, 1, 1));
        assert_eq!((count("x-a", "a\r\nb: c"), count("x-a", &"x".repeat(4097))), (1, 1));
        assert_eq!((count("x-a", ""), count("x-api-key", "")), (0, 1));
        assert_eq!(checked(&[("X-A", "1"), ("x-a", "2")]).1, ["endpoint.headers[x-a]"]);
    }

    #[test]
    fn credentials_leave_the_specification() {
        let (headers, faults) =
            checked(&[("Authorization", "Bearer x"), ("X-Team", "billing"), ("x-b", SEALED)]);
        assert!(faults.is_empty());
        assert_eq!(headers.plain, BTreeMap::from([("X-Team".into(), "billing".into())]));
        assert_eq!(headers.sealed, ["Authorization", "x-b"].map(str::to_owned).into());
        let mut spec = EndpointSpec::new("https://hooks.example.com/in", "standard");
        spec.headers = headers.plain;
        spec.sealed_headers = headers.sealed;
        // Of an endpoint that was written before such values were sealed.
        spec.headers.insert("x-api-key".into(), "bowline-test-key".into());
        let shown: Vec<_> =
            shown(&spec).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            shown,
            ["Authorization: (sealed)", "X-Team: billing", "x-api-key: (sealed)", "x-b: (sealed)"]
        );
    }
}
