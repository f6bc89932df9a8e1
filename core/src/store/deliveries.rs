//! Reads deliveries: what `attempts`, `queue` and `dead_letters` together say of them.

mod by_hand;
mod keys;
mod spans;

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;

use super::Error;
use super::chunks::chunks_of;
use super::events::IdRange;
use crate::delivery::{DeadReason, Decision, DeliveryKey};
use crate::headers::{AttemptIds, expand_attempt_headers};
use crate::id::{AttemptId, EndpointId, EventId, TenantId};

pub use by_hand::{Cancelled, Retried, cancel, retry};
pub(super) use keys::read_key;
pub use keys::{Bounds, Found, keys};
pub use spans::{AttemptKey, in_span, read_all};

/// Attempts that are shown of one delivery; a policy allows a hundred, a redrive as many again.
const ATTEMPTS_SHOWN_MAX: i64 = 1_000;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Its event is not settled yet.
    Pending,
    /// In the queue.
    Waiting,
    Delivered,
    Dead,
    Cancelled,
    Expired,
    /// The event is settled and nothing was to be delivered.
    Unmatched,
}

/// States a list can be narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    Waiting,
    Decided(Decision),
}

/// What a list of deliveries is narrowed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryQuery {
    pub endpoint_id: Option<EndpointId>,
    pub event_id: Option<EventId>,
    pub event_type: Option<String>,
    pub channel: Option<String>,
    pub state: Option<StateFilter>,
    /// Of the latest answer.
    pub status_code: Option<i16>,
    pub range: IdRange,
}

impl DeliveryQuery {
    /// Whether a key found by endpoint, event and time may still not be what is asked for.
    pub fn narrows_outcome(&self) -> bool {
        self.event_type.is_some()
            || self.channel.is_some()
            || self.state.is_some()
            || self.status_code.is_some()
    }

    /// The word `describe` gives a state.
    fn state_word(&self) -> Option<&'static str> {
        match self.state {
            Some(StateFilter::Waiting) => Some("waiting"),
            Some(StateFilter::Decided(decision)) => Some(decision.as_str()),
            None => None,
        }
    }
}

/// A delivery without its attempts.
#[derive(Debug, Clone)]
pub struct DeliveryRow {
    pub key: DeliveryKey,
    pub tenant_id: TenantId,
    /// `None` once retention has dropped the event.
    pub event_type: Option<String>,
    pub channel: Option<String>,
    pub event_time: DateTime<Utc>,
    pub state: DeliveryState,
    pub attempt_count: i32,
    pub last_status_code: Option<i16>,
    pub last_error_kind: Option<String>,
    pub due_at: Option<DateTime<Utc>>,
    pub update_time: Option<DateTime<Utc>>,
    pub dead_reason: Option<DeadReason>,
    /// Its event was made to test the endpoint.
    pub test: bool,
}

/// What an attempt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    Request,
    Refused,
    Cancelled,
    Expired,
}

/// One row of `attempts`.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub id: AttemptId,
    pub number: i32,
    pub kind: AttemptKind,
    pub decision: Decision,
    pub start_time: DateTime<Utc>,
    pub duration: Option<Duration>,
    pub request_url: Option<String>,
    /// See [`crate::headers::decode_headers`].
    pub request_headers: Bytes,
    pub status_code: Option<i16>,
    pub response_headers: Bytes,
    pub response_body: Bytes,
    pub error_kind: Option<String>,
    pub error_message: Option<String>,
    /// DNS, connect, TLS, first byte: the steps there were.
    pub timings: [Option<Duration>; 4],
}

/// Keys as three arrays, for `unnest`; and the least and greatest event, so that plans prune
/// partitions.
pub(super) struct KeyArrays {
    pub(super) events: Vec<Uuid>,
    pub(super) endpoints: Vec<Uuid>,
    pub(super) runs: Vec<i32>,
    pub(super) first_event: Uuid,
    pub(super) last_event: Uuid,
}

