//! Keeps to the `max_stored_payloads` of sources: bodies of older payloads go within seconds, never one
//! that a delivery still needs. What a deleted source has received goes likewise.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use uuid::Uuid;

use crate::id::SourceId;
use crate::preset;
use crate::store::payload_sweeps::{self, Limited};
use crate::store::{Error, Pool};

const PERIOD: Duration = Duration::from_secs(2);

/// What a source was swept at: nothing to do until that changes.
type Done = HashMap<SourceId, (Option<Uuid>, i64)>;

/// Sweeps for the life of the process, in turns with the other replicas.
pub async fn run(pool: Pool) -> Result<Infallible, Error> {
    let presets: Vec<(&str, u32)> =
        preset::all().filter_map(|preset| Some((preset.name(), preset.max_stored_payloads()?))).collect();
    let mut done = Done::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        pass(&pool, &presets, &mut done).await?;
    }
}

async fn pass(pool: &Pool, presets: &[(&str, u32)], done: &mut Done) -> Result<(), Error> {
    let mut client = pool.get().await?;
    let look = client.transaction().await?;
    if !payload_sweeps::begin(&look).await? {
        return Ok(());
    }
    let sources = payload_sweeps::limited(&look, presets).await?;
    look.commit().await?;
    drop(client);
    done.retain(|id, _| sources.iter().any(|source| source.source_id == *id));
    for source in &sources {
        let state = (source.newest, source.payloads);
        if source.holds || source.deleted || done.get(&source.source_id) != Some(&state) {
            if !sweep(pool, source).await? {
                return Ok(());
            }
            done.insert(source.source_id, state);
        }
    }
    Ok(())
}

/// False where another replica is at it.
async fn sweep(pool: &Pool, source: &Limited) -> Result<bool, Error> {
    let mut client = pool.get().await?;
    loop {
        let tx = client.transaction().await?;
        if !payload_sweeps::begin(&tx).await? {
            return Ok(false);
        }
        let swept = payload_sweeps::sweep(&tx, source).await?;
        let gone = source.deleted && !swept.more && payload_sweeps::forget(&tx, source).await?;
        tx.commit().await?;
        metrics::counter!("bowline_core_payload_bodies_dropped_total").increment(swept.dropped);
        if gone {
            tracing::info!(source_id = %source.source_id, "what a deleted source had received is gone");
        }
        if !swept.more {
            return Ok(true);
        }
    }
}
