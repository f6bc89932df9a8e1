//! Writes events, deduplication keys and outbox rows: one statement a batch, one commit. What is for ordered
//! endpoints takes its places in their channels in the same statement.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BY_INDEX, Error, connection_config, session_settings, strays};
use crate::event::Event;
use crate::id::{ChunkId, EndpointId};
use crate::journal::DedupKey;
use crate::streams::Class;

/// The input is compared with the sources as they are now, keys are claimed in order, and only what
/// this statement inserts gets an outbox row: a repeated commit brings back nothing that is settled.
/// `IN` here never becomes a join (`IS TRUE`, or its place, keeps it a hashed subplan): the planner
/// takes a batch for ten rows and would compare each row with each.
///
/// Nothing is written if the ordered endpoints have changed since the writer matched the batch to them.
///
/// `{clock}`, `{stray}`: see [`strays`].
///
/// `{repeated}`: only rows that an earlier commit may have stored can be there already. To allow for
/// that costs each row a look into its index before and a record of WAL after.
const INSERT: &str = "
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[],
                         $7::text[], $8::bytea[], $9::bytea[], $10::timestamptz[], $11::uuid[],
                         $12::uuid[], $13::bytea[], $14::bigint[], $15::uuid[], $16::smallint[],
                         $17::smallint[])
        AS i (id, tenant_id, source_id, generation, event_type, channel,
              content_type, headers, body, create_time, key_scope,
              key_hash, fingerprint, key_ttl_ms, chunk_id, shard, class)
), config AS (
    SELECT version, ordered_version <= $18::bigint AS known FROM config_state
), fresh AS MATERIALIZED (
    SELECT i.* FROM input i
      LEFT JOIN sources s ON s.id = i.source_id AND s.generation = i.generation
                         AND s.enabled AND s.deleted_at IS NULL
     WHERE (SELECT known FROM config) AND (i.source_id IS NULL OR s.id IS NOT NULL)
), claimed AS (
    INSERT INTO dedup_keys AS d (scope_id, key_hash, event_id, fingerprint, expires_at)
    SELECT key_scope, key_hash, id, fingerprint, now() + key_ttl_ms * interval '1 millisecond'
      FROM fresh WHERE key_scope IS NOT NULL
     ORDER BY key_scope, key_hash
    ON CONFLICT (scope_id, key_hash) DO UPDATE
       SET event_id = excluded.event_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at
     WHERE d.expires_at < now() OR d.event_id = excluded.event_id
    RETURNING d.event_id
), {clock}, ev AS (
    INSERT INTO events (id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time,
                        stray)
    SELECT id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time, {stray}
      FROM fresh
     WHERE key_scope IS NULL OR id IN (SELECT event_id FROM claimed)
     ORDER BY id
    {repeated}
    RETURNING id
){ordered}, ob AS (
    INSERT INTO outbox (id, shard, class, event_ids, config_version{ordered_column})
    SELECT chunk_id, shard, class, array_agg(id ORDER BY id), (SELECT version FROM config){ordered_pairs}
      FROM input
     WHERE (id IN (SELECT id FROM ev)) IS TRUE
     GROUP BY chunk_id, shard, class
    {repeated}
)
SELECT i.id,
       i.id IN (SELECT id FROM fresh) AS fresh,
       i.key_scope IS NULL OR i.id IN (SELECT event_id FROM claimed) AS claimed,
       i.id IN (SELECT id FROM ev) AS inserted,
       (SELECT version FROM config) AS config_version,
       (SELECT known FROM config) AS known
  FROM input i";

/// Only what this statement inserts takes a place; in a batch, by the time of its receipt. The rows of the
/// channels are locked in the order of their keys, after every key of the batch, until the commit: so the
/// order of places is that of commits.
const ORDERED: &str = ", placed AS MATERIALIZED (
    SELECT * FROM unnest($19::uuid[], $20::uuid[], $21::uuid[], $22::uuid[], $23::text[])
        AS p (event_id, tenant_id, chunk_id, endpoint_id, channel)
     WHERE (event_id IN (SELECT id FROM ev)) IS TRUE
), raised AS (
    INSERT INTO channels AS c (endpoint_id, channel, tail, due_at)
    SELECT endpoint_id, channel, count(*), now() FROM placed
     GROUP BY endpoint_id, channel ORDER BY endpoint_id, channel
    ON CONFLICT (endpoint_id, channel) DO UPDATE
       SET tail = c.tail + excluded.tail, due_at = coalesce(c.due_at, excluded.due_at)
    RETURNING endpoint_id, channel, tail
), waiting AS (
    INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt, priority, channel, seq)
    SELECT p.event_id, p.endpoint_id, 0, p.tenant_id, now(), 0, -2, p.channel, r.tail + 1 - p.from_last
      FROM (SELECT *, row_number() OVER (PARTITION BY endpoint_id, channel ORDER BY event_id DESC) AS from_last
              FROM placed) AS p
      JOIN raised AS r ON r.endpoint_id = p.endpoint_id AND r.channel = p.channel
     ORDER BY p.event_id, p.endpoint_id
    {repeated}
)";
const ORDERED_PAIRS: &str = ",
           (SELECT array_agg(p.event_id ORDER BY p.event_id, p.endpoint_id)
                   || array_agg(p.endpoint_id ORDER BY p.event_id, p.endpoint_id)
              FROM placed AS p WHERE p.chunk_id = input.chunk_id)";

