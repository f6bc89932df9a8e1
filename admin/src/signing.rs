//! Secrets of sources and endpoints: given or made, checked, sealed, and shown once.

use std::time::Duration;

use bowline_core::id::TenantId;
use bowline_core::scheme::{Algorithm, CompiledScheme, Key, SignError, SignInput};
use bowline_core::secrets::{NewSecret, Purpose, Secret, StoredSecret, Vault};
use bowline_proto::v1;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::fault::Fault;
use crate::validate::{Range, Violations};

const SECRET_BYTES_MAX: usize = 4096;
/// What a provider issues is what it is; shorter than this anybody guesses it.
const VERIFYING_BYTES_MIN: usize = 8;
/// What signs is ours to ask for: 128 bits.
const SIGNING_BYTES_MIN: usize = 16;
/// Standard Webhooks: a symmetric secret has 24 to 64 bytes.
const STANDARD_BYTES_MIN: usize = 24;
/// How long an old secret may stay valid beside the new one.
pub(crate) const OVERLAP: Range =
    Range { min: Duration::ZERO, max: Duration::from_secs(30 * 24 * 3600), text: "0 s to 30 days" };

/// What an owner does with a secret.
#[derive(Clone, Copy)]
pub(crate) enum Use<'a> {
    /// It has no use for one.
    None,
    /// A source: it verifies.
    Verify(&'a CompiledScheme),
    /// Something reads it as text: an expression, or a handshake.
    Text,
    /// An endpoint: it signs, unless it has no secret and its format allows that.
    Sign { scheme: &'a CompiledScheme, optional: bool },
}

impl Use<'_> {
    fn scheme(&self) -> Option<&CompiledScheme> {
        match self {
            Self::None | Self::Text => None,
            Self::Verify(scheme) | Self::Sign { scheme, .. } => Some(scheme),
        }
    }

    /// The given secret must be a key of the scheme.
    pub(crate) fn check(&self, violations: &mut Violations, given: &str) {
        self.check_at(violations, "secret", given);
    }

    /// The same, of a secret that stands elsewhere in the request.
    pub(crate) fn check_at(&self, violations: &mut Violations, field: &str, given: &str) {
        if given.is_empty() {
            return;
        }
        if matches!(self, Self::Text) {
            if given.len() > SECRET_BYTES_MAX {
                violations.add(field, format!("must be at most {SECRET_BYTES_MAX} bytes"));
            } else if given.len() < VERIFYING_BYTES_MIN {
                let problem = format!("is too short: at least {VERIFYING_BYTES_MIN} bytes are needed");
                violations.add(field, problem);
            }
            return;
        }
        let Some(scheme) = self.scheme() else {
            violations.add(field, "must be empty: nothing is verified here");
            return;
        };
        if given.len() > SECRET_BYTES_MAX {
            violations.add(field, format!("must be at most {SECRET_BYTES_MAX} bytes"));
            return;
        }
        match scheme.key(&Secret::from(given)) {
            Err(error) => violations.add(field, error),
            Ok(key) if matches!(self, Self::Sign { .. }) && !can_sign(scheme, &key) => {
                violations.add(field, "is a public key, which only verifies: give the private one");
            }
            Ok(_) => self.check_strength(violations, field, (scheme, given)),
        }
    }

    fn check_strength(
        &self,
        violations: &mut Violations,
        field: &str,
        (scheme, given): (&CompiledScheme, &str),
    ) {
        let (encoded, bytes) = key_bytes(scheme, given);
        let least = match self {
            Self::Sign { .. } if encoded => STANDARD_BYTES_MIN,
            Self::Sign { .. } => SIGNING_BYTES_MIN,
            Self::Verify(_) | Self::Text | Self::None => VERIFYING_BYTES_MIN,
        };
        if bytes < least {
            let decoded = if encoded { " once decoded" } else { "" };
            violations.add(
                field,
                format!("is too short: {bytes} bytes{decoded}, at least {least} are needed (leave it out and one is generated)"),
            );
        }
    }

    /// A kind says what to make, so it goes with no secret that is given, and only with a scheme that has it.
    pub(crate) fn check_kind(&self, violations: &mut Violations, given: &str, kind: v1::SecretKind) {
        if kind == v1::SecretKind::Unspecified {
            return;
        }
        if !given.is_empty() {
            violations.add("secret_kind", "says what to generate: leave it out beside a secret");
        } else if self.scheme().is_none_or(|scheme| made(scheme, kind).is_none()) {
            violations.add("secret_kind", "is none that this format signs with");
        }
    }

    /// As [`Self::next`], of a kind; where none is said, of the kind that the owner has.
    pub(crate) fn next_of(
        &self,
        given: &str,
        kind: v1::SecretKind,
        current: &[StoredSecret],
    ) -> Option<Secret> {
        let newest = current.iter().find(|secret| secret.expires_at.is_none());
        let kind = match kind {
            v1::SecretKind::Unspecified if newest.is_some_and(|secret| secret.public_key.is_some()) => {
                v1::SecretKind::Ed25519
            }
            kind => kind,
        };
        match (self.scheme(), kind) {
            (Some(scheme), v1::SecretKind::Ed25519) if given.is_empty() => made(scheme, kind),
            _ => self.next(given),
        }
    }

    /// For a new owner: the given secret, a fresh one, or none, as where the provider has keys of its own.
    pub(crate) fn first(&self, given: &str) -> Option<Secret> {
        match self {
            Self::Sign { optional: true, .. } if given.is_empty() => None,
            _ => self.next(given),
        }
    }

    /// The public half of a secret that signs, where there is one.
    fn public_key(&self, value: &Secret) -> Option<[u8; 32]> {
        match self {
            Self::Sign { scheme, .. } => scheme.public_key(value),
            Self::Verify(_) | Self::Text | Self::None => None,
        }
    }

    /// Seals a secret of an owner, beside its public half.
    #[allow(clippy::too_many_arguments, reason = "what is sealed, and whose it is")]
    pub(crate) fn seal(
        &self,
        vault: &Vault,
        tenant_id: TenantId,
        owner: Uuid,
        name: &str,
        value: Secret,
    ) -> Result<StoredSecret, Fault> {
        let public_key = self.public_key(&value);
        Ok(StoredSecret { public_key, ..seal(vault, tenant_id, owner, name, value)? })
    }

    /// For a rotation: the given secret or a fresh one; `None` where there is no use for any.
    pub(crate) fn next(&self, given: &str) -> Option<Secret> {
        if matches!(self, Self::Text) {
            return Some(if given.is_empty() { Secret::generate() } else { Secret::from(given) });
        }
        let scheme = self.scheme()?;
        if given.is_empty() {
            return scheme.issues_secrets().then(|| scheme.generate_secret().secret);
        }
        Some(Secret::from(given))
    }

    /// Whether an owner with these secrets can go on under the scheme. A source without any may: it
    /// refuses everything until it is given one.
    pub(crate) fn fits(&self, vault: &Vault, secrets: &[StoredSecret]) -> Result<bool, Fault> {
        let Some(scheme) = self.scheme() else { return Ok(true) };
        let own: Vec<&StoredSecret> = secrets.iter().filter(|secret| secret.is_signing()).collect();
        for stored in &own {
            let Ok(key) = scheme.key(&*vault.open(stored, Purpose::Verify)?) else { return Ok(false) };
            if matches!(self, Self::Sign { .. }) && !can_sign(scheme, &key) {
                return Ok(false);
            }
        }
        Ok(!(own.is_empty() && matches!(self, Self::Sign { optional: false, .. })))
    }
}

