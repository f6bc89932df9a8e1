//! `OperationService`: bulk work, as it goes on after its call.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::{OperationId, TenantId};
use bowline_core::operation::{
    Operation, OperationState, RATE_DEFAULT_PER_SECOND, RATE_MAX_PER_SECOND, Request as Asked,
};
use bowline_core::store::operations;
use bowline_core::watch::Places;
use bowline_proto::v1;
use bowline_proto::v1::operation_service_server::OperationService;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::AdminContext;
use crate::call::Call;
use crate::change::{Act, Repeat, audited, begin_work};
use crate::fault::{Fault, Kind};
use crate::page::{Listing, page_size};
use crate::present;
use crate::streaming::{Nothing, Outgoing, Part, Watched, answer};
use crate::validate::{self, Violations};

/// How often a watched operation is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A message this often, even if nothing has changed.
const HEARTBEAT: Duration = Duration::from_secs(15);
const WATCHES_MAX: usize = 512;
const WATCHES_PER_TENANT_MAX: usize = 64;
/// Of those who watch, so that calls find a connection.
const READS_MAX: usize = 1;

pub(crate) struct Operations {
    context: Arc<AdminContext>,
    places: Arc<Places>,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Operations {
    pub(crate) fn new(context: Arc<AdminContext>, stop: CancellationToken) -> Self {
        let places = Places::new(WATCHES_MAX, WATCHES_PER_TENANT_MAX);
        Self { context, places, turns: Arc::new(Semaphore::new(READS_MAX)), stop }
    }

    async fn list(
        &self,
        call: &Call,
        request: v1::ListOperationsRequest,
    ) -> Result<v1::ListOperationsResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let listing = Listing::new("ListOperations", tenant, request.filter.as_ref());
        let state = state_filter(request.filter.unwrap_or_default())?;
        let size = page_size(request.page_size)?;
        let after = listing.position(&request.page_token)?;
        let client = self.context.client().await?;
        let mut rows = operations::list(&client, tenant, state, after, size + 1).await?;
        let next_page_token = listing.cut(&mut rows, size, |row| row.id.0);
        Ok(v1::ListOperationsResponse {
            operations: rows.iter().map(present::operation).collect(),
            next_page_token,
        })
    }

    async fn cancel(
        &self,
        call: &Call,
        request: v1::CancelOperationRequest,
    ) -> Result<v1::CancelOperationResponse, Fault> {
        let id: OperationId = validate::id("id", &request.id)?;
        let mut client = self.context.client().await?;
        let work = begin_work(&mut client).await?;
        let found = operations::find(&work.tx, call.scope(), id).await?;
        let old = found.ok_or_else(|| Fault::not_found(Kind::Operation, id.to_string()))?;
        if !operations::cancel(&work.tx, id).await? {
            return Err(Fault::OperationEnded { id: id.to_string() });
        }
        let act = Act { tenant: Some(old.tenant_id), ..Act::new("CancelOperation", id.to_string()) };
        work.commit(&self.context, call, &act).await?;
        let operation = find(&self.context, call.scope(), id).await?;
        Ok(v1::CancelOperationResponse { operation: Some(present::operation(&operation)) })
    }
}

fn state_filter(filter: v1::OperationFilter) -> Result<Option<OperationState>, Fault> {
    Ok(match filter.state() {
        v1::OperationState::Unspecified if filter.state == 0 => None,
        v1::OperationState::Unspecified => {
            return Err(Fault::field("filter.state", "is not one of the states"));
        }
        v1::OperationState::Pending => Some(OperationState::Pending),
        v1::OperationState::Running => Some(OperationState::Running),
        v1::OperationState::Done => Some(OperationState::Done),
        v1::OperationState::Failed => Some(OperationState::Failed),
        v1::OperationState::Cancelled => Some(OperationState::Cancelled),
    })
}

async fn find(context: &AdminContext, scope: Option<TenantId>, id: OperationId) -> Result<Operation, Fault> {
    let client = context.client().await?;
    let found = operations::find(&client, scope, id).await?;
    found.ok_or_else(|| Fault::not_found(Kind::Operation, id.to_string()))
}

