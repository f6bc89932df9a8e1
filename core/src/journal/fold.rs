//! Folds requests with equal keys: the first leads, the others answer with what became of it.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::admit::Permit;
use super::pending::Entered;
use super::{Committed, DedupKey, JournalError, NewEvent};
use crate::event::Event;
use crate::id::EventId;

/// One event that waits for its commit.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) new: NewEvent,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Committed, JournalError>>,
    pub(super) _permit: Permit,
    pub(super) _pending: Entered,
}

impl Request {
    pub(super) fn bytes(&self) -> usize {
        self.new.event.body.len() + self.new.event.headers.len()
    }

    fn fingerprint(&self) -> Option<[u8; 32]> {
        self.new.key.as_ref().and_then(|key| key.fingerprint)
    }

    fn answer(self, answer: Result<Committed, JournalError>) {
        // The sender may have left; the event stays as it is.
        let _ = self.answer.send(answer);
    }
}

#[cfg(test)]
impl Request {
    /// One that waits for a minute; and where its answer comes.
    pub(super) fn waiting(
        tenant_id: crate::id::TenantId,
        key: Option<DedupKey>,
    ) -> (Self, oneshot::Receiver<Result<Committed, JournalError>>) {
        let (answer, answered) = oneshot::channel();
        let event = Event {
            id: EventId::new(),
            tenant_id,
            source_id: None,
            event_type: "order.created".into(),
            channel: None,
            content_type: String::new(),
            headers: bytes::Bytes::new(),
            body: bytes::Bytes::new(),
            time: chrono::Utc::now(),
        };
        let request = Self {
            new: NewEvent { event, generation: 0, key },
            deadline: Instant::now() + std::time::Duration::from_secs(60),
            answer,
            _permit: Permit::unlimited(tenant_id),
            _pending: super::pending::Pending::default().enter(),
        };
        (request, answered)
    }
}

/// Requests of one key, or a single one without a key.
#[derive(Debug)]
pub(super) struct Group {
    leader: Request,
    followers: VecDeque<Request>,
}

/// What became of a group's leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored,
    /// An earlier event has the key.
    Duplicate(EventId),
    KeyReused,
    Stale,
    Poison(String),
    /// Not known, or not possible just now.
    Again,
}

/// Sorted by key, so that two writers never lock keys in opposite order.
pub(super) fn fold(requests: Vec<Request>) -> Vec<Group> {
    let mut keyed: BTreeMap<(Uuid, Uuid), Group> = BTreeMap::new();
    let mut groups = Vec::new();
    for request in requests {
        let Some(key) = &request.new.key else {
            groups.push(Group::new(request));
            continue;
        };
        match keyed.entry((key.scope, key.hash)) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(Group::new(request));
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                slot.get_mut().followers.push_back(request);
            }
        }
    }
    groups.extend(keyed.into_values());
    groups
}

/// What an event with the leader's key and this fingerprint comes to, where the other has the key.
pub(super) fn same_event(one: Option<[u8; 32]>, other: Option<[u8; 32]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    }
}

impl Group {
    fn new(leader: Request) -> Self {
        Self { leader, followers: VecDeque::new() }
    }

    pub(super) fn event(&self) -> &Event {
        &self.leader.new.event
    }

    pub(super) fn generation(&self) -> i64 {
        self.leader.new.generation
    }

    pub(super) fn key(&self) -> Option<&DedupKey> {
        self.leader.new.key.as_ref()
    }

    /// Answers those whose time is up, forgets those whose sender has left; `None` when nobody waits.
    pub(super) fn still_waiting(self, now: Instant) -> Option<Self> {
        let mut waiting = VecDeque::with_capacity(1 + self.followers.len());
        for request in std::iter::once(self.leader).chain(self.followers) {
            if request.deadline <= now {
                request.answer(Err(JournalError::unavailable()));
            } else if !request.answer.is_closed() {
                waiting.push_back(request);
            }
        }
        Self::of(waiting)
    }

    fn of(mut requests: VecDeque<Request>) -> Option<Self> {
        let leader = requests.pop_front()?;
        Some(Self { leader, followers: requests })
    }

    /// Answers the leader, and its followers where its outcome settles them; gives back who is to be
    /// tried (again).
    pub(super) fn settle(self, outcome: Outcome) -> Option<Self> {
        let Self { leader, mut followers } = self;
        match outcome {
            Outcome::Again => return Some(Self { leader, followers }),
            Outcome::Stored => {
                let id = leader.new.event.id;
                answer_followers(followers, id, leader.fingerprint());
                leader.answer(Ok(Committed { id, duplicate: false }));
                return None;
            }
            Outcome::Duplicate(id) => {
                answer_followers(followers, id, leader.fingerprint());
                leader.answer(Ok(Committed { id, duplicate: true }));
                return None;
            }
            Outcome::Stale => {
                let (source, generation) = (leader.new.event.source_id, leader.new.generation);
                let mut rest = VecDeque::new();
                for follower in followers {
                    // The same verification: the same answer.
                    if follower.new.event.source_id == source && follower.new.generation == generation {
                        follower.answer(Err(JournalError::Stale));
                    } else {
                        rest.push_back(follower);
                    }
                }
                followers = rest;
                leader.answer(Err(JournalError::Stale));
            }
            Outcome::KeyReused => leader.answer(Err(JournalError::KeyReused)),
            Outcome::Poison(message) => leader.answer(Err(JournalError::Poison { message })),
        }
        // The next stands in for it.
        Self::of(followers)
    }
}

