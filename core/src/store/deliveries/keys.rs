//! Which deliveries a page of a list may show.
//!
//! The tables hold the work of all tenants for weeks, so each way to ask begins at an index that finds
//! the newest events in question in their order, and looks for deliveries event by event until the page
//! is full:
//!
//! 1. one event: itself,
//! 2. an endpoint: what was attempted for it,
//! 3. an outcome that is no success: the tenant's attempts that were none,
//! 4. else: the tenant's events.
//!
//! What an index does not tell is looked at row by row, and no further than [`Bounds::looks`] rows of it: a look
//! for a status that nothing has must not read the whole log before it ends (invariant 7). What the latest attempt
//! alone can tell is left to [`describe`](super::describe).

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{DeliveryQuery, StateFilter};
use crate::delivery::{Decision, DeliveryKey};
use crate::id::{EndpointId, EventId, TenantId};
use crate::store::Error;

/// $4 to $6 are the position. Each call is planned with its values: what is not asked for is folded
/// away.
const SPAN: &str = "tenant_id = $1 AND event_id >= $2 AND event_id < $3 AND event_id <= $4
                    AND (event_id < $4 OR (endpoint_id, run) > ($5, $6))
                    AND ($7::uuid IS NULL OR endpoint_id = $7)
                    AND ($8::uuid IS NULL OR event_id = $8)";
const ORDER: &str = "ORDER BY event_id DESC, endpoint_id, run LIMIT $9";
const OF_KIND: &str = "($10::text IS NULL OR event_type = $10) AND ($11::text IS NULL OR channel = $11)";

/// How far one look goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Keys that it finds at most.
    pub keys: i64,
    /// Rows of the log that it looks at for them, where not each of them is one that is asked for.
    pub looks: i64,
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order of pages.
    pub keys: Vec<DeliveryKey>,
    /// The next look goes on behind this; `None`: there is nothing more.
    pub next: Option<DeliveryKey>,
}

/// Keys of deliveries in the order of pages, from the one after `after` on. [`describe`](super::describe) has to
/// tell which of them are what is asked for.
pub async fn keys(
    client: &impl GenericClient,
    tenant: TenantId,
    query: &DeliveryQuery,
    after: Option<DeliveryKey>,
    bounds: Bounds,
) -> Result<Found, Error> {
    let position = after.unwrap_or(DeliveryKey {
        event_id: EventId(Uuid::max()),
        endpoint_id: EndpointId(Uuid::max()),
        run: i32::MAX,
    });
    let way = Way::of(query);
    let seen_to = match way.log() {
        Some(log) => log.nth(client, tenant, query, position.event_id, bounds.looks).await?,
        None => None,
    };
    let from = seen_to.map_or(query.range.from, |seen| seen.0.max(query.range.from));
    let (endpoint, event) = (query.endpoint_id.map(|id| id.0), query.event_id.map(|id| id.0));
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![
        &tenant.0,
        &from,
        &query.range.until,
        &position.event_id.0,
        &position.endpoint_id.0,
        &position.run,
        &endpoint,
        &event,
        &bounds.keys,
    ];
    let sql = way.sql(query);
    if sql.contains(OF_KIND) {
        values.extend([&query.event_type as &(dyn ToSql + Sync), &query.channel]);
    }
    let rows = client.query(&sql, &values).await?;
    let keys: Vec<DeliveryKey> = rows.iter().map(read_key).collect::<Result<_, _>>()?;
    let next = if keys.len() as i64 == bounds.keys {
        keys.last().copied()
    } else {
        // Of the last event that was looked at, every delivery was.
        seen_to.map(|event_id| DeliveryKey { event_id, endpoint_id: EndpointId(Uuid::max()), run: i32::MAX })
    };
    Ok(Found { keys, next })
}

pub(in crate::store) fn read_key(row: &Row) -> Result<DeliveryKey, Error> {
    Ok(DeliveryKey {
        event_id: EventId(row.try_get("event_id")?),
        endpoint_id: EndpointId(row.try_get("endpoint_id")?),
        run: row.try_get("run")?,
    })
}

/// The rows that are looked at one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    OfEndpoint,
    Failures,
    Events,
}

impl Log {
    /// The table, its column of events, and what an index finds.
    fn found_by(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::OfEndpoint => ("attempts", "event_id", "endpoint_id = $5"),
            Self::Failures => ("attempts", "event_id", "decision <> 'delivered' AND tenant_id = $1"),
            Self::Events => ("events", "id", "tenant_id = $1"),
        }
    }

    /// The event of the row that so many before and with it, newest first, lead to; `None`: there are fewer.
    #[allow(clippy::too_many_arguments, reason = "what was asked, and from where how far")]
    async fn nth(
        self,
        client: &impl GenericClient,
        tenant: TenantId,
        query: &DeliveryQuery,
        from: EventId,
        count: i64,
    ) -> Result<Option<EventId>, Error> {
        let (table, id, found_by) = self.found_by();
        let sql = format!(
            "SELECT {id} FROM {table}
              WHERE {found_by} AND {id} >= $2 AND {id} < $3 AND {id} <= $4
                AND ($1::uuid IS NOT NULL OR $5::uuid IS NOT NULL)
              ORDER BY {id} DESC OFFSET $6::bigint - 1 LIMIT 1"
        );
        let endpoint = query.endpoint_id.map(|id| id.0);
        let values: [&(dyn ToSql + Sync); 6] =
            [&tenant.0, &query.range.from, &query.range.until, &from.0, &endpoint, &count];
        let row = client.query_opt(&sql, &values).await?;
        row.map(|row| Ok(EventId(row.try_get(0)?))).transpose()
    }
}

