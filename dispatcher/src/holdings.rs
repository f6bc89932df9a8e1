//! The chunks that this process holds: claimed, and not yet seen to be settled.

use std::collections::HashMap;

use bowline_core::id::{ChunkId, ReplicaId};
use bowline_core::store::chunks::ClaimedChunk;
use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// With the life that claimed each.
    chunks: Mutex<HashMap<ChunkId, ReplicaId>>,
}

impl Holdings {
    /// To be called before anything else can look at what is owned: these are not lost claims.
    pub(crate) fn take(&self, life: ReplicaId, claimed: &[ClaimedChunk]) {
        self.chunks.lock().extend(claimed.iter().map(|chunk| (chunk.id, life)));
    }

    pub(crate) fn holds(&self, id: ChunkId) -> bool {
        self.chunks.lock().contains_key(&id)
    }

    pub(crate) fn all(&self) -> HashMap<ChunkId, ReplicaId> {
        self.chunks.lock().clone()
    }

    pub(crate) fn forget(&self, id: ChunkId) {
        self.chunks.lock().remove(&id);
    }

    pub(crate) fn forget_those(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let mut chunks = self.chunks.lock();
        for id in ids {
            chunks.remove(&id);
        }
    }
}
