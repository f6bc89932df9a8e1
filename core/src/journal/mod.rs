//! The one way an event comes into being: ingest, `PublishEvent` and Bowline itself come through here.
//!
//! 1. [`admit`] takes a request in, or sheds it at once: a share of the count and bytes in flight.
//! 2. [`Journal::commit`] puts the event into a bounded channel and waits for the answer.
//! 3. [`write`] takes all that has gathered ([`gather`]; tenants that flood, by [`fair`], have turns of their
//!    own: [`intake`]), has it folded by key ([`fold`]) and cut into chunks ([`chunk`]), and commits it as one
//!    statement, over a connection of its own ([`link`]). What is for ordered endpoints ([`order`]) takes its
//!    places in their channels there.
//! 4. The waiters get their answers, after the commit and never before (invariant 1).
//! 5. [`publish`] hints the chunks to the dispatchers over Redis; what it skips, they find by
//!    themselves.
//!
//! The workers live as long as a [`Journal`] does, past the stop of the intake: see [`Journal::flush`].

mod admit;
mod chunk;
mod failure;
mod fair;
mod fold;
mod gather;
mod intake;
mod link;
mod order;
mod pending;
mod publish;
mod write;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::binding::Touched;
use crate::bootstrap::{Config, Shutdown, supervise};
use crate::event::Event;
use crate::id::{EventId, TenantId};
use crate::snapshot::Snapshot;
use crate::store;
use crate::streams::Streams;
use admit::Admission;
pub use admit::Permit;
use fold::Request;
use gather::Writing;
use pending::Pending;
use publish::Publisher;

/// Load passes quickly.
const OVERLOADED_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A failover takes a few seconds.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub event: Event,
    /// Of the source when the request was verified; 0 without a source.
    pub generation: i64,
    pub key: Option<DedupKey>,
}

/// Two events with one key within `ttl` are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupKey {
    /// The source, or the tenant for a published event.
    pub scope: Uuid,
    /// Of the key, by [`Self::hash`].
    pub hash: Uuid,
    pub ttl: Duration,
    /// SHA-256 over what is published: the same key with another one is [`JournalError::KeyReused`].
    pub fingerprint: Option<[u8; 32]>,
}

impl DedupKey {
    /// The first half of the SHA-256 of a key: within one scope that is enough to tell keys apart, and
    /// half the index to keep in memory.
    pub fn hash(key: &[u8]) -> Uuid {
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::digest(key)[..16]);
        Uuid::from_bytes(half)
    }
}

/// What has been committed, now or, for a duplicate, before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub id: EventId,
    pub duplicate: bool,
}

/// Why an event was not stored, or is not known to have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("too much is in flight: try again in {} s", .retry_after.as_secs())]
    Overloaded { retry_after: Duration },
    #[error("Postgres did not confirm the event in time: try again in {} s", .retry_after.as_secs())]
    Unavailable { retry_after: Duration },
    /// Verify again, with a fresh configuration.
    #[error("the source has changed since the request was verified")]
    Stale,
    /// This event cannot be stored, however often it is tried.
    #[error("the event cannot be stored: {message}")]
    Poison { message: String },
    #[error("the key was used for another event before")]
    KeyReused,
}

impl JournalError {
    fn overloaded() -> Self {
        Self::Overloaded { retry_after: OVERLOADED_RETRY_AFTER }
    }

    fn unavailable() -> Self {
        Self::Unavailable { retry_after: UNAVAILABLE_RETRY_AFTER }
    }
}

/// The handle on the journal; clones share it.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    admission: Arc<Admission>,
    requests: mpsc::Sender<Request>,
    writing: Arc<Writing>,
    pending: Pending,
    request_timeout: Duration,
    streams: Option<Streams>,
    /// Ends the workers when the last handle goes.
    end: Shutdown,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end.request();
    }
}

impl Journal {
    /// Starts the writers and, with streams, the publisher; they connect by themselves. Needs a
    /// tokio runtime.
    pub fn start(
        config: &Config,
        streams: Option<Streams>,
        snapshot: Arc<Snapshot>,
    ) -> Result<Self, store::Error> {
        let ingest = &config.ingest;
        // Session settings do not survive a pooler that hands connections from one to the next.
        let url = config.postgres.direct_url_str();
        store::connection_config(url)?;
        let end = Shutdown::new();
        let publisher = streams.clone().map(|streams| Publisher::start(streams, &end));
        let (requests, receiver) = mpsc::channel(ingest.in_flight_max);
        let writing = Arc::new(Writing::new(config, url, receiver, publisher, snapshot));
        for _ in 0..ingest.journal_writers {
            let (writing, token) = (Arc::clone(&writing), end.token());
            supervise("journal writer", &end, move || write::run(Arc::clone(&writing), token.clone()));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                admission: Arc::new(Admission::new(ingest)),
                requests,
                writing,
                pending: Pending::default(),
                request_timeout: ingest.request_timeout,
                streams,
                end,
            }),
        })
    }

    /// The sources that this journal has committed something for.
    pub fn touched(&self) -> Arc<Touched> {
        Arc::clone(&self.inner.writing.touched)
    }

    /// Where it hints at what it has committed.
    pub fn streams(&self) -> Option<Streams> {
        self.inner.streams.clone()
    }

    /// Takes a request in, or says at once that there is no room or no Postgres for it.
    pub fn admit(&self, tenant: TenantId) -> Result<Permit, JournalError> {
        self.admit_with(tenant, 0)
    }

    /// As [`Self::admit`], for a request whose bytes are all there.
    pub fn admit_with(&self, tenant: TenantId, bytes: usize) -> Result<Permit, JournalError> {
        if self.inner.writing.is_away() {
            return Err(JournalError::unavailable());
        }
        Admission::admit(&self.inner.admission, tenant, bytes)
    }

    /// Whether it is of use to read a request at all; takes nothing.
    pub fn check(&self) -> Result<(), JournalError> {
        if self.inner.writing.is_away() {
            return Err(JournalError::unavailable());
        }
        if self.inner.admission.has_room() { Ok(()) } else { Err(JournalError::overloaded()) }
    }

    /// Resolves after the commit. When the future is dropped the event may be stored or not.
    pub async fn commit(&self, permit: &Permit, event: NewEvent) -> Result<Committed, JournalError> {
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + self.inner.request_timeout;
        let request = Request {
            new: event,
            deadline,
            answer,
            // The bytes stay counted for as long as the request waits, even if its sender has left.
            _permit: permit.clone(),
            _pending: self.inner.pending.enter(),
        };
        self.inner.requests.try_send(request).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => JournalError::overloaded(),
            mpsc::error::TrySendError::Closed(_) => JournalError::unavailable(),
        })?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            // The writer died with it, or it took too long: whether it is stored is not known.
            Ok(Err(_)) | Err(_) => Err(JournalError::unavailable()),
        }
    }

    /// For the shutdown, once the intake has stopped: waits until what is queued is committed, and
    /// published or skipped. The caller bounds it.
    pub async fn flush(&self) {
        self.inner.pending.none().await;
        self.inner.writing.flush().await;
    }
}
