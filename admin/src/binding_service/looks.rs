//! Bindings as they are now, for those who watch them.
//!
//! A refresh wakes all who watch a binding in the same moment: one of them reads, encodes and takes room, and those
//! who came meanwhile are given the same bytes. A few bindings are read at a time, so that calls find a connection.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bowline_core::binding::DATA_BYTES_MAX;
use bowline_core::id::{BindingId, TenantId};
use bowline_core::store::bindings::{self, State};
use bowline_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::found;
use super::watch::write_cursor;
use crate::AdminContext;
use crate::fault::Fault;
use crate::present;
use crate::streaming::{Encoded, Part, Room, encode};

/// Of one process.
const READS_MAX: usize = 1;
/// The data, and what says how it is made.
const BYTES_MAX: usize = DATA_BYTES_MAX + 256 * 1024;

pub(super) struct Looks {
    context: Arc<AdminContext>,
    room: Arc<Room>,
    turns: Semaphore,
    looked_at: Mutex<HashMap<BindingId, Weak<Latest>>>,
    /// What somebody is being sent.
    sent: Mutex<HashMap<BindingId, (State, Weak<Encoded>)>>,
}

/// What was seen of a binding last, after how many changes, and the turn to look again. Those who look hold it: who
/// waits for the turn is given what the first has seen, also where that one has been sent all of it by then.
type Latest = tokio::sync::Mutex<Option<(u64, Seen)>>;

/// A state, and the message that says it.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) state: State,
    message: Arc<Encoded>,
}

impl Seen {
    pub(super) fn part(&self) -> Part {
        Part::of(Arc::clone(&self.message))
    }
}

impl Looks {
    pub(super) fn new(context: Arc<AdminContext>, room: Arc<Room>) -> Self {
        Self {
            context,
            room,
            turns: Semaphore::new(READS_MAX),
            looked_at: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    pub(super) async fn tenant_of(&self, scope: Option<TenantId>, id: BindingId) -> Result<TenantId, Fault> {
        let client = self.context.client().await?;
        Ok(found(bindings::find(&client, scope, id).await?, id)?.tenant_id)
    }

    /// As it is after so many `changes`, or later. Of what others have read meanwhile, all that was read `since` so
    /// many will do; without that, nothing.
    pub(super) async fn look(
        &self,
        tenant: TenantId,
        id: BindingId,
        changes: u64,
        since: Option<u64>,
    ) -> Result<Seen, Fault> {
        let latest = self.latest(id);
        let mut latest = latest.lock().await;
        if let Some((at, seen)) = &*latest
            && since.is_some_and(|since| *at >= since)
        {
            return Ok(seen.clone());
        }
        // What was read before takes no room beside what is read now.
        *latest = None;
        let seen = self.read(tenant, id).await?;
        *latest = Some((changes, seen.clone()));
        Ok(seen)
    }

    fn latest(&self, id: BindingId) -> Arc<Latest> {
        let mut looked_at = self.looked_at.lock();
        if let Some(known) = looked_at.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        looked_at.retain(|_, known| known.strong_count() > 0);
        let new = Arc::default();
        looked_at.insert(id, Arc::downgrade(&new));
        new
    }

    async fn read(&self, tenant: TenantId, id: BindingId) -> Result<Seen, Fault> {
        if let Some(seen) = self.being_sent(id).await? {
            return Ok(seen);
        }
        let mut held = self.room.take(Some(tenant), BYTES_MAX).await?;
        let (binding, kept) = {
            let _turn = self.turns.acquire().await;
            let client = self.context.client().await?;
            let binding = found(bindings::find(&client, Some(tenant), id).await?, id)?;
            (binding, bindings::kept(&client, id).await?)
        };
        let revision = kept.as_ref().map_or(0, |kept| kept.revision);
        let state = State { config_version: binding.config_version, revision, stale: binding.stale };
        let shown = present::binding(&binding, kept.as_ref())?;
        let message =
            encode(&v1::WatchBindingResponse { binding: Some(shown), cursor: write_cursor(&state) });
        held.shrink_to(message.len());
        let message = Encoded::new(message, Some(held));
        let mut sent = self.sent.lock();
        sent.retain(|_, (_, message)| message.strong_count() > 0);
        sent.insert(id, (state, Arc::downgrade(&message)));
        Ok(Seen { state, message })
    }

    /// The state as it is, if it is being sent to somebody already: it takes no more room.
    async fn being_sent(&self, id: BindingId) -> Result<Option<Seen>, Fault> {
        let is_sent = || self.sent.lock().get(&id).and_then(|(state, sent)| Some((*state, sent.upgrade()?)));
        if is_sent().is_none() {
            return Ok(None);
        }
        let now = {
            let _turn = self.turns.acquire().await;
            let client = self.context.client().await?;
            bindings::states(&client, &[id]).await?.get(&id).copied()
        };
        Ok(is_sent().filter(|(state, _)| Some(*state) == now).map(|(state, message)| Seen { state, message }))
    }
}
