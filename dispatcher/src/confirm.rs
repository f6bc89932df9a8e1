//! Keeps the session over which chunks are claimed. Its claims wait for no disk, so after its loss
//! nothing starts until Postgres has said which of them it still knows.

use std::collections::HashSet;
use std::sync::Arc;

use bowline_core::id::ChunkId;
use bowline_core::store;
use bowline_core::store::claim_session::ClaimSession;
use tokio::sync::watch;
use uuid::Uuid;

use crate::claim::Claims;

/// The current one, or none for now.
#[derive(Debug)]
pub(crate) struct Session {
    direct_url: String,
    current: watch::Sender<Option<Arc<ClaimSession>>>,
}

impl Session {
    pub(crate) fn new(direct_url: &str) -> Self {
        Self { direct_url: direct_url.to_owned(), current: watch::Sender::new(None) }
    }
}

impl Claims {
    /// Waits for one where there is none.
    pub(crate) async fn session(&self) -> Arc<ClaimSession> {
        let mut current = self.session.current.subscribe();
        loop {
            if let Some(session) = current.borrow_and_update().clone() {
                return session;
            }
            // Its sender lives in `self`.
            let _ = current.changed().await;
        }
    }

    /// Opens a session, confirms what was claimed over the one before, and waits for its loss.
    pub(crate) async fn keep_session(self: Arc<Self>) -> Result<(), store::Error> {
        loop {
            self.replica.doubt();
            self.session.current.send_replace(None);
            let session = ClaimSession::open(&self.session.direct_url).await?;
            self.confirm(&session).await?;
            let lost = session.lost();
            self.session.current.send_replace(Some(Arc::new(session)));
            self.replica.trust();
            lost.cancelled().await;
            tracing::warn!("the connection of claims was lost: nothing starts until they are confirmed");
        }
    }

    /// What Postgres has forgotten is claimed again, unless another has it by now: that is let go.
    async fn confirm(&self, session: &ClaimSession) -> Result<(), store::Error> {
        let life = self.replica.id();
        let held = self.holdings.all();
        let ids: Vec<Uuid> =
            held.iter().filter(|(_, claimed_by)| **claimed_by == life).map(|(id, _)| id.0).collect();
        if ids.is_empty() {
            tracing::debug!("claims are confirmed: there are none");
            return Ok(());
        }
        let ours: HashSet<ChunkId> = session.confirm(life, &ids).await?.into_iter().collect();
        // Those that are settled are gone as well.
        self.holdings.forget_those(held.into_keys().filter(|id| !ours.contains(id)));
        tracing::info!(held = ids.len(), ours = ours.len(), "claims are confirmed");
        Ok(())
    }
}
