//! What a writer takes next. Everybody's requests go at once, all that has gathered in one batch; those
//! of tenants that flood ([`fair`](super::fair)) gather for a while and have batches of their own, one at
//! a time. So a flood never stands before others in a batch, leaves them the other writers, and costs a
//! commit for many events instead of for a few: what it would take from others by its many small
//! commits is most of what a machine has.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::fair::Rates;
use super::fold::Request;
use crate::id::TenantId;
use crate::streams::Class;

/// From one batch of those that flood to the next, unless one is full before.
const BULK_PERIOD: Duration = Duration::from_millis(20);
/// After this it is their turn, whoever else waits: a guaranteed minimum.
const BULK_WAIT_MAX: Duration = Duration::from_millis(100);

/// What one writer commits.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) requests: Vec<Request>,
    pub(super) class: Class,
    /// Held until all of them have their answers.
    pub(super) turn: Option<BulkTurn>,
}

/// The one turn of those that flood.
#[derive(Debug)]
pub(super) struct BulkTurn(Arc<Turn>);

#[derive(Debug, Default)]
struct Turn {
    taken: AtomicBool,
    free: Notify,
}

impl Drop for BulkTurn {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.free.notify_one();
    }
}

#[derive(Debug)]
pub(super) struct Intake {
    requests: mpsc::Receiver<Request>,
    /// Nothing will come any more.
    ended: bool,
    rates: Rates,
    /// Of tenants that flood, in the order they came; bounded by what may be in flight.
    bulk: VecDeque<Request>,
    bulk_bytes: usize,
    /// Since when the first of them has waited for a turn.
    bulk_since: Option<Instant>,
    bulk_taken_at: Option<Instant>,
    turn: Arc<Turn>,
    events_max: usize,
    bytes_max: usize,
}

impl Intake {
    /// A batch has at most so many events, and ends with the one by which it has so many bytes.
    pub(super) fn new(requests: mpsc::Receiver<Request>, events_max: usize, bytes_max: usize) -> Self {
        Self {
            requests,
            ended: false,
            rates: Rates::new(Instant::now()),
            bulk: VecDeque::new(),
            bulk_bytes: 0,
            bulk_since: None,
            bulk_taken_at: None,
            turn: Arc::default(),
            events_max,
            bytes_max,
        }
    }

    /// The next batch; `None` when nothing will come any more. Nothing is lost where this is dropped.
    pub(super) async fn take(&mut self) -> Option<Batch> {
        let mut first = None;
        loop {
            let now = Instant::now();
            if let Some(batch) = self.next(first.take(), now) {
                return Some(batch);
            }
            if self.ended && self.bulk.is_empty() {
                return None;
            }
            let due = self.bulk_taken_at.unwrap_or(now) + BULK_PERIOD;
            let bulk_waits = self.bulk_since.is_some();
            let turn_is_free = !self.turn.taken.load(Ordering::Acquire);
            let turn = Arc::clone(&self.turn);
            tokio::select! {
                request = self.requests.recv(), if !self.ended => {
                    self.ended = request.is_none();
                    first = request;
                }
                () = tokio::time::sleep_until(due), if bulk_waits && turn_is_free => {}
                () = turn.free.notified(), if bulk_waits && !turn_is_free => {}
            }
        }
    }

    /// What can be taken now, with the one that came last.
    fn next(&mut self, first: Option<Request>, now: Instant) -> Option<Batch> {
        let starves = self.bulk_since.is_some_and(|since| now >= since + BULK_WAIT_MAX);
        if starves
            && first.is_none()
            && let Some(batch) = self.take_bulk(now)
        {
            return Some(batch);
        }
        if let Some(batch) = self.take_gathered(first, now) {
            return Some(batch);
        }
        if self.bulk_is_due(now) { self.take_bulk(now) } else { None }
    }

    /// All that has gathered up to the limits, without those that flood: they are put aside.
    fn take_gathered(&mut self, first: Option<Request>, now: Instant) -> Option<Batch> {
        let mut bytes = first.as_ref().map_or(0, Request::bytes);
        let mut gathered = Vec::from_iter(first);
        while gathered.len() < self.events_max && bytes < self.bytes_max {
            let Ok(request) = self.requests.try_recv() else { break };
            bytes += request.bytes();
            gathered.push(request);
        }
        let classes = self.classes(&gathered, now);
        if classes.values().all(|class| *class == Class::Events) {
            return (!gathered.is_empty()).then(|| Batch {
                requests: gathered,
                class: Class::Events,
                turn: None,
            });
        }
        let is_bulk = |request: &Request| classes[&request.new.event.tenant_id] == Class::Bulk;
        let (bulk, requests): (Vec<_>, Vec<_>) = gathered.into_iter().partition(is_bulk);
        self.bulk_bytes += bulk.iter().map(Request::bytes).sum::<usize>();
        self.bulk.extend(bulk);
        self.bulk_since = self.bulk_since.or(Some(now));
        (!requests.is_empty()).then(|| Batch { requests, class: Class::Events, turn: None })
    }

