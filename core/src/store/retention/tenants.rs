//! Events of tenants that keep theirs for a shorter time than the deployment: rows of days that stay.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::{Session, chunks_below, id_at};
use crate::id::TenantId;
use crate::store::Error;
use crate::tenant::TenantSettings;

/// Events of one transaction.
const BATCH: i64 = 500;

impl Session {
    /// The tenants with a retention of their own.
    pub async fn tenant_retentions(&self) -> Result<Vec<(TenantId, Duration)>, Error> {
        const SQL: &str = "SELECT id, settings FROM tenants WHERE settings ? 'retention' ORDER BY id";
        let rows = self.client.query(SQL, &[]).await?;
        let mut found = Vec::new();
        for row in rows {
            let id = TenantId(row.try_get(0)?);
            match row.try_get::<_, Json<TenantSettings>>(1) {
                Ok(Json(settings)) => found.extend(settings.retention.map(|retention| (id, retention))),
                // One tenant's settings by a newer version: its events stay for as long as the others'.
                Err(error) => tracing::warn!(%error, tenant = %id, "a tenant's settings can't be read"),
            }
        }
        Ok(found)
    }

    /// Deletes a batch of a tenant's events from before `cutoff` that nothing waits for, with their attempts.
    /// Gives how many rows went, and where the next batch begins; `None` after the last.
    pub async fn sweep_tenant(
        &mut self,
        tenant: TenantId,
        cutoff: DateTime<Utc>,
        after: Uuid,
    ) -> Result<(u64, Option<Uuid>), Error> {
        // Who wants to send one of them again locks it: see `deliveries::retry`.
        const LOCK: &str = "
            SELECT id FROM events WHERE tenant_id = $1 AND id > $2 AND id < $3
             ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED";
        const NEEDLESS: &str = "
            SELECT k.id FROM unnest($1::uuid[]) AS k (id)
             WHERE NOT EXISTS (SELECT 1 FROM queue WHERE event_id = k.id)
               AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE event_id = k.id)
               AND NOT EXISTS (SELECT 1 FROM outbox WHERE id < $2 AND event_ids @> ARRAY[k.id])";
        const ATTEMPTS: &str = "DELETE FROM attempts WHERE event_id = ANY($1) AND event_id BETWEEN $2 AND $3";
        const EVENTS: &str = "DELETE FROM events WHERE id = ANY($1) AND id BETWEEN $2 AND $3";
        let transaction = self.client.transaction().await?;
        let rows = transaction.query(LOCK, &[&tenant.0, &after, &id_at(cutoff), &BATCH]).await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok((0, None)) };
        let rows = transaction.query(NEEDLESS, &[&ids, &chunks_below(*last)]).await?;
        let needless: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let swept = transaction.execute(ATTEMPTS, &[&needless, first, last]).await?
            + transaction.execute(EVENTS, &[&needless, first, last]).await?;
        transaction.commit().await?;
        Ok((swept, (ids.len() as i64 == BATCH).then_some(*last)))
    }
}