impl KeyArrays {
    pub(super) fn new<'a>(keys: impl IntoIterator<Item = &'a DeliveryKey>) -> Self {
        let mut arrays = Self {
            events: Vec::new(),
            endpoints: Vec::new(),
            runs: Vec::new(),
            first_event: Uuid::max(),
            last_event: Uuid::nil(),
        };
        for key in keys {
            arrays.events.push(key.event_id.0);
            arrays.endpoints.push(key.endpoint_id.0);
            arrays.runs.push(key.run);
            arrays.first_event = arrays.first_event.min(key.event_id.0);
            arrays.last_event = arrays.last_event.max(key.event_id.0);
        }
        arrays
    }
}

/// What is known of deliveries, by the rules of the data: in the queue is waiting; else a success
/// counts whenever it was recorded, and otherwise the latest decision does. Each `LIMIT 1` has the row
/// looked up by its key: the tables are large, and the keys are few.
const DESCRIBE: &str = "
    SELECT found.*
      FROM (SELECT k.at, k.event_id, k.endpoint_id, k.run, e.event_type, e.channel, e.test,
                   COALESCE(n.attempts, 0) AS attempt_count, l.status, l.error_kind, l.recorded_at, q.due_at,
                   d.reason,
                   CASE WHEN q.event_id IS NOT NULL THEN 'waiting'
                        WHEN l.decision = 'retry' THEN 'pending'
                        ELSE l.decision END AS state
              FROM unnest($1::uuid[], $2::uuid[], $3::int[]) WITH ORDINALITY AS k (event_id, endpoint_id, run, at)
              LEFT JOIN LATERAL (
                   SELECT event_type, channel, test FROM events
                    WHERE id = k.event_id AND id BETWEEN $4 AND $5
                    UNION ALL
                   SELECT event_type, channel, test FROM events_kept WHERE id = k.event_id LIMIT 1) AS e ON true
              LEFT JOIN LATERAL (
                   SELECT event_id, due_at FROM queue
                    WHERE event_id = k.event_id AND endpoint_id = k.endpoint_id AND run = k.run LIMIT 1) AS q ON true
              LEFT JOIN LATERAL (
                   SELECT reason FROM dead_letters
                    WHERE event_id = k.event_id AND endpoint_id = k.endpoint_id AND run = k.run LIMIT 1) AS d ON true
              LEFT JOIN LATERAL (
                   SELECT * FROM (
                       SELECT attempt_id, decision, status, error_kind, recorded_at FROM attempts
                        WHERE event_id = k.event_id AND event_id BETWEEN $4 AND $5
                          AND endpoint_id = k.endpoint_id AND run = k.run AND decision <> 'stale'
                        UNION ALL
                       SELECT attempt_id, decision, status, error_kind, recorded_at FROM attempts_kept
                        WHERE event_id = k.event_id
                          AND endpoint_id = k.endpoint_id AND run = k.run AND decision <> 'stale') AS made
                    ORDER BY decision = 'delivered' DESC, attempt_id DESC LIMIT 1) AS l ON true
              LEFT JOIN LATERAL (
                   SELECT count(*)::int AS attempts FROM (
                       SELECT attempt_id FROM attempts
                        WHERE event_id = k.event_id AND event_id BETWEEN $4 AND $5
                          AND endpoint_id = k.endpoint_id AND run = k.run AND kind = 'request'
                        UNION
                       SELECT attempt_id FROM attempts_kept
                        WHERE event_id = k.event_id
                          AND endpoint_id = k.endpoint_id AND run = k.run AND kind = 'request') AS made) AS n ON true
           ) AS found
     WHERE ($6::text IS NULL OR event_type = $6) AND ($7::text IS NULL OR channel = $7)
       AND ($8::text IS NULL OR state = $8) AND ($9::int2 IS NULL OR status = $9)
     ORDER BY at";

