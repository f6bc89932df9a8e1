//! How many bytes may lie ready for those who asked for them: in this process, and for one tenant.
//!
//! Room is given back when the last byte has gone to the transport. A watch takes it before anything is read, and
//! where there is none it waits, first come, first served. It always comes: [`supervise`](super::supervise) ends
//! whoever takes nothing, and sooner where somebody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bowline_core::id::TenantId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::Fault;

const WATCHES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Some messages of the largest kind.
const WATCHES_BYTES_PER_TENANT_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<Share>,
    bytes_per_tenant_max: usize,
    /// `None` is whoever may see every tenant.
    by_tenant: Mutex<HashMap<Option<TenantId>, Weak<Share>>>,
}

/// So many bytes, and who waits for them.
#[derive(Debug)]
struct Share {
    bytes: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Counts one who waits, until dropped.
struct Waiter<'a>(&'a Share);

/// Room that is taken, until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    of_tenant: Taken,
    of_all: Taken,
}

#[derive(Debug)]
struct Taken {
    permit: OwnedSemaphorePermit,
    share: Arc<Share>,
}

impl Room {
    pub(super) fn new(bytes_max: usize, bytes_per_tenant_max: usize) -> Self {
        Self { all: Share::new(bytes_max), bytes_per_tenant_max, by_tenant: Mutex::default() }
    }

    pub(crate) fn of_watches() -> Self {
        Self::new(WATCHES_BYTES_MAX, WATCHES_BYTES_PER_TENANT_MAX)
    }

    /// Waits for so many bytes; for all that a tenant may have, where that is less. Where they are to be had at once
    /// it does not wait.
    pub(crate) async fn take(&self, tenant: Option<TenantId>, bytes: usize) -> Result<Held, Fault> {
        let bytes = bytes.clamp(1, self.bytes_per_tenant_max) as u32;
        // In this order, so that who waits for the tenant's keeps nobody else up.
        let of_tenant = self.of(tenant).take(bytes).await?;
        let of_all = Arc::clone(&self.all).take(bytes).await?;
        Ok(Held { of_tenant, of_all })
    }

    fn of(&self, tenant: Option<TenantId>) -> Arc<Share> {
        let mut by_tenant = self.by_tenant.lock();
        if let Some(known) = by_tenant.get(&tenant).and_then(Weak::upgrade) {
            return known;
        }
        by_tenant.retain(|_, known| known.strong_count() > 0);
        let new = Share::new(self.bytes_per_tenant_max);
        by_tenant.insert(tenant, Arc::downgrade(&new));
        new
    }
}

impl Share {
    fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes: Arc::new(Semaphore::new(bytes)), waiting: AtomicUsize::new(0) })
    }

    async fn take(self: Arc<Self>, bytes: u32) -> Result<Taken, Fault> {
        // While somebody waits there is none to be had at once.
        let at_once = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        let permit = if let Ok(permit) = at_once {
            permit
        } else {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let _waiter = Waiter(&self);
            // It is never closed.
            Arc::clone(&self.bytes).acquire_many_owned(bytes).await.map_err(|_| Fault::Stopping)?
        };
        Ok(Taken { permit, share: self })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Taken {
    fn split(&mut self, bytes: usize) -> Option<Self> {
        Some(Self { permit: self.permit.split(bytes)?, share: Arc::clone(&self.share) })
    }
}

impl Held {
    /// Moves so many of its bytes, or all that it has.
    pub(crate) fn split(&mut self, bytes: usize) -> Option<Self> {
        let bytes = bytes.min(self.bytes());
        Some(Self { of_tenant: self.of_tenant.split(bytes)?, of_all: self.of_all.split(bytes)? })
    }

    /// Gives back what is more than that.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes().saturating_sub(bytes);
        drop(self.split(excess));
    }

    /// Somebody waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        [&self.of_tenant, &self.of_all].iter().any(|taken| taken.share.waiting.load(Ordering::Relaxed) > 0)
    }

    fn bytes(&self) -> usize {
        self.of_all.permit.num_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn who_holds_all_of_a_tenant_keeps_no_other_up() {
        let room = Room::of_watches();
        let [first, second] = [Some(TenantId::new()), None];
        let take = |tenant, bytes| room.take(tenant, bytes).now_or_never().map(Result::unwrap);
        // More than there ever is: all there is.
        let mut held = take(first, usize::MAX).unwrap();
        assert!(take(first, 1).is_none() && !held.is_wanted());
        let mut waits = Box::pin(room.take(first, 1));
        assert!(waits.as_mut().now_or_never().is_none() && held.is_wanted());
        drop(waits);
        assert!(!held.is_wanted());
        assert!(take(second, WATCHES_BYTES_PER_TENANT_MAX).is_some());
        let part = held.split(100).unwrap();
        held.shrink_to(50);
        drop(part);
        assert!(take(first, WATCHES_BYTES_PER_TENANT_MAX - 49).is_none());
        assert!(take(first, WATCHES_BYTES_PER_TENANT_MAX - 50).is_some());
        drop(held);
        assert!(take(first, WATCHES_BYTES_PER_TENANT_MAX).is_some());
        assert_eq!(room.all.bytes.available_permits(), WATCHES_BYTES_MAX);
    }
}