fn answer_followers(followers: VecDeque<Request>, id: EventId, fingerprint: Option<[u8; 32]>) {
    for follower in followers {
        let same = same_event(fingerprint, follower.fingerprint());
        follower.answer(if same {
            Ok(Committed { id, duplicate: true })
        } else {
            Err(JournalError::KeyReused)
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::TenantId;

    type Answer = oneshot::Receiver<Result<Committed, JournalError>>;

    fn request(key: Option<u8>, fingerprint: Option<u8>) -> (Request, EventId, Answer) {
        let tenant = TenantId(Uuid::from_u128(1));
        let key = key.map(|key| DedupKey {
            scope: tenant.0,
            hash: Uuid::from_bytes([key; 16]),
            ttl: Duration::from_secs(60),
            fingerprint: fingerprint.map(|byte| [byte; 32]),
        });
        let (request, answered) = Request::waiting(tenant, key);
        let id = request.new.event.id;
        (request, id, answered)
    }

    #[allow(clippy::unnecessary_wraps, reason = "an answer as it is sent")]
    fn stored(id: EventId, duplicate: bool) -> Result<Committed, JournalError> {
        Ok(Committed { id, duplicate })
    }

    #[test]
    fn equal_keys_fold_and_keys_are_sorted() {
        let keys = [Some(3), None, Some(1), Some(3), None, Some(2)];
        let (mut answers, mut requests) = (Vec::new(), Vec::new());
        for key in keys {
            let (request, _, answer) = request(key, None);
            answers.push(answer);
            requests.push(request);
        }
        let groups = fold(requests);
        let keys: Vec<_> = groups.iter().map(|group| group.key().map(|key| key.hash.as_bytes()[0])).collect();
        assert_eq!(keys, [None, None, Some(1), Some(2), Some(3)]);
        assert_eq!(groups[4].followers.len(), 1);
    }

    #[test]
    fn followers_answer_with_the_leader_or_are_refused() {
        let (first, id, mut led) = request(Some(1), Some(7));
        let (second, _, mut same) = request(Some(1), Some(7));
        let (third, _, mut other) = request(Some(1), Some(8));
        let group = fold(vec![first, second, third]).pop().unwrap();
        assert!(group.settle(Outcome::Stored).is_none());
        assert_eq!(led.try_recv().unwrap(), stored(id, false));
        assert_eq!(same.try_recv().unwrap(), stored(id, true));
        assert_eq!(other.try_recv().unwrap(), Err(JournalError::KeyReused));
    }

    #[test]
    fn the_next_stands_in_for_a_leader_that_failed() {
        let (first, _, mut failed) = request(Some(1), None);
        let (second, id, mut next) = request(Some(1), None);
        let group = fold(vec![first, second]).pop().unwrap();
        let group = group.settle(Outcome::Again).unwrap();
        let group = group.settle(Outcome::Poison("too odd".into())).unwrap();
        assert_eq!(failed.try_recv().unwrap(), Err(JournalError::Poison { message: "too odd".into() }));
        assert_eq!(group.event().id, id);
        assert!(group.settle(Outcome::Stored).is_none());
        assert_eq!(next.try_recv().unwrap(), stored(id, false));
    }

    #[test]
    fn who_was_verified_alike_is_stale_alike() {
        let (first, _, mut one) = request(Some(1), None);
        let (second, _, mut two) = request(Some(1), None);
        let (mut third, id, _three) = request(Some(1), None);
        third.new.generation = 2;
        let group = fold(vec![first, second, third]).pop().unwrap();
        let group = group.settle(Outcome::Stale).unwrap();
        assert_eq!(group.event().id, id);
        assert_eq!(one.try_recv().unwrap(), Err(JournalError::Stale));
        assert_eq!(two.try_recv().unwrap(), Err(JournalError::Stale));
    }

    #[test]
    fn time_is_up_for_some_and_others_stand_in() {
        let (mut first, _, mut late) = request(Some(1), None);
        let (second, _, left) = request(Some(1), None);
        let (third, id, _waits) = request(Some(1), None);
        let now = Instant::now();
        first.deadline = now;
        drop(left);
        let group = fold(vec![first, second, third]).pop().unwrap().still_waiting(now).unwrap();
        assert_eq!((group.event().id, group.followers.len()), (id, 0));
        assert_eq!(late.try_recv().unwrap(), Err(JournalError::unavailable()));
    }
}
