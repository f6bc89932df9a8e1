//! The record commit: what became of deliveries, in one statement. Every other effect joins the rows
//! of `attempts` that this statement inserted, so that a repeated commit changes nothing.
//!
//! The parts of such a statement run in no stated order: the delete of an outbox row must read
//! `held`, or it may come first, and a park or retry would find its chunk gone and be lost.
//!
//! What goes from its chunk to the queue is as old as its event: only a redrive, a replay or a person's retry
//! begins a budget anew.
//!
//! Where a person asked for another try while the request was out (`queue.again`), its failure is
//! followed by one at once, even if it had been the last of its budget.

use std::sync::LazyLock;
use std::time::Duration;

use uuid::Uuid;

use super::{Connection, Error, strays};
use crate::delivery::{Decision, DeliveryKey};
use crate::id::{AttemptId, ChunkId, EndpointId, EventId, ReplicaId, TenantId};

/// A decision about a delivery, with or without a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub key: DeliveryKey,
    pub attempt_id: AttemptId,
    pub tenant_id: TenantId,
    /// The number of this attempt, from 1; 0 where none was made.
    pub attempt: i32,
    /// `request`, `refused`, `cancelled` or `expired`.
    pub kind: &'static str,
    pub decision: Decision,
    pub started_at: chrono::DateTime<chrono::Utc>,
    pub duration_us: Option<i64>,
    pub url: Option<String>,
    pub request_headers: Option<Vec<u8>>,
    pub status: Option<i16>,
    pub response_headers: Option<Vec<u8>>,
    pub response_body: Option<Vec<u8>>,
    pub error_kind: Option<&'static str>,
    pub error_message: Option<String>,
    /// The chunk it came from, if it did not come from the queue.
    pub chunk: Option<ChunkId>,
    /// The life that made it.
    pub life: ReplicaId,
    /// For a retry: when, from now.
    pub due_in_ms: i64,
    /// [`OF_TEST`] for a test that failed: it leaves no dead letter.
    pub dead_reason: Option<&'static str>,
    /// DNS, connect, TLS, first byte; what there was no need for is `None`.
    pub timings: [Option<Duration>; 4],
}

/// Why a test is dead: it failed, and is attempted once.
pub const OF_TEST: &str = "test";

/// A delivery of a chunk that goes to the queue without a decision.
#[derive(Debug, Clone)]
pub struct Park {
    pub key: DeliveryKey,
    pub tenant_id: TenantId,
    pub chunk: ChunkId,
    pub life: ReplicaId,
    /// Its request is out: the row stays ours.
    pub keep: bool,
    pub due_in_ms: i64,
}

/// A row of the queue that is given back without a decision.
#[derive(Debug, Clone)]
pub struct Release {
    pub key: DeliveryKey,
    pub life: ReplicaId,
    pub due_in_ms: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub outcomes: Vec<Outcome>,
    pub parks: Vec<Park>,
    pub releases: Vec<Release>,
    /// Chunks of which nothing is left.
    pub settled: Vec<(ChunkId, ReplicaId)>,
    /// An earlier commit of this batch may have happened.
    pub repeated: bool,
}

