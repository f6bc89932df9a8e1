//! Every first unsealing, on its way to the audit log.
//!
//! Opening a secret must not wait for a database, so what is to be logged goes through a bounded
//! queue. When that is full the opening is not marked as told: the next one of the same secret and
//! purpose tells again, and the loss is counted and logged.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::id::{SecretId, TenantId};

/// Unsealings that wait for the audit log; about 6 MiB when full.
const WAITING_MAX: usize = 65_536;
/// Pairs of secret and purpose remembered as told; beyond, all are forgotten and told again.
const TOLD_MAX: usize = 1 << 20;

/// Why a secret was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To check the signature of an inbound request.
    Verify,
    /// To sign an outbound request.
    Sign,
    /// To show it to a person; told every time.
    Reveal,
    /// To sign a test request.
    Test,
    /// To show a receiver who we are.
    Authenticate,
}

impl Purpose {
    /// As the audit log has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Sign => "sign",
            Self::Reveal => "reveal",
            Self::Test => "test",
            Self::Authenticate => "authenticate",
        }
    }

    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// One entry for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsealing {
    pub secret_id: SecretId,
    pub tenant_id: TenantId,
    /// The source or endpoint the secret belongs to.
    pub owner: Uuid,
    pub purpose: Purpose,
    pub at: DateTime<Utc>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    arrived: Notify,
    waiting_max: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Unsealing>,
    told: HashSet<(SecretId, Purpose)>,
    /// How many were refused since the queue was last read.
    refused: u64,
    closed: bool,
}

impl Ledger {
    pub(super) fn new() -> Arc<Self> {
        Self::with_capacity(WAITING_MAX)
    }

    fn with_capacity(waiting_max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), arrived: Notify::new(), waiting_max })
    }

    /// Whether the unsealing is accounted for: queued now, or told before.
    pub(super) fn tell(&self, unsealing: Unsealing) -> bool {
        let mut state = self.state.lock();
        let mark = (unsealing.secret_id, unsealing.purpose);
        if unsealing.purpose != Purpose::Reveal && state.told.contains(&mark) {
            return true;
        }
        if state.waiting.len() >= self.waiting_max {
            state.refused += 1;
            let first_of_a_run = state.refused == 1;
            drop(state);
            metrics::counter!("bowline_core_unsealings_dropped_total").increment(1);
            if first_of_a_run {
                tracing::error!(
                    waiting_max = self.waiting_max,
                    secret_id = %unsealing.secret_id,
                    purpose = unsealing.purpose.as_str(),
                    "audit log of unsealings is full: entries wait for the next opening of the same secret"
                );
            }
            return false;
        }
        if state.told.len() >= TOLD_MAX {
            state.told.clear();
        }
        state.told.insert(mark);
        state.waiting.push_back(unsealing);
        drop(state);
        self.arrived.notify_one();
        true
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }
}

/// The reading end: whoever keeps the audit log drains it.
#[derive(Debug)]
pub struct UnsealLog {
    ledger: Arc<Ledger>,
}

impl UnsealLog {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    /// Waits until there is something, then takes up to `max`, oldest first. Empty only when every
    /// vault is gone. Cancel-safe: nothing is taken until it returns.
    pub async fn recv_batch(&mut self, max: usize) -> Vec<Unsealing> {
        // `notify_one` keeps a permit when nobody waits: what arrives between look and wait is seen.
        loop {
            let batch = self.try_batch(max);
            if !batch.is_empty() || self.ledger.state.lock().closed {
                return batch;
            }
            self.ledger.arrived.notified().await;
        }
    }

    /// Takes up to `max` of what is there, without waiting: for the last flush at shutdown.
    pub fn try_batch(&mut self, max: usize) -> Vec<Unsealing> {
        let mut state = self.ledger.state.lock();
        state.refused = 0;
        let count = state.waiting.len().min(max.max(1));
        state.waiting.drain(..count).collect()
    }

    /// Puts back, in front, what could not be written. May pass the limit by one batch.
    pub fn put_back(&mut self, batch: Vec<Unsealing>) {
        let mut state = self.ledger.state.lock();
        for unsealing in batch.into_iter().rev() {
            state.waiting.push_front(unsealing);
        }
        drop(state);
        self.ledger.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsealing(id: u128, purpose: Purpose) -> Unsealing {
        Unsealing {
            secret_id: SecretId(Uuid::from_u128(id)),
            tenant_id: crate::id::DEFAULT_TENANT,
            owner: Uuid::from_u128(9),
            purpose,
            at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn once_per_secret_and_purpose_but_every_reveal() {
        let ledger = Ledger::new();
        for purpose in [Purpose::Sign, Purpose::Sign, Purpose::Verify, Purpose::Reveal, Purpose::Reveal] {
            assert!(ledger.tell(unsealing(1, purpose)));
        }
        let told: Vec<_> = UnsealLog::new(ledger).try_batch(100).into_iter().map(|u| u.purpose).collect();
        assert_eq!(told, [Purpose::Sign, Purpose::Verify, Purpose::Reveal, Purpose::Reveal]);
    }

    #[test]
    fn what_did_not_fit_is_told_at_the_next_opening() {
        let ledger = Ledger::with_capacity(1);
        let mut log = UnsealLog::new(Arc::clone(&ledger));
        assert!(ledger.tell(unsealing(1, Purpose::Sign)));
        assert!(!ledger.tell(unsealing(2, Purpose::Sign)));
        assert_eq!(log.try_batch(10), [unsealing(1, Purpose::Sign)]);
        assert!(ledger.tell(unsealing(2, Purpose::Sign)));
        assert_eq!(log.try_batch(10), [unsealing(2, Purpose::Sign)]);
    }

    #[tokio::test]
    async fn a_reader_wakes_keeps_order_and_sees_the_end() {
        let ledger = Ledger::new();
        let mut log = UnsealLog::new(Arc::clone(&ledger));
        let reader = tokio::spawn(async move {
            let first = log.recv_batch(1).await;
            (first, log)
        });
        ledger.tell(unsealing(1, Purpose::Sign));
        ledger.tell(unsealing(2, Purpose::Sign));
        let (first, mut log) = reader.await.unwrap();
        assert_eq!(first, [unsealing(1, Purpose::Sign)]);
        log.put_back(first);
        assert_eq!(log.recv_batch(10).await, [unsealing(1, Purpose::Sign), unsealing(2, Purpose::Sign)]);
        ledger.close();
        assert_eq!(log.recv_batch(10).await, []);
    }
}
