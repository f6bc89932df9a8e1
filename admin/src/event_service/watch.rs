//! Events as they are committed.

use bowline_core::id::{EventId, TenantId};
use bowline_core::store::Error;
use bowline_core::store::events::{self, EventQuery, EventRow};
use bowline_core::store::watching::{Found, Log, Reading};
use bowline_proto::v1;
use deadpool_postgres::Object;

use super::Events;
use crate::call::Call;
use crate::fault::Fault;
use crate::page::Listing;
use crate::present;
use crate::streaming::Outgoing;
use crate::validate::{self, Violations, filter};
use crate::watch::{Begin, Feed};

/// Larger ones are left to `GetEvent`: the message must fit what clients take by default.
const BODY_BYTES_MAX: i64 = 1024 * 1024;

struct EventFeed {
    tenant: TenantId,
    query: EventQuery,
    body_bytes_max: Option<i64>,
}

impl Feed for EventFeed {
    const LOG: Log = Log::Events;
    type Key = EventId;
    type Row = EventRow;
    type Message = v1::WatchEventsResponse;

    async fn find(&self, client: &Object, reading: &Reading<EventId>) -> Result<Vec<Found<EventId>>, Error> {
        let mut found = events::in_span(client, self.tenant, &self.query, reading).await?;
        if self.body_bytes_max.is_none() {
            for found in &mut found {
                found.bytes = 0;
            }
        }
        Ok(found)
    }

    async fn read(&self, client: &Object, keys: &[EventId]) -> Result<Vec<(EventId, EventRow)>, Error> {
        let rows = events::read_all(client, keys, self.body_bytes_max).await?;
        Ok(rows.into_iter().map(|row| (row.id, row)).collect())
    }

    fn message(&self, row: Option<EventRow>, cursor: String) -> v1::WatchEventsResponse {
        v1::WatchEventsResponse { event: row.as_ref().map(present::event), cursor }
    }
}

impl Events {
    pub(super) async fn watch(
        &self,
        call: &Call,
        request: v1::WatchEventsRequest,
    ) -> Result<Outgoing, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let listing = Listing::new("WatchEvents", tenant, request.filter.as_ref());
        let filter = request.filter.unwrap_or_default();
        let mut violations = Violations::default();
        let query = filter::events(&mut violations, &filter);
        filter::not_in_a_watch(&mut violations, filter.start_time.as_ref(), filter.end_time.as_ref());
        let time = validate::timestamp(&mut violations, "start_time", request.start_time.as_ref());
        violations.finish()?;
        let feed =
            EventFeed { tenant, query, body_bytes_max: request.include_body.then_some(BODY_BYTES_MAX) };
        let from = Begin { tenant, listing, cursor: &request.cursor, time };
        self.watching.start(&self.context, call, feed, from).await
    }
}
