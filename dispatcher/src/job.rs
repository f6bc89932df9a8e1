//! A delivery in memory, and the chunk it came from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowline_core::delivery::{Decision, DeliveryKey};
use bowline_core::event::Event;
use bowline_core::id::{ChunkId, ReplicaId, TenantId};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::share::Share;

/// A chunk that this life owns, until the last of its deliveries is in Postgres.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    pub(crate) life: ReplicaId,
    remaining: AtomicUsize,
    lost: AtomicBool,
    pub(crate) settled: Notify,
}

impl Chunk {
    pub(crate) fn new(id: ChunkId, life: ReplicaId, deliveries: usize) -> Self {
        Self {
            id,
            life,
            remaining: AtomicUsize::new(deliveries),
            lost: AtomicBool::new(false),
            settled: Notify::new(),
        }
    }

    /// Counts one delivery as settled; true for the last, if all before it were recorded while the chunk was ours.
    pub(crate) fn settle_one(&self) -> bool {
        self.remaining.fetch_sub(1, Ordering::AcqRel) == 1 && !self.is_lost()
    }

    /// Wakes who waits for its end, now or later.
    pub(crate) fn tell_settled(&self) {
        self.settled.notify_waiters();
        self.settled.notify_one();
    }

    /// Something of it could not be recorded, because Postgres said that it is not ours. Should it be ours again, by a
    /// later claim, then that begins anew.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// An event in memory, with its share of the bound on bytes.
#[derive(Debug)]
pub(crate) struct HeldEvent {
    pub(crate) event: Event,
    pub(crate) _bytes: Share,
}

/// What a delivery needs to be sent, and its share of the bound on references.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) event: Arc<HeldEvent>,
    pub(crate) _reference: Share,
}

/// What came of an ordered delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// And that is committed.
    Decided(Decision),
    /// It was not its turn; its lane can have it after this.
    Unsent(Duration),
    /// Postgres refuses to record what came of it.
    Unrecorded,
}

const WAITING: u8 = 0;
const OUT: u8 = 1;
const GONE: u8 = 2;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: DeliveryKey,
    pub(crate) tenant_id: TenantId,
    /// `None`: it came from the queue, where its row is ours.
    pub(crate) chunk: Option<Arc<Chunk>>,
    pub(crate) life: ReplicaId,
    /// Attempts so far, and of them those that count against the budget.
    pub(crate) attempt: u32,
    pub(crate) used: u32,
    pub(crate) age: Age,
    /// A test of its endpoint: attempted once, and of no consequence.
    pub(crate) test: bool,
    /// It has its place in a channel: what comes of it is told to whoever holds that.
    pub(crate) ordered: bool,
    holder: Mutex<Option<oneshot::Sender<Came>>>,
    /// Given up as soon as nothing will be sent any more, so that what was parked takes no memory.
    load: Mutex<Option<Load>>,
    state: AtomicU8,
    /// Its row is in the queue (from the start, or since it was parked).
    pub(crate) queued: AtomicBool,
    /// An outcome went to the recorder: a later park is void.
    pub(crate) decided: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) key: DeliveryKey,
    pub(crate) tenant_id: TenantId,
    /// `None`: there is no room for it in memory; it can only be parked.
    pub(crate) load: Option<Load>,
    pub(crate) chunk: Option<Arc<Chunk>>,
    pub(crate) life: ReplicaId,
    pub(crate) attempt: u32,
    pub(crate) used: u32,
    pub(crate) age: Age,
    pub(crate) test: bool,
}

/// Since when its retry policy counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Age {
    /// From the receipt of its event.
    OfEvent,
    /// From when its budget began, so long before this moment: a redrive or replay begins a new one.
    OfBudget { waited: Duration, at: Instant },
}

impl Job {
    pub(crate) fn new(new: NewJob) -> Arc<Self> {
        Self::with_holder(new, None)
    }

    /// One whose channel is held, and what tells the holder of it. Dropped untold, its life is over.
    pub(crate) fn ordered(new: NewJob) -> (Arc<Self>, oneshot::Receiver<Came>) {
        let (holder, came) = oneshot::channel();
        (Self::with_holder(new, Some(holder)), came)
    }

    fn with_holder(new: NewJob, holder: Option<oneshot::Sender<Came>>) -> Arc<Self> {
        let queued = new.chunk.is_none();
        Arc::new(Self {
            key: new.key,
            tenant_id: new.tenant_id,
            chunk: new.chunk,
            life: new.life,
            attempt: new.attempt,
            used: new.used,
            age: new.age,
            test: new.test,
            ordered: holder.is_some(),
            holder: Mutex::new(holder),
            load: Mutex::new(new.load),
            state: AtomicU8::new(WAITING),
            queued: AtomicBool::new(queued),
            decided: AtomicBool::new(false),
        })
    }

    /// Tells the holder of its channel; only the first word counts.
    pub(crate) fn tell_holder(&self, came: Came) {
        if let Some(holder) = self.holder.lock().take() {
            // A holder that has gone has ended with its process.
            let _ = holder.send(came);
        }
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
        let withdrawn = self.step(WAITING, GONE);
        if withdrawn {
            self.unload();
        }
        withdrawn
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING
    }

    pub(crate) fn event(&self) -> Option<Arc<HeldEvent>> {
        self.load.lock().as_ref().map(|load| Arc::clone(&load.event))
    }

    /// Nothing will be sent any more.
    pub(crate) fn unload(&self) {
        self.load.lock().take();
    }
}
