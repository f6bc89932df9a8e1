//! A write: one transaction that raises the configuration version, keeps the request id and leaves
//! its row in the audit log.

use bowline_core::id::TenantId;
use bowline_core::store::audit::{self, AuditEntry, RequestKey};
use bowline_core::store::{self, config_writes};
use deadpool_postgres::{Object, Transaction};
use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::AdminContext;
use crate::call::Call;
use crate::fault::{Fault, outcome};
use crate::validate::excerpt;

/// What a call does, for the audit log.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// Name of the method.
    pub(crate) action: &'static str,
    /// Id of the resource, or its name where there is no id yet.
    pub(crate) resource: String,
    pub(crate) tenant: Option<TenantId>,
    /// The caller's request id; empty where there is none.
    pub(crate) request_id: String,
}

impl Act {
    pub(crate) fn new(action: &'static str, resource: impl Into<String>) -> Self {
        Self { action, resource: resource.into(), tenant: None, request_id: String::new() }
    }

    /// A call the role did not allow: what it was about is not known.
    pub(crate) fn denied(action: &'static str) -> Self {
        Self::new(action, "")
    }

    fn entry<'a>(&'a self, call: &'a Call, outcome: &'a str) -> AuditEntry<'a> {
        AuditEntry {
            tenant_id: self.tenant.or(call.scope()),
            actor: &call.caller.actor,
            action: self.action,
            resource: &self.resource,
            request_id: &self.request_id,
            call_id: &call.id,
            outcome,
        }
    }
}

/// An open transaction.
pub(crate) struct Change<'c> {
    pub(crate) tx: Transaction<'c>,
    /// The configuration version this write brings; 0 where it changes no configuration.
    pub(crate) version: i64,
}

/// Begins a write of configuration: from here to the commit no other one runs.
pub(crate) async fn begin(client: &mut Object) -> Result<Change<'_>, Fault> {
    let tx = client.transaction().await.map_err(store::Error::from)?;
    let version = config_writes::begin(&tx).await?;
    Ok(Change { tx, version })
}

/// Begins a write of anything else.
pub(crate) async fn begin_work(client: &mut Object) -> Result<Change<'_>, Fault> {
    let tx = client.transaction().await.map_err(store::Error::from)?;
    Ok(Change { tx, version: 0 })
}

impl Change<'_> {
    /// Commits with the audit row. From then on this replica serves the new configuration; the
    /// others follow by notification and polling.
    pub(crate) async fn commit(self, context: &AdminContext, call: &Call, act: &Act) -> Result<(), Fault> {
        audit::insert(&self.tx, &act.entry(call, "OK")).await?;
        self.tx.commit().await.map_err(store::Error::from)?;
        if self.version > 0
            && let Err(error) = context.snapshot.refresh().await
        {
            // Committed all the same: the snapshot polls, and catches up by the version.
            tracing::warn!(%error, "configuration was written but not read back yet");
        }
        Ok(())
    }

    /// Commits work that is part of a call whose audit row is already there.
    pub(crate) async fn commit_quietly(self) -> Result<(), Fault> {
        self.tx.commit().await.map_err(store::Error::from)?;
        Ok(())
    }

    /// Whether a create was made before under the caller's request id, and what it made.
    pub(crate) async fn earlier(&self, repeat: &Repeat<'_>) -> Result<Option<Uuid>, Fault> {
        let Some(key) = repeat.key() else { return Ok(None) };
        match audit::find_request(&self.tx, &key).await? {
            None => Ok(None),
            Some(earlier) if earlier.fingerprint == repeat.fingerprint => Ok(Some(earlier.resource)),
            Some(_) => Err(Fault::RequestIdReused),
        }
    }

    /// Keeps what was made under the caller's request id.
    pub(crate) async fn keep(&self, repeat: &Repeat<'_>, resource: Uuid) -> Result<(), Fault> {
        if let Some(key) = repeat.key() {
            audit::keep_request(&self.tx, &key, &repeat.fingerprint, resource).await?;
        }
        Ok(())
    }
}

/// A create that may come twice.
pub(crate) struct Repeat<'a> {
    tenant: TenantId,
    method: &'static str,
    id: &'a str,
    fingerprint: [u8; 32],
}

impl<'a> Repeat<'a> {
    /// `content` is the message without its secret and request id.
    pub(crate) fn new<M: Message>(tenant: TenantId, method: &'static str, id: &'a str, content: &M) -> Self {
        let fingerprint = Sha256::digest(content.encode_to_vec()).into();
        Self { tenant, method, id, fingerprint }
    }

    fn key(&self) -> Option<RequestKey<'a>> {
        (!self.id.is_empty()).then_some(RequestKey {
            tenant_id: self.tenant,
            method: self.method,
            id: self.id,
        })
    }
}

/// Leaves a row for a write that failed. The answer does not wait for more than one statement, and
/// is the same whether it succeeds or not.
pub(crate) async fn record_failure(context: &AdminContext, call: &Call, act: Act, fault: &Fault) {
    let outcome = outcome(fault);
    let act = Act { resource: excerpt(&act.resource), request_id: excerpt(&act.request_id), ..act };
    let written = async {
        let client = context.client().await?;
        audit::insert(&client, &act.entry(call, outcome)).await.map_err(Fault::from)
    };
    if let Err(error) = written.await {
        tracing::warn!(%error, action = act.action, actor = %call.caller.actor, "a failed call is not in the audit log");
    }
}

/// Leaves a row for a write that failed, and passes its outcome on.
pub(crate) async fn audited<T>(
    context: &AdminContext,
    call: &Call,
    act: Act,
    outcome: Result<T, Fault>,
) -> Result<T, Fault> {
    if let Err(fault) = &outcome {
        record_failure(context, call, act, fault).await;
    }
    outcome
}
