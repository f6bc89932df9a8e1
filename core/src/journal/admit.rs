//! The door: how many requests, and how many bytes of them, may be in flight, in all and for one
//! tenant (invariants 5 and 7). What finds no room is refused at once; nothing queues here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::JournalError;
use crate::bootstrap::config::IngestConfig;
use crate::defaults;
use crate::id::TenantId;

#[derive(Debug)]
pub(super) struct Admission {
    total: Limits,
    tenant: Limits,
    usage: Mutex<Usage>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    requests: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Usage {
    all: Share,
    /// Only tenants that have something in flight.
    tenants: HashMap<TenantId, Share>,
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
        Self {
            total: Limits { requests: config.in_flight_max, bytes: config.in_flight_bytes_max },
            tenant: Limits {
                requests: share(config.in_flight_max),
                // A body of the usual limit must always fit.
                bytes: share(config.in_flight_bytes_max)
                    .max((defaults::BODY_LIMIT_BYTES as usize).min(config.in_flight_bytes_max)),
            },
            usage: Mutex::default(),
        }
    }

    pub(super) fn admit(this: &Arc<Self>, tenant: TenantId) -> Result<Permit, JournalError> {
        let mut usage = this.usage.lock();
        let of_tenant = usage.tenants.get(&tenant).map_or(0, |share| share.requests);
        if usage.all.requests >= this.total.requests || of_tenant >= this.tenant.requests {
            drop(usage);
            metrics::counter!("bowline_journal_shed_total", "limit" => "requests").increment(1);
            return Err(JournalError::overloaded());
        }
        usage.all.requests += 1;
        usage.tenants.entry(tenant).or_default().requests += 1;
        drop(usage);
        Ok(Permit {
            held: Arc::new(Held { admission: Arc::clone(this), tenant, bytes: AtomicUsize::new(0) }),
        })
    }
}

impl Permit {
    /// Asks for room for so many more bytes; to be called before they are kept.
    pub fn grow(&self, bytes: usize) -> Result<(), JournalError> {
        let (held, admission) = (&self.held, &self.held.admission);
        let mut usage = admission.usage.lock();
        let fits = |used: usize, limit: usize| used.checked_add(bytes).is_some_and(|sum| sum <= limit);
        let of_tenant = usage.tenants.get(&held.tenant).map_or(0, |share| share.bytes);
        if !fits(usage.all.bytes, admission.total.bytes) || !fits(of_tenant, admission.tenant.bytes) {
            drop(usage);
            metrics::counter!("bowline_journal_shed_total", "limit" => "bytes").increment(1);
            return Err(JournalError::overloaded());
        }
        usage.all.bytes += bytes;
        usage.tenants.entry(held.tenant).or_default().bytes += bytes;
        held.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    pub fn tenant(&self) -> TenantId {
        self.held.tenant
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        let mut usage = self.admission.usage.lock();
        usage.all.requests -= 1;
        usage.all.bytes -= bytes;
        if let Some(share) = usage.tenants.get_mut(&self.tenant) {
            share.requests -= 1;
            share.bytes -= bytes;
            if share.requests == 0 {
                usage.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
impl Permit {
    /// One that nothing limits.
    pub(super) fn unlimited(tenant: TenantId) -> Self {
        let limits = Limits { requests: usize::MAX, bytes: usize::MAX };
        let admission = Admission { total: limits, tenant: limits, usage: Mutex::default() };
        Admission::admit(&Arc::new(admission), tenant).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        Arc::new(Admission {
            total: Limits { requests: 4, bytes: 100 },
            tenant: Limits { requests: 2, bytes: 60 },
            usage: Mutex::default(),
        })
    }

    #[test]
    fn a_tenant_cannot_take_the_room_of_others() {
        let admission = admission();
        let (flooding, other) = (TenantId::new(), TenantId::new());
        let first = Admission::admit(&admission, flooding).unwrap();
        let second = Admission::admit(&admission, flooding).unwrap();
        assert_eq!(Admission::admit(&admission, flooding).err(), Some(JournalError::overloaded()));
        first.grow(60).unwrap();
        assert!(second.grow(1).is_err());
        let permit = Admission::admit(&admission, other).unwrap();
        assert!(permit.grow(41).is_err(), "over the total");
        permit.grow(40).unwrap();
        assert!(permit.grow(usize::MAX).is_err());
    }

    #[test]
    fn room_is_free_again_when_the_last_clone_is_gone() {
        let admission = admission();
        let tenant = TenantId::new();
        let permit = Admission::admit(&admission, tenant).unwrap();
        permit.grow(60).unwrap();
        let clone = permit.clone();
        drop(permit);
        assert_eq!(admission.usage.lock().all.bytes, 60);
        drop(clone);
        let usage = admission.usage.lock();
        assert_eq!((usage.all.requests, usage.all.bytes, usage.tenants.len()), (0, 0, 0));
    }
}
