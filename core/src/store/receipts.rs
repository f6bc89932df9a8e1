//! What sources have received, as the audit log tells it: derived from the events when somebody asks, so that a
//! receipt is as certain as its event, and costs the journal nothing.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::Error;
use super::events::IdRange;
use crate::id::{EventId, SourceId, TenantId};

/// Events that one call looks at, wanted or not: those that were published are passed over.
pub const LOOKED_AT_MAX: i64 = 10_000;

/// Whose receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Source(SourceId),
    Tenant(TenantId),
    All,
}

impl Of {
    fn condition(self) -> &'static str {
        match self {
            Self::Source(_) => "source_id = $1",
            Self::Tenant(_) => "tenant_id = $1",
            Self::All => "$1::uuid IS NULL",
        }
    }

    fn id(self) -> Option<Uuid> {
        match self {
            Self::Source(source) => Some(source.0),
            Self::Tenant(tenant) => Some(tenant.0),
            Self::All => None,
        }
    }
}

/// One payload that a source received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub event_id: EventId,
    pub tenant_id: TenantId,
    pub source_id: SourceId,
    pub time: DateTime<Utc>,
}

/// A part of the receipts, newest first.
#[derive(Debug, Clone, Default)]
pub struct Receipts {
    pub found: Vec<Receipt>,
    /// What is older than this was not looked at; `None`: all was, or enough was found.
    pub looked_to: Option<EventId>,
}

/// The newest within `range`, at most `limit`.
pub async fn list(
    client: &impl GenericClient,
    of: Of,
    range: IdRange,
    limit: i64,
) -> Result<Receipts, Error> {
    let looked_at = format!(
        "SELECT id, tenant_id, source_id, create_time FROM events
          WHERE {} AND id >= $2 AND id < $3 ORDER BY id DESC",
        of.condition()
    );
    let found = format!(
        "SELECT * FROM ({looked_at} LIMIT $4) AS looked_at WHERE source_id IS NOT NULL ORDER BY id DESC LIMIT $5"
    );
    let rows = client.query(&found, &[&of.id(), &range.from, &range.until, &LOOKED_AT_MAX, &limit]).await?;
    let found = rows
        .iter()
        .map(|row| {
            Ok(Receipt {
                event_id: EventId(row.try_get("id")?),
                tenant_id: TenantId(row.try_get("tenant_id")?),
                source_id: SourceId(row.try_get("source_id")?),
                time: row.try_get("create_time")?,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    if found.len() as i64 >= limit {
        return Ok(Receipts { found, looked_to: None });
    }
    let last = format!("SELECT id FROM ({looked_at} OFFSET $4 LIMIT 1) AS last");
    let last = client.query_opt(&last, &[&of.id(), &range.from, &range.until, &(LOOKED_AT_MAX - 1)]).await?;
    let looked_to = last.map(|row| row.try_get("id").map(EventId)).transpose()?;
    Ok(Receipts { found, looked_to })
}

/// Whether the source is, or was, of this tenant.
pub async fn is_source_of(
    client: &impl GenericClient,
    tenant: TenantId,
    source: SourceId,
) -> Result<bool, Error> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM sources WHERE id = $1 AND tenant_id = $2)";
    Ok(client.query_one(SQL, &[&source.0, &tenant.0]).await?.try_get(0)?)
}
