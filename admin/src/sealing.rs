//! What an endpoint sends that nobody may read: sealed as secrets of its own, written and never shown.
//!
//! The API shows the mark [`SEALED`] in place of such a value. Who sends the mark back keeps what is
//! stored, so that an endpoint can be read, changed and written again by someone who knows no secret.

use std::collections::{BTreeMap, HashSet};

use bowline_core::endpoint::{Endpoint, EndpointSpec};
use bowline_core::endpoint_auth::EndpointAuth;
use bowline_core::id::SecretId;
use bowline_core::secrets::{NewSecret, Purpose, Secret, StoredSecret, Vault, name};
use bowline_core::store::stored_secrets;
use url::Url;

use crate::AdminContext;
use crate::change::Change;
use crate::fault::Fault;
use crate::validate::Violations;

/// Stands in the API for a value that is kept sealed.
pub(crate) const SEALED: &str = "(sealed)";

/// What a caller says of a value.
#[derive(Debug)]
pub(crate) enum Given {
    Value(Secret),
    /// It sent the mark: what is stored stays.
    Kept,
}

impl Given {
    pub(crate) fn read(text: &str) -> Self {
        if text == SEALED { Self::Kept } else { Self::Value(Secret::from(text)) }
    }
}

/// All values of an endpoint that are sealed, by the names of their secrets.
#[derive(Debug, Default)]
pub(crate) struct Sealing(BTreeMap<String, Wanted>);

#[derive(Debug)]
struct Wanted {
    /// Where the caller wrote it.
    field: String,
    given: Given,
}

/// What that changes.
#[derive(Debug, Default)]
pub(crate) struct Resealing {
    gone: Vec<SecretId>,
    new: Vec<(String, Secret)>,
}

impl Sealing {
    pub(crate) fn add(&mut self, name: String, field: impl Into<String>, given: Given) {
        self.0.insert(name, Wanted { field: field.into(), given });
    }

    /// For an endpoint that is not there yet: nothing is stored that could be kept.
    pub(crate) fn check_new(&self, violations: &mut Violations) {
        for wanted in self.0.values().filter(|wanted| matches!(wanted.given, Given::Kept)) {
            nothing_kept(violations, &wanted.field);
        }
    }

    /// Everything is new.
    pub(crate) fn all_new(&self) -> Resealing {
        let value = |(name, wanted): (&String, &Wanted)| match &wanted.given {
            Given::Value(secret) => Some((name.clone(), secret.clone())),
            Given::Kept => None,
        };
        Resealing { gone: Vec::new(), new: self.0.iter().filter_map(value).collect() }
    }

    /// Laid over what is stored: the mark keeps a value, a value replaces one, and what is not wanted any
    /// more goes. A value that goes to another host than the one it was given for must be given again: who
    /// may change an endpoint need not know its secrets, and must not learn them so.
    pub(crate) fn over(
        &self,
        violations: &mut Violations,
        (old, new): (&EndpointSpec, &EndpointSpec),
        stored: &[StoredSecret],
    ) -> Resealing {
        let mut resealing = Resealing::default();
        let (receiver_moved, server_moved) =
            (moved(&old.url, &new.url), moved(token_url(old), token_url(new)));
        for (name, wanted) in self.0.iter().filter(|(_, wanted)| matches!(wanted.given, Given::Kept)) {
            let moved = match name.as_str() {
                // Never sent.
                name::CLIENT_KEY => false,
                name::CLIENT_SECRET => server_moved,
                _ => receiver_moved,
            };
            if moved {
                violations.add(&wanted.field, "was given for another host: give the value again");
            }
        }
        let mut kept = HashSet::new();
        for secret in stored.iter().filter(|secret| !secret.is_signing()) {
            match self.0.get(&secret.name) {
                Some(Wanted { given: Given::Kept, .. }) => {
                    kept.insert(secret.name.as_str());
                }
                Some(Wanted { given: Given::Value(_), .. }) | None => resealing.gone.push(secret.id),
            }
        }
        for (name, wanted) in self.0.iter().filter(|(name, _)| !kept.contains(name.as_str())) {
            let value = match &wanted.given {
                Given::Value(secret) => Some(secret.clone()),
                Given::Kept => stored_in_clear(old, name),
            };
            match value {
                Some(value) => resealing.new.push((name.clone(), value)),
                None => nothing_kept(violations, &wanted.field),
            }
        }
        resealing
    }

