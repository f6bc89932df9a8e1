//! A delivery in memory, and the chunk it came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use bowline_core::delivery::DeliveryKey;
use bowline_core::event::Event;
use bowline_core::id::{ChunkId, ReplicaId, TenantId};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// A chunk that this life owns, until the last of its deliveries is in Postgres.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    pub(crate) life: ReplicaId,
    remaining: AtomicUsize,
    pub(crate) settled: Notify,
}

impl Chunk {
    pub(crate) fn new(id: ChunkId, life: ReplicaId, deliveries: usize) -> Self {
        Self { id, life, remaining: AtomicUsize::new(deliveries), settled: Notify::new() }
    }

    /// Counts one delivery as settled; true for the last.
    pub(crate) fn settle_one(&self) -> bool {
        self.remaining.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// An event in memory, with its share of the bound on bytes.
#[derive(Debug)]
pub(crate) struct HeldEvent {
    pub(crate) event: Event,
    pub(crate) _bytes: Option<Arc<OwnedSemaphorePermit>>,
}

const WAITING: u8 = 0;
const OUT: u8 = 1;
const GONE: u8 = 2;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: DeliveryKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) event: Arc<HeldEvent>,
    /// `None`: it came from the queue, where its row is ours.
    pub(crate) chunk: Option<Arc<Chunk>>,
    pub(crate) life: ReplicaId,
    /// Attempts so far, and of them those that count against the budget.
    pub(crate) attempt: u32,
    pub(crate) used: u32,
    state: AtomicU8,
    /// Its row is in the queue (from the start, or since it was parked).
    pub(crate) queued: AtomicBool,
    /// An outcome went to the recorder: a later park is void.
    pub(crate) decided: AtomicBool,
    /// Bounds the references in memory; given back when the job is dropped.
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) key: DeliveryKey,
    pub(crate) tenant_id: TenantId,
    pub(crate) event: Arc<HeldEvent>,
    pub(crate) chunk: Option<Arc<Chunk>>,
    pub(crate) life: ReplicaId,
    pub(crate) attempt: u32,
    pub(crate) used: u32,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Job {
    pub(crate) fn new(new: NewJob) -> Arc<Self> {
        let queued = new.chunk.is_none();
        Arc::new(Self {
            key: new.key,
            tenant_id: new.tenant_id,
            event: new.event,
            chunk: new.chunk,
            life: new.life,
            attempt: new.attempt,
            used: new.used,
            state: AtomicU8::new(WAITING),
            queued: AtomicBool::new(queued),
            decided: AtomicBool::new(false),
            _permit: new.permit,
        })
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes it out of its lane to be sent; false when it was parked meanwhile.
    pub(crate) fn start(&self) -> bool {
        self.step(WAITING, OUT)
    }

    /// Takes it out of its lane to be parked; false when it is out, or gone.
    pub(crate) fn withdraw(&self) -> bool {
        self.step(WAITING, GONE)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }
}
