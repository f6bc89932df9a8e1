//! `DeliveryService`: what was sent, what came back, what is still to come, and what a person does about it.

mod watch;

use std::sync::Arc;

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::TenantId;
use bowline_core::store::deliveries::{self, Bounds, Cancelled, DeliveryRow, DeliveryState, Retried};
use bowline_proto::v1;
use bowline_proto::v1::delivery_service_server::DeliveryService;
use deadpool_postgres::Object;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, audited, begin_work};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::present;
use crate::streaming::{Nothing, answer};
use crate::validate::{self, Violations, filter};
use crate::watch::Watching;

/// What is looked at step by step until a page is full: a filter that matches little ends a page early instead of
/// reading the whole log. The first step is enough for one that matches much.
const STEP_KEYS: i64 = 1_000;
const STEPS: [i64; 10] = [1_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000];

pub(crate) struct Deliveries {
    context: Arc<AdminContext>,
    watching: Watching,
}

impl Deliveries {
    pub(crate) fn new(context: Arc<AdminContext>, watching: Watching) -> Self {
        Self { context, watching }
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListDeliveriesRequest,
    ) -> Result<v1::ListDeliveriesResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let listing = Listing::new("ListDeliveries", tenant, request.filter.as_ref());
        let mut violations = Violations::default();
        let query = filter::deliveries(&mut violations, &request.filter.unwrap_or_default());
        violations.finish()?;
        let size = page_size(request.page_size)?;
        let mut after: Option<DeliveryKey> = listing.position(&request.page_token)?;
        let client = self.context.client().await?;
        let mut found = Vec::new();
        let mut most = size + 1;
        for looks in STEPS {
            let seen = deliveries::keys(&client, tenant, &query, after, Bounds { keys: most, looks }).await?;
            for row in deliveries::describe(&client, tenant, &query, &seen.keys).await? {
                if found.len() as i64 == size {
                    let token = found.last().map(|row: &DeliveryRow| listing.token(&row.key));
                    return Ok(page(&found, token.unwrap_or_default()));
                }
                found.push(row);
            }
            let Some(next) = seen.next else { return Ok(page(&found, String::new())) };
            (after, most) = (Some(next), most.max(STEP_KEYS));
        }
        let token = after.map(|key| listing.token(&key)).unwrap_or_default();
        Ok(page(&found, token))
    }

    async fn get(
        &self,
        call: &Call,
        request: v1::GetDeliveryRequest,
    ) -> Result<v1::GetDeliveryResponse, Fault> {
        let key: DeliveryKey = validate::id("id", &request.id)?;
        let mut client = self.context.client().await?;
        let (row, attempts) = deliveries::find_whole(&mut client, call.scope(), key)
            .await?
            .ok_or_else(|| Fault::not_found(Kind::Delivery, key.to_string()))?;
        Ok(v1::GetDeliveryResponse { delivery: Some(present::delivery(&row, &attempts)) })
    }

    async fn retry(
        &self,
        call: &Call,
        request: v1::RetryDeliveryRequest,
    ) -> Result<v1::RetryDeliveryResponse, Fault> {
        let (key, tenant) = self.known(call, &request.id).await?;
        let id = || key.to_string();
        let refused = |why| Err(Fault::DeliveryState { id: id(), why });
        let mut client = self.context.client().await?;
        let work = begin_work(&mut client).await?;
        match deliveries::retry(&work.tx, tenant, key).await? {
            Retried::Queued | Retried::Again => {}
            Retried::BodyGone => {
                return Err(Fault::EventBodyGone { events: vec![key.event_id.to_string()] });
            }
            Retried::Test => return refused("was a test: send another test instead"),
            Retried::EndpointDeleted => return refused("is for an endpoint that was deleted"),
            Retried::Refused(state) => return refused(why_not(state)),
        }
        let act = Act { tenant: Some(tenant), ..Act::new("RetryDelivery", id()) };
        work.commit(&self.context, call, &act).await?;
        Ok(v1::RetryDeliveryResponse { delivery: Some(read(&client, tenant, key).await?) })
    }

    async fn cancel(
        &self,
        call: &Call,
        request: v1::CancelDeliveryRequest,
    ) -> Result<v1::CancelDeliveryResponse, Fault> {
        let (key, tenant) = self.known(call, &request.id).await?;
        let mut client = self.context.client().await?;
        let work = begin_work(&mut client).await?;
        let Cancelled::Done { in_hand } = deliveries::cancel(&work.tx, key).await? else {
            let why = "does not wait: there is nothing to cancel";
            return Err(Fault::DeliveryState { id: key.to_string(), why });
        };
        let act = Act { tenant: Some(tenant), ..Act::new("CancelDelivery", key.to_string()) };
        work.commit(&self.context, call, &act).await?;
        let delivery = Some(read(&client, tenant, key).await?);
        Ok(v1::CancelDeliveryResponse { delivery, may_still_be_sent: in_hand })
    }

    /// A delivery that the caller may see, and whose it is.
    async fn known(&self, call: &Call, id: &str) -> Result<(DeliveryKey, TenantId), Fault> {
        let key: DeliveryKey = validate::id("id", id)?;
        let client = self.context.client().await?;
        let row = deliveries::find(&client, call.scope(), key).await?;
        let row = row.ok_or_else(|| Fault::not_found(Kind::Delivery, key.to_string()))?;
        Ok((key, row.tenant_id))
    }
}

fn why_not(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Delivered => "was delivered: ReplayEvents sends an event again",
        DeliveryState::Unmatched => "does not exist: the event did not match the endpoint",
        _ => "is on its way to its first attempt",
    }
}

async fn read(client: &Object, tenant: TenantId, key: DeliveryKey) -> Result<v1::Delivery, Fault> {
    let row = deliveries::find(client, Some(tenant), key).await?;
    let row = row.ok_or_else(|| Fault::not_found(Kind::Delivery, key.to_string()))?;
    Ok(present::delivery(&row, &[]))
}

fn page(rows: &[DeliveryRow], next_page_token: String) -> v1::ListDeliveriesResponse {
    let deliveries = rows.iter().map(|row| present::delivery(row, &[])).collect();
    v1::ListDeliveriesResponse { deliveries, next_page_token }
}

#[tonic::async_trait]
impl DeliveryService for Deliveries {
    type WatchDeliveriesStream = Nothing<v1::WatchDeliveriesResponse>;

    async fn watch_deliveries(
        &self,
        request: Request<v1::WatchDeliveriesRequest>,
    ) -> Result<Response<Self::WatchDeliveriesStream>, Status> {
        let (call, message) = Call::open(request)?;
        answer(&call, self.watch(&call, message).await)
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn get_delivery(
        &self,
        request: Request<v1::GetDeliveryRequest>,
    ) -> Result<Response<v1::GetDeliveryResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.get(&call, message).await)
    }

    async fn retry_delivery(
        &self,
        request: Request<v1::RetryDeliveryRequest>,
    ) -> Result<Response<v1::RetryDeliveryResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("RetryDelivery", &message.id);
        let outcome = self.retry(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }

    async fn cancel_delivery(
        &self,
        request: Request<v1::CancelDeliveryRequest>,
    ) -> Result<Response<v1::CancelDeliveryResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("CancelDelivery", &message.id);
        let outcome = self.cancel(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}
