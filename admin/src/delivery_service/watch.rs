//! Attempts as they are recorded, each with its delivery.

use std::collections::HashMap;

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::TenantId;
use bowline_core::store::Error;
use bowline_core::store::deliveries::{self, AttemptKey, AttemptRow, DeliveryQuery, DeliveryRow};
use bowline_core::store::watching::{Found, Log, Reading};
use bowline_proto::v1;
use deadpool_postgres::Object;

use super::Deliveries;
use crate::call::Call;
use crate::fault::Fault;
use crate::page::Listing;
use crate::present;
use crate::streaming::Outgoing;
use crate::validate::{self, Violations, filter};
use crate::watch::{Begin, Feed};

struct AttemptFeed {
    tenant: TenantId,
    query: DeliveryQuery,
}

impl Feed for AttemptFeed {
    const LOG: Log = Log::Attempts;
    type Key = AttemptKey;
    type Row = (DeliveryRow, AttemptRow);
    type Message = v1::WatchDeliveriesResponse;

    async fn find(
        &self,
        client: &Object,
        reading: &Reading<AttemptKey>,
    ) -> Result<Vec<Found<AttemptKey>>, Error> {
        deliveries::in_span(client, self.tenant, &self.query, reading).await
    }

    async fn read(
        &self,
        client: &Object,
        keys: &[AttemptKey],
    ) -> Result<Vec<(AttemptKey, Self::Row)>, Error> {
        let mut attempts = deliveries::read_all(client, keys).await?;
        let deliveries: Vec<DeliveryKey> = keys.iter().map(|key| key.delivery).collect();
        let rows = deliveries::describe(client, self.tenant, &DeliveryQuery::default(), &deliveries).await?;
        let rows: HashMap<DeliveryKey, DeliveryRow> = rows.into_iter().map(|row| (row.key, row)).collect();
        let row = |key: &AttemptKey| {
            let (delivery, attempt) = (rows.get(&key.delivery)?, attempts.remove(key)?);
            Some((*key, (delivery.clone(), attempt)))
        };
        Ok(keys.iter().filter_map(row).collect())
    }

    fn message(&self, row: Option<Self::Row>, cursor: String) -> v1::WatchDeliveriesResponse {
        let (delivery, attempt) = row.unzip();
        v1::WatchDeliveriesResponse {
            delivery: delivery.as_ref().map(|row| present::delivery(row, &[])),
            attempt: attempt.as_ref().map(present::attempt),
            cursor,
        }
    }
}

impl Deliveries {
    pub(super) async fn watch(
        &self,
        call: &Call,
        request: v1::WatchDeliveriesRequest,
    ) -> Result<Outgoing, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let listing = Listing::new("WatchDeliveries", tenant, request.filter.as_ref());
        let filter = request.filter.unwrap_or_default();
        let mut violations = Violations::default();
        let query = filter::deliveries(&mut violations, &filter);
        filter::not_in_a_watch(&mut violations, filter.start_time.as_ref(), filter.end_time.as_ref());
        let time = validate::timestamp(&mut violations, "start_time", request.start_time.as_ref());
        violations.finish()?;
        let from = Begin { tenant, listing, cursor: &request.cursor, time };
        self.watching.start(&self.context, call, AttemptFeed { tenant, query }, from).await
    }
}