    fn classes(&mut self, gathered: &[Request], now: Instant) -> HashMap<TenantId, Class> {
        let mut counts: HashMap<TenantId, u64> = HashMap::new();
        for request in gathered {
            *counts.entry(request.new.event.tenant_id).or_default() += 1;
        }
        for (tenant, events) in &counts {
            self.rates.count(*tenant, *events, now);
        }
        counts.into_keys().map(|tenant| (tenant, self.rates.class_of(tenant, now))).collect()
    }

    fn bulk_is_due(&self, now: Instant) -> bool {
        let full = self.bulk.len() >= self.events_max || self.bulk_bytes >= self.bytes_max;
        let rested = self.bulk_taken_at.is_none_or(|taken| now >= taken + BULK_PERIOD);
        !self.bulk.is_empty() && (full || rested || self.ended)
    }

    /// A batch of those that flood; `None` while another is on its way.
    fn take_bulk(&mut self, now: Instant) -> Option<Batch> {
        if self.turn.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        let turn = Some(BulkTurn(Arc::clone(&self.turn)));
        let (mut requests, mut bytes) = (Vec::new(), 0);
        while requests.len() < self.events_max && bytes < self.bytes_max {
            let Some(request) = self.bulk.pop_front() else { break };
            bytes += request.bytes();
            requests.push(request);
        }
        self.bulk_bytes -= bytes;
        self.bulk_taken_at = Some(now);
        self.bulk_since = (!self.bulk.is_empty()).then_some(now);
        Some(Batch { requests, class: Class::Bulk, turn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS_MAX: usize = 512;

    fn intake() -> (mpsc::Sender<Request>, Intake) {
        let (sender, requests) = mpsc::channel(4096);
        (sender, Intake::new(requests, EVENTS_MAX, usize::MAX))
    }

    fn send(sender: &mpsc::Sender<Request>, tenant: TenantId, count: usize) {
        for _ in 0..count {
            sender.try_send(Request::waiting(tenant, None).0).unwrap();
        }
    }

    fn next(intake: &mut Intake, now: Instant) -> (Option<(usize, Class)>, Option<Batch>) {
        let batch = intake.next(None, now);
        (batch.as_ref().map(|batch| (batch.requests.len(), batch.class)), batch)
    }

    #[test]
    fn a_flood_never_shares_a_batch_and_has_one_turn() {
        let (sender, mut intake) = intake();
        let (quiet, flooding, now) = (TenantId::new(), TenantId::new(), Instant::now());
        send(&sender, quiet, 1);
        send(&sender, flooding, 2 * EVENTS_MAX);
        send(&sender, quiet, 3);
        assert_eq!(next(&mut intake, now).0, Some((1, Class::Events)), "what gathered, less the flood");
        let (seen, first) = next(&mut intake, now);
        assert_eq!(seen, Some((EVENTS_MAX, Class::Bulk)), "all else that gathered was a flood");
        assert_eq!(next(&mut intake, now).0, Some((3, Class::Events)), "others do not wait for it");
        // The second turn begins with the end of the first.
        let later = now + BULK_PERIOD;
        assert_eq!(next(&mut intake, later).0, None);
        drop(first);
        assert_eq!(next(&mut intake, later).0, Some((EVENTS_MAX, Class::Bulk)));
        assert_eq!((intake.bulk.len(), intake.bulk_bytes, intake.bulk_since), (0, 0, None));
    }

    #[test]
    fn a_flood_gathers_and_is_never_starved() {
        let (sender, mut intake) = intake();
        let (quiet, flooding, began) = (TenantId::new(), TenantId::new(), Instant::now());
        send(&sender, quiet, 1);
        send(&sender, flooding, 300);
        next(&mut intake, began);
        assert_eq!(next(&mut intake, began).0, Some((300, Class::Bulk)), "the first waits for nothing");
        send(&sender, flooding, 10);
        assert_eq!(next(&mut intake, began).0, None);
        assert_eq!(next(&mut intake, began + BULK_PERIOD).0, Some((10, Class::Bulk)));
        // Somebody is always there before it.
        let began = began + BULK_PERIOD;
        send(&sender, flooding, 10);
        let turns = (1..200).map(|ms| {
            send(&sender, quiet, 1);
            next(&mut intake, began + Duration::from_millis(ms)).0.unwrap().1
        });
        let turns: Vec<Class> = turns.collect();
        let waited = turns.iter().position(|class| *class == Class::Bulk).unwrap();
        assert_eq!(waited, BULK_WAIT_MAX.as_millis() as usize);
    }

    #[tokio::test]
    async fn all_of_it_comes_out_at_the_end() {
        let (sender, mut intake) = intake();
        let (quiet, flooding) = (TenantId::new(), TenantId::new());
        send(&sender, quiet, 1);
        send(&sender, flooding, EVENTS_MAX + 50);
        drop(sender);
        let mut left = 0;
        while let Some(batch) = intake.take().await {
            left += batch.requests.len();
        }
        assert_eq!(left, 1 + EVENTS_MAX + 50);
    }
}
