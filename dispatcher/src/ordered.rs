//! Ordered delivery: claims channels that are due, and sends what waits in each one by one, the next only
//! after the one before it is decided and that is committed.
//!
//! A channel is held for a few deliveries at a time and then given back, due at once if more waits there:
//! so channels of an endpoint take turns, however many wait in one of them. One that keeps no other waiting goes on
//! instead. What is sent goes through the lanes like everything else, with the endpoint's concurrency, rate and
//! breaker.

mod waiting;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bowline_core::crash;
use bowline_core::id::{EndpointId, ReplicaId, TenantId};
use bowline_core::store;
use bowline_core::store::channels::{self, ChannelKey, ClaimedChannel, Release};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use crate::claim::Claims;
use crate::job::{Age, Came, Job, NewJob};
use crate::share::{Share, Shared};
use crate::soon::Soon;

use waiting::Waiting;

/// Channels in hand at a time; tenants share them.
const HELD_MAX: usize = 4096;
/// Channels of an endpoint in hand, for each request it may have out: one is sent, one is on its way.
const HELD_PER_REQUEST: usize = 2;
/// With more in hand than this, what waits is read for many channels together.
const HELD_FEW: usize = 16;
/// Channels of which is read together what waits there.
const READ_AT_ONCE: usize = 32;
const ENDPOINTS_MAX: i64 = 10_000;
const RELEASES_AT_ONCE: usize = 32;
const SCAN: Duration = Duration::from_secs(1);
const ORPHANS_EVERY: Duration = Duration::from_millis(500);
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// What could not be sent just now: no room in memory, or its lane is closed.
const UNSENT_WAIT: Duration = Duration::from_secs(1);
/// What Postgres refuses to record is neither lost nor sent again and again.
const UNRECORDED_WAIT: Duration = Duration::from_secs(3600);

/// Tells that a channel may be due. A hint: every second somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    now: Notify,
    soon: Soon,
}

impl Wake {
    pub(crate) fn now(&self) {
        self.now.notify_one();
    }

    fn due_in(&self, wait: Duration) {
        if wait.is_zero() { self.now() } else { self.soon.due_in(wait) }
    }

