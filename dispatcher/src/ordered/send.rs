//! Sends what waits in a channel that is in hand, one by one.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::crash;
use bowline_core::store::channels::{ClaimedChannel, Release};

use super::waiting::Waiting;
use super::{HELD_PER_REQUEST, Hold, Ordered, UNSENT_WAIT};
use crate::job::{Age, Came, Job, NewJob};

/// With more in hand than this, what waits is read for many channels together.
const HELD_FEW: usize = 16;
/// What Postgres refuses to record is neither lost nor sent again and again.
const UNRECORDED_WAIT: Duration = Duration::from_secs(3600);

impl Ordered {
    /// Sends what waits in a channel, and gives it back when that is all, or others have their turn.
    pub(super) async fn send_all(self: Arc<Self>, mut hold: Hold, mut waiting: Waiting) {
        loop {
            let more_may_wait = waiting.is_cut;
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
}