fn made(scheme: &CompiledScheme, kind: v1::SecretKind) -> Option<Secret> {
    match kind {
        v1::SecretKind::Ed25519 => scheme.generate_secret_for(Algorithm::Ed25519).map(|made| made.secret),
        v1::SecretKind::Hmac | v1::SecretKind::Unspecified => {
            let made = scheme.generate_secret().secret;
            scheme.public_key(&made).is_none().then_some(made)
        }
    }
}

/// Whether the scheme decodes secrets (from base64, as a rule), and how many bytes this one then has.
/// The mark before a secret counts for nothing.
fn key_bytes(scheme: &CompiledScheme, given: &str) -> (bool, usize) {
    const NOT_BASE64: &str = "whsec_!:!";
    let text = ["whsec_", "whsk_", "whpk_"].iter().find_map(|mark| given.strip_prefix(mark)).unwrap_or(given);
    match scheme.key(&Secret::from(NOT_BASE64)) {
        Ok(_) => (false, text.len()),
        Err(_) => (true, text.trim_end_matches('=').len() * 3 / 4),
    }
}

/// A scheme may know keys that only verify.
fn can_sign(scheme: &CompiledScheme, key: &Key) -> bool {
    let trial = SignInput {
        id: "trial",
        timestamp: DateTime::UNIX_EPOCH,
        method: "POST",
        url: "https://localhost/",
        headers: &http::HeaderMap::new(),
        body: b"{}",
    };
    !matches!(scheme.sign(&trial, std::slice::from_ref(key)), Err(SignError::NoSigningKey))
}

