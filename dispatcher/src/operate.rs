//! Operations: bulk work in small steps, each one transaction with how far it has come. A step that is
//! cut off, by a crash or a lost connection, either happened whole or not at all; whoever is next goes on
//! where the last one ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::crash;
use bowline_core::delivery::DeliveryKey;
use bowline_core::id::{EndpointId, EventId, OperationId, ReplicaId};
use bowline_core::operation::{Operation, OperationState, Position, Progress, Redrive, Replay, Work};
use bowline_core::replica::Replica;
use bowline_core::snapshot::Snapshot;
use bowline_core::store::dead_letters::{self, DeadLetterQuery};
use bowline_core::store::events::{EventQuery, IdRange};
use bowline_core::store::{self, Pool, Transaction, operations, replays};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;

const SCAN: Duration = Duration::from_millis(500);
/// Operations one dispatcher works on at a time: most of the time each waits for its rate.
const AT_A_TIME: usize = 32;
const OF_A_TENANT_MAX: i64 = 4;
/// Rows one step looks at.
const STEP_ROWS_MAX: i64 = 500;
/// Steps a second, where the rate allows.
const STEPS_PER_SECOND: i32 = 5;
/// A fault that is not Postgres' absence is met so often before it ends the operation.
const FAULTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) pool: Pool,
    pub(crate) replica: Arc<Replica>,
    pub(crate) snapshot: Arc<Snapshot>,
}

/// What came of a step.
enum Step {
    /// So many were queued; there may be more.
    Queued(i64),
    Ended,
    /// Cancelled, or another's.
    NotOurs,
}

impl Operator {
    pub(crate) async fn work(self: Arc<Self>) -> Result<(), store::Error> {
        // Dropped with this future: what is cut off is rolled back, and claimed again.
        let mut running = JoinSet::new();
        let mut in_hand: HashMap<task::Id, OperationId> = HashMap::new();
        loop {
            while let Some(ended) = running.try_join_next_with_id() {
                in_hand.remove(&ended.map_or_else(|fault| fault.id(), |(task, ())| task));
            }
            let free = AT_A_TIME.saturating_sub(running.len());
            if free > 0 && self.replica.may_start() {
                let life = self.replica.id();
                let claimed = {
                    let client = self.pool.get().await?;
                    let known: Vec<OperationId> = in_hand.values().copied().collect();
                    operations::claim(&client, life, &known, free as i64, OF_A_TENANT_MAX).await?
                };
                for id in claimed {
                    let task = running.spawn(Arc::clone(&self).carry_out(id, life));
                    in_hand.insert(task.id(), id);
                }
            }
            tokio::time::sleep(SCAN).await;
        }
    }