/// `FOR SHARE` waits for whoever holds a key in a transaction of its own.
const HOLDERS: &str = "
SELECT d.scope_id, d.key_hash, d.event_id, d.fingerprint, d.expires_at < now() AS expired
  FROM unnest($1::uuid[], $2::uuid[]) AS k (scope_id, key_hash)
  JOIN dedup_keys d ON d.scope_id = k.scope_id AND d.key_hash = k.key_hash
 ORDER BY d.scope_id, d.key_hash
   FOR SHARE OF d";

/// One event of a batch, and the outbox row it goes to.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub event: &'a Event,
    /// Of its source, when the request was verified.
    pub generation: i64,
    pub key: Option<&'a DedupKey>,
    pub chunk: ChunkId,
    pub shard: u16,
    pub class: Class,
}

/// What a batch has for ordered endpoints.
#[derive(Debug)]
pub struct Orders<'a> {
    /// Of the configuration it was matched by.
    pub version: i64,
    pub places: Vec<Place<'a>>,
}

/// An event's place at an ordered endpoint: at the tail of this channel.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub event: &'a Event,
    pub chunk: ChunkId,
    pub endpoint: EndpointId,
    pub channel: &'a str,
}

/// What became of one row; each stands for a committed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub id: Uuid,
    /// The source is as it was when the request was verified.
    pub fresh: bool,
    /// It has no key, or the key is its own.
    pub claimed: bool,
    /// By this statement; not by an earlier one whose outcome was unknown.
    pub inserted: bool,
    pub config_version: i64,
}

/// Which event holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub scope: Uuid,
    pub hash: Uuid,
    pub event_id: Uuid,
    pub fingerprint: Option<Vec<u8>>,
    pub expired: bool,
}

/// A connection of one journal writer, with its session and its prepared statements.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    insert: Statement,
    insert_repeated: Statement,
    insert_ordered: Statement,
    insert_ordered_repeated: Statement,
    holders: Statement,
    warned: Arc<AtomicBool>,
    lost: CancellationToken,
}

