//! The secrets of a source that exists: rotated, or set as they were issued elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_core::id::{ReplicaId, SourceId};
use bowline_core::preset::{self, Preset};
use bowline_core::scheme::Algorithm;
use bowline_core::secrets::name::SIGNING;
use bowline_core::secrets::{Secret, StoredSecret, Vault};
use bowline_core::source::Source;
use bowline_core::store::{sources, stored_secrets};
use bowline_proto::v1;
use bowline_proto::v1::set_source_secret_request::Value;
use chrono::Utc;

use super::{Sources, found, secret_use};
use crate::call::Call;
use crate::change::{Act, Change, begin};
use crate::confirm::confirm;
use crate::fault::{Fault, Kind};
use crate::present;
use crate::signing::{self, Use};
use crate::validate::secret::{self as named, NAMED_SECRETS_MAX};
use crate::validate::source::SourceDraft;
use crate::validate::{self, Violations};

/// The secrets that a new source comes with.
pub(super) struct Given {
    /// Empty where one is to be made, or none is needed.
    secret: String,
    named: BTreeMap<String, String>,
}

impl Given {
    pub(super) fn read(
        violations: &mut Violations,
        request: &mut v1::CreateSourceRequest,
        draft: &SourceDraft,
    ) -> Self {
        let mut secret = std::mem::take(&mut request.secret);
        let mut field = "secret";
        if let Some(basic) = request.basic.take() {
            if !secret.is_empty() {
                violations.add("basic", "must not be set beside secret");
            }
            takes_basic(violations, draft);
            secret = named::basic(violations, "basic", &basic);
            field = "basic";
        }
        // Without a scheme only a source that says so has no use for a secret; any other is at fault itself.
        if draft.scheme.is_some() || draft.spec.verify_cel.is_some() || draft.spec.insecure {
            secret_use(draft).check_at(violations, field, &secret);
        }
        let named = std::mem::take(&mut request.named_secrets);
        named::of_new(violations, &named);
        Self { secret, named }
    }

    /// The one to verify by: given, made, or none.
    pub(super) fn first(&self, draft: &SourceDraft) -> Option<Secret> {
        // A provider that brings the secret itself, by a handshake, is given none of ours.
        let brought = preset::find(&draft.spec.preset).is_some_and(Preset::brings_secret);
        if brought && self.secret.is_empty() { None } else { secret_use(draft).first(&self.secret) }
    }