    /// Step by step until it ends, or is not ours any more.
    async fn carry_out(self: Arc<Self>, id: OperationId, life: ReplicaId) {
        tracing::info!(operation = %id, "working on an operation");
        let (mut is_known, mut began) = (false, None);
        let mut queued = 0;
        let mut faults = 0;
        loop {
            if !self.replica.is_current(life) {
                return;
            }
            if !self.replica.may_start() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let step = async {
                if !is_known {
                    // Its endpoints may be younger than what this replica knows. Not within a step: that has a connection
                    // in hand, and steps that wait for another one as well would wait for each other.
                    self.snapshot.refresh().await?;
                    is_known = true;
                }
                self.step(id, life).await
            };
            match step.await {
                Ok((Step::Queued(count), rate)) => {
                    faults = 0;
                    queued += count;
                    let began = *began.get_or_insert_with(Instant::now);
                    // What is queued now is paid for before the next step.
                    let paid = Duration::from_secs_f64(queued as f64 / f64::from(rate.max(1)));
                    tokio::time::sleep_until(began + paid).await;
                }
                Ok((Step::Ended, _)) => return tracing::info!(operation = %id, "an operation is done"),
                Ok((Step::NotOurs, _)) => return,
                Err(error) => {
                    tracing::warn!(%error, operation = %id, "a step of an operation failed");
                    if !error.is_unavailable() {
                        faults += 1;
                    }
                    if faults >= FAULTS_MAX && self.fail(id, life, &error).await {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn fail(&self, id: OperationId, life: ReplicaId, error: &store::Error) -> bool {
        let written = async {
            let client = self.pool.get().await?;
            operations::fail(&client, life, id, &error.to_string()).await
        };
        written.await.is_ok()
    }

    async fn step(&self, id: OperationId, life: ReplicaId) -> Result<(Step, i32), store::Error> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let Some(operation) = operations::lock(&transaction, life, id).await? else {
            return Ok((Step::NotOurs, 0));
        };
        let rate = operation.rate_per_second;
        let next = match &operation.request.work {
            Work::Redrive(redrive) => self.redrive(&transaction, &operation, redrive).await?,
            Work::Replay(replay) => self.replay(&transaction, &operation, replay).await?,
        };
        let (progress, state) = match next {
            Some(progress) => (progress, OperationState::Running),
            None => (operation.progress, OperationState::Done),
        };
        operations::advance(&transaction, id, &progress, state).await?;
        crash::point("operation_before_commit");
        transaction.commit().await?;
        crash::point("operation_after_commit");
        let step = match state {
            OperationState::Running => Step::Queued(progress.done - operation.progress.done),
            _ => Step::Ended,
        };
        Ok((step, rate))
    }

    /// How far it has come after this step; `None`: nothing is left.
    async fn redrive(
        &self,
        transaction: &Transaction<'_>,
        operation: &Operation,
        redrive: &Redrive,
    ) -> Result<Option<Progress>, store::Error> {
        let query = DeadLetterQuery {
            endpoint_id: redrive.endpoint_id,
            event_id: redrive.event_id,
            event_type: redrive.event_type.clone(),
            channel: redrive.channel.clone(),
            reason: redrive.reason,
            range: IdRange::between(redrive.start, redrive.end),
        };
        let limit = rows_of_a_step(operation).min(operation.left());
        if limit == 0 {
            return Ok(None);
        }
        let after = operation.progress.after.map(|after| {
            let endpoint_id = after.endpoint_id.unwrap_or(EndpointId(uuid::Uuid::max()));
            DeliveryKey { event_id: after.event_id, endpoint_id, run: after.run }
        });
        let found =
            dead_letters::lock_matching(transaction, operation.tenant_id, &query, after, limit).await?;
        let Some(last) = found.last().map(|letter| letter.key) else { return Ok(None) };
        let (stored, gone): (Vec<_>, Vec<_>) = found.into_iter().partition(|letter| letter.body_stored);
        dead_letters::requeue(transaction, &stored).await?;
        let last = Position { event_id: last.event_id, endpoint_id: Some(last.endpoint_id), run: last.run };
        Ok(Some(Progress {
            done: operation.progress.done + stored.len() as i64,
            skipped: operation.progress.skipped + gone.len() as i64,
            after: Some(last),
        }))
    }

    /// As [`Self::redrive`].
    async fn replay(
        &self,
        transaction: &Transaction<'_>,
        operation: &Operation,
        replay: &Replay,
    ) -> Result<Option<Progress>, store::Error> {
        let query = EventQuery {
            source_id: replay.source_id,
            event_type: replay.event_type.clone(),
            channel: replay.channel.clone(),
            range: IdRange::between(replay.start, replay.end).up_to(replay.last),
        };
        if operation.left() == 0 {
            return Ok(None);
        }
        // Whole events; at least one.
        let each = replay.endpoint_ids.len().max(1) as i64;
        let limit = (rows_of_a_step(operation).min(operation.left()) + each - 1) / each;
        let after = operation.progress.after.map(|after| after.event_id);
        let events = replays::events(transaction, operation.tenant_id, &query, after, limit).await?;
        let Some(last) = events.last().map(|event| event.id) else { return Ok(None) };
        let endpoints = self.snapshot.endpoints_of(operation.tenant_id);
        let mut wanted: Vec<(EventId, EndpointId)> = Vec::new();
        for event in &events {
            let matching = endpoints.matching(&event.event_type, event.channel.as_deref());
            let ids = matching.map(|live| live.endpoint.id).filter(|id| replay.endpoint_ids.contains(id));
            wanted.extend(ids.map(|id| (event.id, id)));
        }
        let looked_at = (events.len() * replay.endpoint_ids.len()) as i64;
        replays::lock_endpoints(transaction, &replay.endpoint_ids).await?;
        let queued = replays::enqueue(transaction, operation.tenant_id, &wanted, replay.only_missing).await?;
        Ok(Some(Progress {
            done: operation.progress.done + queued,
            skipped: operation.progress.skipped + looked_at - queued,
            after: Some(Position::event(last)),
        }))
    }
}

/// Few where the rate is low, so that what is queued comes evenly.
fn rows_of_a_step(operation: &Operation) -> i64 {
    i64::from(operation.rate_per_second / STEPS_PER_SECOND).clamp(1, STEP_ROWS_MAX)
}
