//! A bound that tenants share: one may hold as much as is still free and no more, so that a tenant
//! that fills its part always leaves the others room (invariant 5). Alone it gets half.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::TenantId;
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Shared {
    max: usize,
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
}

/// What one holder has; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arc<Shared>,
    tenant: TenantId,
    units: usize,
}

impl Shared {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default(), freed: Notify::new() })
    }

    /// What a tenant that holds nothing could take now.
    pub(crate) fn free(&self) -> usize {
        self.max.saturating_sub(self.held.lock().all)
    }

    /// More units than the tenant may ever have are cut to what it may have alone: one large body
    /// must not wait for ever.
    pub(crate) fn try_take(self: &Arc<Self>, tenant: TenantId, units: usize) -> Option<Share> {
        let units = units.min(self.max.div_ceil(2));
        let mut held = self.held.lock();
        let free = self.max - held.all;
        let own = held.by_tenant.get(&tenant).copied().unwrap_or(0);
        if units > free || own + units > free.max(1) {
            return None;
        }
        held.all += units;
        *held.by_tenant.entry(tenant).or_default() += units;
        Some(Share { of: Arc::clone(self), tenant, units })
    }

    /// Waits for what others give back, no longer than `patience`.
    pub(crate) async fn take(
        self: &Arc<Self>,
        tenant: TenantId,
        units: usize,
        patience: Duration,
    ) -> Option<Share> {
        if let Some(share) = self.try_take(tenant, units) {
            return Some(share);
        }
        let waiting = async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                // Registered before looking, so that nothing given back meanwhile is missed.
                freed.as_mut().enable();
                if let Some(share) = self.try_take(tenant, units) {
                    return share;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, waiting).await.ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
        held.all -= self.units;
        if let Some(own) = held.by_tenant.get_mut(&self.tenant) {
            *own -= self.units;
            if *own == 0 {
                held.by_tenant.remove(&self.tenant);
            }
        }
        drop(held);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_takes_all_it_can_leaves_room() {
        let shared = Shared::new(100);
        let (greedy, modest) = (TenantId::new(), TenantId::new());
        let taken: Vec<Share> = std::iter::from_fn(|| shared.try_take(greedy, 1)).collect();
        assert_eq!(taken.len(), 50);
        let other: Vec<Share> = std::iter::from_fn(|| shared.try_take(modest, 1)).collect();
        assert_eq!(other.len(), 25);
        drop(taken);
        drop(other);
        assert_eq!(shared.free(), 100);
    }

    #[test]
    fn one_that_is_larger_than_the_bound_gets_in_alone() {
        let shared = Shared::new(10);
        let tenant = TenantId::new();
        let large = shared.try_take(tenant, 1000).unwrap();
        assert!(shared.try_take(tenant, 1000).is_none());
        drop(large);
        assert!(shared.try_take(tenant, 1000).is_some());
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_given_back() {
        let shared = Shared::new(2);
        let tenant = TenantId::new();
        let first = shared.try_take(tenant, 1).unwrap();
        assert!(shared.take(tenant, 1, Duration::ZERO).await.is_none());
        let waiting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { shared.take(tenant, 1, Duration::from_secs(60)).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
