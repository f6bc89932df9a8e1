//! `PayloadService`: queries over what a source has received.

use std::sync::Arc;

use bowline_core::id::{DEFAULT_TENANT, SourceId};
use bowline_core::query::{ListPosition, Queries, SourceWindow};
use bowline_core::store::{Connection, payloads};
use bowline_proto::v1;
use bowline_proto::v1::payload_service_server::PayloadService;
use chrono::Utc;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::convert::timestamp;
use crate::fault::{Fault, Kind};
use crate::page::Listing;
use crate::validate::{self, Violations, query};

pub(crate) struct Payloads {
    context: Arc<AdminContext>,
    queries: Arc<Queries>,
}

impl Payloads {
    pub(crate) fn new(context: Arc<AdminContext>, queries: Arc<Queries>) -> Self {
        Self { context, queries }
    }

    async fn latest(
        &self,
        call: &Call,
        request: v1::GetLatestPayloadRequest,
    ) -> Result<v1::GetLatestPayloadResponse, Fault> {
        let id = validate::id("source_id", &request.source_id)?;
        let client = self.context.client().await?;
        let window = window(&client, call, id).await?;
        let latest = self.queries.latest(&client, window).await?;
        Ok(v1::GetLatestPayloadResponse { payload: latest.map(payload) })
    }

    async fn aggregate(
        &self,
        call: &Call,
        request: v1::AggregatePayloadsRequest,
    ) -> Result<v1::AggregatePayloadsResponse, Fault> {
        let id = validate::id("source_id", &request.source_id)?;
        let wire = request.query.unwrap_or_default();
        let mut violations = Violations::default();
        let asked = query::aggregate(&mut violations, "query", &wire);
        violations.finish()?;
        // Whatever makes none of it is a violation.
        let asked = asked.ok_or_else(|| Fault::field("query", "is required"))?;
        let client = self.context.client().await?;
        let window = window(&client, call, id).await?;
        let answer = self.queries.aggregate(&client, window, &asked, Utc::now()).await?;
        Ok(v1::AggregatePayloadsResponse {
            value: answer.value,
            count: i64::try_from(answer.count).unwrap_or(i64::MAX),
            window: wire.window,
            op: wire.op,
        })
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListPayloadsRequest,
    ) -> Result<v1::ListPayloadsResponse, Fault> {
        let id: SourceId = validate::id("source_id", &request.source_id)?;
        let wire = request.query.unwrap_or_default();
        let mut violations = Violations::default();
        let asked = query::list(&mut violations, "query", &wire);
        violations.finish()?;
        // A source is of one tenant: its id in place of that binds the token.
        let bound = v1::ListPayloadsRequest {
            source_id: request.source_id,
            query: Some(wire),
            page_token: String::new(),
        };
        let listing = Listing::new("ListPayloads", call.scope().unwrap_or(DEFAULT_TENANT), Some(&bound));
        let from: Option<ListPosition> = listing.position(&request.page_token)?;
        let client = self.context.client().await?;
        let window = window(&client, call, id).await?;
        let page = self.queries.list(&client, window, &asked, from).await?;
        Ok(v1::ListPayloadsResponse {
            payloads: page.payloads.into_iter().map(payload).collect(),
            next_page_token: page.next.map(|next| listing.token(&next)).unwrap_or_default(),
        })
    }
}

async fn window(client: &Connection, call: &Call, id: SourceId) -> Result<SourceWindow, Fault> {
    let found = payloads::window(client, call.scope(), id).await?;
    found.ok_or_else(|| Fault::not_found(Kind::Source, id.to_string()))
}

fn payload(payload: payloads::Payload) -> v1::Payload {
    v1::Payload {
        event_id: payload.event_id.to_string(),
        receive_time: Some(timestamp(payload.received)),
        event_type: payload.event_type,
        content_type: payload.content_type,
        body: payload.body,
    }
}

#[tonic::async_trait]
impl PayloadService for Payloads {
    async fn get_latest_payload(
        &self,
        request: Request<v1::GetLatestPayloadRequest>,
    ) -> Result<Response<v1::GetLatestPayloadResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.latest(&call, message).await)
    }

    async fn aggregate_payloads(
        &self,
        request: Request<v1::AggregatePayloadsRequest>,
    ) -> Result<Response<v1::AggregatePayloadsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.aggregate(&call, message).await)
    }

    async fn list_payloads(
        &self,
        request: Request<v1::ListPayloadsRequest>,
    ) -> Result<Response<v1::ListPayloadsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }
}
