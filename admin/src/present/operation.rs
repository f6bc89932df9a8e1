//! Operations as the API shows them.

use bowline_core::operation::{Operation, OperationState, Work};
use bowline_proto::v1;

use super::delivery::dead_reason;
use crate::convert::timestamp;

pub(crate) fn operation(operation: &Operation) -> v1::Operation {
    let state = match operation.state {
        OperationState::Pending => v1::OperationState::Pending,
        OperationState::Running => v1::OperationState::Running,
        OperationState::Done => v1::OperationState::Done,
        OperationState::Failed => v1::OperationState::Failed,
        OperationState::Cancelled => v1::OperationState::Cancelled,
    };
    v1::Operation {
        id: operation.id.to_string(),
        tenant_id: operation.tenant_id.to_string(),
        state: state.into(),
        rate_per_second: operation.rate_per_second,
        max_count: operation.request.max.unwrap_or_default(),
        estimated_count: operation.request.estimate,
        done_count: operation.progress.done,
        skipped_count: operation.progress.skipped,
        error: operation.error.clone(),
        create_time: Some(timestamp(operation.create_time)),
        update_time: Some(timestamp(operation.update_time)),
        end_time: operation.end_time.map(timestamp),
        work: Some(work(&operation.request.work)),
    }
}

fn work(work: &Work) -> v1::operation::Work {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match work {
        Work::Redrive(redrive) => v1::operation::Work::Redrive(v1::RedriveWork {
            endpoint_id: redrive.endpoint_id.map(|id| id.to_string()).unwrap_or_default(),
            event_id: redrive.event_id.map(|id| id.to_string()).unwrap_or_default(),
            event_type: text(&redrive.event_type),
            channel: text(&redrive.channel),
            reason: redrive.reason.map_or(v1::DeadReason::Unspecified, dead_reason).into(),
            start_time: redrive.start.map(timestamp),
            end_time: redrive.end.map(timestamp),
        }),
        Work::Replay(replay) => v1::operation::Work::Replay(v1::ReplayWork {
            source_id: replay.source_id.map(|id| id.to_string()).unwrap_or_default(),
            event_type: text(&replay.event_type),
            channel: text(&replay.channel),
            start_time: replay.start.map(timestamp),
            end_time: replay.end.map(timestamp),
            endpoint_ids: replay.endpoint_ids.iter().map(ToString::to_string).collect(),
            only_missing: replay.only_missing,
        }),
    }
}
