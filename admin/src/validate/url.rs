//! Where something may be sent to.

use bowline_core::egress::EgressPolicy;
use url::Url;

use super::Violations;

const URL_BYTES_MAX: usize = 2048;

pub(super) fn check(violations: &mut Violations, field: &str, text: &str, egress: &EgressPolicy) {
    if text.is_empty() {
        violations.add(field, "is required");
    } else if text.len() > URL_BYTES_MAX {
        violations.add(field, format!("must be at most {URL_BYTES_MAX} bytes"));
    } else if text.chars().any(char::is_control) {
        // A URL parser takes some of them out; Postgres refuses one of them, and all are shown as they are stored.
        violations.add(field, "must not have control characters");
    } else {
        match Url::parse(text) {
            Err(error) => violations.add(field, format!("is no URL: {error}")),
            Ok(url) => {
                if let Err(error) = egress.check_url(&url) {
                    violations.add(field, error);
                }
                if url.fragment().is_some() {
                    violations.add(field, "must not have a fragment (#...): it is never sent");
                }
            }
        }
    }
}
