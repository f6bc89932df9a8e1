//! The life of this process as the others see it: a row in `replicas`, renewed every two seconds.
//!
//! What a replica owns (chunks, due deliveries) is its own for as long as that row has no `dead_at`.
//! A life that was ended by another replica does not come back: the process goes on under a new id.
//! No clock of this process is compared with the database's: the lease counts in the database's time,
//! and whether anything new may start ([`Replica::may_start`]) by the monotonic clock, from before
//! the last renewal was sent. That clock goes on while the process is stopped, so one that wakes after
//! its lease starts nothing (invariant 3).

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::defaults::{LEASE, LEASE_CONFIDENCE, LEASE_RENEWAL};
use crate::id::ReplicaId;
use crate::snapshot::Snapshot;
use crate::store::{self, Pool, replicas};

/// A renewal that takes longer has failed.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Between renewals that count as one unbroken series: one renewal, and some delay.
const GAP_MAX: Duration = Duration::from_secs(3);
const SWEEP_PERIOD: Duration = Duration::from_secs(600);

/// One life of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub id: ReplicaId,
    pub began: Instant,
}

/// What is known of the lease; every moment is from before the statement that confirmed it was sent.
#[derive(Debug)]
struct Lease {
    life: Life,
    /// `None` when that life is known to be over.
    confirmed: Option<Instant>,
    /// Since when renewals have succeeded without a gap.
    steady_since: Option<Instant>,
    /// Whether Postgres may have forgotten what this life has claimed.
    in_doubt: bool,
}

impl Lease {
    fn begun(id: ReplicaId, sent: Instant) -> Self {
        Self {
            life: Life { id, began: sent },
            confirmed: Some(sent),
            steady_since: Some(sent),
            in_doubt: false,
        }
    }

    fn renewed(&mut self, sent: Instant) {
        let unbroken = self.confirmed.is_some_and(|last| sent.duration_since(last) <= GAP_MAX);
        if !unbroken || self.steady_since.is_none() {
            self.steady_since = Some(sent);
        }
        self.confirmed = Some(sent);
    }

    fn missed(&mut self) {
        self.steady_since = None;
    }

    fn over(&mut self) {
        self.confirmed = None;
        self.steady_since = None;
    }

    fn may_start(&self, now: Instant) -> bool {
        !self.in_doubt && self.confirmed.is_some_and(|sent| now.duration_since(sent) < LEASE_CONFIDENCE)
    }

    fn stood(&self, now: Instant) -> bool {
        self.may_start(now) && self.steady_since.is_some_and(|since| now.duration_since(since) >= LEASE)
    }
}

/// This process among the others.
#[derive(Debug)]
pub struct Replica {
    pool: Pool,
    service: &'static str,
    snapshot: Arc<Snapshot>,
    lease: Mutex<Lease>,
    lives: watch::Sender<ReplicaId>,
    released: CancellationToken,
    renewing: Mutex<Option<JoinHandle<()>>>,
}

/// What is asked of the table.
#[derive(Debug, Clone, Copy)]
enum Question {
    Begin(ReplicaId),
    Renew(ReplicaId),
    Release(ReplicaId),
    Sweep,
}

impl Replica {
    /// Begins a life and keeps renewing it until [`Replica::release`]: also during a shutdown, while
    /// requests that are out finish. After `shutdown` only a new life is not begun any more.
    pub async fn start(
        pool: Pool,
        service: &'static str,
        snapshot: Arc<Snapshot>,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, store::Error> {
        let id = ReplicaId::new();
        let mut lease = Lease::begun(id, Instant::now());
        lease.over();
        let replica = Arc::new(Self {
            pool,
            service,
            snapshot,
            lease: Mutex::new(lease),
            lives: watch::Sender::new(id),
            released: CancellationToken::new(),
            renewing: Mutex::default(),
        });
        replica.begin(id).await?;
        tracing::info!(replica_id = %id, service, "replica lives");
        let renewing = tokio::spawn(Arc::clone(&replica).keep(shutdown));
        *replica.renewing.lock() = Some(renewing);
        Ok(replica)
    }

    /// Of the current life.
    pub fn id(&self) -> ReplicaId {
        self.life().id
    }

    pub fn life(&self) -> Life {
        self.lease.lock().life
    }

    /// Whether what was claimed under this id is still ours to work on.
    pub fn is_current(&self, id: ReplicaId) -> bool {
        let lease = self.lease.lock();
        lease.life.id == id && lease.confirmed.is_some()
    }

    /// Tells of each new life: what the old one owned is another's.
    pub fn lives(&self) -> watch::Receiver<ReplicaId> {
        self.lives.subscribe()
    }

    /// Nothing may start until [`Self::trust`]: Postgres may have forgotten some of what was claimed.
    pub fn doubt(&self) {
        self.lease.lock().in_doubt = true;
    }

    /// What was claimed has been looked at again.
    pub fn trust(&self) {
        self.lease.lock().in_doubt = false;
    }

    /// Whether a request may be sent or work claimed now: the lease was renewed less than 4 s ago, and
    /// there is no [doubt](Self::doubt).
    pub fn may_start(&self) -> bool {
        self.lease.lock().may_start(Instant::now())
    }

    /// Whether own renewals have succeeded for a whole lease: only then may other replicas be buried,
    /// so that an outage of Postgres by itself kills nobody.
    pub fn stood_for_a_lease(&self) -> bool {
        self.lease.lock().stood(Instant::now())
    }

    /// Ends this life, at the end of a shutdown: others may take over what it owns at once.
    pub async fn release(&self) -> Result<(), store::Error> {
        self.released.cancel();
        // A renewal that is under way must not begin a new life after this one has ended.
        let renewing = self.renewing.lock().take();
        if let Some(renewing) = renewing
            && renewing.await.is_err()
        {
            tracing::error!("the renewal of the lease had panicked");
        }
        let id = {
            let mut lease = self.lease.lock();
            lease.over();
            lease.life.id
        };
        self.ask(Question::Release(id)).await?;
        tracing::info!(replica_id = %id, "replica released what it owned");
        Ok(())
    }

    async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut versions = self.snapshot.versions();
        let mut pause = LEASE_RENEWAL;
        let mut sweep_at = Instant::now() + SWEEP_PERIOD;
        while !self.released.is_cancelled() {
            // A callers' wait for a version to be everywhere ends sooner when it is confirmed at once.
            let confirm = pause == LEASE_RENEWAL;
            tokio::select! {
                () = self.released.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = versions.changed(), if confirm => {}
            }
            versions.mark_unchanged();
            pause = match self.renew(&shutdown).await {
                Ok(()) => LEASE_RENEWAL,
                Err(error) => {
                    tracing::warn!(%error, replica_id = %self.id(), "lease was not renewed");
                    RETRY_PAUSE
                }
            };
            if pause == LEASE_RENEWAL && Instant::now() >= sweep_at {
                sweep_at = Instant::now() + SWEEP_PERIOD;
                if let Err(error) = self.ask(Question::Sweep).await {
                    tracing::warn!(%error, "old lives were not swept");
                }
            }
        }
    }