const SQL: &str = "
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::uuid[], $6::int[], $7::text[],
                         $8::text[], $9::timestamptz[], $10::bigint[], $11::text[], $12::bytea[],
                         $13::smallint[], $14::bytea[], $15::bytea[], $16::text[], $17::text[], $18::uuid[],
                         $19::uuid[], $20::bigint[], $21::text[], $39::int[], $40::int[], $41::int[],
                         $42::int[])
      AS i (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at,
            duration_us, url, request_headers, status, response_headers, response_body, error_kind,
            error_message, chunk, life, due_in_ms, dead_reason, dns_us, connect_us, tls_us, first_byte_us)
),
parked AS MATERIALIZED (
    SELECT * FROM unnest($22::uuid[], $23::uuid[], $24::int[], $25::uuid[], $26::uuid[], $27::uuid[],
                         $28::bool[], $29::bigint[])
      AS p (event_id, endpoint_id, run, tenant_id, chunk, life, keep, due_in_ms)
),
held AS MATERIALIZED (
    SELECT id, owner FROM outbox
     WHERE id = ANY($38) ORDER BY id FOR UPDATE
),
waiting AS MATERIALIZED (
    SELECT q.event_id, q.endpoint_id, q.run, q.again,
           -- What has its place in a channel is his whose the channel is.
           CASE WHEN q.seq IS NULL THEN q.owner
                ELSE (SELECT c.owner FROM channels AS c
                       WHERE c.endpoint_id = q.endpoint_id AND c.channel = q.channel) END AS owner
      FROM queue AS q JOIN input USING (event_id, endpoint_id, run)
     ORDER BY q.event_id, q.endpoint_id, q.run FOR UPDATE OF q
),
judged AS MATERIALIZED (
    SELECT i.*, coalesce(w.owner = i.life, false) AS from_queue,
           coalesce(h.owner = i.life, false) AND w.event_id IS NULL AS from_chunk,
           w.event_id IS NOT NULL AS waits,
           CASE WHEN i.dead_reason = 'attempts_exhausted' AND w.again AND w.owner = i.life THEN 'retry'
                ELSE i.decision END AS verdict,
           CASE WHEN w.again AND w.owner = i.life THEN 0 ELSE i.due_in_ms END AS wait_ms
      FROM input AS i
      LEFT JOIN held AS h ON h.id = i.chunk
      LEFT JOIN waiting AS w USING (event_id, endpoint_id, run)
),
{clock},
logged AS (
    INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision,
                          started_at, duration_us, url, request_headers, status, response_headers,
                          response_body, error_kind, error_message, dns_us, connect_us, tls_us,
                          first_byte_us, stray)
    SELECT event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind,
           CASE WHEN verdict = 'delivered' OR from_queue OR from_chunk THEN verdict ELSE 'stale' END,
           started_at, duration_us, url, request_headers, status, response_headers, response_body,
           error_kind, error_message, dns_us, connect_us, tls_us, first_byte_us, {stray}
      FROM judged ORDER BY event_id, endpoint_id, run, attempt_id
    {repeated}
    RETURNING event_id, endpoint_id, run, attempt_id, decision
),
effect AS (
    SELECT j.event_id, j.endpoint_id, j.run, j.tenant_id, j.attempt, j.life, j.wait_ms AS due_in_ms, j.dead_reason,
           j.from_queue, j.from_chunk, j.waits, l.decision
      FROM judged AS j JOIN logged AS l USING (event_id, endpoint_id, run, attempt_id)
),
retried AS (
    UPDATE queue AS q
       SET owner = NULL, again = false, attempt = e.attempt,
           priority = CASE WHEN q.seq IS NULL THEN 1 ELSE q.priority END, due_at = now() + e.due_in_ms * interval '1 millisecond'
      FROM effect AS e
     WHERE q.event_id = e.event_id AND q.endpoint_id = e.endpoint_id AND q.run = e.run
       AND e.decision = 'retry' AND e.from_queue
),
queued AS (
    INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt, priority, budget_from)
    SELECT event_id, endpoint_id, run, tenant_id, now() + due_in_ms * interval '1 millisecond', attempt, 1,
           least(now(), received_at(event_id))
      FROM effect WHERE decision = 'retry' AND from_chunk
     ORDER BY event_id, endpoint_id, run
    ON CONFLICT DO NOTHING
),
finished AS (
    DELETE FROM queue AS q USING effect AS e
     WHERE q.event_id = e.event_id AND q.endpoint_id = e.endpoint_id AND q.run = e.run
       AND e.waits
       AND (e.decision = 'delivered' OR (e.decision IN ('dead', 'cancelled', 'expired') AND e.from_queue))
),
buried AS (
    INSERT INTO dead_letters (event_id, endpoint_id, run, tenant_id, reason, attempt, died_at)
    SELECT event_id, endpoint_id, run, tenant_id, coalesce(dead_reason, 'attempts_exhausted'), attempt, now()
      FROM effect WHERE decision = 'dead' AND dead_reason IS DISTINCT FROM 'test'
     ORDER BY event_id, endpoint_id, run
    ON CONFLICT DO NOTHING
),
-- What comes from its chunk was never decided before: no dead letter is to be looked for.
risen AS (
    DELETE FROM dead_letters AS d USING effect AS e
     WHERE d.event_id = e.event_id AND d.endpoint_id = e.endpoint_id AND d.run = e.run
       AND e.decision = 'delivered' AND NOT e.from_chunk
),
put AS (
    INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, owner, attempt, budget_from)
    SELECT p.event_id, p.endpoint_id, p.run, p.tenant_id, now() + p.due_in_ms * interval '1 millisecond',
           CASE WHEN p.keep THEN p.life END, 0, least(now(), received_at(p.event_id))
      FROM parked AS p JOIN held AS h ON h.id = p.chunk AND h.owner = p.life
     WHERE NOT $34 OR NOT EXISTS (
           SELECT 1 FROM attempts AS a
            WHERE a.event_id = p.event_id AND a.endpoint_id = p.endpoint_id AND a.run = p.run
              AND a.decision IN ('delivered', 'dead', 'cancelled', 'expired'))
     ORDER BY p.event_id, p.endpoint_id, p.run
    ON CONFLICT DO NOTHING
),
released AS (
    UPDATE queue AS q
       SET owner = NULL, again = false,
           due_at = now() + CASE WHEN q.again THEN 0 ELSE r.due_in_ms END * interval '1 millisecond'
      FROM unnest($30::uuid[], $31::uuid[], $32::int[], $33::uuid[], $35::bigint[])
        AS r (event_id, endpoint_id, run, life, due_in_ms)
     WHERE q.event_id = r.event_id AND q.endpoint_id = r.endpoint_id AND q.run = r.run AND q.owner = r.life
),
settled AS (
    DELETE FROM outbox AS o
     USING unnest($36::uuid[], $37::uuid[]) AS s (id, life)
      JOIN held AS h ON h.id = s.id AND h.owner = s.life
     WHERE o.id = h.id
)
SELECT event_id, endpoint_id, run, decision, NULL::uuid AS lost FROM effect
{stored}
UNION ALL
SELECT NULL, NULL, NULL, NULL, h.id
  FROM unnest($38::uuid[], $43::uuid[]) AS c (id, life) JOIN held AS h USING (id)
 WHERE h.owner IS DISTINCT FROM c.life";

