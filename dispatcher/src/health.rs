//! Consecutive failures of endpoints: counted after the record commit, ended by a success. An endpoint
//! that fails for as long as its policy allows is disabled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::delivery::{Decision, DeliveryKey};
use bowline_core::event::OWN_EVENTS;
use bowline_core::id::{EndpointId, EventId, TenantId};
use bowline_core::own_event::{DELIVERY_DEAD, OwnEvent};
use bowline_core::snapshot::Snapshot;
use bowline_core::store::{self, Pool, health, own_events};
use parking_lot::Mutex;

const CLEARED_FOR: Duration = Duration::from_secs(1);
const CLEARED_MAX: usize = 10_000;

/// A delivery that became a dead letter.
#[derive(Debug)]
pub(crate) struct Died {
    pub(crate) key: DeliveryKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) reason: &'static str,
    pub(crate) attempt: i32,
}

#[derive(Debug)]
pub(crate) struct Health {
    pool: Pool,
    snapshot: Arc<Snapshot>,
    /// When a success last ended an endpoint's count of failures. Within [`CLEARED_FOR`] another success
    /// need not do so again, unless this process saw a failure meanwhile. One that another process saw is
    /// cleared by the next success; who disables asks for a success since anyway.
    cleared: Mutex<HashMap<EndpointId, Instant>>,
}

impl Health {
    pub(crate) fn new(pool: Pool, snapshot: Arc<Snapshot>) -> Self {
        Self { pool, snapshot, cleared: Mutex::default() }
    }

    /// Those whose count has to be ended in Postgres.
    fn to_clear(&self, successes: Vec<EndpointId>, failures: &HashMap<EndpointId, i32>) -> Vec<EndpointId> {
        let now = Instant::now();
        let mut cleared = self.cleared.lock();
        cleared.retain(|id, _| !failures.contains_key(id));
        if cleared.len() >= CLEARED_MAX {
            cleared.clear();
        }
        let mut open: Vec<EndpointId> = successes
            .into_iter()
            .filter(|id| cleared.get(id).is_none_or(|at| now.duration_since(*at) >= CLEARED_FOR))
            .collect();
        open.sort_unstable();
        open.dedup();
        cleared.extend(open.iter().filter(|id| !failures.contains_key(id)).map(|id| (*id, now)));
        open
    }

    /// Tells those who want to know of deliveries that have died. Not of its own events' deliveries: one
    /// that nobody takes would bring forth the next.
    pub(crate) async fn tell_of_the_dead(&self, died: Vec<Died>) {
        let wanted: Vec<Died> = died.into_iter().filter(|one| self.somebody_asks(one.tenant_id)).collect();
        if wanted.is_empty() {
            return;
        }
        let told = async {
            let client = self.pool.get().await?;
            let ids: Vec<EventId> = wanted.iter().map(|one| one.key.event_id).collect();
            let types = own_events::types_of(&client, &ids).await?;
            let events: Vec<OwnEvent> = wanted
                .iter()
                .filter_map(|one| {
                    let event_type =
                        types.get(&one.key.event_id).filter(|kind| !kind.starts_with(OWN_EVENTS))?;
                    let why = (one.reason, one.attempt);
                    Some(OwnEvent::delivery_dead(one.tenant_id, one.key, event_type, why))
                })
                .collect();
            own_events::insert(&client, &events).await
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "nobody was told of deliveries that died");
        }
    }

    fn somebody_asks(&self, tenant: TenantId) -> bool {
        self.snapshot.endpoints_of(tenant).matching(DELIVERY_DEAD, None).next().is_some()
    }

    /// Disables endpoints whose receivers say that they are gone. This process knows of it when this is done.
    pub(crate) async fn disable_gone(&self, endpoints: &[EndpointId]) {
        for endpoint in endpoints {
            let disabled = async {
                let mut client = self.pool.get().await?;
                self.disable(&mut client, *endpoint, "gone: the receiver answered 410", None).await
            };
            if let Err(error) = disabled.await {
                tracing::warn!(%endpoint, %error, "an endpoint that is gone was not disabled");
            }
        }
    }

    /// Counts what a record commit decided, and disables the endpoints whose policy says so.
    pub(crate) async fn count(&self, decisions: &[(DeliveryKey, Decision)]) {
        let mut failures: HashMap<EndpointId, i32> = HashMap::new();
        let mut successes = Vec::new();
        for (key, decision) in decisions {
            match decision {
                Decision::Delivered => {
                    failures.remove(&key.endpoint_id);
                    successes.push(key.endpoint_id);
                }
                Decision::Retry | Decision::Dead => *failures.entry(key.endpoint_id).or_default() += 1,
                Decision::Cancelled | Decision::Expired | Decision::Stale => {}
            }
        }
        if let Err(error) = self.write(successes, failures).await {
            tracing::warn!(%error, "failure counts of endpoints were not written");
        }
    }

    async fn write(
        &self,
        successes: Vec<EndpointId>,
        failures: HashMap<EndpointId, i32>,
    ) -> Result<(), store::Error> {
        let successes = self.to_clear(successes, &failures);
        if successes.is_empty() && failures.is_empty() {
            return Ok(());
        }
        let mut client = self.pool.get().await?;
        if !successes.is_empty() {
            health::succeeded(&client, &successes).await?;
        }
        if failures.is_empty() {
            return Ok(());
        }
        for failing in health::failed(&client, failures.into_iter().collect()).await? {
            let Some(live) = self.snapshot.endpoint(failing.endpoint_id) else { continue };
            let policy = live.endpoint.spec.disable;
            if policy.after_failures > 0
                && failing.failures >= policy.after_failures as i32
                && failing.failing_for >= policy.after
            {
                let reason = format!("{} consecutive attempts failed", failing.failures);
                self.disable(&mut client, failing.endpoint_id, &reason, Some(failing.failing_for)).await?;
            }
        }
        Ok(())
    }

    async fn disable(
        &self,
        client: &mut store::Connection,
        endpoint: EndpointId,
        reason: &str,
        failing_for: Option<Duration>,
    ) -> Result<(), store::Error> {
        if health::disable(client, endpoint, reason, failing_for).await? {
            tracing::warn!(%endpoint, reason, "endpoint disabled");
            self.snapshot.refresh().await?;
        }
        Ok(())
    }
}
