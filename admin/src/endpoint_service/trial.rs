//! A test of an endpoint: queued through Postgres past everything else, sent by a dispatcher, awaited.

use std::time::Duration;

use bowline_core::defaults;
use bowline_core::endpoint::Endpoint;
use bowline_core::event::Event;
use bowline_core::id::{EndpointId, EventId};
use bowline_core::store::test_events::{self, TestState};
use bowline_core::store::{deliveries, endpoints};
use bowline_proto::v1;
use bytes::Bytes;
use chrono::Utc;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::Instant;

use super::example;
use super::{Endpoints, found};
use crate::call::Call;
use crate::change::{Act, begin_work};
use crate::fault::{Fault, Kind};
use crate::present;
use crate::validate::{self, Violations};

/// A dispatcher takes a test within a tenth of a second; after one died with it, another has to wait for
/// two leases.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// On top of what the endpoint allows: the commit, and one dispatcher that died with it.
const SLACK: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);
const PING: &str = "test.ping";

impl Endpoints {
    pub(super) async fn send_test(
        &self,
        call: &Call,
        request: v1::SendEndpointTestRequest,
    ) -> Result<v1::SendEndpointTestResponse, Fault> {
        let context = &*self.context;
        let id: EndpointId = validate::id("id", &request.id)?;
        check(&request)?;
        let mut client = context.client().await?;
        let work = begin_work(&mut client).await?;
        let endpoint = found(endpoints::find(&work.tx, call.scope(), id).await?, id)?;
        let event_type = event_type(&request, &endpoint);
        let body = if request.body.is_empty() {
            let schema = test_events::schema(&work.tx, endpoint.tenant_id, &event_type).await?;
            payload(&event_type, schema.as_ref())
        } else {
            request.body
        };
        let event = Event {
            id: EventId::new(),
            tenant_id: endpoint.tenant_id,
            source_id: None,
            event_type,
            channel: (!request.channel.is_empty()).then_some(request.channel),
            content_type: "application/json".into(),
            headers: Bytes::new(),
            body,
            time: Utc::now(),
        };
        let key = test_events::insert(&work.tx, &event, id).await?;
        let act = Act { tenant: Some(endpoint.tenant_id), ..Act::new("SendEndpointTest", id.to_string()) };
        work.commit(context, call, &act).await?;
        drop(client);
        self.await_test(key, endpoint.spec.timeout).await?;
        let mut client = context.client().await?;
        let (row, attempts) = deliveries::find_whole(&mut client, Some(endpoint.tenant_id), key)
            .await?
            .ok_or_else(|| Fault::not_found(Kind::Delivery, key.to_string()))?;
        Ok(v1::SendEndpointTestResponse { delivery: Some(present::delivery(&row, &attempts)) })
    }

    /// Until its outcome is recorded. No connection is held meanwhile.
    async fn await_test(
        &self,
        key: bowline_core::delivery::DeliveryKey,
        timeout: Duration,
    ) -> Result<(), Fault> {
        let began = Instant::now();
        loop {
            let client = self.context.client().await?;
            match test_events::state(&client, key).await? {
                TestState::Decided => return Ok(()),
                TestState::Gone => return Err(Fault::TestNotTaken(TAKEN_WITHIN)),
                TestState::Waiting if began.elapsed() >= TAKEN_WITHIN => {
                    if test_events::take_back(&client, key).await? {
                        return Err(Fault::TestNotTaken(TAKEN_WITHIN));
                    }
                }
                TestState::Waiting | TestState::Taken => {}
            }
            drop(client);
            if began.elapsed() >= timeout + SLACK {
                return Err(Fault::Timeout(timeout + SLACK));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn check(request: &v1::SendEndpointTestRequest) -> Result<(), Fault> {
    let mut violations = Violations::default();
    if !request.event_type.is_empty() {
        validate::event_type(&mut violations, "event_type", &request.event_type);
    }
    if !request.channel.is_empty() {
        validate::channel(&mut violations, "channel", &request.channel);
    }
    if request.body.len() as u64 > defaults::BODY_LIMIT_BYTES {
        let limit = defaults::BODY_LIMIT_BYTES;
        violations.add("body", format!("has {} bytes; at most {limit} are accepted", request.body.len()));
    } else if !request.body.is_empty()
        && let Err(error) = serde_json::from_slice::<IgnoredAny>(&request.body)
    {
        violations.add("body", format!("is not JSON: {error}"));
    }
    violations.finish()
}

/// The given type, else the first whole one that the endpoint names.
fn event_type(request: &v1::SendEndpointTestRequest, endpoint: &Endpoint) -> String {
    if !request.event_type.is_empty() {
        return request.event_type.clone();
    }
    let named = endpoint.spec.event_types.iter().find(|name| !name.ends_with('*'));
    named.cloned().unwrap_or_else(|| PING.to_owned())
}

fn payload(event_type: &str, schema: Option<&serde_json::Value>) -> Bytes {
    let value = schema.map_or_else(
        || json!({ "test": true, "type": event_type, "message": "A test of this endpoint by Bowline." }),
        example::of_schema,
    );
    value.to_string().into()
}
