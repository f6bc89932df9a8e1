//! What becomes of a batch that Postgres refuses for what is in it (invariant 12).

use std::time::Duration;

use bowline_core::id::ChunkId;
use bowline_core::store;
use bowline_core::store::record::{Batch, Outcome, Park, Release};

use crate::record::millis;

/// A delivery whose outcome Postgres refuses is tried again after this.
const REFUSED_WAIT: Duration = Duration::from_secs(3600);

/// Not for want of Postgres, but because of what is in the batch.
pub(crate) fn refused(error: &store::Error) -> bool {
    error.code().is_some_and(|code| matches!(&code.code()[..2], "22" | "23"))
}

/// What to commit instead of a refused batch, last first: its halves, or, for what stands alone, what
/// is left of it. With it the chunk that can't be settled, if there is one.
pub(crate) fn refuse(mut batch: Batch, error: &store::Error) -> (Vec<Batch>, Option<ChunkId>) {
    let of = |repeated| Batch { repeated, ..Batch::default() };
    let mut parts = Vec::new();
    if !batch.settled.is_empty() {
        parts.push(Batch { settled: std::mem::take(&mut batch.settled), ..of(batch.repeated) });
    }
    if batch.outcomes.len() + batch.parks.len() + batch.releases.len() > 1 {
        let mut second = of(batch.repeated);
        second.outcomes = batch.outcomes.split_off(batch.outcomes.len() / 2);
        second.parks = batch.parks.split_off(batch.parks.len().div_ceil(2));
        second.releases = batch.releases.split_off(batch.releases.len() / 2);
        if batch.outcomes.len() + batch.parks.len() + batch.releases.len() == 0 {
            // One outcome and one release: they part ways.
            std::mem::swap(&mut batch.releases, &mut second.releases);
        }
        parts.extend([second, batch]);
        return (parts, None);
    }
    metrics::counter!("bowline_dispatcher_refused_records_total").increment(1);
    if let Some(outcome) = batch.outcomes.pop() {
        tracing::error!(%error, event_id = %outcome.key.event_id, endpoint_id = %outcome.key.endpoint_id,
            "Postgres refuses to record an attempt");
        let rest = of(batch.repeated);
        parts.push(if is_bare(&outcome) { put_off(&outcome, rest) } else { bare(&outcome, rest) });
        return (parts, None);
    }
    tracing::error!(%error, "Postgres refuses to put a delivery off: its chunk waits for the next owner");
    (parts, batch.parks.pop().map(|park| park.chunk))
}

fn is_bare(outcome: &Outcome) -> bool {
    outcome.request_headers.is_none() && outcome.response_body.is_none() && outcome.url.is_none()
}

/// The decision without what came from outside.
fn bare(outcome: &Outcome, mut batch: Batch) -> Batch {
    batch.outcomes.push(Outcome {
        url: None,
        request_headers: None,
        response_headers: None,
        response_body: None,
        error_message: Some("details of this attempt could not be stored".to_owned()),
        ..outcome.clone()
    });
    batch
}

/// Not even the decision can be stored: the delivery waits, so that it is neither lost nor sent again
/// and again.
fn put_off(outcome: &Outcome, mut batch: Batch) -> Batch {
    let (key, life, due_in_ms) = (outcome.key, outcome.life, millis(REFUSED_WAIT));
    match outcome.chunk {
        Some(chunk) => {
            batch.parks.push(Park { key, tenant_id: outcome.tenant_id, chunk, life, keep: false, due_in_ms });
        }
        None => batch.releases.push(Release { key, life, due_in_ms }),
    }
    batch
}
