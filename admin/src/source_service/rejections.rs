//! What a source has refused: read, and verified again once the cause was mended.

use std::sync::Arc;

use bowline_core::headers::decode_headers;
use bowline_core::id::{EventId, RejectionId, SourceId};
use bowline_core::inbound::{Judge, Received, Refusal, Verdict, refuse_verification};
use bowline_core::journal::{JournalError, NewEvent, Permit};
use bowline_core::scheme::Key;
use bowline_core::snapshot::LiveSource;
use bowline_core::store::rejections::{self, RejectionRow};
use bowline_core::store::{sources, stored_secrets};
use bowline_proto::v1;
use chrono::Utc;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Sources, found};
use crate::call::Call;
use crate::change::{Act, begin_work};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::present;
use crate::validate;

/// A source that changes meanwhile has it verified again, so often.
const VERIFICATIONS_MAX: usize = 3;

impl Sources {
    pub(super) async fn refused_by(
        &self,
        call: &Call,
        request: v1::ListRejectionsRequest,
    ) -> Result<v1::ListRejectionsResponse, Fault> {
        let id: SourceId = validate::id("source_id", &request.source_id)?;
        let size = page_size(request.page_size)?;
        let client = self.context.client().await?;
        let source = found(sources::find(&client, call.scope(), id).await?, id)?;
        let filter = v1::GetSourceRequest { id: id.to_string() };
        let listing = Listing::new("ListRejections", source.tenant_id, Some(&filter));
        let before = listing.position(&request.page_token)?;
        let mut rows = rejections::list(&client, id, before, size + 1).await?;
        let next_page_token = listing.cut(&mut rows, size, |row| row.rejection.id.0);
        Ok(v1::ListRejectionsResponse {
            rejections: rows.iter().map(present::rejection).collect(),
            next_page_token,
        })
    }

    pub(super) async fn refused_request(
        &self,
        call: &Call,
        request: v1::GetRejectionRequest,
    ) -> Result<v1::GetRejectionResponse, Fault> {
        let row = self.rejection(call, validate::id("id", &request.id)?).await?;
        Ok(v1::GetRejectionResponse { rejection: Some(present::rejection(&row)) })
    }

    pub(super) async fn reprocess(
        &self,
        call: &Call,
        request: v1::ReprocessRejectionRequest,
    ) -> Result<v1::ReprocessRejectionResponse, Fault> {
        let id: RejectionId = validate::id("id", &request.id)?;
        let row = self.rejection(call, id).await?;
        if let (Some(event), Some(_)) = (row.event_id, row.reprocessed_at) {
            return Ok(v1::ReprocessRejectionResponse { event_id: event.to_string(), duplicate: true });
        }
        let left_out = &row.rejection.request.left_out;
        if !left_out.is_empty() {
            return Err(refused(id, format!("it is not kept as a whole, without {left_out}")));
        }
        let permit = self.context.journal.admit(row.rejection.tenant_id)?;
        permit.grow(row.rejection.request.body.len())?;
        for _ in 0..VERIFICATIONS_MAX {
            let new = self.verified(&row).await?;
            match self.accept(call, &row, &permit, new).await {
                Err(Fault::Journal(JournalError::Stale)) => {}
                ended => return ended,
            }
        }
        Err(Fault::Conflict)
    }

    async fn rejection(&self, call: &Call, id: RejectionId) -> Result<RejectionRow, Fault> {
        let client = self.context.client().await?;
        let found = rejections::find(&client, call.scope(), id).await?;
        found.ok_or_else(|| Fault::not_found(Kind::Rejection, id.to_string()))
    }

