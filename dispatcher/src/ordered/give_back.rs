//! Gives channels back, until Postgres has heard of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::ReplicaId;
use bowline_core::store;
use bowline_core::store::channels::{self, Release};

use super::Ordered;

const RELEASES_AT_ONCE: usize = 32;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Ordered {
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
}