/// The deliveries of these keys that are what is asked for, in the order of the keys.
pub async fn describe(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeliveryQuery,
    keys: &[DeliveryKey],
) -> Result<Vec<DeliveryRow>, Error> {
    let keys = KeyArrays::new(keys);
    let rows = client
        .query(
            DESCRIBE,
            &[
                &keys.events,
                &keys.endpoints,
                &keys.runs,
                &keys.first_event,
                &keys.last_event,
                &query.event_type,
                &query.channel,
                &query.state_word(),
                &query.status_code,
            ],
        )
        .await?;
    rows.iter().map(|row| read(row, tenant)).collect()
}

fn read(row: &Row, tenant_id: TenantId) -> Result<DeliveryRow, Error> {
    let key = read_key(row)?;
    let state = match row.try_get::<_, Option<&str>>("state")? {
        Some("waiting") => DeliveryState::Waiting,
        Some("delivered") => DeliveryState::Delivered,
        Some("dead") => DeliveryState::Dead,
        Some("cancelled") => DeliveryState::Cancelled,
        Some("expired") => DeliveryState::Expired,
        _ => DeliveryState::Pending,
    };
    let reason = row.try_get::<_, Option<&str>>("reason")?.and_then(read_reason);
    Ok(DeliveryRow {
        key,
        tenant_id,
        event_type: row.try_get("event_type")?,
        channel: row.try_get("channel")?,
        event_time: event_time(key.event_id),
        state,
        attempt_count: row.try_get("attempt_count")?,
        last_status_code: row.try_get("status")?,
        last_error_kind: row.try_get("error_kind")?,
        due_at: row.try_get("due_at")?,
        update_time: row.try_get("recorded_at")?,
        dead_reason: reason.filter(|_| state == DeliveryState::Dead),
        test: row.try_get::<_, Option<bool>>("test")?.unwrap_or_default(),
    })
}

/// `None` for a reason this version does not know.
pub(super) fn read_reason(text: &str) -> Option<DeadReason> {
    let known = [
        DeadReason::AttemptsExhausted,
        DeadReason::Gone,
        DeadReason::EgressRefused,
        DeadReason::SecretMissing,
        DeadReason::Unformattable,
        DeadReason::Poison,
        DeadReason::FilterFailed,
        DeadReason::TransformFailed,
        DeadReason::NotRetried,
    ];
    known.into_iter().find(|reason| reason.as_str() == text)
}

/// An event's id begins with the milliseconds of its receipt: known even when the event is gone.
pub(super) fn event_time(id: EventId) -> DateTime<Utc> {
    let unix_ms = i64::try_from(id.0.as_u128() >> 80).unwrap_or_default();
    DateTime::from_timestamp_millis(unix_ms).unwrap_or_default()
}

/// One delivery; with a scope, only of that tenant. A delivery nobody has recorded anything of is
/// pending while its event is not settled, and unmatched after that.
pub async fn find(
    client: &impl GenericClient,
    scope: Option<TenantId>,
    key: DeliveryKey,
) -> Result<Option<DeliveryRow>, Error> {
    // The endpoint tells whose it is: its row stays, if only as a tombstone.
    const TENANT: &str = "
        SELECT tenant_id, EXISTS (SELECT 1 FROM events WHERE id = $2 AND events.tenant_id = endpoints.tenant_id
                                  UNION ALL
                                  SELECT 1 FROM events_kept AS e WHERE id = $2 AND e.tenant_id = endpoints.tenant_id)
                          AS event_stored
          FROM endpoints WHERE id = $1 AND ($3::uuid IS NULL OR tenant_id = $3)";
    const SETTLED: &str = "
        SELECT NOT EXISTS (SELECT 1 FROM outbox WHERE id BETWEEN $2 AND $3 AND event_ids @> ARRAY[$1::uuid])";
    let scope = scope.map(|tenant| tenant.0);
    let Some(owner) = client.query_opt(TENANT, &[&key.endpoint_id.0, &key.event_id.0, &scope]).await? else {
        return Ok(None);
    };
    let tenant = TenantId(owner.try_get("tenant_id")?);
    let look =
        async || Ok::<_, Error>(describe(client, tenant, &DeliveryQuery::default(), &[key]).await?.pop());
    let is_recorded =
        |row: &DeliveryRow| row.update_time.is_some() || row.due_at.is_some() || row.dead_reason.is_some();
    if let Some(row) = look().await?.filter(is_recorded) {
        return Ok(Some(row));
    }
    let event_stored: bool = owner.try_get("event_stored")?;
    if !event_stored || key.run != 0 {
        return Ok(None);
    }
    let (first, last) = chunks_of(key.event_id.0, key.event_id.0);
    let settled: bool = client.query_one(SETTLED, &[&key.event_id.0, &first, &last]).await?.try_get(0)?;
    // What was settled since the first look is recorded now.
    let Some(mut row) = look().await? else { return Ok(None) };
    if !is_recorded(&row) {
        row.state = if settled { DeliveryState::Unmatched } else { DeliveryState::Pending };
    }
    Ok(Some(row))
}

