//! What Bowline has to tell, between the transaction in which it happened and the journal.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use crate::id::{EventId, TenantId};
use crate::journal::{DedupKey, NewEvent};
use crate::own_event::{OwnEvent, new_event};

/// One that waits to be handed over.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub id: EventId,
    pub tenant_id: TenantId,
    pub event_type: String,
    pub body: Vec<u8>,
}

/// For as long as another dispatcher may still have the same one in hand.
const KEY_TTL: Duration = Duration::from_secs(24 * 3600);

impl Waiting {
    /// As the journal takes it. Who hands it over twice makes one event by its key.
    pub fn into_event(self) -> NewEvent {
        let hash = DedupKey::hash(format!("own event {}", self.id).as_bytes());
        let key = DedupKey { scope: self.tenant_id.0, hash, ttl: KEY_TTL, fingerprint: None };
        new_event(self.tenant_id, self.event_type, self.body.into(), key)
    }
}

/// Keeps them, in the transaction of what they tell of, where there is one.
pub async fn insert(client: &impl GenericClient, events: &[OwnEvent]) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO own_events (id, tenant_id, event_type, body)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[])
        ON CONFLICT (id) DO NOTHING";
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.0).collect();
    let tenants: Vec<Uuid> = events.iter().map(|event| event.tenant_id.0).collect();
    let types: Vec<&str> = events.iter().map(|event| event.event_type).collect();
    let bodies: Vec<Vec<u8>> = events.iter().map(|event| event.body.to_string().into_bytes()).collect();
    client.execute(SQL, &[&ids, &tenants, &types, &bodies]).await?;
    Ok(())
}

/// The types of these events.
pub async fn types_of(
    client: &impl GenericClient,
    events: &[EventId],
) -> Result<HashMap<EventId, String>, Error> {
    const SQL: &str = "
        SELECT id, event_type FROM events WHERE id = ANY($1) AND id BETWEEN $2 AND $3
         UNION
        SELECT id, event_type FROM events_kept WHERE id = ANY($1)";
    let ids: Vec<Uuid> = events.iter().map(|id| id.0).collect();
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(HashMap::new()) };
    let rows = client.query(SQL, &[&ids, first, last]).await?;
    rows.iter().map(|row| Ok((EventId(row.try_get(0)?), row.try_get(1)?))).collect()
}

/// The oldest; several may be told of the same one.
pub async fn waiting(client: &impl GenericClient, limit: i64) -> Result<Vec<Waiting>, Error> {
    const SQL: &str = "SELECT id, tenant_id, event_type, body FROM own_events ORDER BY id LIMIT $1";
    let rows = client.query(SQL, &[&limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: EventId(row.try_get(0)?),
                tenant_id: TenantId(row.try_get(1)?),
                event_type: row.try_get(2)?,
                body: row.try_get(3)?,
            })
        })
        .collect()
}

/// They are in the journal now.
pub async fn delete(client: &impl GenericClient, ids: &[EventId]) -> Result<(), Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    client.execute("DELETE FROM own_events WHERE id = ANY($1)", &[&ids]).await?;
    Ok(())
}
