//! What waits in a channel, as far as it can be sent now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_core::id::EventId;
use bowline_core::store;
use bowline_core::store::channels::{self, ClaimedChannel, Placed};

use super::UNSENT_WAIT;
use crate::bodies::Part;
use crate::job::HeldEvent;
use crate::match_endpoints::Matcher;

/// Read at a time, and sent before others have their turn.
const SENT_PER_HOLD: usize = 32;
/// As for every delivery whose body is on its way to the kept ones.
const BODY_MISSING_WAIT: Duration = Duration::from_secs(60);

type Events = HashMap<EventId, Option<Arc<HeldEvent>>>;

#[derive(Debug)]
pub(super) struct Waiting {
    /// Those that can be sent now, the first first.
    pub(super) deliveries: Vec<(Placed, Arc<HeldEvent>)>,
    /// When it was read.
    pub(super) at: Instant,
    /// Where there are none: when to look again.
    pub(super) wait: Duration,
    /// That is as much as is read at a time: behind it more may wait.
    pub(super) is_cut: bool,
}

impl Waiting {
    /// Of channels that are ours, one each.
    pub(super) async fn read(
        matcher: &Matcher,
        client: &store::Connection,
        claimed: &[ClaimedChannel],
    ) -> Result<Vec<Self>, store::Error> {
        let at = Instant::now();
        let mut waiting = channels::next(client, claimed, SENT_PER_HOLD as i64).await?;
        for placed in &mut waiting {
            let due = placed.iter().take_while(|placed| placed.is_due).count();
            placed.truncate(due);
        }
        let events = load(matcher, client, &waiting).await?;
        Ok(waiting.into_iter().map(|placed| Self::of(placed, &events, at)).collect())
    }

    fn of(waiting: Vec<Placed>, events: &Events, at: Instant) -> Self {
        let mut is_cut = waiting.len() == SENT_PER_HOLD;
        let mut deliveries = Vec::with_capacity(waiting.len());
        let mut wait = Duration::ZERO;
        for placed in waiting {
            match events.get(&placed.delivery.key.event_id) {
                Some(Some(event)) => deliveries.push((placed, Arc::clone(event))),
                missing => {
                    let no_room = missing.is_some();
                    // One that was not loaded yet is read when those before it are sent.
                    is_cut = !no_room && !deliveries.is_empty();
                    if deliveries.is_empty() {
                        wait = if no_room { UNSENT_WAIT } else { BODY_MISSING_WAIT };
                    }
                    break;
                }
            }
        }
        Self { deliveries, at, wait, is_cut }
    }
}

/// The event of the first delivery of each channel; and of those behind it, which have to wait for it, what is no more
/// than a part.
async fn load(
    matcher: &Matcher,
    client: &store::Connection,
    waiting: &[Vec<Placed>],
) -> Result<Events, store::Error> {
    let mut seen = HashSet::new();
    let in_turn = |turn: usize| waiting.iter().filter_map(move |placed| placed.get(turn));
    let mut ids: Vec<EventId> = Vec::new();
    let mut firsts = 0;
    for turn in 0..SENT_PER_HOLD {
        ids.extend(in_turn(turn).map(|placed| placed.delivery.key.event_id).filter(|id| seen.insert(*id)));
        if turn == 0 {
            firsts = ids.len();
        }
    }
    let mut events = Events::with_capacity(ids.len());
    let mut looked_at = 0;
    while looked_at < firsts {
        let part = Part::load(matcher, client, &ids[looked_at..]).await?;
        looked_at += part.looked_at;
        events.extend(part.events);
    }
    Ok(events)
}
