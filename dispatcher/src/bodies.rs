//! Events of deliveries that wait in Postgres come into memory a part at a time: a thousand of the largest would
//! be a gigabyte before any of them is counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::EventId;
use bowline_core::store::{self, chunks};

use crate::job::HeldEvent;
use crate::match_endpoints::Matcher;

/// What the bodies of a part come to, with the last of them or before it.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Some events, from the first that was asked for on.
#[derive(Debug)]
pub(crate) struct Part {
    /// `None`: its tenant has no room for it.
    pub(crate) events: HashMap<EventId, Option<Arc<HeldEvent>>>,
    /// So many of those that were asked for were looked at; at least the first. Of these, one that is not among the
    /// events is not stored just now.
    pub(crate) looked_at: usize,
}

impl Part {
    /// `ids`: each once.
    pub(crate) async fn load(
        matcher: &Matcher,
        client: &store::Connection,
        ids: &[EventId],
    ) -> Result<Self, store::Error> {
        let loaded = chunks::load_first(client, ids, PART_BYTES).await?;
        let bytes: usize = loaded.iter().map(|event| event.body.len()).sum();
        let last = loaded.last().filter(|_| bytes >= PART_BYTES);
        let looked_at =
            last.and_then(|last| ids.iter().position(|id| *id == last.id)).map_or(ids.len(), |at| at + 1);
        let mut events = HashMap::with_capacity(loaded.len());
        for event in loaded {
            events.insert(event.id, matcher.hold(event, Duration::ZERO).await);
        }
        Ok(Self { events, looked_at })
    }
}
