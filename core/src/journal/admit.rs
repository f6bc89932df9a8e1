//! The door: how many requests, and how many bytes of them, may be in flight, in all and for one
//! tenant (invariants 5 and 7). What finds no room is refused at once; nothing queues here.
//!
//! Each request passes twice, in and out: the totals are atomic, and the tenants are spread over locks
//! of their own, so that no tenant waits for another's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::JournalError;
use crate::bootstrap::config::IngestConfig;
use crate::defaults;
use crate::id::TenantId;

/// Locks the tenants are spread over.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Admission {
    total: Limits,
    tenant: Limits,
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// Only tenants that have something in flight.
    tenants: [Mutex<HashMap<TenantId, Share>>; SHARDS],
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    requests: usize,
    bytes: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    requests: usize,
    bytes: usize,
}

/// Room for one request; it is free again when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Permit {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    admission: Arc<Admission>,
    tenant: TenantId,
    bytes: AtomicUsize,
}

impl Admission {
    pub(super) fn new(config: &IngestConfig) -> Self {
        let share = |all: usize| ((all as f64 * config.tenant_share) as usize).clamp(1, all.max(1));
        let total = Limits { requests: config.in_flight_max, bytes: config.in_flight_bytes_max };
        let tenant = Limits {
            requests: share(config.in_flight_max),
            // A body of the usual limit must always fit.
            bytes: share(config.in_flight_bytes_max)
                .max((defaults::BODY_LIMIT_BYTES as usize).min(config.in_flight_bytes_max)),
        };
        Self::with(total, tenant)
    }

    fn with(total: Limits, tenant: Limits) -> Self {
        Self {
            total,
            tenant,
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            tenants: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Whether a request would find room now, of whatever tenant.
    pub(super) fn has_room(&self) -> bool {
        self.requests.load(Ordering::Relaxed) < self.total.requests
    }

    /// Takes in one request with so many bytes.
    pub(super) fn admit(this: &Arc<Self>, tenant: TenantId, bytes: usize) -> Result<Permit, JournalError> {
        this.take(tenant, 1, bytes)?;
        Ok(Permit { held: Arc::new(Held { admission: Arc::clone(this), tenant, bytes: bytes.into() }) })
    }

    fn take(&self, tenant: TenantId, requests: usize, bytes: usize) -> Result<(), JournalError> {
        let mut tenants = self.shard(tenant).lock();
        let used = tenants.get(&tenant).copied().unwrap_or_default();
        let limit = if !fits(used.requests, requests, self.tenant.requests) {
            "requests"
        } else if !fits(used.bytes, bytes, self.tenant.bytes) || !add(&self.bytes, bytes, self.total.bytes) {
            "bytes"
        } else if !add(&self.requests, requests, self.total.requests) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            "requests"
        } else {
            let share = tenants.entry(tenant).or_default();
            share.requests += requests;
            share.bytes += bytes;
            return Ok(());
        };
        drop(tenants);
        metrics::counter!("bowline_journal_shed_total", "limit" => limit).increment(1);
        Err(JournalError::overloaded())
    }

    fn give_back(&self, tenant: TenantId, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut tenants = self.shard(tenant).lock();
        if let Some(share) = tenants.get_mut(&tenant) {
            share.requests -= 1;
            share.bytes -= bytes;
            if share.requests == 0 {
                tenants.remove(&tenant);
            }
        }
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<HashMap<TenantId, Share>> {
        // The end of an id is random.
        &self.tenants[tenant.0.as_bytes()[15] as usize % SHARDS]
    }
}

fn fits(used: usize, more: usize, limit: usize) -> bool {
    used.checked_add(more).is_some_and(|sum| sum <= limit)
}

fn add(counter: &AtomicUsize, more: usize, limit: usize) -> bool {
    let next = |used| fits(used, more, limit).then(|| used + more);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

impl Permit {
    /// Asks for room for so many more bytes; to be called before they are kept.
    pub fn grow(&self, bytes: usize) -> Result<(), JournalError> {
        self.held.admission.take(self.held.tenant, 0, bytes)?;
        self.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    pub fn tenant(&self) -> TenantId {
        self.held.tenant
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.admission.give_back(self.tenant, *self.bytes.get_mut());
    }
}

#[cfg(test)]
impl Permit {
    /// One that nothing limits.
    pub(super) fn unlimited(tenant: TenantId) -> Self {
        let limits = Limits { requests: usize::MAX, bytes: usize::MAX };
        Admission::admit(&Arc::new(Admission::with(limits, limits)), tenant, 0).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        let total = Limits { requests: 4, bytes: 100 };
        Arc::new(Admission::with(total, Limits { requests: 2, bytes: 60 }))
    }

    fn in_flight(admission: &Admission) -> (usize, usize, usize) {
        let tenants = admission.tenants.iter().map(|shard| shard.lock().len()).sum();
        (admission.requests.load(Ordering::Relaxed), admission.bytes.load(Ordering::Relaxed), tenants)
    }

    #[test]
    fn a_tenant_cannot_take_the_room_of_others() {
        let admission = admission();
        let (flooding, other) = (TenantId::new(), TenantId::new());
        let first = Admission::admit(&admission, flooding, 0).unwrap();
        let second = Admission::admit(&admission, flooding, 0).unwrap();
        assert_eq!(Admission::admit(&admission, flooding, 0).err(), Some(JournalError::overloaded()));
        first.grow(60).unwrap();
        assert!(second.grow(1).is_err());
        let permit = Admission::admit(&admission, other, 0).unwrap();
        assert!(permit.grow(41).is_err(), "over the total");
        permit.grow(40).unwrap();
        assert!(permit.grow(usize::MAX).is_err());
    }

    #[test]
    fn a_refusal_takes_no_room() {
        let admission = admission();
        let tenants: [TenantId; 3] = std::array::from_fn(|_| TenantId::new());
        let held: Vec<Permit> =
            tenants[..2].iter().map(|tenant| Admission::admit(&admission, *tenant, 40).unwrap()).collect();
        assert!(Admission::admit(&admission, tenants[2], 21).is_err(), "bytes");
        assert_eq!(in_flight(&admission), (2, 80, 2));
        let more: Vec<Permit> =
            tenants[..2].iter().map(|tenant| Admission::admit(&admission, *tenant, 0).unwrap()).collect();
        assert!(!admission.has_room());
        assert!(Admission::admit(&admission, tenants[2], 5).is_err(), "requests");
        assert_eq!(in_flight(&admission), (4, 80, 2));
        drop((held, more));
        assert_eq!(in_flight(&admission), (0, 0, 0));
    }

    #[test]
    fn room_is_free_again_when_the_last_clone_is_gone() {
        let admission = admission();
        let permit = Admission::admit(&admission, TenantId::new(), 10).unwrap();
        permit.grow(50).unwrap();
        let clone = permit.clone();
        drop(permit);
        assert_eq!(in_flight(&admission), (1, 60, 1));
        drop(clone);
        assert_eq!(in_flight(&admission), (0, 0, 0));
    }
}