    async fn renew(&self, shutdown: &CancellationToken) -> Result<(), store::Error> {
        let (id, known_over) = {
            let lease = self.lease.lock();
            (lease.life.id, lease.confirmed.is_none())
        };
        let sent = Instant::now();
        let lives = match self.ask(Question::Renew(id)).await {
            Ok(lives) => lives,
            Err(error) => {
                self.lease.lock().missed();
                return Err(error);
            }
        };
        if lives {
            self.lease.lock().renewed(sent);
            return Ok(());
        }
        self.lease.lock().over();
        if !known_over {
            tracing::warn!(replica_id = %id, "this life was ended: its lease had run out");
            metrics::counter!("bowline_core_lives_lost_total").increment(1);
        }
        if self.released.is_cancelled() || shutdown.is_cancelled() {
            return Ok(());
        }
        let next = ReplicaId::new();
        self.begin(next).await?;
        tracing::info!(replica_id = %next, "replica lives again");
        self.lives.send_replace(next);
        Ok(())
    }

    async fn begin(&self, id: ReplicaId) -> Result<(), store::Error> {
        let sent = Instant::now();
        self.ask(Question::Begin(id)).await?;
        let mut lease = self.lease.lock();
        *lease = Lease { in_doubt: lease.in_doubt, ..Lease::begun(id, sent) };
        Ok(())
    }

    async fn ask(&self, question: Question) -> Result<bool, store::Error> {
        let deadline = Instant::now() + RENEWAL_TIMEOUT;
        let late = || store::Error::TimedOut(RENEWAL_TIMEOUT);
        let client = timeout_at(deadline, self.pool.get()).await.map_err(|_| late())??;
        let config_version = self.snapshot.version();
        let answer = timeout_at(deadline, async {
            match question {
                Question::Begin(id) => {
                    replicas::begin(&client, id, self.service, config_version).await.map(|()| true)
                }
                Question::Renew(id) => replicas::renew(&client, id, config_version).await,
                Question::Release(id) => replicas::release(&client, id).await.map(|()| true),
                Question::Sweep => replicas::sweep(&client).await.map(|swept| swept > 0),
            }
        });
        if let Ok(answer) = answer.await {
            return answer;
        }
        // A statement still runs on this connection: nobody else should wait behind it.
        drop(Object::take(client));
        Err(late())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_starts_four_seconds_after_a_renewal_was_sent() {
        let start = Instant::now();
        let mut lease = Lease::begun(ReplicaId::new(), start);
        assert!(lease.may_start(start + 3 * SECOND));
        assert!(!lease.may_start(start + 4 * SECOND));
        lease.renewed(start + 4 * SECOND);
        assert!(lease.may_start(start + 7 * SECOND));
        lease.over();
        assert!(!lease.may_start(start + 4 * SECOND));
    }

    #[test]
    fn others_are_buried_only_after_a_whole_lease_without_a_gap() {
        let start = Instant::now();
        let mut lease = Lease::begun(ReplicaId::new(), start);
        for second in [2, 4, 5] {
            lease.renewed(start + second * SECOND);
            assert!(!lease.stood(start + second * SECOND), "{second}");
        }
        assert!(lease.stood(start + 6 * SECOND));
        // Not renewed for long itself.
        assert!(!lease.stood(start + 9 * SECOND));
        // A gap in time, as after SIGSTOP, begins the count anew.
        lease.renewed(start + 9 * SECOND);
        assert!(!lease.stood(start + 9 * SECOND));
        for second in [11, 13, 15] {
            lease.renewed(start + second * SECOND);
        }
        assert!(lease.stood(start + 15 * SECOND));
        // And so does a renewal that failed, however soon the next one succeeds.
        lease.missed();
        lease.renewed(start + 16 * SECOND);
        assert!(!lease.stood(start + 16 * SECOND));
    }
}