    /// Whether a source with these secrets is the one that this call made before.
    pub(super) fn are_among(&self, vault: &Vault, stored: &[StoredSecret]) -> Result<bool, Fault> {
        let own = (!self.secret.is_empty()).then_some((SIGNING, self.secret.as_str()));
        let named = self.named.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(named) {
            if !signing::is_among(vault, stored, name, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn store(
        self,
        vault: &Vault,
        change: &Change<'_>,
        source: &Source,
        first: Option<&Secret>,
    ) -> Result<(), Fault> {
        let named = self.named.into_iter().map(|(name, value)| (name, Secret::from(value)));
        for (name, value) in first.map(|first| (SIGNING.to_owned(), first.clone())).into_iter().chain(named) {
            let sealed = signing::seal(vault, source.tenant_id, source.id.0, &name, value)?;
            stored_secrets::insert(&change.tx, &sealed, change.version).await?;
        }
        Ok(())
    }
}

/// A version that takes the place of those before it, at once or after a while.
struct NewVersion<'a> {
    name: &'a str,
    value: Secret,
    overlap: Duration,
    act: Act,
}

impl Sources {
    pub(super) async fn rotate(
        &self,
        call: &Call,
        request: v1::RotateSourceSecretRequest,
    ) -> Result<v1::RotateSourceSecretResponse, Fault> {
        let id: SourceId = validate::id("id", &request.id)?;
        let overlap = overlap(request.overlap.as_ref())?;
        let mut client = self.context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(sources::find(&change.tx, call.scope(), id).await?, id)?;
        let draft = self.draft(&old)?;
        let used = verifying(&draft, id)?;
        let mut violations = Violations::default();
        used.check(&mut violations, &request.secret);
        violations.finish()?;
        let value = used.next(&request.secret).ok_or_else(|| verifies_nothing(id))?;
        let shown = signing::shown(Some(&value));
        let act = Act::new("RotateSourceSecret", id.to_string());
        let new = NewVersion { name: SIGNING, value, overlap, act };
        let version = self.write(call, change, &old, new).await?;
        drop(client);
        let behind = self.confirmed(version, overlap).await?;
        Ok(v1::RotateSourceSecretResponse {
            source: Some(self.read(call.scope(), id).await?),
            secret: shown,
            unconfirmed_replicas: behind.iter().map(ToString::to_string).collect(),
        })
    }

    pub(super) async fn set_secret(
        &self,
        call: &Call,
        request: v1::SetSourceSecretRequest,
    ) -> Result<v1::SetSourceSecretResponse, Fault> {
        let id: SourceId = validate::id("id", &request.id)?;
        let overlap = overlap(request.overlap.as_ref())?;
        let name = if request.name.is_empty() { SIGNING } else { request.name.as_str() };
        let mut violations = Violations::default();
        named::name(&mut violations, "name", name);
        let value = match &request.value {
            Some(Value::Secret(secret)) => secret.clone(),
            Some(Value::Basic(basic)) => named::basic(&mut violations, "basic", basic),
            None => String::new(),
        };
        if value.is_empty() {
            violations.add("secret", "is required: RotateSourceSecret generates one");
        }
        violations.finish()?;

        let mut client = self.context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(sources::find(&change.tx, call.scope(), id).await?, id)?;
        let draft = self.draft(&old)?;
        let mut violations = Violations::default();
        if name == SIGNING {
            if matches!(request.value, Some(Value::Basic(_))) {
                takes_basic(&mut violations, &draft);
            }
            verifying(&draft, id)?.check(&mut violations, &value);
        } else {
            Use::Text.check(&mut violations, &value);
            let stored = signing::active(stored_secrets::of_owner(&change.tx, id.0).await?, Utc::now());
            if !stored.iter().any(|secret| secret.name == name) && named::count(&stored) >= NAMED_SECRETS_MAX
            {
                violations.add("name", format!("the source has {NAMED_SECRETS_MAX} named secrets already"));
            }
        }
        violations.finish()?;
        let act = Act::new("SetSourceSecret", format!("{id} {name}"));
        let new = NewVersion { name, value: Secret::from(value), overlap, act };
        let version = self.write(call, change, &old, new).await?;
        drop(client);
        let behind = self.confirmed(version, overlap).await?;
        Ok(v1::SetSourceSecretResponse {
            source: Some(self.read(call.scope(), id).await?),
            unconfirmed_replicas: behind.iter().map(ToString::to_string).collect(),
        })
    }

    fn draft(&self, source: &Source) -> Result<SourceDraft, Fault> {
        let current = present::stored_source(source, &[], &self.context.public_url)?;
        Ok(validate::source::check(&mut Violations::default(), &current))
    }

    /// Returns the configuration version that brings it.
    async fn write(
        &self,
        call: &Call,
        change: Change<'_>,
        source: &Source,
        new: NewVersion<'_>,
    ) -> Result<i64, Fault> {
        let (context, version, owner) = (&*self.context, change.version, source.id.0);
        stored_secrets::expire(&change.tx, owner, new.name, new.overlap, version).await?;
        let sealed = signing::seal(&context.vault, source.tenant_id, owner, new.name, new.value)?;
        stored_secrets::insert(&change.tx, &sealed, version).await?;
        sources::touch(&change.tx, source.id, version, new.overlap.is_zero()).await?;
        change.commit(context, call, &Act { tenant: Some(source.tenant_id), ..new.act }).await?;
        Ok(version)
    }

    /// Who may still accept the old secret, where nobody should.
    async fn confirmed(&self, version: i64, overlap: Duration) -> Result<Vec<ReplicaId>, Fault> {
        if !overlap.is_zero() {
            return Ok(Vec::new());
        }
        Ok(confirm(&self.context.pool, version).await?)
    }
}

fn overlap(wire: Option<&prost_types::Duration>) -> Result<Duration, Fault> {
    let mut violations = Violations::default();
    let overlap =
        wire.and_then(|wire| validate::duration(&mut violations, "overlap", wire, signing::OVERLAP));
    violations.finish()?;
    Ok(overlap.unwrap_or_default())
}

fn takes_basic(violations: &mut Violations, draft: &SourceDraft) {
    if draft.scheme.as_ref().is_some_and(|scheme| scheme.algorithm() != Algorithm::Basic) {
        violations.add("basic", "must not be set: this source does not verify HTTP Basic");
    }
}

fn verifying(draft: &SourceDraft, id: SourceId) -> Result<Use<'_>, Fault> {
    match secret_use(draft) {
        Use::None => Err(verifies_nothing(id)),
        used => Ok(used),
    }
}

fn verifies_nothing(id: SourceId) -> Fault {
    Fault::NoSecretUsed { kind: Kind::Source, id: id.to_string(), hint: "it verifies nothing (insecure)" }
}
