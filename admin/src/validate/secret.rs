//! Secrets that a caller names or writes in parts.

use std::collections::{BTreeMap, BTreeSet};

use bowline_core::secrets::StoredSecret;
use bowline_core::secrets::name::SIGNING;
use bowline_proto::v1;

use super::{Violations, excerpt};
use crate::signing::Use;

/// Of one source, beside the one that verifies.
pub(crate) const NAMED_SECRETS_MAX: usize = 16;
const NAME_MAX: usize = 63;
const USERNAME_BYTES_MAX: usize = 256;

/// `[a-z][a-z0-9_-]{0,62}`
pub(crate) fn name(violations: &mut Violations, field: &str, name: &str) {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || name.len() > NAME_MAX || !name.bytes().all(known) {
        violations.add(
            field,
            format!("must be 1 to {NAME_MAX} characters of a-z, 0-9, `_` and `-`, beginning with a letter"),
        );
    }
}

/// Named secrets that come with a new source.
pub(crate) fn of_new(violations: &mut Violations, given: &BTreeMap<String, String>) {
    if given.len() > NAMED_SECRETS_MAX {
        violations.add("named_secrets", format!("must hold at most {NAMED_SECRETS_MAX} secrets"));
        return;
    }
    for (key, value) in given {
        let field = format!("named_secrets[{}]", excerpt(key));
        name(violations, &field, key);
        if key == SIGNING {
            violations.add(&field, "is given as `secret`");
        }
        if value.is_empty() {
            violations.add(&field, "must not be empty");
        }
        Use::Text.check_at(violations, &field, value);
    }
}

/// The secret of a source that verifies HTTP Basic: `username:password`.
pub(crate) fn basic(violations: &mut Violations, field: &str, wire: &v1::BasicCredentials) -> String {
    let v1::BasicCredentials { username, password } = wire;
    let plain = |text: &str| !text.chars().any(char::is_control);
    if username.is_empty()
        || username.len() > USERNAME_BYTES_MAX
        || username.contains(':')
        || !plain(username)
    {
        violations.add(
            format!("{field}.username"),
            format!("must be 1 to {USERNAME_BYTES_MAX} bytes without colons and control characters"),
        );
    }
    if password.is_empty() || !plain(password) {
        violations.add(format!("{field}.password"), "must not be empty, nor hold control characters");
    }
    format!("{username}:{password}")
}

/// How many names there are, apart from the one that verifies.
pub(crate) fn count(stored: &[StoredSecret]) -> usize {
    let names = stored.iter().map(|secret| secret.name.as_str());
    names.filter(|name| *name != SIGNING).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "verify_token", "key-2", SIGNING, &"a".repeat(63)] {
            assert_eq!(faults(|it| name(it, "name", good)), [""; 0], "{good}");
        }
        for bad in ["", "2a", "_a", "A", "a b", "é", &"a".repeat(64)] {
            assert_eq!(faults(|it| name(it, "name", bad)), ["name"], "{bad}");
        }
    }

    #[test]
    fn those_of_a_new_source() {
        let of = |list: &[(&str, &str)]| {
            let given = list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            faults(|it| of_new(it, &given))
        };
        assert_eq!(of(&[("token", "bowline-test-token"), ("other", "12345678")]), [""; 0]);
        assert_eq!(of(&[("default", "bowline-test-token")]), ["named_secrets[default]"]);
        assert_eq!(of(&[("a", ""), ("b", "1234567")]), ["named_secrets[a]", "named_secrets[b]"]);
        let many: Vec<(String, String)> = (0..17).map(|at| (format!("n{at}"), "12345678".into())).collect();
        let many: Vec<(&str, &str)> =
            many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(of(&many), ["named_secrets"]);
    }

    #[test]
    fn user_and_password() {
        let of = |username: &str, password: &str| {
            let wire = v1::BasicCredentials { username: username.into(), password: password.into() };
            faults(|it| drop(basic(it, "basic", &wire)))
        };
        assert_eq!(of("user", "pass:word"), [""; 0]);
        assert_eq!(of("us:er", ""), ["basic.username", "basic.password"]);
        assert_eq!(of("", "a\nb"), ["basic.username", "basic.password"]);
    }
}
