//! What changes a source that exists.

use bowline_core::id::SourceId;
use bowline_core::source::Source;
use bowline_core::store::{sources, stored_secrets};
use bowline_proto::v1;
use chrono::Utc;

use super::{Sources, fields, found, secret_use, taken};
use crate::call::Call;
use crate::change::{Act, begin};
use crate::etag;
use crate::fault::{Fault, Kind};
use crate::mask::Mask;
use crate::present;
use crate::signing;
use crate::validate::{self, Violations};

impl Sources {
    pub(super) async fn update(
        &self,
        call: &Call,
        request: v1::UpdateSourceRequest,
    ) -> Result<v1::UpdateSourceResponse, Fault> {
        let context = &*self.context;
        let wire = request.source.unwrap_or_default();
        let id: SourceId = validate::id("source.id", &wire.id)?;
        let mask = Mask::new(request.update_mask.as_ref(), fields::WRITABLE, &wire)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(sources::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&wire.etag, old.config_version, Kind::Source, id)?;
        let merged = fields::merge(present::stored_source(&old, &[], &context.public_url)?, wire, &mask);
        let mut violations = Violations::default();
        let draft = validate::source::check(&mut violations, &merged);
        if draft.name.is_empty() {
            violations.add("source.name", "must not be empty");
        }
        violations.finish()?;
        let secrets = signing::active(stored_secrets::of_owner(&change.tx, id.0).await?, Utc::now());
        if !secret_use(&draft).fits(&context.vault, &secrets)? {
            return Err(Fault::field(
                if mask.has("scheme") { "source.scheme" } else { "source.preset" },
                "the secret of this source is no key of the new scheme: create a new source for it",
            ));
        }
        // What was verified in the old way must be verified again before it is committed.
        let verified_otherwise = old.spec.preset != draft.spec.preset
            || old.spec.parameters != draft.spec.parameters
            || old.spec.scheme != draft.spec.scheme
            || old.spec.verify_cel != draft.spec.verify_cel
            || old.spec.insecure != draft.spec.insecure
            || old.spec.ip_allow_list != draft.spec.ip_allow_list
            || old.enabled != draft.enabled;
        let new = Source {
            name: draft.name,
            display_name: draft.display_name,
            labels: draft.labels,
            path: draft.path,
            spec: draft.spec,
            enabled: draft.enabled,
            generation: old.generation + i64::from(verified_otherwise),
            config_version: change.version,
            update_time: Utc::now(),
            ..old
        };
        sources::update(&change.tx, &new).await.map_err(|error| taken(error, &new))?;
        let act = Act { tenant: Some(new.tenant_id), ..Act::new("UpdateSource", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        Ok(v1::UpdateSourceResponse { source: Some(self.read(call.scope(), id).await?) })
    }

    pub(super) async fn delete(
        &self,
        call: &Call,
        request: v1::DeleteSourceRequest,
    ) -> Result<v1::DeleteSourceResponse, Fault> {
        let context = &*self.context;
        let id: SourceId = validate::id("id", &request.id)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(sources::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&request.etag, old.config_version, Kind::Source, id)?;
        sources::mark_deleted(&change.tx, id, change.version).await?;
        stored_secrets::delete_of_owner(&change.tx, id.0).await?;
        let act = Act { tenant: Some(old.tenant_id), ..Act::new("DeleteSource", id.to_string()) };
        change.commit(context, call, &act).await?;
        Ok(v1::DeleteSourceResponse {})
    }
}