/// How the deliveries of a query are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Queue,
    OneEvent,
    /// What was attempted; `bounded`: not each of the rows that an index finds is one that is asked for.
    Attempts {
        log: Log,
        bounded: bool,
    },
    Events,
}

impl Way {
    fn of(query: &DeliveryQuery) -> Self {
        if query.state == Some(StateFilter::Waiting) {
            Self::Queue
        } else if query.event_id.is_some() {
            Self::OneEvent
        } else if query.endpoint_id.is_some() {
            Self::Attempts { log: Log::OfEndpoint, bounded: query.narrows_outcome() }
        } else if is_no_success(query) {
            Self::Attempts { log: Log::Failures, bounded: true }
        } else {
            Self::Events
        }
    }

    fn log(self) -> Option<Log> {
        match self {
            Self::Queue | Self::OneEvent => None,
            Self::Attempts { log, bounded } => bounded.then_some(log),
            // An event that nobody wanted has no delivery.
            Self::Events => Some(Log::Events),
        }
    }

    fn sql(self, query: &DeliveryQuery) -> String {
        let queued = format!("SELECT event_id, endpoint_id, run FROM queue WHERE {SPAN} {ORDER}");
        // What has a status or is decided was attempted.
        let attempted_only =
            query.status_code.is_some() || matches!(query.state, Some(StateFilter::Decided(_)));
        let attempted = match self {
            Self::Queue => return queued,
            Self::Events => return by_events(query, !attempted_only),
            Self::OneEvent => format!(
                "SELECT DISTINCT event_id, endpoint_id, run FROM attempts WHERE {SPAN} AND {} {ORDER}",
                attempted(query)
            ),
            Self::Attempts { log, .. } => by_attempts(log, query),
        };
        if attempted_only {
            return attempted;
        }
        format!("SELECT * FROM (({attempted}) UNION ({queued})) AS found {ORDER}")
    }
}

/// A success has a status of 2xx, and nothing else has.
fn is_no_success(query: &DeliveryQuery) -> bool {
    match query.state {
        Some(StateFilter::Decided(decision)) => decision != Decision::Delivered,
        _ => query.status_code.is_some_and(|status| !(200..300).contains(&status)),
    }
}

/// What an attempt must be for its delivery to be asked for: as its latest one was, which tells, so was one.
fn attempted(query: &DeliveryQuery) -> String {
    let mut condition = "decision <> 'stale'".to_owned();
    if let Some(StateFilter::Decided(decision)) = query.state {
        condition = format!("decision = '{}'", decision.as_str());
    }
    match query.status_code {
        Some(status) => format!("{condition} AND status = {status}"),
        None => condition,
    }
}

/// The newest events of these attempts, then the deliveries of each. Every event has one, apart from
/// the one of the position: one more than are asked for will do.
fn by_attempts(log: Log, query: &DeliveryQuery) -> String {
    let condition = match log {
        Log::OfEndpoint => "endpoint_id = $7",
        Log::Failures | Log::Events => "decision <> 'delivered'",
    };
    let attempted = attempted(query);
    // The `LIMIT` has each event looked up by its key.
    let of_kind = if query.event_type.is_some() || query.channel.is_some() {
        format!(
            "CROSS JOIN LATERAL (SELECT 1 FROM events
                                  WHERE id = made.event_id AND id >= $2 AND id <= $4 AND {OF_KIND} LIMIT 1) AS kind"
        )
    } else {
        String::new()
    };
    format!(
        "SELECT candidate.event_id, found.endpoint_id, found.run
           FROM (SELECT DISTINCT made.event_id FROM attempts AS made {of_kind}
                  WHERE {condition} AND {attempted}
                    AND made.tenant_id = $1 AND event_id >= $2 AND event_id < $3 AND event_id <= $4
                  ORDER BY made.event_id DESC LIMIT $9::bigint + 1) AS candidate
          CROSS JOIN LATERAL (
                SELECT DISTINCT endpoint_id, run FROM attempts
                 WHERE event_id = candidate.event_id AND {SPAN} AND {attempted}) AS found
          {ORDER}"
    )
}

/// The newest events of this kind that have such a delivery, as many as are asked for, then the deliveries of each. An
/// index gives the events in order: where the kind is common, few are looked at.
fn by_events(query: &DeliveryQuery, and_queued: bool) -> String {
    let attempted = attempted(query);
    let queued = |select: &str| {
        if and_queued {
            format!("{select} FROM queue WHERE event_id = candidate.id AND {SPAN}")
        } else {
            String::new()
        }
    };
    let (or_is_queued, and_queued) = (queued("UNION ALL SELECT 1"), queued("UNION SELECT endpoint_id, run"));
    format!(
        "SELECT candidate.id AS event_id, found.endpoint_id, found.run
           FROM (SELECT candidate.id FROM events AS candidate
                  CROSS JOIN LATERAL (
                        (SELECT 1 FROM attempts WHERE event_id = candidate.id AND {SPAN} AND {attempted})
                        {or_is_queued}
                        LIMIT 1) AS has_one
                  WHERE candidate.tenant_id = $1 AND candidate.id >= $2 AND candidate.id < $3 AND candidate.id <= $4
                    AND {OF_KIND}
                  ORDER BY candidate.id DESC LIMIT $9) AS candidate
          CROSS JOIN LATERAL (
                SELECT DISTINCT endpoint_id, run FROM attempts
                 WHERE event_id = candidate.id AND {SPAN} AND {attempted}
                {and_queued}) AS found
          {ORDER}"
    )
}