impl Connection {
    /// Opens one whose commits are durable, whatever the server's default (invariant 1).
    pub async fn open(url: &str) -> Result<Self, Error> {
        let (client, mut connection) = connection_config(url)?.connect(NoTls).await?;
        let (warned, lost) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let (flag, ended) = (Arc::clone(&warned), lost.clone().drop_guard());
        tokio::spawn(async move {
            let _ended = ended;
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => {
                        // None of our statements warns: this is about the commit itself.
                        if notice.parsed_severity() == Some(Severity::Warning) {
                            tracing::warn!(message = notice.message(), "postgres warned during a commit");
                            flag.store(true, Ordering::SeqCst);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a journal connection ended");
                        return;
                    }
                }
            }
        });
        client.batch_execute(&session_settings()).await?;
        client.batch_execute(BY_INDEX).await?;
        let durability: String = client.query_one("SHOW synchronous_commit", &[]).await?.try_get(0)?;
        if !matches!(durability.as_str(), "on" | "remote_apply") {
            client.batch_execute("SET synchronous_commit = on").await?;
        }
        let insert = client.prepare(&statement(false, false)).await?;
        let insert_repeated = client.prepare(&statement(false, true)).await?;
        let insert_ordered = client.prepare(&statement(true, false)).await?;
        let insert_ordered_repeated = client.prepare(&statement(true, true)).await?;
        let holders = client.prepare(HOLDERS).await?;
        Ok(Self {
            client,
            insert,
            insert_repeated,
            insert_ordered,
            insert_ordered_repeated,
            holders,
            warned,
            lost,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Cancelled when the connection has ended.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// For the statements that make a partition.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the server has warned since this was asked last: it committed, but a synchronous
    /// standby was not waited for.
    pub fn take_warning(&self) -> bool {
        self.warned.swap(false, Ordering::SeqCst)
    }

    /// Commits the rows; they must be sorted by key, each key once. `repeated`: an earlier commit of
    /// some of them may have happened. `None`: the ordered endpoints have changed, and nothing was written.
    pub async fn insert(
        &self,
        rows: &[Row<'_>],
        orders: &Orders<'_>,
        repeated: bool,
    ) -> Result<Option<Vec<Written>>, Error> {
        let statement = match (orders.places.is_empty(), repeated) {
            (true, false) => &self.insert,
            (true, true) => &self.insert_repeated,
            (false, false) => &self.insert_ordered,
            (false, true) => &self.insert_ordered_repeated,
        };
        let ids: Vec<Uuid> = rows.iter().map(|row| row.event.id.0).collect();
        let tenants: Vec<Uuid> = rows.iter().map(|row| row.event.tenant_id.0).collect();
        let sources: Vec<Option<Uuid>> =
            rows.iter().map(|row| row.event.source_id.map(|source| source.0)).collect();
        let generations: Vec<i64> = rows.iter().map(|row| row.generation).collect();
        let types: Vec<&str> = rows.iter().map(|row| row.event.event_type.as_str()).collect();
        let channels: Vec<Option<&str>> = rows.iter().map(|row| row.event.channel.as_deref()).collect();
        let content_types: Vec<&str> = rows.iter().map(|row| row.event.content_type.as_str()).collect();
        let headers: Vec<&[u8]> = rows.iter().map(|row| row.event.headers.as_ref()).collect();
        let bodies: Vec<&[u8]> = rows.iter().map(|row| row.event.body.as_ref()).collect();
        let times: Vec<DateTime<Utc>> = rows.iter().map(|row| row.event.time).collect();
        let scopes: Vec<Option<Uuid>> = rows.iter().map(|row| row.key.map(|key| key.scope)).collect();
        let hashes: Vec<Option<Uuid>> = rows.iter().map(|row| row.key.map(|key| key.hash)).collect();
        let fingerprints: Vec<Option<&[u8]>> =
            rows.iter().map(|row| row.key.and_then(|key| key.fingerprint.as_ref()).map(|f| &f[..])).collect();
        let ttls: Vec<Option<i64>> = rows.iter().map(|row| row.key.map(|key| millis(key.ttl))).collect();
        let chunks: Vec<Uuid> = rows.iter().map(|row| row.chunk.0).collect();
        let shards: Vec<i16> = rows.iter().map(|row| row.shard as i16).collect();
        let classes: Vec<i16> = rows.iter().map(|row| row.class.number()).collect();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![
            &ids,
            &tenants,
            &sources,
            &generations,
            &types,
            &channels,
            &content_types,
            &headers,
            &bodies,
            &times,
            &scopes,
            &hashes,
            &fingerprints,
            &ttls,
            &chunks,
            &shards,
            &classes,
            &orders.version,
        ];
        let places = &orders.places;
        let of_places = |pick: fn(&Place<'_>) -> Uuid| places.iter().map(pick).collect::<Vec<Uuid>>();
        let ids_of_places = [
            of_places(|place| place.event.id.0),
            of_places(|place| place.event.tenant_id.0),
            of_places(|place| place.chunk.0),
            of_places(|place| place.endpoint.0),
        ];
        let place_channels: Vec<&str> = places.iter().map(|place| place.channel).collect();
        if !places.is_empty() {
            values.extend(ids_of_places.iter().map(|ids| ids as &(dyn ToSql + Sync)));
            values.push(&place_channels);
        }
        let found = self.client.query(statement, &values).await?;
        if found.first().map(|row| row.try_get("known")).transpose()? == Some(false) {
            return Ok(None);
        }
        found
            .iter()
            .map(|row| {
                Ok(Written {
                    id: row.try_get("id")?,
                    fresh: row.try_get("fresh")?,
                    claimed: row.try_get("claimed")?,
                    inserted: row.try_get("inserted")?,
                    config_version: row.try_get("config_version")?,
                })
            })
            .collect::<Result<_, Error>>()
            .map(Some)
    }

    /// Who holds these keys; those that are free by now are left out.
    pub async fn holders(&self, keys: &[&DedupKey]) -> Result<Vec<Holder>, Error> {
        let scopes: Vec<Uuid> = keys.iter().map(|key| key.scope).collect();
        let hashes: Vec<Uuid> = keys.iter().map(|key| key.hash).collect();
        let found = self.client.query(&self.holders, &[&scopes, &hashes]).await?;
        found
            .iter()
            .map(|row| {
                Ok(Holder {
                    scope: row.try_get("scope_id")?,
                    hash: row.try_get("key_hash")?,
                    event_id: row.try_get("event_id")?,
                    fingerprint: row.try_get("fingerprint")?,
                    expired: row.try_get("expired")?,
                })
            })
            .collect()
    }

    /// Commits a WAL record of its own: when that commit is durable, every earlier one is, whatever
    /// was said of it. What was found already stored needs this, as it wrote nothing that waits.
    pub async fn barrier(&self) -> Result<(), Error> {
        self.client.execute("SELECT pg_logical_emit_message(true, 'bowline', '')", &[]).await?;
        Ok(())
    }
}

fn statement(ordered: bool, repeated: bool) -> String {
    let (places, column, pairs) = if ordered { (ORDERED, ", ordered", ORDERED_PAIRS) } else { ("", "", "") };
    INSERT
        .replace("{ordered}", places)
        .replace("{ordered_column}", column)
        .replace("{ordered_pairs}", pairs)
        .replace("{clock}", &strays::clock())
        .replace("{stray}", &strays::is_stray("id"))
        .replace("{repeated}", if repeated { "ON CONFLICT DO NOTHING" } else { "" })
}

fn millis(duration: Duration) -> i64 {
    /// Keeps `now() + ttl` inside the range of a timestamp.
    const TTL_MS_MAX: u128 = 10 * 365 * 24 * 3600 * 1000;
    duration.as_millis().min(TTL_MS_MAX) as i64
}
