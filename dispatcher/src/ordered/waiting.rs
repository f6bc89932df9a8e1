//! What waits in a channel, as far as it can be sent now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::id::EventId;
use bowline_core::store::channels::{self, ClaimedChannel, Placed};
use bowline_core::store::{self, chunks};

use super::UNSENT_WAIT;
use crate::job::HeldEvent;
use crate::match_endpoints::Matcher;

/// Read at a time, and sent before others have their turn.
const SENT_PER_HOLD: usize = 32;
/// As for every delivery whose body is on its way to the kept ones.
const BODY_MISSING_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Waiting {
    /// Those that can be sent now, the first first.
    pub(super) deliveries: Vec<(Placed, Arc<HeldEvent>)>,
    /// When it was read.
    pub(super) at: Instant,
    /// Where there are none: when to look again.
    pub(super) wait: Duration,
}

impl Waiting {
    /// Of channels that are ours, one each.
    pub(super) async fn read(
        matcher: &Matcher,
        client: &store::Connection,
        claimed: &[ClaimedChannel],
    ) -> Result<Vec<Self>, store::Error> {
        let at = Instant::now();
        let waiting = channels::next(client, claimed, SENT_PER_HOLD as i64).await?;
        let ids: Vec<EventId> = waiting.iter().flatten().map(|placed| placed.delivery.key.event_id).collect();
        let mut events = HashMap::new();
        for event in chunks::load(client, &ids).await? {
            events.insert(event.id, matcher.hold(event, Duration::ZERO).await);
        }
        Ok(waiting.into_iter().map(|placed| Self::of(placed, &events, at)).collect())
    }

    fn of(waiting: Vec<Placed>, events: &HashMap<EventId, Option<Arc<HeldEvent>>>, at: Instant) -> Self {
        let mut ready = Self { deliveries: Vec::with_capacity(waiting.len()), at, wait: Duration::ZERO };
        for placed in waiting.into_iter().take_while(|placed| placed.is_due) {
            match events.get(&placed.delivery.key.event_id) {
                Some(Some(event)) => ready.deliveries.push((placed, Arc::clone(event))),
                missing => {
                    if ready.deliveries.is_empty() {
                        ready.wait = if missing.is_some() { UNSENT_WAIT } else { BODY_MISSING_WAIT };
                    }
                    break;
                }
            }
        }
        ready
    }

    /// As much as is read at a time: behind it more may wait.
    pub(super) fn is_cut(&self) -> bool {
        self.deliveries.len() == SENT_PER_HOLD
    }
}
