//! Bodies that are still arriving: how many of them, and how many bytes, in all, of one tenant and of
//! one source (invariants 5 and 7).
//!
//! Nothing of such a request is verified yet, so whoever knows a source's URL can have any number of
//! them. Where room is short, the one that has been arriving for the longest gives way, at whoever uses
//! the most: a sender that sends is done long before it is the oldest. A body that is there when its
//! request is taken up never comes through here, unless the keys to verify it by must be fetched first:
//! then it waits here as well.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bowline_core::bootstrap::config::IngestConfig;
use bowline_core::id::{SourceId, TenantId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Every source can take one body of the largest size that can be configured.
const BODY_BYTES_MAX: usize = 25 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Arrivals {
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    all: Share,
    tenant: Share,
    source: Share,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Share {
    bodies: usize,
    bytes: usize,
}

impl Share {
    fn of_bytes(bytes: usize) -> Self {
        Self { bodies: 0, bytes }
    }

    fn add(&mut self, other: Self) {
        self.bodies += other.bodies;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Self) {
        self.bodies -= other.bodies;
        self.bytes -= other.bytes;
    }

    fn fits(self, more: Self, limit: Self) -> bool {
        self.bodies + more.bodies <= limit.bodies
            && self.bytes.checked_add(more.bytes).is_some_and(|sum| sum <= limit.bytes)
    }
}

#[derive(Debug, Default)]
struct Table {
    used: Share,
    tenants: HashMap<TenantId, OfTenant>,
    next: u64,
}

#[derive(Debug, Default)]
struct OfTenant {
    used: Share,
    sources: HashMap<SourceId, OfSource>,
}

#[derive(Debug, Default)]
struct OfSource {
    used: Share,
    /// In the order of their beginning.
    bodies: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    bytes: usize,
    /// Closed when the place goes to another.
    _held: oneshot::Sender<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    tenant: TenantId,
    source: SourceId,
    number: u64,
}

/// There is no room, whatever gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// One body that is arriving.
#[derive(Debug)]
pub(crate) struct Arrival {
    arrivals: Arc<Arrivals>,
    key: Key,
    place: oneshot::Receiver<()>,
}

impl Arrivals {
    pub(crate) fn new(config: &IngestConfig) -> Arc<Self> {
        let (bodies, bytes) = (config.connections_max, config.arriving_bytes_max);
        let part = |all: Share, share: f64| Share {
            bodies: ((all.bodies as f64 * share) as usize).clamp(1, all.bodies),
            bytes: ((all.bytes as f64 * share) as usize).max(BODY_BYTES_MAX).min(all.bytes),
        };
        let all = Share { bodies, bytes };
        let tenant = part(all, config.tenant_share);
        Self::with(Limits { all, tenant, source: part(tenant, 0.5) })
    }

    /// Room for whatever comes.
    #[cfg(test)]
    pub(crate) fn unlimited() -> Arc<Self> {
        let all = Share { bodies: usize::MAX, bytes: usize::MAX };
        Self::with(Limits { all, tenant: all, source: all })
    }

    fn with(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, table: Mutex::default() })
    }

    /// Takes up a body of which so many bytes are there.
    pub(crate) fn enter(
        self: &Arc<Self>,
        tenant: TenantId,
        source: SourceId,
        bytes: usize,
    ) -> Result<Arrival, Full> {
        let mut table = self.table.lock();
        let key = Key { tenant, source, number: table.next };
        let more = Share { bodies: 1, bytes };
        table.make_room(&self.limits, key, more)?;
        table.next += 1;
        let (held, place) = oneshot::channel();
        table.add(key, more);
        let of_source = table.tenants.entry(tenant).or_default().sources.entry(source).or_default();
        of_source.bodies.insert(key.number, Place { bytes, _held: held });
        Ok(Arrival { arrivals: Arc::clone(self), key, place })
    }
}

