//! One state of the configuration, and the next one made from it.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use uuid::Uuid;

use super::endpoints::TenantEndpoints;
use super::live::{LiveEndpoint, LiveSource};
use super::sharded::{Sharded, Use};
use crate::catalog::Catalog;
use crate::endpoint::Endpoint;
use crate::id::{EndpointId, SourceId, TenantId};
use crate::secrets::StoredSecret;
use crate::source::Source;
use crate::store::snapshots::{Changes, Reading};

#[derive(Debug, Clone, Default)]
pub(super) struct Configuration {
    pub(super) version: i64,
    pub(super) sources: Sharded<SourceId, Arc<LiveSource>>,
    pub(super) paths: Sharded<String, SourceId>,
    pub(super) endpoints: Sharded<EndpointId, Arc<LiveEndpoint>>,
    pub(super) tenants: Sharded<TenantId, Arc<TenantEndpoints>>,
    /// Of those tenants whose catalog says anything.
    pub(super) catalogs: Sharded<TenantId, Arc<Catalog>>,
    /// The ordered ones of each tenant that has some, for the journal; and the same by their ids.
    pub(super) ordered: Sharded<TenantId, Arc<TenantEndpoints>>,
    pub(super) ordered_by_id: Sharded<EndpointId, Arc<LiveEndpoint>>,
}

type Secrets = HashMap<Uuid, Vec<StoredSecret>>;

fn take_secrets(secrets: &mut Secrets, owner: Uuid) -> Vec<Arc<StoredSecret>> {
    secrets.remove(&owner).unwrap_or_default().into_iter().map(Arc::new).collect()
}

/// A row that can't be used fails alone (invariant 12).
fn report(id: impl Display, problem: &str) {
    tracing::error!(%id, problem, "configuration that this version can't use");
    metrics::counter!("bowline_core_config_unusable_total").increment(1);
}

impl Configuration {
    /// The state after some changes; `before` stays as it is.
    pub(super) fn after(before: &Self, changes: Changes) -> Self {
        let mut next = if changes.complete { Self::default() } else { before.clone() };
        next.version = changes.version;
        let mut secrets = changes.secrets;
        // All removals come first: a path may have gone from one source to another.
        for (id, _) in &changes.sources {
            next.remove_source(*id);
        }
        for (id, reading) in changes.sources {
            let secrets = take_secrets(&mut secrets, id.0);
            next.add_source(id, reading, secrets);
        }
        for (id, reading) in changes.endpoints {
            next.remove_endpoint(id);
            let secrets = take_secrets(&mut secrets, id.0);
            next.add_endpoint(id, reading, secrets);
        }
        for (tenant, strict) in changes.catalogs {
            next.change_catalog(tenant, |catalog| catalog.strict = strict);
        }
        for (tenant, id, reading) in changes.event_types {
            next.change_catalog(tenant, |catalog| match reading {
                Reading::Deleted => catalog.remove(id),
                Reading::Unreadable { problem, .. } => report(id, &problem),
                Reading::Live(event_type) => catalog.insert(event_type),
            });
        }
        for (id, reading) in changes.ordered {
            next.remove_ordered(id);
            if let Reading::Live(endpoint) | Reading::Unreadable { held: Some(endpoint), .. } = reading {
                // Matched here, and never sent to.
                next.add_ordered(&Arc::new(LiveEndpoint::held(endpoint, String::new())));
            }
        }
        next
    }

    fn change_catalog(&mut self, tenant: TenantId, change: impl FnOnce(&mut Catalog)) {
        self.catalogs.change(&tenant, |catalog| {
            let catalog = Arc::make_mut(catalog);
            change(catalog);
            if catalog.is_empty() { Use::None } else { Use::Some }
        });
    }

    fn remove_source(&mut self, id: SourceId) {
        if let Some(path) = self.sources.remove(&id).and_then(|live| live.source.path.clone()) {
            self.paths.remove(&path);
        }
    }

    fn add_source(&mut self, id: SourceId, reading: Reading<Source>, secrets: Vec<Arc<StoredSecret>>) {
        let live = match reading {
            Reading::Deleted => return,
            Reading::Unreadable { problem, .. } => return report(id, &problem),
            Reading::Live(source) => LiveSource::new(source, secrets),
        };
        match live {
            Err(problem) => report(id, &problem),
            Ok(live) => {
                if let Some(path) = &live.source.path {
                    self.paths.insert(path.clone(), id);
                }
                self.sources.insert(id, Arc::new(live));
            }
        }
    }

    fn remove_ordered(&mut self, id: EndpointId) {
        let Some(live) = self.ordered_by_id.remove(&id) else { return };
        self.ordered.change(&live.endpoint.tenant_id, |tenant| {
            Arc::make_mut(tenant).remove(&live);
            if tenant.is_empty() { Use::None } else { Use::Some }
        });
    }

    fn add_ordered(&mut self, live: &Arc<LiveEndpoint>) {
        if live.endpoint.spec.ordering.is_none() {
            return;
        }
        self.ordered.change(&live.endpoint.tenant_id, |tenant| {
            Arc::make_mut(tenant).insert(live);
            Use::Some
        });
        self.ordered_by_id.insert(live.endpoint.id, Arc::clone(live));
    }

    fn remove_endpoint(&mut self, id: EndpointId) {
        self.remove_ordered(id);
        let Some(live) = self.endpoints.remove(&id) else { return };
        self.tenants.change(&live.endpoint.tenant_id, |tenant| {
            Arc::make_mut(tenant).remove(&live);
            if tenant.is_empty() { Use::None } else { Use::Some }
        });
    }

    fn add_endpoint(&mut self, id: EndpointId, reading: Reading<Endpoint>, secrets: Vec<Arc<StoredSecret>>) {
        let live = match reading {
            Reading::Deleted => return,
            Reading::Unreadable { problem, held: None } => return report(id, &problem),
            Reading::Unreadable { problem, held: Some(endpoint) } => LiveEndpoint::held(endpoint, problem),
            Reading::Live(endpoint) => LiveEndpoint::new(endpoint, secrets),
        };
        if let Some(fault) = &live.fault {
            report(id, fault);
        }
        let live = Arc::new(live);
        self.add_ordered(&live);
        self.tenants.change(&live.endpoint.tenant_id, |tenant| {
            Arc::make_mut(tenant).insert(&live);
            Use::Some
        });
        self.endpoints.insert(id, live);
    }
}
