//! Deliveries that a person retries or cancels. Both go by the row of the queue, whose lock decides
//! who comes first: the person, or the dispatcher that claims or records.

use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::{DeliveryQuery, DeliveryState, describe};
use crate::delivery::DeliveryKey;
use crate::id::{AttemptId, TenantId};
use crate::store::Error;
use crate::store::channels::{self, ChannelKey};

/// What came of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It is due now.
    Queued,
    /// A request is out; should it fail, another follows at once.
    Again,
    /// The event is not stored any more, or its body is not.
    BodyGone,
    /// Nothing to retry in this state.
    Refused(DeliveryState),
    /// Tests are made anew instead.
    Test,
    EndpointDeleted,
}

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// `in_hand`: a dispatcher had it, and may send it once more.
    Done {
        in_hand: bool,
    },
    NotWaiting,
}

/// A dispatcher has it, or the channel in which it has its place.
const IN_HAND: &str = "(q.owner IS NOT NULL OR q.seq IS NOT NULL AND EXISTS (
               SELECT 1 FROM channels AS c
                WHERE c.endpoint_id = q.endpoint_id AND c.channel = q.channel AND c.owner IS NOT NULL))";

async fn hasten_channel(
    client: &impl GenericClient,
    key: DeliveryKey,
    channel: Option<String>,
) -> Result<(), Error> {
    match channel {
        Some(channel) => {
            channels::hasten(client, &ChannelKey { endpoint_id: key.endpoint_id, channel }).await
        }
        None => Ok(()),
    }
}

/// Makes a delivery due with a fresh budget. Needs a transaction, and a delivery that is of this tenant.
pub async fn retry(
    client: &impl GenericClient,
    tenant: TenantId,
    key: DeliveryKey,
) -> Result<Retried, Error> {
    // Two calls for one delivery are one: the second finds what the first has done.
    const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))";
    const WAITING: &str = "
        UPDATE queue AS q
           SET budget_from = now(), again = {in_hand},
               due_at = CASE WHEN owner IS NULL THEN now() ELSE due_at END
         WHERE event_id = $1 AND endpoint_id = $2 AND run = $3 AND priority <> -1
        RETURNING again, channel";
    const LIVE: &str = "SELECT 1 FROM endpoints WHERE id = $1 AND deleted_at IS NULL";
    // Locked, so that neither it nor its body goes before the row of the queue is there to keep them.
    const STORED: [&str; 2] = [
        "SELECT 1 FROM events WHERE id = $1 AND body_dropped_at IS NULL FOR SHARE",
        "SELECT 1 FROM events_kept WHERE id = $1 AND body_dropped_at IS NULL FOR SHARE",
    ];
    const QUEUE: &str = "
        WITH risen AS (DELETE FROM dead_letters WHERE event_id = $1 AND endpoint_id = $2 AND run = $3)
        INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt)
        SELECT $1, $2, $3, $4, now(), coalesce(max(attempt), 0)
          FROM (SELECT attempt FROM attempts WHERE event_id = $1 AND endpoint_id = $2 AND run = $3
                UNION ALL
                SELECT attempt FROM attempts_kept WHERE event_id = $1 AND endpoint_id = $2 AND run = $3) AS made
        ON CONFLICT DO NOTHING";
    let ids: (Uuid, Uuid, i32) = (key.event_id.0, key.endpoint_id.0, key.run);
    client.execute(ALONE, &[&key.to_string()]).await?;
    if client.query_opt(LIVE, &[&ids.1]).await?.is_none() {
        return Ok(Retried::EndpointDeleted);
    }
    let waiting = WAITING.replace("{in_hand}", IN_HAND);
    if let Some(row) = client.query_opt(&waiting, &[&ids.0, &ids.1, &ids.2]).await? {
        hasten_channel(client, key, row.try_get(1)?).await?;
        return Ok(if row.try_get(0)? { Retried::Again } else { Retried::Queued });
    }
    let described = describe(client, tenant, &DeliveryQuery::default(), &[key]).await?.pop();
    match described {
        Some(row) if row.test => return Ok(Retried::Test),
        Some(row)
            if matches!(
                row.state,
                DeliveryState::Dead | DeliveryState::Cancelled | DeliveryState::Expired
            ) => {}
        Some(row) => return Ok(Retried::Refused(row.state)),
        None => return Ok(Retried::Refused(DeliveryState::Unmatched)),
    }
    let mut stored = false;
    for sql in STORED {
        stored = stored || client.query_opt(sql, &[&ids.0]).await?.is_some();
    }
    if !stored {
        return Ok(Retried::BodyGone);
    }
    client.execute(QUEUE, &[&ids.0, &ids.1, &ids.2, &tenant.0]).await?;
    channels::enlist(client, &[key]).await?;
    Ok(Retried::Queued)
}

/// Ends a delivery that waits, with a row in `attempts`. A request that is out meanwhile is recorded as it
/// ends: a success counts, a failure changes nothing. Needs a transaction.
pub async fn cancel(client: &impl GenericClient, key: DeliveryKey) -> Result<Cancelled, Error> {
    const TAKE: &str = "
        DELETE FROM queue AS q WHERE event_id = $1 AND endpoint_id = $2 AND run = $3
        RETURNING tenant_id, attempt, channel, {in_hand} AS in_hand";
    const LOG: &str = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at)
        VALUES ($1, $2, $3, $4, $5, $6, 'cancelled', 'cancelled', now())";
    let ids: (Uuid, Uuid, i32) = (key.event_id.0, key.endpoint_id.0, key.run);
    let take = TAKE.replace("{in_hand}", IN_HAND);
    let Some(row) = client.query_opt(&take, &[&ids.0, &ids.1, &ids.2]).await? else {
        return Ok(Cancelled::NotWaiting);
    };
    hasten_channel(client, key, row.try_get("channel")?).await?;
    let (tenant, attempt): (Uuid, i32) = (row.try_get("tenant_id")?, row.try_get("attempt")?);
    client.execute(LOG, &[&ids.0, &ids.1, &ids.2, &AttemptId::new().0, &tenant, &attempt]).await?;
    Ok(Cancelled::Done { in_hand: row.try_get("in_hand")? })
}