impl Arrival {
    /// Asks for room for so many more bytes; to be called before they are kept.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Full> {
        let mut table = self.arrivals.table.lock();
        // It may have given way a moment ago.
        table.place(self.key).ok_or(Full)?;
        table.make_room(&self.arrivals.limits, self.key, Share::of_bytes(bytes))?;
        table.add(self.key, Share::of_bytes(bytes));
        table.place(self.key).ok_or(Full)?.bytes += bytes;
        Ok(())
    }

    /// Resolves when its place has gone to another.
    pub(crate) async fn gives_way(&mut self) {
        // Nothing is ever sent: it ends when the other side is gone.
        let _ = (&mut self.place).await;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.arrivals.table.lock().remove(self.key);
    }
}

impl Table {
    fn place(&mut self, key: Key) -> Option<&mut Place> {
        self.tenants.get_mut(&key.tenant)?.sources.get_mut(&key.source)?.bodies.get_mut(&key.number)
    }

    fn add(&mut self, key: Key, more: Share) {
        self.used.add(more);
        let tenant = self.tenants.entry(key.tenant).or_default();
        tenant.used.add(more);
        tenant.sources.entry(key.source).or_default().used.add(more);
    }

    fn remove(&mut self, key: Key) {
        let Some(tenant) = self.tenants.get_mut(&key.tenant) else { return };
        let Some(source) = tenant.sources.get_mut(&key.source) else { return };
        let Some(place) = source.bodies.remove(&key.number) else { return };
        let gone = Share { bodies: 1, bytes: place.bytes };
        source.used.subtract(gone);
        tenant.used.subtract(gone);
        self.used.subtract(gone);
        if source.bodies.is_empty() {
            tenant.sources.remove(&key.source);
        }
        if tenant.sources.is_empty() {
            self.tenants.remove(&key.tenant);
        }
    }

    /// Has the oldest give way until there is room.
    fn make_room(&mut self, limits: &Limits, key: Key, more: Share) -> Result<(), Full> {
        let own = self.place(key).map_or(0, |place| place.bytes);
        if !Share::of_bytes(own).fits(more, limits.source) {
            return Err(Full);
        }
        while let Some(oldest) = self.in_the_way(limits, key, more) {
            // The newest never gives way to itself.
            if oldest == key {
                return Err(Full);
            }
            metrics::counter!("bowline_ingest_bodies_gave_way_total").increment(1);
            self.remove(oldest);
        }
        Ok(())
    }

    /// Who must go first; nobody where there is room.
    fn in_the_way(&self, limits: &Limits, key: Key, more: Share) -> Option<Key> {
        let tenant = self.tenants.get(&key.tenant);
        let source = tenant.and_then(|tenant| tenant.sources.get(&key.source));
        let fits = |used: Option<Share>, limit: Share| used.unwrap_or_default().fits(more, limit);
        if !fits(source.map(|source| source.used), limits.source) {
            return oldest(key.tenant, key.source, source?);
        }
        if !fits(tenant.map(|tenant| tenant.used), limits.tenant) {
            return greediest(key.tenant, tenant?, limits.tenant);
        }
        if !self.used.fits(more, limits.all) {
            let most =
                self.tenants.iter().max_by_key(|(id, tenant)| (weight(tenant.used, limits.all), **id))?;
            return greediest(*most.0, most.1, limits.all);
        }
        None
    }
}

fn greediest(tenant: TenantId, of_tenant: &OfTenant, limit: Share) -> Option<Key> {
    let most = of_tenant.sources.iter().max_by_key(|(id, source)| (weight(source.used, limit), **id))?;
    oldest(tenant, *most.0, most.1)
}

fn oldest(tenant: TenantId, source: SourceId, of_source: &OfSource) -> Option<Key> {
    of_source.bodies.first_key_value().map(|(number, _)| Key { tenant, source, number: *number })
}