/// What an earlier commit has stored was not seen to be: it is told now. (What this statement stores, it does not
/// see.)
const STORED: &str = "
UNION ALL
SELECT a.event_id, a.endpoint_id, a.run, a.decision, NULL
  FROM input AS i JOIN attempts AS a USING (event_id, endpoint_id, run, attempt_id)";

/// Only what an earlier commit may have stored can be there already. To allow for that costs each row a
/// look into its index before and a record of WAL after.
static FIRST: LazyLock<String> = LazyLock::new(|| statement("", ""));
static AGAIN: LazyLock<String> = LazyLock::new(|| statement("ON CONFLICT DO NOTHING", STORED));

fn statement(repeated: &str, stored: &str) -> String {
    SQL.replace("{repeated}", repeated)
        .replace("{stored}", stored)
        .replace("{clock}", &strays::clock())
        .replace("{stray}", &strays::is_stray("event_id"))
}

/// What a commit found.
#[derive(Debug, Default)]
pub struct Recorded {
    /// As they were written; some may have become `stale`.
    pub decisions: Vec<(DeliveryKey, Decision)>,
    /// Chunks that are there and not, or not any more, of the life that the batch says: nothing that the batch says of
    /// them was put into the queue.
    pub lost: Vec<ChunkId>,
}

