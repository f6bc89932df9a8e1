//! Ordered delivery: claims channels that are due, and sends what waits in each one by one, the next only
//! after the one before it is decided and that is committed.
//!
//! A channel is held for a few deliveries at a time and then given back, due at once if more waits there:
//! so channels of an endpoint take turns, however many wait in one of them. One that keeps no other waiting goes on
//! instead. What is sent goes through the lanes like everything else, with the endpoint's concurrency, rate and
//! breaker.
//!
//! [`wake`] says when to look. What is claimed here is read by [`waiting`], sent by [`send`] and given back by
//! [`give_back`]; [`keep`] frees what nobody works on.

mod give_back;
mod keep;
mod send;
mod waiting;
mod wake;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::crash;
use bowline_core::id::{EndpointId, ReplicaId, TenantId};
use bowline_core::store;
use bowline_core::store::channels::{self, ChannelKey, ClaimedChannel, Release};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::claim::Claims;
use crate::share::{Share, Shared};

use waiting::Waiting;
pub(crate) use wake::Wake;

/// Channels in hand at a time; tenants share them.
const HELD_MAX: usize = 4096;
/// Channels of an endpoint in hand, for each request it may have out: one is sent, one is on its way.
const HELD_PER_REQUEST: usize = 2;
/// Channels of which is read together what waits there.
const READ_AT_ONCE: usize = 32;
const ENDPOINTS_MAX: i64 = 10_000;
const SCAN: Duration = Duration::from_secs(1);
/// What could not be sent just now: no room in memory, or its lane is closed.
const UNSENT_WAIT: Duration = Duration::from_secs(1);

/// The channels in hand.
#[derive(Debug)]
pub(crate) struct Ordered {
    claims: Arc<Claims>,
    wake: Arc<Wake>,
    /// By which of its claims each is held.
    held: Mutex<HashMap<ChannelKey, i64>>,
    /// Endpoints with more channels that may be due than there were places: one that is given back makes room.
    crowded: Mutex<HashSet<EndpointId>>,
    places: Arc<Shared>,
    releases: mpsc::UnboundedSender<(ReplicaId, Release)>,
    back: tokio::sync::Mutex<mpsc::UnboundedReceiver<(ReplicaId, Release)>>,
}

/// A channel in hand. It is given back when this is dropped, whatever ended the work on it.
struct Hold {
    of: Arc<Ordered>,
    life: ReplicaId,
    release: Release,
    _place: Option<Share>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Fails only when nothing is released any more.
        let _ = self.of.releases.send((self.life, self.release.clone()));
    }
}

impl Ordered {
    pub(crate) fn new(claims: Arc<Claims>, wake: Arc<Wake>) -> Arc<Self> {
        // No more than what is held can wait to be released.
        let (releases, back) = mpsc::unbounded_channel();
        Arc::new(Self {
            claims,
            wake,
            held: Mutex::default(),
            crowded: Mutex::default(),
            places: Shared::new(HELD_MAX),
            releases,
            back: tokio::sync::Mutex::new(back),
        })
    }

    /// Claims channels that are due and has them worked on.
    pub(crate) async fn work(self: Arc<Self>) -> Result<(), store::Error> {
        let mut after = Uuid::nil();
        loop {
            let began = Instant::now();
            if self.claims.replica.may_start() {
                let client = self.claims.pool.get().await?;
                let endpoints = channels::endpoints_with_due(&client, after, ENDPOINTS_MAX).await?;
                after = match endpoints.last() {
                    Some(last) if endpoints.len() as i64 == ENDPOINTS_MAX => last.0,
                    _ => Uuid::nil(),
                };
                self.take(&client, &endpoints).await?;
            }
            let now = Instant::now();
            // Half of the time at most goes into looking.
            self.wake.wait(now + (now - began), now + SCAN).await;
        }
    }

