//! Many events in one call: published, each by itself, or replayed.

use std::collections::BTreeSet;

use bowline_core::id::{EndpointId, TenantId};
use bowline_core::operation::{self, ESTIMATE_MAX, Replay, Work};
use bowline_core::store::{endpoints, replays};
use bowline_proto::v1;
use bowline_proto::v1::publish_event_result::Outcome;
use futures_util::StreamExt as _;
use tonic_types::StatusExt as _;

use super::Events;
use super::dry_run::{Counted, DryRun};
use crate::call::Call;
use crate::change::{Act, Repeat};
use crate::fault::{Fault, Kind, to_status};
use crate::operation_service;
use crate::present;
use crate::validate::{self, Violations, excerpt};

const EVENTS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events of one batch that are on their way at a time: the journal takes them as groups.
const AT_A_TIME: usize = 128;
const ENDPOINTS_MAX: usize = 100;
/// Events without a body that a refusal names.
const GONE_NAMED_MAX: i64 = 10;

impl Events {
    /// Each event by itself: what one is refused for does not touch the others.
    pub(super) async fn publish_batch(
        &self,
        call: &Call,
        request: v1::PublishEventBatchRequest,
    ) -> Result<v1::PublishEventBatchResponse, Fault> {
        let tenant = call.tenant(&self.context, &request.tenant_id).await?;
        let bytes: usize = request.events.iter().map(|event| event.body.len()).sum();
        let mut violations = Violations::default();
        if request.events.is_empty() || request.events.len() > EVENTS_MAX {
            violations.add("events", format!("must hold 1 to {EVENTS_MAX} events"));
        }
        if bytes > BYTES_MAX {
            violations
                .add("events", format!("have {bytes} bytes of bodies; at most {BYTES_MAX} are accepted"));
        }
        violations.finish()?;
        let publish = |event: v1::PublishEventRequest| self.publish_one(call, tenant, event);
        let results = futures_util::stream::iter(request.events).map(publish).buffered(AT_A_TIME);
        Ok(v1::PublishEventBatchResponse { results: results.collect().await })
    }

    async fn publish_one(
        &self,
        call: &Call,
        tenant: TenantId,
        event: v1::PublishEventRequest,
    ) -> v1::PublishEventResult {
        let outcome = if event.tenant_id.is_empty() || event.tenant_id == tenant.to_string() {
            self.publish_for(call, tenant, event).await
        } else {
            Err(Fault::field("tenant_id", "must be empty, or the one of the batch"))
        };
        let outcome = match outcome {
            Ok(published) => Outcome::Published(published),
            Err(fault) => {
                let status = to_status(&fault, &call.id);
                let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
                let message = status.message().to_owned();
                Outcome::Failure(v1::PublishEventFailure { code: status.code().into(), reason, message })
            }
        };
        v1::PublishEventResult { outcome: Some(outcome) }
    }

    pub(super) async fn replay(
        &self,
        call: &Call,
        request: v1::ReplayEventsRequest,
    ) -> Result<v1::ReplayEventsResponse, Fault> {
        let context = &*self.context;
        let tenant = call.tenant(context, &request.tenant_id).await?;
        let mut violations = Violations::default();
        validate::request_id(&mut violations, &request.request_id);
        let rate = operation_service::rate(&mut violations, request.rate_per_second);
        let endpoint_ids = endpoint_ids(&mut violations, &request.endpoint_ids);
        if request.filter.is_none() {
            violations.add("filter", "is required (an empty one means every event)");
        }
        if request.max_count < 0 {
            violations.add("max_count", "must not be negative");
        }
        let wire = request.filter.clone().unwrap_or_default();
        let mut query = validate::filter::events(&mut violations, &wire);
        let time = |time: &Option<_>| validate::timestamp(&mut Violations::default(), "", time.as_ref());
        let (start, end) = (time(&wire.start_time), time(&wire.end_time));
        violations.finish()?;
        let client = context.client().await?;
        let mut endpoints = Vec::with_capacity(endpoint_ids.len());
        for id in &endpoint_ids {
            let found = endpoints::find(&client, Some(tenant), *id).await?;
            endpoints.push(found.ok_or_else(|| Fault::not_found(Kind::Endpoint, id.to_string()))?);
        }
        // What comes in from now on goes its way by itself. By id, since clocks differ.
        let last = replays::last_event(&client, tenant).await?;
        query.range = query.range.up_to(last);
        let event_count = replays::count(&client, tenant, &query, ESTIMATE_MAX).await?;
        if event_count == 0 {
            let gone = replays::without_body(&client, tenant, &query, GONE_NAMED_MAX).await?;
            if !gone.is_empty() {
                return Err(Fault::EventBodyGone { events: gone.iter().map(ToString::to_string).collect() });
            }
        }
        drop(client);
        let max = (request.max_count > 0).then_some(request.max_count);
        if request.dry_run {
            let dry = DryRun { tenant, query, endpoints, only_missing: request.only_missing, max };
            let Counted { count, truncated } = dry.count(context).await?;
            return Ok(v1::ReplayEventsResponse {
                operation: None,
                event_count,
                delivery_count: count,
                truncated,
            });
        }
        let replay = Replay {
            source_id: query.source_id,
            event_type: query.event_type,
            channel: query.channel,
            start,
            end,
            last,
            endpoint_ids,
            only_missing: request.only_missing,
        };
        let asked = operation::Request { work: Work::Replay(replay), max, estimate: event_count };
        let repeated = v1::ReplayEventsRequest { request_id: String::new(), ..request.clone() };
        let repeat = Repeat::new(tenant, "ReplayEvents", &request.request_id, &repeated);
        let request_id = request.request_id.clone();
        let act = Act { tenant: Some(tenant), request_id, ..Act::new("ReplayEvents", "") };
        let begun = operation_service::begin(context, call, &repeat, asked, rate, act).await?;
        let operation = Some(present::operation(&begun));
        Ok(v1::ReplayEventsResponse { operation, event_count, ..Default::default() })
    }
}

/// Each once, in order.
fn endpoint_ids(violations: &mut Violations, ids: &[String]) -> Vec<EndpointId> {
    if ids.is_empty() || ids.len() > ENDPOINTS_MAX {
        violations.add("endpoint_ids", format!("must hold 1 to {ENDPOINTS_MAX} ids"));
    }
    let ids = ids.iter().take(ENDPOINTS_MAX).enumerate();
    let each: BTreeSet<EndpointId> = ids
        .filter_map(|(index, id)| match id.parse() {
            Ok(id) => Some(id),
            Err(error) => {
                violations.add(format!("endpoint_ids[{index}]"), format!("`{}`: {error}", excerpt(id)));
                None
            }
        })
        .collect();
    each.into_iter().collect()
}
