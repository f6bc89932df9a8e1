//! One delivery whose turn it is: sent, or decided upon without a request, and recorded.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::crash;
use bowline_core::delivery::{DeadReason, Decision};
use bowline_core::endpoint::EndpointState;
use bowline_core::id::AttemptId;
use bowline_core::snapshot::LiveEndpoint;
use bowline_core::store::record::{OF_TEST, Outcome};
use chrono::{DateTime, Utc};

use super::{Lanes, PAUSED_RECHECK};
use crate::attempt::Attempted;
use crate::decide::{Answer, Next, decide};
use crate::job::{Age, Job};
use crate::lane::{Answered, SLOW_AFTER};
use crate::record::Entry;
use crate::select::{Wanted, wanted};

/// While the lease can't be confirmed, this is how often it is looked at.
const LEASE_POLL: Duration = Duration::from_millis(50);

impl Lanes {
    /// Waits while the lease or the claims can't be confirmed; `None` once the job is not ours any more. The
    /// time is from before the last look: what a process sends that is stopped after it began before.
    async fn may_send(&self, job: &Job) -> Option<DateTime<Utc>> {
        loop {
            let now = Utc::now();
            if !self.replica.is_current(job.life) {
                return None;
            }
            if self.replica.may_start() {
                let ours =
                    job.chunk.as_ref().is_none_or(|chunk| !chunk.is_lost() && self.holdings.holds(chunk.id));
                return ours.then_some(now);
            }
            tokio::time::sleep(LEASE_POLL).await;
        }
    }

    /// One attempt, recorded; gives what it says about the receiver.
    pub(super) async fn deliver(&self, job: Arc<Job>) -> Option<Answered> {
        // Otherwise another replica has it, or will: nothing to record.
        let begun_at = self.may_send(&job).await?;
        let Some(live) = self.snapshot.endpoint(job.key.endpoint_id) else {
            self.decide_unsent(job, "cancelled", Decision::Cancelled, "the endpoint was deleted").await;
            return None;
        };
        if live.endpoint.state != EndpointState::Enabled {
            self.give_back(job, PAUSED_RECHECK).await;
            return None;
        }
        if let Some(pause) = self.sender.guard.proxy_turn() {
            self.give_back(job, pause).await;
            return None;
        }
        let Some(held) = job.event() else {
            self.give_back(job, Duration::ZERO).await;
            return None;
        };
        let age = match job.age {
            Age::OfEvent => (Utc::now() - held.event.time).to_std().unwrap_or_default(),
            Age::OfBudget { waited, at } => waited + at.elapsed(),
        };
        if age > live.endpoint.spec.retry.max_age.unwrap_or(self.retention).min(self.retention) {
            let why = "older than the retry policy allows";
            self.decide_unsent(job, "expired", Decision::Expired, why).await;
            return None;
        }
        match wanted(&live, &held.event) {
            Wanted::Yes => {}
            Wanted::No => {
                let why = "the endpoint's filter does not select this event";
                self.decide_unsent(job, "cancelled", Decision::Cancelled, why).await;
                return None;
            }
            Wanted::Unknown(why) => {
                let mut outcome = without_request(&job, "refused", Decision::Dead, &why);
                outcome.dead_reason = Some(DeadReason::FilterFailed.as_str());
                let outcome = Box::new(outcome);
                self.recorder.send(Entry::Outcome { job, outcome, disable: false }).await;
                return None;
            }
        }
        crash::point("dispatcher_after_claim_before_attempt");
        let attempted = self.sender.attempt(&job, &held.event, &live, begun_at).await;
        drop(held);
        job.unload();
        crash::point("dispatcher_after_response_before_record");
        self.conclude(job, &live, attempted).await
    }

    /// Sends a test past pause, breaker and lane. What it shows of the receiver counts for nothing.
    pub(crate) async fn test(&self, job: Arc<Job>) {
        self.remember_queued(&job);
        let Some(begun_at) = self.may_send(&job).await else { return };
        let Some(live) = self.snapshot.endpoint(job.key.endpoint_id) else {
            return self
                .decide_unsent(job, "cancelled", Decision::Cancelled, "the endpoint was deleted")
                .await;
        };
        let Some(held) = job.event() else {
            return self.give_back(job, Duration::ZERO).await;
        };
        crash::point("dispatcher_after_claim_of_test");
        let attempted = self.sender.attempt(&job, &held.event, &live, begun_at).await;
        self.conclude(job, &live, attempted).await;
    }