    async fn take(
        self: &Arc<Self>,
        client: &store::Connection,
        endpoints: &[EndpointId],
    ) -> Result<(), store::Error> {
        let life = self.claims.replica.id();
        let (ids, limits, mut places) = self.limits(endpoints);
        let claimed = match ids.as_slice() {
            [] => Vec::new(),
            ids => channels::claim(client, life, ids, &limits).await?,
        };
        self.note_crowded(endpoints, ids.iter().zip(&limits), &claimed);
        if claimed.is_empty() {
            return Ok(());
        }
        crash::point("ordered_after_claim");
        self.held.lock().extend(claimed.iter().map(|one| (one.key.clone(), one.hold)));
        let mut holds: Vec<(ClaimedChannel, Hold)> = Vec::with_capacity(claimed.len());
        for channel in claimed {
            let place = places.get_mut(&channel.key.endpoint_id).and_then(Vec::pop);
            let ClaimedChannel { key, head, hold } = channel.clone();
            let release = Release { key, hold, head, wait: Duration::ZERO };
            holds.push((channel, Hold { of: Arc::clone(self), life, release, _place: place }));
        }
        drop(places);
        let snapshot = &self.claims.matcher.snapshot;
        // An endpoint made a moment ago, for which another process has queued: not one that was deleted.
        if holds.iter().any(|(one, _)| snapshot.endpoint(one.key.endpoint_id).is_none()) {
            snapshot.refresh().await?;
        }
        // A few at a time, so that little is in memory that is not counted yet.
        while !holds.is_empty() {
            let some: Vec<_> = holds.drain(..holds.len().min(READ_AT_ONCE)).collect();
            let (claimed, some): (Vec<ClaimedChannel>, Vec<Hold>) = some.into_iter().unzip();
            let waiting = Waiting::read(&self.claims.matcher, client, &claimed).await?;
            for (mut hold, waiting) in some.into_iter().zip(waiting) {
                hold.release.wait = waiting.wait;
                tokio::spawn(Arc::clone(self).send_all(hold, waiting));
            }
        }
        Ok(())
    }

    /// Of endpoints with channels that are due: where as many were taken as could be, more of them may wait.
    fn note_crowded<'a>(
        &self,
        endpoints: &[EndpointId],
        limits: impl Iterator<Item = (&'a EndpointId, &'a i64)>,
        claimed: &[ClaimedChannel],
    ) {
        let mut left: HashMap<EndpointId, i64> = limits.map(|(id, limit)| (*id, *limit)).collect();
        for one in claimed {
            *left.entry(one.key.endpoint_id).or_default() -= 1;
        }
        let crowded = endpoints.iter().filter(|id| left.get(id).is_none_or(|left| *left <= 0));
        *self.crowded.lock() = crowded.copied().collect();
    }

    /// How many channels of each endpoint may be taken, and their places among those in hand.
    fn limits(
        &self,
        endpoints: &[EndpointId],
    ) -> (Vec<EndpointId>, Vec<i64>, HashMap<EndpointId, Vec<Share>>) {
        let mut held: HashMap<EndpointId, usize> = HashMap::new();
        for key in self.held.lock().keys() {
            *held.entry(key.endpoint_id).or_default() += 1;
        }
        let share = (self.places.free() / endpoints.len().max(1)).max(1);
        let (mut ids, mut limits, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        for id in endpoints {
            let live = self.claims.matcher.snapshot.endpoint(*id);
            let most = live
                .as_ref()
                .map_or(HELD_PER_REQUEST, |live| live.endpoint.spec.concurrency as usize * HELD_PER_REQUEST);
            let room = most.saturating_sub(held.get(id).copied().unwrap_or_default());
            let room = room.min(self.claims.lanes.room_for_due(*id)).min(share);
            let tenant = live.map_or(TenantId(Uuid::nil()), |live| live.endpoint.tenant_id);
            let taken: Vec<Share> = (0..room).map_while(|_| self.places.try_take(tenant, 1)).collect();
            if !taken.is_empty() {
                ids.push(*id);
                limits.push(taken.len() as i64);
                places.insert(*id, taken);
            }
        }
        (ids, limits, places)
    }
}
