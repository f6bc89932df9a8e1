//! How many watch, in this process and of one tenant.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::id::TenantId;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Process,
    /// The tenant has as many as this.
    Tenant(usize),
}

/// The places of one kind of watch.
#[derive(Debug)]
pub struct Places {
    max: usize,
    per_tenant_max: usize,
    taken: Mutex<HashMap<TenantId, usize>>,
}

/// One of them, until dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    tenant: TenantId,
}

impl Places {
    pub fn new(max: usize, per_tenant_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_tenant_max, taken: Mutex::default() })
    }

    pub fn take(self: &Arc<Self>, tenant: TenantId) -> Result<Arc<Place>, Full> {
        let mut taken = self.taken.lock();
        if taken.get(&tenant).is_some_and(|taken| *taken >= self.per_tenant_max) {
            return Err(Full::Tenant(self.per_tenant_max));
        }
        if taken.values().sum::<usize>() >= self.max {
            return Err(Full::Process);
        }
        *taken.entry(tenant).or_default() += 1;
        Ok(Arc::new(Place { places: Arc::clone(self), tenant }))
    }

    /// Whose places are taken.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.taken.lock().keys().copied().collect()
    }
}

impl Place {
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(of_tenant) = taken.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_places_and_the_process_has_all() {
        let places = Places::new(3, 2);
        let [first, second] = [TenantId::new(), TenantId::new()];
        let mut held: Vec<_> = [first, first].map(|tenant| places.take(tenant).unwrap()).into();
        assert_eq!(places.take(first).unwrap_err(), Full::Tenant(2));
        held.push(places.take(second).unwrap());
        assert_eq!(places.take(second).unwrap_err(), Full::Process);
        held.remove(0);
        held.push(places.take(second).unwrap());
        assert_eq!(places.tenants().len(), 2);
        drop(held);
        assert!(places.tenants().is_empty());
    }
}
