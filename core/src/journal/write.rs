//! The writers: each takes what has gathered since the last commit and commits it as one statement.
//! The busier it is, the larger the batches; idle, an event is committed at once.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use chrono::{NaiveDate, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chunk::{self, Placement};
use super::failure::{Failure, classify};
use super::fold::{Group, Outcome, fold, same_event};
use super::gather::Writing;
use super::intake::Batch;
use super::link::{Link, answered};
use super::order;
use crate::crash;
use crate::id::EventId;
use crate::store::journal::{Row, Written};
use crate::store::partitions;
use crate::streams::Class;

/// How often in one round the ordered endpoints may change.
const CHANGES_MAX: u32 = 16;
/// Ids are minted here and now: another day than one of these is a mistake, not a missing partition.
const DAYS_OFF_MAX: i64 = 2;

#[derive(Debug)]
struct Writer {
    writing: Arc<Writing>,
    link: Link,
}

/// What a round has brought about each group, and whether to wait before the next.
struct Round {
    outcomes: Vec<Outcome>,
    troubled: bool,
}

/// One writer, for the life of the journal.
pub(super) async fn run(writing: Arc<Writing>, end: CancellationToken) -> Result<(), Infallible> {
    let mut writer = Writer { writing: Arc::clone(&writing), link: Link::new(Arc::clone(&writing)) };
    loop {
        let Some(lost) = writer.link.connect().await else {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = writer.link.wait() => continue,
            }
        };
        tokio::select! {
            // A connection that ended while idle is made anew before anyone needs it.
            () = lost.cancelled() => writer.link.close(),
            batch = writing.take() => match batch {
                Some(batch) => writer.settle(batch).await,
                None => return Ok(()),
            },
        }
    }
}

impl Writer {
    /// Brings each request to its answer: committed, refused, or out of time.
    async fn settle(&mut self, batch: Batch) {
        let Batch { requests, class, turn: _turn } = batch;
        for groups in order::part(fold(requests), &self.writing.snapshot.ordered()) {
            self.settle_part(groups, class).await;
        }
    }

    async fn settle_part(&mut self, mut groups: Vec<Group>, class: Class) {
        // An earlier commit of some of them may have happened.
        let mut repeated = false;
        loop {
            let now = Instant::now();
            groups = groups.into_iter().filter_map(|group| group.still_waiting(now)).collect();
            if groups.is_empty() {
                return;
            }
            if self.link.connect().await.is_none() {
                self.link.wait().await;
                continue;
            }
            let round = self.round(&groups, class, &mut repeated).await;
            groups = groups
                .into_iter()
                .zip(round.outcomes)
                .filter_map(|(group, outcome)| {
                    count(&outcome);
                    group.settle(outcome)
                })
                .collect();
            if round.troubled {
                self.link.wait().await;
            } else {
                self.link.is_well();
            }
        }
    }

