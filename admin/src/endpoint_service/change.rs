//! What changes an endpoint that exists, and what waits for it.

use std::time::{Duration, Instant};

use bowline_core::endpoint::{Endpoint, EndpointState};
use bowline_core::format;
use bowline_core::id::EndpointId;
use bowline_core::secrets::Purpose;
use bowline_core::secrets::name::SIGNING;
use bowline_core::store::{channels, endpoints, stored_secrets};
use bowline_proto::v1;
use chrono::Utc;

use super::{Endpoints, fields, found, secret_use, signing_now};
use crate::call::Call;
use crate::change::{Act, begin, begin_work};
use crate::etag;
use crate::fault::{Fault, Kind};
use crate::mask::Mask;
use crate::present;
use crate::signing::{self, Use};
use crate::validate::{self, Violations};

/// Waiting deliveries a transaction touches, so that none holds its locks for long.
const BACKLOG_BATCH: i64 = 5_000;
/// What is left of the backlog after this is left to the dispatchers.
const BACKLOG_TIME_MAX: Duration = Duration::from_secs(20);

impl Endpoints {
    pub(super) async fn update(
        &self,
        call: &Call,
        request: v1::UpdateEndpointRequest,
    ) -> Result<v1::UpdateEndpointResponse, Fault> {
        let context = &*self.context;
        let wire = request.endpoint.unwrap_or_default();
        let id: EndpointId = validate::id("endpoint.id", &wire.id)?;
        let mask = Mask::new(request.update_mask.as_ref(), fields::WRITABLE, &wire)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(endpoints::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&wire.etag, old.config_version, Kind::Endpoint, id)?;
        let merged = mask.merge(present::endpoint(&old, &[], &context.public_url), wire);
        let mut violations = Violations::default();
        let draft = validate::endpoint::check(&mut violations, &merged, &context.egress);
        if draft.spec.event_types != old.spec.event_types {
            self.check_subscription(&mut violations, old.tenant_id, &merged.event_types).await?;
        }
        if draft.name.is_empty() {
            violations.add("endpoint.name", "must not be empty");
        }
        let stored = stored_secrets::of_owner(&change.tx, id.0).await?;
        let sealing = draft.sealing.over(&mut violations, (&old.spec, &draft.spec), &stored);
        if let Some(chain) = draft.spec.tls.as_deref().and_then(|tls| tls.client_certificate.as_ref())
            && old.spec.tls != draft.spec.tls
            && let Some(key) = draft.sealing.kept_client_key(&stored)
        {
            let key = context.vault.open(key, Purpose::Verify)?;
            validate::auth::check_key(&mut violations, chain, &key);
        }
        violations.finish()?;
        let same = draft.spec.format == old.spec.format && draft.spec.custom == old.spec.custom;
        if !same && !secret_use(&draft).fits(&context.vault, &signing_now(stored))? {
            return Err(Fault::field(
                "endpoint.format",
                "the secret of this endpoint cannot sign in this format: create a new endpoint for it",
            ));
        }
        let new = Endpoint {
            name: draft.name,
            display_name: draft.display_name,
            labels: draft.labels,
            spec: draft.spec,
            config_version: change.version,
            update_time: Utc::now(),
            ..old
        };
        let taken = |error| Fault::of_write(error, Kind::Endpoint, &new.name);
        endpoints::update(&change.tx, &new).await.map_err(taken)?;
        sealing.write(&change, context, &new).await?;
        let act = Act { tenant: Some(new.tenant_id), ..Act::new("UpdateEndpoint", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        Ok(v1::UpdateEndpointResponse { endpoint: Some(self.read(call.scope(), id).await?) })
    }

    pub(super) async fn rotate(
        &self,
        call: &Call,
        request: v1::RotateEndpointSecretRequest,
    ) -> Result<v1::RotateEndpointSecretResponse, Fault> {
        let context = &*self.context;
        let id: EndpointId = validate::id("id", &request.id)?;
        let mut violations = Violations::default();
        let overlap = request
            .overlap
            .as_ref()
            .and_then(|overlap| validate::duration(&mut violations, "overlap", overlap, signing::OVERLAP))
            .unwrap_or_default();
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(endpoints::find(&change.tx, call.scope(), id).await?, id)?;
        let format = format::of(&old.spec.format, old.spec.custom.as_ref())
            .map_err(|fault| Fault::Unreadable(format!("the format of endpoint {id}: {fault}")))?;
        let used = Use::Sign { scheme: format.scheme(), optional: format.secret_optional() };
        used.check(&mut violations, &request.secret);
        used.check_kind(&mut violations, &request.secret, request.secret_kind());
        violations.finish()?;
        let current = signing_now(stored_secrets::of_owner(&change.tx, id.0).await?);
        let secret = used.next_of(&request.secret, request.secret_kind(), &current).ok_or_else(|| {
            Fault::NoSecretUsed { kind: Kind::Endpoint, id: id.to_string(), hint: "its format does not sign" }
        })?;
        stored_secrets::expire(&change.tx, id.0, SIGNING, overlap, change.version).await?;
        let sealed = used.seal(&context.vault, old.tenant_id, id.0, SIGNING, secret.clone())?;
        stored_secrets::insert(&change.tx, &sealed, change.version).await?;
        endpoints::touch(&change.tx, id, change.version).await?;
        let act = Act { tenant: Some(old.tenant_id), ..Act::new("RotateEndpointSecret", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        Ok(v1::RotateEndpointSecretResponse {
            endpoint: Some(self.read(call.scope(), id).await?),
            secret: signing::shown(Some(&secret)),
        })
    }

    pub(super) async fn delete(
        &self,
        call: &Call,
        request: v1::DeleteEndpointRequest,
    ) -> Result<v1::DeleteEndpointResponse, Fault> {
        let context = &*self.context;
        let id: EndpointId = validate::id("id", &request.id)?;
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(endpoints::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&request.etag, old.config_version, Kind::Endpoint, id)?;
        endpoints::mark_deleted(&change.tx, id, change.version).await?;
        stored_secrets::delete_of_owner(&change.tx, id.0).await?;
        let act = Act { tenant: Some(old.tenant_id), ..Act::new("DeleteEndpoint", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        let cancelled_count = self.cancel_backlog(id).await?;
        Ok(v1::DeleteEndpointResponse { cancelled_count })
    }

    pub(super) async fn set_state(
        &self,
        call: &Call,
        request: v1::SetEndpointStateRequest,
    ) -> Result<v1::SetEndpointStateResponse, Fault> {
        let context = &*self.context;
        let id: EndpointId = validate::id("id", &request.id)?;
        let state = match request.state() {
            v1::EndpointState::Enabled => EndpointState::Enabled,
            v1::EndpointState::Paused => EndpointState::Paused,
            v1::EndpointState::Disabled => EndpointState::Disabled,
            v1::EndpointState::Unspecified => {
                return Err(Fault::field("state", "must be ENABLED, PAUSED or DISABLED"));
            }
        };
        let mut client = context.client().await?;
        let change = begin(&mut client).await?;
        let old = found(endpoints::find(&change.tx, call.scope(), id).await?, id)?;
        etag::check(&request.etag, old.config_version, Kind::Endpoint, id)?;
        let new = Endpoint {
            state,
            disabled_reason: String::new(),
            config_version: change.version,
            update_time: Utc::now(),
            ..old
        };
        let taken = |error| Fault::of_write(error, Kind::Endpoint, &new.name);
        endpoints::update(&change.tx, &new).await.map_err(taken)?;
        if state == EndpointState::Enabled {
            endpoints::forget_failures(&change.tx, id).await?;
        }
        let act = Act { tenant: Some(new.tenant_id), ..Act::new("SetEndpointState", id.to_string()) };
        change.commit(context, call, &act).await?;
        drop(client);
        if state == EndpointState::Enabled {
            self.hasten_backlog(id).await?;
        }
        Ok(v1::SetEndpointStateResponse { endpoint: Some(self.read(call.scope(), id).await?) })
    }

    /// Ends what waits for a deleted endpoint, batch by batch.
    async fn cancel_backlog(&self, id: EndpointId) -> Result<i64, Fault> {
        let begun = Instant::now();
        let mut cancelled = 0;
        while begun.elapsed() < BACKLOG_TIME_MAX {
            let mut client = self.context.client().await?;
            let work = begin_work(&mut client).await?;
            let count = endpoints::cancel_waiting(&work.tx, id, BACKLOG_BATCH).await?;
            work.commit_quietly().await?;
            cancelled += count;
            if count < BACKLOG_BATCH {
                break;
            }
        }
        Ok(cancelled)
    }

    /// Makes what waits for an endpoint due at once, batch by batch.
    async fn hasten_backlog(&self, id: EndpointId) -> Result<(), Fault> {
        let begun = Instant::now();
        while begun.elapsed() < BACKLOG_TIME_MAX {
            let client = self.context.client().await?;
            if endpoints::make_due(&client, id, BACKLOG_BATCH).await? < BACKLOG_BATCH {
                channels::hasten_all(&client, id).await?;
                break;
            }
        }
        Ok(())
    }
}
