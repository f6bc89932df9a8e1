//! Hands what Bowline has to tell to the journal, where it becomes an event like any other.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::crash;
use bowline_core::journal::{Journal, JournalError};
use bowline_core::store::own_events::{self, Waiting};
use bowline_core::store::{self, Pool};

const SCAN: Duration = Duration::from_millis(500);
const AT_A_TIME: i64 = 64;

#[derive(Debug)]
pub(crate) struct Teller {
    pub(crate) pool: Pool,
    pub(crate) journal: Journal,
}

impl Teller {
    pub(crate) async fn work(self: Arc<Self>) -> Result<(), store::Error> {
        loop {
            let waiting = {
                let client = self.pool.get().await?;
                own_events::waiting(&client, AT_A_TIME).await?
            };
            let mut told = Vec::new();
            for one in waiting {
                let id = one.id;
                match self.hand_over(one).await {
                    Ok(()) => told.push(id),
                    // It would be so the next time too.
                    Err(error @ (JournalError::Poison { .. } | JournalError::KeyReused)) => {
                        tracing::error!(%error, event_id = %id, "an event of Bowline's own cannot be stored");
                        told.push(id);
                    }
                    Err(error) => {
                        tracing::debug!(%error, "Bowline's own events wait");
                        break;
                    }
                }
            }
            if told.is_empty() {
                tokio::time::sleep(SCAN).await;
            } else {
                let client = self.pool.get().await?;
                own_events::delete(&client, &told).await?;
            }
        }
    }

    /// Another dispatcher may do the same at the same time: the key makes one event of both.
    async fn hand_over(&self, one: Waiting) -> Result<(), JournalError> {
        let permit = self.journal.admit_with(one.tenant_id, one.body.len())?;
        self.journal.commit(&permit, one.into_event()).await?;
        crash::point("dispatcher_after_telling");
        Ok(())
    }
}
