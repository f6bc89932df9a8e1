//! Waits until every live replica has a configuration version.

use std::time::Duration;

use bowline_core::id::ReplicaId;
use bowline_core::store::{self, Pool, sources};
use tokio::time::Instant;

const CONFIRM_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Returns those that have not confirmed in time; empty: all have.
pub(crate) async fn confirm(pool: &Pool, version: i64) -> Result<Vec<ReplicaId>, store::Error> {
    let deadline = Instant::now() + CONFIRM_MAX;
    loop {
        // The connection goes back to the pool between two looks.
        let behind = {
            let client = pool.get().await?;
            sources::replicas_behind(&client, version).await?
        };
        if behind.is_empty() || Instant::now() >= deadline {
            return Ok(behind);
        }
        tokio::time::sleep(POLL).await;
    }
}