/// Commits a batch.
#[allow(
    clippy::too_many_lines,
    reason = "a column a line; splitting it would hide the order of the parameters"
)]
pub async fn commit(client: &Connection, batch: &Batch) -> Result<Recorded, Error> {
    let outcomes = &batch.outcomes;
    let column = |pick: fn(&Outcome) -> Uuid| outcomes.iter().map(pick).collect::<Vec<Uuid>>();
    let events = column(|o| o.key.event_id.0);
    let endpoints = column(|o| o.key.endpoint_id.0);
    let runs: Vec<i32> = outcomes.iter().map(|o| o.key.run).collect();
    let attempt_ids = column(|o| o.attempt_id.0);
    let tenants = column(|o| o.tenant_id.0);
    let attempts: Vec<i32> = outcomes.iter().map(|o| o.attempt).collect();
    let kinds: Vec<&str> = outcomes.iter().map(|o| o.kind).collect();
    let decisions: Vec<&str> = outcomes.iter().map(|o| o.decision.as_str()).collect();
    let started: Vec<_> = outcomes.iter().map(|o| o.started_at).collect();
    let durations: Vec<Option<i64>> = outcomes.iter().map(|o| o.duration_us).collect();
    let urls: Vec<Option<&str>> = outcomes.iter().map(|o| o.url.as_deref()).collect();
    let request_headers: Vec<Option<&[u8]>> = outcomes.iter().map(|o| o.request_headers.as_deref()).collect();
    let statuses: Vec<Option<i16>> = outcomes.iter().map(|o| o.status).collect();
    let response_headers: Vec<Option<&[u8]>> =
        outcomes.iter().map(|o| o.response_headers.as_deref()).collect();
    let bodies: Vec<Option<&[u8]>> = outcomes.iter().map(|o| o.response_body.as_deref()).collect();
    let error_kinds: Vec<Option<&str>> = outcomes.iter().map(|o| o.error_kind).collect();
    let errors: Vec<Option<&str>> = outcomes.iter().map(|o| o.error_message.as_deref()).collect();
    let chunks: Vec<Option<Uuid>> = outcomes.iter().map(|o| o.chunk.map(|id| id.0)).collect();
    let lives = column(|o| o.life.0);
    let due: Vec<i64> = outcomes.iter().map(|o| o.due_in_ms).collect();
    let reasons: Vec<Option<&str>> = outcomes.iter().map(|o| o.dead_reason).collect();

    let [dns, connect, tls, first_byte] = [0, 1, 2, 3].map(|step: usize| {
        outcomes.iter().map(|o| o.timings[step].map(micros)).collect::<Vec<Option<i32>>>()
    });

    let parks = &batch.parks;
    let park = |pick: fn(&Park) -> Uuid| parks.iter().map(pick).collect::<Vec<Uuid>>();
    let park_events = park(|p| p.key.event_id.0);
    let park_endpoints = park(|p| p.key.endpoint_id.0);
    let park_runs: Vec<i32> = parks.iter().map(|p| p.key.run).collect();
    let park_tenants = park(|p| p.tenant_id.0);
    let park_chunks = park(|p| p.chunk.0);
    let park_lives = park(|p| p.life.0);
    let keep: Vec<bool> = parks.iter().map(|p| p.keep).collect();
    let park_due: Vec<i64> = parks.iter().map(|p| p.due_in_ms).collect();

    let releases = &batch.releases;
    let release_events: Vec<Uuid> = releases.iter().map(|r| r.key.event_id.0).collect();
    let release_endpoints: Vec<Uuid> = releases.iter().map(|r| r.key.endpoint_id.0).collect();
    let release_runs: Vec<i32> = releases.iter().map(|r| r.key.run).collect();
    let release_lives: Vec<Uuid> = releases.iter().map(|r| r.life.0).collect();
    let release_due: Vec<i64> = releases.iter().map(|r| r.due_in_ms).collect();

    let (settled, settled_lives): (Vec<Uuid>, Vec<Uuid>) =
        batch.settled.iter().map(|(chunk, life)| (chunk.0, life.0)).unzip();

    // Each once: the chunks are far fewer than what is written of them.
    let of_outcomes = outcomes.iter().filter_map(|o| Some((o.chunk?.0, o.life.0)));
    let of_parks = parks.iter().map(|p| (p.chunk.0, p.life.0));
    let mut held: Vec<(Uuid, Uuid)> = of_outcomes.chain(of_parks).collect();
    held.extend(batch.settled.iter().map(|(chunk, life)| (chunk.0, life.0)));
    held.sort_unstable();
    held.dedup();
    let (held, held_by): (Vec<Uuid>, Vec<Uuid>) = held.into_iter().unzip();

    let rows = client
        .query(
            &client.prepare_cached(if batch.repeated { &AGAIN } else { &FIRST }).await?,
            &[
                &events,
                &endpoints,
                &runs,
                &attempt_ids,
                &tenants,
                &attempts,
                &kinds,
                &decisions,
                &started,
                &durations,
                &urls,
                &request_headers,
                &statuses,
                &response_headers,
                &bodies,
                &error_kinds,
                &errors,
                &chunks,
                &lives,
                &due,
                &reasons,
                &park_events,
                &park_endpoints,
                &park_runs,
                &park_tenants,
                &park_chunks,
                &park_lives,
                &keep,
                &park_due,
                &release_events,
                &release_endpoints,
                &release_runs,
                &release_lives,
                &batch.repeated,
                &release_due,
                &settled,
                &settled_lives,
                &held,
                &dns,
                &connect,
                &tls,
                &first_byte,
                &held_by,
            ],
        )
        .await?;
    let mut recorded = Recorded::default();
    for row in &rows {
        if let Some(chunk) = row.try_get(4)? {
            recorded.lost.push(ChunkId(chunk));
            continue;
        }
        let key = DeliveryKey {
            event_id: EventId(row.try_get(0)?),
            endpoint_id: EndpointId(row.try_get(1)?),
            run: row.try_get(2)?,
        };
        recorded.decisions.push((key, Decision::parse(row.try_get(3)?).unwrap_or(Decision::Stale)));
    }
    Ok(recorded)
}

/// Of a step that lasts a minute at most.
fn micros(step: Duration) -> i32 {
    i32::try_from(step.as_micros()).unwrap_or(i32::MAX)
}