/// The larger of the two parts of a limit that are used, in millionths.
fn weight(used: Share, limit: Share) -> usize {
    let part = |used: usize, limit: usize| used.saturating_mul(1_000_000) / limit.max(1);
    part(used.bodies, limit.bodies).max(part(used.bytes, limit.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(bodies: usize, bytes: usize) -> Share {
        Share { bodies, bytes }
    }

    fn arrivals() -> Arc<Arrivals> {
        Arrivals::with(Limits { all: share(6, 100), tenant: share(4, 60), source: share(3, 40) })
    }

    fn has_given_way(arrival: &mut Arrival) -> bool {
        arrival.place.try_recv() != Err(oneshot::error::TryRecvError::Empty)
    }

    fn gone(arrivals: &mut [Arrival]) -> Vec<usize> {
        (0..arrivals.len()).filter(|index| has_given_way(&mut arrivals[*index])).collect()
    }

    #[test]
    fn at_a_full_source_its_own_oldest_gives_way() {
        let arrivals = arrivals();
        let (tenant, one, other) = (TenantId::new(), SourceId::new(), SourceId::new());
        let mut neighbour = arrivals.enter(tenant, other, 10).unwrap();
        let mut held: Vec<_> = (0..5).map(|_| arrivals.enter(tenant, one, 1).unwrap()).collect();
        assert_eq!(gone(&mut held), [0, 1]);
        assert!(!has_given_way(&mut neighbour));
        assert_eq!(arrivals.table.lock().used, share(4, 13));
        drop((held, neighbour));
        let table = arrivals.table.lock();
        assert_eq!((table.used, table.tenants.len()), (share(0, 0), 0));
    }

    #[test]
    fn bytes_are_found_at_whoever_has_the_most() {
        let arrivals = arrivals();
        let tenant = TenantId::new();
        let (large, small, new) = (SourceId::new(), SourceId::new(), SourceId::new());
        let mut held = [
            arrivals.enter(tenant, small, 5).unwrap(),
            arrivals.enter(tenant, large, 20).unwrap(),
            arrivals.enter(tenant, large, 20).unwrap(),
            arrivals.enter(tenant, new, 5).unwrap(),
        ];
        held[3].grow(15).unwrap();
        assert_eq!(gone(&mut held), [1]);
        // Of a source's own: the other one of the large source, not another source's.
        held[2].grow(10).unwrap();
        assert_eq!(gone(&mut held), [1]);
        assert_eq!(arrivals.table.lock().used.bytes, 55);
    }

    #[test]
    fn a_flooding_tenant_makes_room_for_others() {
        let arrivals = arrivals();
        let (flooding, quiet) = (TenantId::new(), TenantId::new());
        let sources: [SourceId; 3] = std::array::from_fn(|_| SourceId::new());
        let mut held: Vec<_> =
            (0..8).map(|number| arrivals.enter(flooding, sources[number % 3], 1).unwrap()).collect();
        assert_eq!(gone(&mut held).len(), 4, "its own share");
        let mut others: Vec<_> = (0..3).map(|_| arrivals.enter(quiet, SourceId::new(), 1).unwrap()).collect();
        assert_eq!(gone(&mut held).len(), 5, "of all");
        assert_eq!(gone(&mut others), [0; 0]);
    }

    #[test]
    fn what_can_never_fit_chases_nobody_away() {
        let arrivals = arrivals();
        let (tenant, source) = (TenantId::new(), SourceId::new());
        let mut first = arrivals.enter(tenant, source, 30).unwrap();
        assert_eq!(arrivals.enter(tenant, source, 41).err(), Some(Full));
        assert!(!has_given_way(&mut first));
        assert_eq!(first.grow(11), Err(Full));
        assert_eq!(first.grow(usize::MAX), Err(Full));
        first.grow(10).unwrap();
    }

    #[test]
    fn the_oldest_does_not_grow_at_the_cost_of_the_newer() {
        let arrivals = arrivals();
        let (tenant, source) = (TenantId::new(), SourceId::new());
        let old = arrivals.enter(tenant, source, 30).unwrap();
        let mut new = arrivals.enter(tenant, source, 10).unwrap();
        assert_eq!(old.grow(5), Err(Full));
        assert!(!has_given_way(&mut new));
        // And the newer one does at the cost of the oldest, which is told.
        new.grow(5).unwrap();
        assert_eq!(old.grow(1), Err(Full));
    }
}