    /// Tries every group once; bisects where rows are at fault, so that one fails alone
    /// (invariant 12).
    async fn round(&mut self, groups: &[Group], class: Class, repeated: &mut bool) -> Round {
        let mut round = Round { outcomes: vec![Outcome::Again; groups.len()], troubled: false };
        let mut held = Vec::new();
        #[allow(clippy::single_range_in_vec_init, reason = "a list of spans, the whole first")]
        let mut spans = vec![0..groups.len()];
        let mut partitions_made = false;
        let mut changes = 0;
        while let Some(span) = spans.pop() {
            let rows = &groups[span.clone()];
            let failure = match self.write(rows, class, *repeated).await {
                Ok(written) => {
                    read_back(rows, &written, &span, &mut round.outcomes, &mut held);
                    continue;
                }
                Err(Failure::Partition) => {
                    if self.make_partitions(rows).await && !partitions_made {
                        partitions_made = true;
                        spans.push(span);
                        continue;
                    }
                    if all_near(rows) {
                        Failure::Passing
                    } else {
                        Failure::Data("its id is of another time than now".into())
                    }
                }
                Err(Failure::Repeated) if !*repeated => {
                    *repeated = true;
                    spans.push(span);
                    continue;
                }
                Err(Failure::Changed) if changes < CHANGES_MAX && self.know_the_ordered().await => {
                    changes += 1;
                    spans.push(span);
                    continue;
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Data(message) if rows.len() == 1 => {
                    tracing::warn!(message, event = %rows[0].event().id, "an event cannot be stored");
                    round.outcomes[span.start] = Outcome::Poison(message);
                }
                Failure::Data(_) => {
                    let middle = span.start + span.len() / 2;
                    spans.extend([middle..span.end, span.start..middle]);
                }
                Failure::Partition | Failure::Repeated | Failure::Changed | Failure::Passing => {
                    (round.troubled, *repeated) = (true, true);
                    if self.link.connection().is_none() {
                        break;
                    }
                }
            }
        }
        if !held.is_empty() && self.link.connection().is_some() {
            self.ask_holders(groups, &held, &mut round).await;
        }
        round
    }

    /// One statement, one commit, and its chunks on their way.
    async fn write(
        &mut self,
        groups: &[Group],
        class: Class,
        repeated: bool,
    ) -> Result<Vec<Written>, Failure> {
        let Some(connection) = self.link.connection() else { return Err(Failure::Passing) };
        let placements = chunk::place(groups.iter().map(Group::event), self.writing.shards, class);
        let rows: Vec<Row<'_>> =
            groups.iter().zip(&placements).map(|(group, place)| row(group, place)).collect();
        let known = self.writing.snapshot.ordered();
        let orders = order::places(groups, &placements, &known);
        let began = Instant::now();
        // What was said before is not about this commit.
        connection.take_warning();
        let mut result = answered(connection.insert(&rows, &orders, repeated)).await;
        if let Ok(Some(written)) = &result
            && written.iter().any(|row| row.claimed && row.fresh && !row.inserted)
        {
            // Stored by a commit whose outcome was unknown: make sure that it is durable.
            if let Err(error) = answered(connection.barrier()).await {
                result = Err(error);
            }
        }
        if connection.take_warning() {
            // Committed here, perhaps not on the standby: that is not known yet.
            count_failure("standby");
            return Err(Failure::Passing);
        }
        let closed = connection.is_closed();
        match result {
            Ok(None) => Err(Failure::Changed),
            Ok(Some(written)) => {
                metrics::histogram!("bowline_journal_commit_seconds").record(began.elapsed().as_secs_f64());
                metrics::histogram!("bowline_journal_batch_events").record(rows.len() as f64);
                crash::point("journal_after_commit_before_xadd");
                if !orders.places.is_empty() {
                    crash::point("journal_after_ordered_commit");
                }
                self.writing.touched.note(groups.iter().filter_map(|group| group.event().source_id));
                self.publish(groups, &placements, &written);
                Ok(written)
            }
            Err(error) => {
                let failure = classify(&error, closed);
                self.link.close_after(&error);
                if matches!(failure, Failure::Passing) {
                    tracing::warn!(%error, events = groups.len(), "a journal commit failed, trying it again");
                    count_failure("passing");
                }
                Err(failure)
            }
        }
    }

    fn publish(&self, groups: &[Group], placements: &[Placement], written: &[Written]) {
        let Some(publisher) = &self.writing.publisher else { return };
        let inserted: BTreeSet<Uuid> = written.iter().filter(|row| row.inserted).map(|row| row.id).collect();
        let Some(version) = written.first().map(|row| row.config_version) else { return };
        let stored = groups
            .iter()
            .map(Group::event)
            .zip(placements.iter().copied())
            .filter(|(event, _)| inserted.contains(&event.id.0));
        for (stream, entry) in chunk::entries(stored, version) {
            publisher.offer(stream, entry);
        }
    }

    /// Learns which endpoints are ordered now.
    async fn know_the_ordered(&self) -> bool {
        let looked = self.writing.snapshot.refresh().await;
        looked.inspect_err(|error| tracing::warn!(%error, "ordered endpoints can't be looked at")).is_ok()
    }

    /// Makes the partitions of these rows' days; whether all of them are there now.
    async fn make_partitions(&mut self, groups: &[Group]) -> bool {
        if !all_near(groups) {
            return false;
        }
        let days: BTreeSet<NaiveDate> = groups.iter().filter_map(day).collect();
        for day in days {
            let Some(connection) = self.link.connection() else { return false };
            let made = answered(partitions::ensure(connection.client(), day, 1)).await;
            if let Err(error) = made {
                tracing::error!(%error, %day, "a partition is missing and cannot be made");
                // It may be in the middle of a transaction.
                self.link.close();
                return false;
            }
        }
        true
    }

    /// Which events hold the keys that could not be claimed.
    async fn ask_holders(&mut self, groups: &[Group], held: &[usize], round: &mut Round) {
        let Some(connection) = self.link.connection() else { return };
        let asked: Vec<_> = held.iter().filter_map(|at| groups[*at].key().map(|key| (*at, key))).collect();
        let keys: Vec<_> = asked.iter().map(|(_, key)| *key).collect();
        match answered(connection.holders(&keys)).await {
            Ok(holders) => {
                let mut by_key: HashMap<(Uuid, Uuid), _> =
                    holders.into_iter().map(|holder| ((holder.scope, holder.hash), holder)).collect();
                for (at, key) in asked {
                    // One that is free by now is tried as new.
                    let holder = by_key.remove(&(key.scope, key.hash)).filter(|found| !found.expired);
                    let Some(holder) = holder else { continue };
                    let fingerprint = holder.fingerprint.and_then(|bytes| bytes.try_into().ok());
                    round.outcomes[at] = if same_event(key.fingerprint, fingerprint) {
                        Outcome::Duplicate(EventId(holder.event_id))
                    } else {
                        Outcome::KeyReused
                    };
                }
            }
            Err(error) => {
                tracing::warn!(%error, keys = keys.len(), "holders of keys could not be read, trying again");
                round.troubled = true;
                self.link.close_after(&error);
            }
        }
    }
}

fn row<'a>(group: &'a Group, place: &Placement) -> Row<'a> {
    Row {
        event: group.event(),
        generation: group.generation(),
        key: group.key(),
        chunk: place.chunk,
        shard: place.stream.shard,
        class: place.stream.class,
    }
}