/// Seals a secret of an owner.
pub(crate) fn seal(
    vault: &Vault,
    tenant_id: TenantId,
    owner: Uuid,
    name: &str,
    value: Secret,
) -> Result<StoredSecret, Fault> {
    Ok(vault.seal(NewSecret { tenant_id, owner, name: name.into(), value, expires_at: None })?)
}

/// The secret as it is shown, once. It was text when it came, or hex or base64 when it was made.
pub(crate) fn shown(secret: Option<&Secret>) -> String {
    secret.and_then(Secret::expose_str).unwrap_or_default().to_string()
}

/// Whether the secret of a repeated call is one that the first call could have brought. Opens what
/// is stored: a fingerprint of a secret beside the database would be something to guess against.
pub(crate) fn is_among(
    vault: &Vault,
    secrets: &[StoredSecret],
    name: &str,
    given: &str,
) -> Result<bool, Fault> {
    let given = Secret::from(given);
    for stored in secrets.iter().filter(|stored| stored.name == name) {
        if *vault.open(stored, Purpose::Verify)? == given {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The versions of the one that signs or verifies, without secrets of other names.
pub(crate) fn only(mut secrets: Vec<StoredSecret>) -> Vec<StoredSecret> {
    secrets.retain(StoredSecret::is_signing);
    secrets
}

/// Those that are still accepted.
pub(crate) fn active(secrets: Vec<StoredSecret>, now: DateTime<Utc>) -> Vec<StoredSecret> {
    secrets.into_iter().filter(|secret| secret.expires_at.is_none_or(|at| at > now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::preset;

    fn faults(given: &str, used: Use<'_>) -> bool {
        let mut violations = Violations::default();
        used.check(&mut violations, given);
        !violations.is_empty()
    }

    fn scheme(preset: &str) -> &'static CompiledScheme {
        preset::find(preset).unwrap().scheme().unwrap()
    }

    #[test]
    fn given_made_or_none() {
        let (verify, sign) =
            (Use::Verify(scheme("standard")), Use::Sign { scheme: scheme("rkt"), optional: true });
        assert!(Use::None.first("").is_none() && Use::None.next("").is_none() && sign.first("").is_none());
        let made = shown(verify.first("").as_ref());
        assert!(made.starts_with("whsec_"), "{made}");
        assert!(!faults(&made, verify));
        assert_ne!(shown(sign.next("").as_ref()), "");
        assert_eq!(shown(sign.first("bowline-test-secret").as_ref()), "bowline-test-secret");
    }

    #[test]
    fn a_secret_must_be_a_key_of_the_scheme() {
        assert!(faults("whsec_!!!", Use::Verify(scheme("standard"))));
        assert!(faults("anything", Use::None));
        assert!(faults(&"a".repeat(4097), Use::Verify(scheme("github"))));
        assert!(!faults("bowline-test-secret", Use::Verify(scheme("github"))));
    }

    #[test]
    fn what_is_guessed_easily_is_refused() {
        let sign = |preset| Use::Sign { scheme: scheme(preset), optional: false };
        let standard = |bytes: usize| {
            use base64::Engine as _;
            format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(vec![7; bytes]))
        };
        for (used, weak, good) in [
            (Use::Verify(scheme("github")), "1234567", "12345678"),
            (Use::Verify(scheme("stripe")), "whsec_1234567", "whsec_12345678"),
            (Use::Verify(scheme("standard")), &standard(7), &standard(8)),
            (sign("chimpbase"), &"k".repeat(15), &"k".repeat(16)),
            (sign("rkt"), &format!("whsec_{}", "k".repeat(15)), &format!("whsec_{}", "k".repeat(16))),
            (sign("standard"), &standard(23), &standard(24)),
        ] {
            assert!(faults(weak, used) && !faults(good, used), "{weak} {good}");
        }
    }

    #[test]
    fn a_public_key_signs_nothing() {
        let standard = scheme("standard");
        let pair = standard.generate_secret_for(Algorithm::Ed25519).unwrap();
        let public = pair.public.unwrap();
        assert!(!faults(&public, Use::Verify(standard)));
        assert!(faults(&public, Use::Sign { scheme: standard, optional: false }));
        assert!(!faults(&shown(Some(&pair.secret)), Use::Sign { scheme: standard, optional: false }));
    }
}