/// One delivery and its attempts, both as they were at one moment; with a scope, only of that tenant.
pub async fn find_whole(
    client: &mut Object,
    scope: Option<TenantId>,
    key: DeliveryKey,
) -> Result<Option<(DeliveryRow, Vec<AttemptRow>)>, Error> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let Some(row) = find(&snapshot, scope, key).await? else { return Ok(None) };
    let attempts = attempts(&snapshot, key).await?;
    snapshot.commit().await?;
    Ok(Some((row, attempts)))
}

/// Those of one attempt.
const COLUMNS: &str = "
    attempt_id, attempt, kind, decision, started_at, duration_us, url, request_headers, status,
    response_headers, response_body, error_kind, error_message, dns_us, connect_us, tls_us, first_byte_us";

/// The newest [`ATTEMPTS_SHOWN_MAX`] attempts of a delivery, oldest first.
async fn attempts(client: &impl GenericClient, key: DeliveryKey) -> Result<Vec<AttemptRow>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM attempts WHERE event_id = $1 AND endpoint_id = $2 AND run = $3
          UNION
         SELECT {COLUMNS} FROM attempts_kept WHERE event_id = $1 AND endpoint_id = $2 AND run = $3
          ORDER BY attempt_id DESC LIMIT $4"
    );
    let rows =
        client.query(&sql, &[&key.event_id.0, &key.endpoint_id.0, &key.run, &ATTEMPTS_SHOWN_MAX]).await?;
    rows.iter().rev().map(|row| read_attempt(row, key.event_id)).collect()
}

fn read_attempt(row: &Row, event_id: EventId) -> Result<AttemptRow, Error> {
    let kind = match row.try_get("kind")? {
        "refused" => AttemptKind::Refused,
        "cancelled" => AttemptKind::Cancelled,
        "expired" => AttemptKind::Expired,
        _ => AttemptKind::Request,
    };
    let bytes = |column: &str| -> Result<Bytes, Error> {
        Ok(row.try_get::<_, Option<Vec<u8>>>(column)?.unwrap_or_default().into())
    };
    let ids = AttemptIds { event_id, attempt_id: row.try_get("attempt_id")? };
    let headers = |column: &str| bytes(column).map(|stored| expand_attempt_headers(&stored, ids));
    let duration_us: Option<i64> = row.try_get("duration_us")?;
    let step = |column: &str| -> Result<Option<Duration>, Error> {
        let us: Option<i32> = row.try_get(column)?;
        Ok(us.and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros))
    };
    Ok(AttemptRow {
        id: AttemptId(ids.attempt_id),
        number: row.try_get("attempt")?,
        kind,
        // A CHECK constraint allows no other word; a newer version's word has no effect here.
        decision: Decision::parse(row.try_get("decision")?).unwrap_or(Decision::Stale),
        start_time: row.try_get("started_at")?,
        duration: duration_us.and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros),
        request_url: row.try_get("url")?,
        request_headers: headers("request_headers")?,
        status_code: row.try_get("status")?,
        response_headers: headers("response_headers")?,
        response_body: bytes("response_body")?,
        error_kind: row.try_get("error_kind")?,
        error_message: row.try_get("error_message")?,
        timings: [step("dns_us")?, step("connect_us")?, step("tls_us")?, step("first_byte_us")?],
    })
}