    /// The event that it is by its source as that is now.
    async fn verified(&self, row: &RejectionRow) -> Result<NewEvent, Fault> {
        let (id, request) = (row.rejection.id, &row.rejection.request);
        let source = row.rejection.source_id;
        let live = self.live(source).await?;
        if !live.source.spec.hears(request.remote) {
            return Err(refused(
                id,
                format!("{} is in none of the networks this source hears", request.remote),
            ));
        }
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| Fault::Unreadable(format!("the method of rejection {id}")))?;
        let headers = read_headers(&request.headers);
        let received = Received {
            method: &method,
            path_and_query: &request.path_and_query,
            headers: &headers,
            body: &request.body,
            remote: request.remote,
        };
        let again = |refusal: Refusal| refused(id, format!("{}: {}", refusal.code, refusal.message));
        let judge = Judge {
            vault: &self.context.vault,
            public_url: &self.context.public_url,
            fetched: &[],
            now: Utc::now(),
            received_at: row.rejection.time,
        };
        let fetched = self.fetched(&judge, received, &live).await.map_err(again)?;
        match (Judge { fetched: &fetched, ..judge }).judge(received, &live).map_err(again)? {
            Verdict::Event(new) => Ok(*new),
            Verdict::Handshake(_) => Err(refused(id, "it is a handshake, which makes no event".into())),
        }
    }

    /// As it is now, also where another replica has just written it: from Postgres, since not every
    /// service keeps sources in memory.
    async fn live(&self, id: SourceId) -> Result<LiveSource, Fault> {
        let client = self.context.client().await?;
        let source = sources::find(&client, None, id).await?.filter(|source| source.enabled);
        let source = found(source, id)?;
        let secrets = stored_secrets::of_owner(&client, id.0).await?.into_iter().map(Arc::new).collect();
        LiveSource::new(source, secrets)
            .map_err(|problem| Fault::Unreadable(format!("the source {id}: {problem}")))
    }

    async fn fetched(
        &self,
        judge: &Judge<'_>,
        received: Received<'_>,
        live: &LiveSource,
    ) -> Result<Vec<Key>, Refusal> {
        let (Some(scheme), Some(fetch)) = (&live.scheme, judge.key_fetch(received, live)?) else {
            return Ok(Vec::new());
        };
        let keys = self.context.keys.keys(scheme, &fetch, judge.received_at).await;
        keys.map_err(|fault| refuse_verification(&fault, None))
    }

    /// Commits it once. The event has its name before there is one, and whoever else is at it waits: so
    /// that a call that was cut off halfway is followed by one that finds what it did.
    async fn accept(
        &self,
        call: &Call,
        row: &RejectionRow,
        permit: &Permit,
        mut new: NewEvent,
    ) -> Result<v1::ReprocessRejectionResponse, Fault> {
        let (context, id) = (&*self.context, row.rejection.id);
        let gone = || Fault::not_found(Kind::Rejection, id.to_string());
        let mut client = context.client().await?;
        let named: EventId = rejections::name_event(&client, id, new.event.id).await?.ok_or_else(gone)?;
        new.event.id = named;
        let change = begin_work(&mut client).await?;
        if rejections::hold(&change.tx, id).await?.ok_or_else(gone)? {
            rejections::mark(&change.tx, id, named).await?;
            change.commit_quietly().await?;
            return Ok(v1::ReprocessRejectionResponse { event_id: named.to_string(), duplicate: true });
        }
        let committed = context.journal.commit(permit, new).await?;
        rejections::mark(&change.tx, id, committed.id).await?;
        let act = Act {
            tenant: Some(row.rejection.tenant_id),
            ..Act::new("ReprocessRejection", format!("{id} {}", committed.id))
        };
        change.commit(context, call, &act).await?;
        Ok(v1::ReprocessRejectionResponse {
            event_id: committed.id.to_string(),
            duplicate: committed.duplicate,
        })
    }
}

fn refused(id: RejectionId, why: String) -> Fault {
    Fault::RejectionRefused { id: id.to_string(), why }
}

fn read_headers(kept: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in decode_headers(kept) {
        // They were headers when they were kept.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = read_headers(b"x-a: 1\nx-a: 2: 3\nx-b: \xff\nno header\n");
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2: 3"]);
        assert_eq!((headers["x-b"].as_bytes(), headers.len()), (&b"\xff"[..], 3));
    }
}
