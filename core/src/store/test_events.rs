//! Tests of endpoints: an event for one endpoint alone, and its delivery, queued past everything.

use deadpool_postgres::GenericClient;
use serde_json::Value;

use super::Error;
use crate::delivery::{Decision, DeliveryKey};
use crate::event::Event;
use crate::id::{EndpointId, TenantId};

/// Stores a test event and queues it for the endpoint; no chunk, so no other endpoint gets it.
pub async fn insert(
    client: &impl GenericClient,
    event: &Event,
    endpoint: EndpointId,
) -> Result<DeliveryKey, Error> {
    const EVENT: &str = "
        INSERT INTO events (id, tenant_id, event_type, channel, content_type, headers, body, create_time, test)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, true)";
    const QUEUE: &str = "
        INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt, priority)
        VALUES ($1, $2, 0, $3, now(), 0, -1)";
    client
        .execute(
            EVENT,
            &[
                &event.id.0,
                &event.tenant_id.0,
                &event.event_type,
                &event.channel,
                &event.content_type,
                &&event.headers[..],
                &&event.body[..],
                &event.time,
            ],
        )
        .await?;
    client.execute(QUEUE, &[&event.id.0, &endpoint.0, &event.tenant_id.0]).await?;
    Ok(DeliveryKey { event_id: event.id, endpoint_id: endpoint, run: 0 })
}

/// Where a test stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestState {
    /// Nobody has taken it.
    Waiting,
    /// A dispatcher has it.
    Taken,
    Decided,
    /// Taken back, by its caller or as nobody came.
    Gone,
}

pub async fn state(client: &impl GenericClient, key: DeliveryKey) -> Result<TestState, Error> {
    const SQL: &str = "
        SELECT (SELECT owner IS NOT NULL FROM queue WHERE event_id = $1 AND endpoint_id = $2 AND run = $3) AS taken,
               EXISTS (SELECT 1 FROM attempts WHERE event_id = $1 AND endpoint_id = $2 AND run = $3
                          AND decision <> $4) AS decided";
    let stale = Decision::Stale.as_str();
    let row = client.query_one(SQL, &[&key.event_id.0, &key.endpoint_id.0, &key.run, &stale]).await?;
    Ok(match (row.try_get("decided")?, row.try_get::<_, Option<bool>>("taken")?) {
        (true, _) => TestState::Decided,
        (false, Some(true)) => TestState::Taken,
        (false, Some(false)) => TestState::Waiting,
        (false, None) => TestState::Gone,
    })
}

/// Takes back a test that nobody has taken; false where somebody has.
pub async fn take_back(client: &impl GenericClient, key: DeliveryKey) -> Result<bool, Error> {
    const SQL: &str = "
        DELETE FROM queue WHERE event_id = $1 AND endpoint_id = $2 AND run = $3 AND owner IS NULL";
    Ok(client.execute(SQL, &[&key.event_id.0, &key.endpoint_id.0, &key.run]).await? > 0)
}

/// The JSON Schema of an event type in the tenant's catalog.
pub async fn schema(
    client: &impl GenericClient,
    tenant: TenantId,
    event_type: &str,
) -> Result<Option<Value>, Error> {
    const SQL: &str = "
        SELECT json_schema FROM event_types WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL";
    let row = client.query_opt(SQL, &[&tenant.0, &event_type]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}
