//! Rejections as the API shows them.

use bowline_core::store::rejections::RejectionRow;
use bowline_proto::v1;

use crate::convert::{headers, timestamp};

/// Without headers and body where the row has none.
pub(crate) fn rejection(row: &RejectionRow) -> v1::Rejection {
    let (kept, request) = (&row.rejection, &row.rejection.request);
    v1::Rejection {
        id: kept.id.to_string(),
        tenant_id: kept.tenant_id.to_string(),
        source_id: kept.source_id.to_string(),
        code: kept.code.clone(),
        message: kept.message.clone(),
        method: request.method.clone(),
        path: request.path_and_query.clone(),
        headers: headers(&request.headers),
        body: request.body.clone(),
        body_size_bytes: row.body_size_bytes,
        remote_address: request.remote.to_string(),
        create_time: Some(timestamp(kept.time)),
        left_out: request.left_out.clone(),
        // It has its name before it is there.
        event_id: row.reprocessed_at.and(row.event_id).map(|id| id.to_string()).unwrap_or_default(),
        reprocess_time: row.reprocessed_at.map(timestamp),
    }
}