    /// The key of the client certificate, where the stored one is kept.
    pub(crate) fn kept_client_key<'a>(&self, stored: &'a [StoredSecret]) -> Option<&'a StoredSecret> {
        let kept = matches!(self.0.get(name::CLIENT_KEY), Some(Wanted { given: Given::Kept, .. }));
        stored.iter().find(|secret| kept && secret.name == name::CLIENT_KEY)
    }

    /// Whether a repeated create brings the values of the first one. Opens what that stored: a fingerprint
    /// would be something to guess against. What was changed since cannot be compared, and counts as equal.
    pub(crate) fn repeats(&self, vault: &Vault, first: &[StoredSecret]) -> Result<bool, Fault> {
        for stored in first {
            if let Some(Wanted { given: Given::Value(given), .. }) = self.0.get(&stored.name)
                && *vault.open(stored, Purpose::Verify)? != *given
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Resealing {
    pub(crate) async fn write(
        self,
        change: &Change<'_>,
        context: &AdminContext,
        endpoint: &Endpoint,
    ) -> Result<(), Fault> {
        for id in self.gone {
            stored_secrets::delete(&change.tx, id).await?;
        }
        for (name, value) in self.new {
            let (tenant_id, owner) = (endpoint.tenant_id, endpoint.id.0);
            let sealed = context.vault.seal(NewSecret { tenant_id, owner, name, value, expires_at: None })?;
            stored_secrets::insert(&change.tx, &sealed, change.version).await?;
        }
        Ok(())
    }
}

fn token_url(spec: &EndpointSpec) -> &str {
    match spec.auth.as_deref() {
        Some(EndpointAuth::ClientCredentials(wanted)) => &wanted.token_url,
        _ => "",
    }
}

/// Whether two URLs lead to different places. One that was not there before led nowhere.
fn moved(old: &str, new: &str) -> bool {
    let origin = |text: &str| Url::parse(text).map(|url| url.origin()).ok();
    old != new && origin(old) != origin(new)
}

/// An endpoint that was written before values were sealed has them in its specification; any change of it
/// seals them.
fn stored_in_clear(old: &EndpointSpec, name: &str) -> Option<Secret> {
    let found = old.headers.iter().find(|(header, _)| name::of_header(header) == name);
    found.map(|(_, value)| Secret::from(value.as_str()))
}

fn nothing_kept(violations: &mut Violations, field: &str) {
    violations
        .add(field, format!("`{SEALED}` stands for a stored value, and none is stored: give the value"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::id::DEFAULT_TENANT;
    use bowline_core::secrets::Sealed;
    use chrono::DateTime;
    use uuid::Uuid;

    fn stored(name: &str) -> StoredSecret {
        StoredSecret {
            id: SecretId(Uuid::from_u128(u128::from(name.as_bytes()[name.len() - 1]))),
            tenant_id: DEFAULT_TENANT,
            owner: Uuid::from_u128(1),
            name: name.into(),
            sealed: Sealed { key_id: "a".into(), bytes: Vec::new() },
            create_time: DateTime::UNIX_EPOCH,
            expires_at: None,
            public_key: None,
        }
    }

    fn sealing(list: &[(&str, &str)]) -> Sealing {
        let mut sealing = Sealing::default();
        for (name, text) in list {
            sealing.add((*name).to_owned(), format!("field {name}"), Given::read(text));
        }
        sealing
    }

    #[test]
    fn a_change_keeps_replaces_adds_and_drops() {
        let old = EndpointSpec::new("https://hooks.example.com/in", "standard");
        let stored = [stored("default"), stored("header:a"), stored("header:b"), stored("header:c")];
        let mut violations = Violations::default();
        let wanted = [("header:a", SEALED), ("header:b", "new"), ("header:d", "first")];
        let resealing = sealing(&wanted).over(&mut violations, (&old, &old), &stored);
        assert!(violations.is_empty());
        assert_eq!(resealing.gone, [stored[2].id, stored[3].id]);
        let new: Vec<_> =
            resealing.new.iter().map(|(name, value)| (name.as_str(), value.expose_str())).collect();
        assert_eq!(new, [("header:b", Some("new")), ("header:d", Some("first"))]);
    }

    #[test]
    fn what_is_sent_stays_with_the_host_it_was_given_for() {
        let at = |url: &str| EndpointSpec::new(url, "standard");
        let old = at("https://hooks.example.com/in");
        let stored = [stored("header:a"), stored(name::CLIENT_KEY)];
        let wanted = sealing(&[("header:a", SEALED), (name::CLIENT_KEY, SEALED)]);
        let faults = |new: &EndpointSpec| {
            let mut violations = Violations::default();
            wanted.over(&mut violations, (&old, new), &stored);
            match violations.finish() {
                Err(Fault::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect(),
                _ => Vec::new(),
            }
        };
        assert_eq!(faults(&at("https://hooks.example.com:443/v2")), Vec::<String>::new());
        for elsewhere in
            ["https://hooks.example.org/in", "http://hooks.example.com/in", "https://hooks.example.com:444/"]
        {
            assert_eq!(faults(&at(elsewhere)), ["field header:a"], "{elsewhere}");
        }
    }

    #[test]
    fn the_mark_needs_something_stored_and_clear_values_of_old_are_sealed() {
        let mut old = EndpointSpec::new("https://hooks.example.com/in", "standard");
        old.headers.insert("X-Api-Key".into(), "bowline-test-key".into());
        let mut violations = Violations::default();
        let wanted = sealing(&[("header:x-api-key", SEALED), ("header:cookie", SEALED)]);
        let resealing = wanted.over(&mut violations, (&old, &old), &[]);
        assert_eq!(resealing.new[0].1.expose_str(), Some("bowline-test-key"));
        let Err(Fault::Invalid(faults)) = violations.finish() else { panic!("the cookie is stored nowhere") };
        assert_eq!(
            faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            ["field header:cookie"]
        );
        let mut violations = Violations::default();
        wanted.check_new(&mut violations);
        assert!(!violations.is_empty());
    }
}