/// Takes over what the statement said of the rows of a span.
fn read_back(
    rows: &[Group],
    written: &[Written],
    span: &Range<usize>,
    outcomes: &mut [Outcome],
    held: &mut Vec<usize>,
) {
    let by_id: HashMap<Uuid, &Written> = written.iter().map(|row| (row.id, row)).collect();
    for (at, group) in span.clone().zip(rows) {
        // Every row of the input comes back; one that did not would be tried again.
        let Some(row) = by_id.get(&group.event().id.0) else { continue };
        if !row.fresh {
            outcomes[at] = Outcome::Stale;
        } else if row.claimed {
            outcomes[at] = Outcome::Stored;
        } else {
            held.push(at);
        }
    }
}

fn day(group: &Group) -> Option<NaiveDate> {
    partitions::day_of(group.event().id.0)
}

fn all_near(groups: &[Group]) -> bool {
    let today = Utc::now().date_naive();
    groups.iter().all(|group| day(group).is_some_and(|day| (day - today).num_days().abs() <= DAYS_OFF_MAX))
}

fn count(outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Stored => "stored",
        Outcome::Duplicate(_) => "duplicate",
        Outcome::KeyReused => "key_reused",
        Outcome::Stale => "stale",
        Outcome::Poison(_) => "poison",
        Outcome::Again => "again",
    };
    metrics::counter!("bowline_journal_events_total", "outcome" => outcome).increment(1);
}

fn count_failure(reason: &'static str) {
    metrics::counter!("bowline_journal_failures_total", "reason" => reason).increment(1);
}
