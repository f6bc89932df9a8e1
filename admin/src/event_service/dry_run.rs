//! What a replay would queue, counted without queueing it: step by step as the dispatcher does it, up to a bound.

use std::time::{Duration, Instant};

use bowline_core::endpoint::Endpoint;
use bowline_core::id::{EndpointId, EventId, TenantId};
use bowline_core::operation::ESTIMATE_MAX;
use bowline_core::store::events::EventQuery;
use bowline_core::store::replays::{self, PastEvent};

use crate::AdminContext;
use crate::fault::Fault;

/// Pairs of an event and an endpoint that are looked at in one statement.
const STEP_PAIRS: i64 = 1_000;
/// A count ends here, well before the call's deadline, and says that there may be more.
const TIME_MAX: Duration = Duration::from_secs(10);

pub(super) struct DryRun {
    pub(super) tenant: TenantId,
    pub(super) query: EventQuery,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) only_missing: bool,
    pub(super) max: Option<i64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) count: i64,
    /// There may be more.
    pub(super) truncated: bool,
}

impl DryRun {
    pub(super) async fn count(&self, context: &AdminContext) -> Result<Counted, Fault> {
        let begun = Instant::now();
        let each = self.endpoints.len().max(1) as i64;
        let limit = (STEP_PAIRS / each).max(1);
        let (mut counted, mut after, mut looked_at) = (Counted::default(), None, 0);
        loop {
            // Given back between the steps: others wait for connections too.
            let events = {
                let client = context.client().await?;
                replays::events(&client, self.tenant, &self.query, after, limit).await?
            };
            let Some(last) = events.last() else { return Ok(counted) };
            if looked_at >= ESTIMATE_MAX || begun.elapsed() >= TIME_MAX {
                return Ok(Counted { truncated: true, ..counted });
            }
            after = Some(last.id);
            looked_at += events.len() as i64 * each;
            for count in self.queued(context, &events).await? {
                counted.count += count;
                // Whole events, as the operation takes them.
                if self.max.is_some_and(|max| counted.count >= max) {
                    return Ok(counted);
                }
            }
        }
    }

    /// How many deliveries of each event, where there are any.
    async fn queued(&self, context: &AdminContext, events: &[PastEvent]) -> Result<Vec<i64>, Fault> {
        let wanted: Vec<(EventId, EndpointId)> = events.iter().flat_map(|event| self.wanted(event)).collect();
        if self.only_missing {
            let client = context.client().await?;
            let missing = replays::missing(&client, &wanted).await?;
            return Ok(missing.into_iter().map(|(_, count)| count).collect());
        }
        Ok(wanted.chunk_by(|one, other| one.0 == other.0).map(|pairs| pairs.len() as i64).collect())
    }

    fn wanted<'a>(&'a self, event: &'a PastEvent) -> impl Iterator<Item = (EventId, EndpointId)> + 'a {
        let wants =
            move |endpoint: &&'a Endpoint| endpoint.spec.wants(&event.event_type, event.channel.as_deref());
        self.endpoints.iter().filter(wants).map(move |endpoint| (event.id, endpoint.id))
    }
}
