//! Compares the channels that Postgres says are held with those in hand, and frees what nobody works on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::ReplicaId;
use bowline_core::store;
use bowline_core::store::channels::{self, ChannelKey, ClaimedChannel, Release};
use tokio::time::Instant;

use super::Ordered;

const ORPHANS_EVERY: Duration = Duration::from_millis(500);
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

impl Ordered {
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