/// The rate of an operation as it is asked for.
pub(crate) fn rate(violations: &mut Violations, asked: i32) -> i32 {
    if !(0..=RATE_MAX_PER_SECOND).contains(&asked) {
        let problem = format!("must be 1 to {RATE_MAX_PER_SECOND}, or 0 for {RATE_DEFAULT_PER_SECOND}");
        violations.add("rate_per_second", problem);
    }
    if asked == 0 { RATE_DEFAULT_PER_SECOND } else { asked }
}

/// Begins an operation, once for each request id.
#[allow(clippy::too_many_arguments, reason = "who asks for what, once")]
pub(crate) async fn begin(
    context: &AdminContext,
    call: &Call,
    repeat: &Repeat<'_>,
    asked: Asked,
    rate_per_second: i32,
    act: Act,
) -> Result<Operation, Fault> {
    let mut client = context.client().await?;
    let work = begin_work(&mut client).await?;
    // The row it keeps is unique: of two calls at once the second fails, and finds the first by its repeat.
    if let Some(earlier) = work.earlier(repeat).await? {
        drop(work);
        drop(client);
        return find(context, act.tenant, OperationId(earlier)).await;
    }
    let id = OperationId::new();
    let tenant = act.tenant.ok_or_else(|| Fault::Unreadable("an operation without a tenant".into()))?;
    let operation = operations::insert(&work.tx, id, tenant, &asked, rate_per_second).await?;
    work.keep(repeat, id.0).await?;
    work.commit(context, call, &Act { resource: id.to_string(), ..act }).await?;
    Ok(operation)
}

/// What a watch has seen.
struct Watch {
    context: Arc<AdminContext>,
    call: Call,
    id: OperationId,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
    last: Option<(Operation, Instant)>,
}

impl Watched for Watch {
    async fn next(&mut self) -> Result<Option<Part>, Fault> {
        loop {
            if let Some((last, _)) = &self.last {
                if last.state.is_ended() {
                    return Ok(None);
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.stop.cancelled() => return Err(Fault::Stopping),
                }
            }
            let operation = {
                let _turn = self.turns.acquire().await;
                find(&self.context, self.call.scope(), self.id).await?
            };
            let is_news = self.last.as_ref().is_none_or(|(last, at)| {
                last.update_time != operation.update_time || at.elapsed() >= HEARTBEAT
            });
            if is_news {
                let response = v1::WatchOperationResponse { operation: Some(present::operation(&operation)) };
                self.last = Some((operation, Instant::now()));
                return Ok(Some(Part::small(&response)));
            }
        }
    }
}

impl Operations {
    async fn watch(&self, call: &Call, id: &str) -> Result<Outgoing, Fault> {
        let id: OperationId = validate::id("id", id)?;
        let operation = find(&self.context, call.scope(), id).await?;
        let place = self.places.take(operation.tenant_id)?;
        let watch = Watch {
            context: Arc::clone(&self.context),
            call: call.clone(),
            id,
            turns: Arc::clone(&self.turns),
            stop: self.stop.clone(),
            last: None,
        };
        Ok(Outgoing::new(call, place, watch))
    }
}

#[tonic::async_trait]
impl OperationService for Operations {
    type WatchOperationStream = Nothing<v1::WatchOperationResponse>;

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::GetOperationResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let outcome = async {
            let id = validate::id("id", &message.id)?;
            let operation = find(&self.context, call.scope(), id).await?;
            Ok(v1::GetOperationResponse { operation: Some(present::operation(&operation)) })
        };
        call.answer(outcome.await)
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        let (call, message) = Call::open(request)?;
        call.answer(self.list(&call, message).await)
    }

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let (call, message) = Call::open(request)?;
        answer(&call, self.watch(&call, &message.id).await)
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::CancelOperationResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let act = Act::new("CancelOperation", &message.id);
        let outcome = self.cancel(&call, message).await;
        call.answer(audited(&self.context, &call, act, outcome).await)
    }
}