    async fn decide_unsent(&self, job: Arc<Job>, kind: &'static str, decision: Decision, why: &str) {
        let outcome = Box::new(without_request(&job, kind, decision, why));
        self.recorder.send(Entry::Outcome { job, outcome, disable: false }).await;
    }

    async fn conclude(&self, job: Arc<Job>, live: &LiveEndpoint, attempted: Attempted) -> Option<Answered> {
        let next = decide(attempted.answer, job.used + 1, &live.endpoint.spec.retry, rand::random());
        // What was not sent says nothing about the receiver. But that a proxy refuses this one will not
        // change for its other deliveries: they need not all ask.
        let sent = attempted.answer.is_of_receiver();
        let answered = (sent || attempted.answer == Answer::ProxyRefused).then(|| Answered {
            success: matches!(next, Next::Done),
            promptly: attempted.duration < SLOW_AFTER,
        });
        let (decision, due_in, dead_reason, disable) = match next {
            Next::Retry { .. } | Next::Dead { .. } if job.test => {
                (Decision::Dead, Duration::ZERO, Some(OF_TEST), false)
            }
            Next::Done => (Decision::Delivered, Duration::ZERO, None, false),
            Next::Retry { after } => {
                self.soon.due_in(after);
                (Decision::Retry, after, None, false)
            }
            Next::Dead { reason, disable } => {
                (Decision::Dead, Duration::ZERO, Some(reason.as_str()), disable)
            }
        };
        report(&job, &attempted, decision);
        let timings = attempted.steps();
        let outcome = Outcome {
            key: job.key,
            attempt_id: attempted.id,
            tenant_id: job.tenant_id,
            attempt: job.attempt as i32 + i32::from(!attempted.answer.is_of_proxy()),
            kind: if sent { "request" } else { "refused" },
            decision,
            started_at: attempted.started_at,
            duration_us: Some(attempted.duration.as_micros() as i64),
            url: Some(attempted.url),
            request_headers: attempted.request_headers,
            status: attempted.status.map(|status| status as i16),
            response_headers: attempted.response_headers,
            response_body: attempted.response_body,
            error_kind: attempted.error_kind,
            // Postgres' text can't hold NUL.
            error_message: attempted.error_message.map(|message| message.replace('\0', "")),
            chunk: job.chunk.as_ref().map(|chunk| chunk.id),
            life: job.life,
            due_in_ms: due_in.as_millis() as i64,
            dead_reason,
            timings,
        };
        self.recorder.send(Entry::Outcome { job, outcome: Box::new(outcome), disable }).await;
        answered
    }
}

fn report(job: &Job, attempted: &Attempted, decision: Decision) {
    tracing::debug!(
        event_id = %job.key.event_id,
        endpoint_id = %job.key.endpoint_id,
        attempt = job.attempt + 1,
        status = attempted.status,
        error = attempted.error_kind,
        decision = decision.as_str(),
        duration_ms = attempted.duration.as_millis() as u64,
        "attempt"
    );
    metrics::counter!("bowline_dispatcher_attempts_total", "decision" => decision.as_str()).increment(1);
    metrics::histogram!("bowline_dispatcher_attempt_duration_seconds")
        .record(attempted.duration.as_secs_f64());
}

/// A decision that needed no request.
pub(crate) fn without_request(job: &Job, kind: &'static str, decision: Decision, why: &str) -> Outcome {
    Outcome {
        key: job.key,
        attempt_id: AttemptId::new(),
        tenant_id: job.tenant_id,
        attempt: job.attempt as i32,
        kind,
        decision,
        started_at: Utc::now(),
        duration_us: None,
        url: None,
        request_headers: None,
        status: None,
        response_headers: None,
        response_body: None,
        error_kind: Some(kind),
        error_message: Some(why.to_owned()),
        chunk: job.chunk.as_ref().map(|chunk| chunk.id),
        life: job.life,
        due_in_ms: 0,
        dead_reason: None,
        timings: [None; 4],
    }
}