    async fn wait(&self, earliest: Instant, latest: Instant) {
        tokio::select! {
            () = self.now.notified() => tokio::time::sleep_until(earliest).await,
            () = self.soon.wait(earliest, latest) => {}
        }
    }
}

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

    /// Sends what waits in a channel, and gives it back when that is all, or others have their turn.
    async fn send_all(self: Arc<Self>, mut hold: Hold, mut waiting: Waiting) {
        loop {
            let more_may_wait = waiting.is_cut();
            if !self.send_in_turn(&mut hold, waiting).await {
                return;
            }
            if !more_may_wait || self.others_wait(&hold) {
                break;
            }
            let Some(next) = self.read_on(&mut hold).await else { break };
            waiting = next;
        }
        crash::point("ordered_before_release");
    }

    /// Whether another channel may be due and not in hand for want of a place.
    fn others_wait(&self, hold: &Hold) -> bool {
        let id = hold.release.key.endpoint_id;
        let (in_hand, of_endpoint) = {
            let channels = self.held.lock();
            (channels.len(), channels.keys().filter(|key| key.endpoint_id == id).count())
        };
        let live = self.claims.matcher.snapshot.endpoint(id);
        let most = live.map_or(0, |live| live.endpoint.spec.concurrency as usize * HELD_PER_REQUEST);
        in_hand > HELD_FEW || of_endpoint >= most
    }

    /// What waits behind that which was sent; `None` where the channel is better given back.
    async fn read_on(&self, hold: &mut Hold) -> Option<Waiting> {
        if !self.claims.replica.is_current(hold.life) || !self.claims.replica.may_start() {
            return None;
        }
        let Release { key, hold: number, head, .. } = hold.release.clone();
        let read = async {
            let client = self.claims.pool.get().await?;
            let channel = ClaimedChannel { key, head, hold: number };
            Waiting::read(&self.claims.matcher, &client, &[channel]).await
        };
        match read.await {
            Ok(mut read) => {
                let waiting = read.pop()?;
                hold.release.wait = waiting.wait;
                Some(waiting)
            }
            Err(error) => {
                tracing::warn!(%error, "what waits in a channel is not read yet");
                None
            }
        }
    }

    /// Each after the one before it; whether all of it is decided.
    async fn send_in_turn(&self, hold: &mut Hold, waiting: Waiting) -> bool {
        for (placed, event) in waiting.deliveries {
            let delivery = placed.delivery;
            hold.release.head = placed.seq;
            let load = self.claims.matcher.load(delivery.tenant_id, Some(&event), Duration::ZERO).await;
            drop(event);
            let Some(load) = load else {
                hold.release.wait = UNSENT_WAIT;
                return false;
            };
            let (job, came) = Job::ordered(NewJob {
                key: delivery.key,
                tenant_id: delivery.tenant_id,
                load: Some(load),
                chunk: None,
                life: hold.life,
                attempt: delivery.attempt as u32,
                used: delivery.used as u32,
                age: Age::OfBudget { waited: delivery.waited, at: waiting.at },
                test: false,
            });
            self.claims.lanes.submit(job).await;
            match came.await {
                Ok(Came::Decided(decision)) if decision.is_terminal() => hold.release.head = placed.seq + 1,
                Ok(Came::Unsent(due_in)) => {
                    hold.release.wait = due_in.min(UNSENT_WAIT);
                    return false;
                }
                Ok(Came::Unrecorded) => {
                    hold.release.wait = UNRECORDED_WAIT;
                    return false;
                }
                // It says itself when it is due again; or another has decided about it. Untold, the life that
                // claimed the channel is over.
                Ok(Came::Decided(_)) | Err(_) => return false,
            }
        }
        true
    }

    /// Gives back what was worked on.
    pub(crate) async fn release(self: Arc<Self>) -> Result<(), store::Error> {
        let mut back = self.back.lock().await;
        let mut batch = Vec::with_capacity(RELEASES_AT_ONCE);
        while back.recv_many(&mut batch, RELEASES_AT_ONCE).await > 0 {
            let mut of_lives: HashMap<ReplicaId, Vec<Release>> = HashMap::new();
            for (life, release) in batch.drain(..) {
                of_lives.entry(life).or_default().push(release);
            }
            for (life, releases) in of_lives {
                let due_in = self.release_all(life, &releases).await;
                self.forget(&releases);
                // Whoever looks now finds their places free.
                if let Some(wait) = due_in {
                    self.wake.due_in(wait);
                }
                let more_wait = {
                    let crowded = self.crowded.lock();
                    releases.iter().any(|release| crowded.contains(&release.key.endpoint_id))
                };
                if more_wait {
                    self.wake.now();
                }
            }
        }
        Ok(())
    }

    fn forget(&self, releases: &[Release]) {
        let mut held = self.held.lock();
        for release in releases {
            if held.get(&release.key) == Some(&release.hold) {
                held.remove(&release.key);
            }
        }
    }

    /// Until it is done, or the channels are another's; in how long the first of them is due.
    async fn release_all(&self, life: ReplicaId, releases: &[Release]) -> Option<Duration> {
        while self.claims.replica.is_current(life) {
            let given_back = async {
                let mut client = self.claims.pool.get().await?;
                channels::release(&mut client, life, releases).await
            };
            match given_back.await {
                Ok(due_in) => return due_in,
                Err(error) => {
                    tracing::warn!(%error, channels = releases.len(), "channels are not given back yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        None
    }

    /// Frees what the dead held, and what was claimed without our hearing of it.
    pub(crate) async fn keep(self: Arc<Self>) -> Result<(), store::Error> {
        let mut reconciled = Instant::now();
        let mut suspects: HashSet<(ChannelKey, i64)> = HashSet::new();
        loop {
            tokio::time::sleep(ORPHANS_EVERY).await;
            metrics::gauge!("bowline_dispatcher_channels_held").set(self.held.lock().len() as f64);
            if !self.claims.replica.may_start() {
                continue;
            }
            let client = self.claims.pool.get().await?;
            while channels::free_orphaned(&client).await? > 0 {
                self.wake.now();
            }
            if reconciled.elapsed() >= RECONCILE_EVERY {
                reconciled = Instant::now();
                let life = self.claims.replica.id();
                let owned = channels::owned(&client, life).await?;
                drop(client);
                suspects = self.reconcile(life, owned, &suspects);
            }
        }
    }

    /// What Postgres says is ours and memory lacks at two looks in a row is given back.
    fn reconcile(
        &self,
        life: ReplicaId,
        owned: Vec<ClaimedChannel>,
        suspects: &HashSet<(ChannelKey, i64)>,
    ) -> HashSet<(ChannelKey, i64)> {
        let held = self.held.lock();
        let mut unknown = HashSet::new();
        for ClaimedChannel { key, head, hold } in owned {
            if held.get(&key) == Some(&hold) {
                continue;
            }
            if suspects.contains(&(key.clone(), hold)) {
                let release = Release { key: key.clone(), hold, head, wait: Duration::ZERO };
                let _ = self.releases.send((life, release));
            }
            unknown.insert((key, hold));
        }
        unknown
    }
}
