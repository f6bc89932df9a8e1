//! Who lives. Only `dead_at`, or absence from the table, ends a life; every time is the database's.

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;

use super::Error;
use crate::defaults::LEASE;
use crate::id::ReplicaId;

/// Begins a life with a whole lease ahead.
pub async fn begin(
    client: &impl GenericClient,
    id: ReplicaId,
    service: &str,
    config_version: i64,
) -> Result<(), Error> {
    // A repeated insert, after a reply that was lost, is the same life.
    const SQL: &str = "
        INSERT INTO replicas (id, service, lease_until, config_version, started_at)
        VALUES ($1, $2, now() + make_interval(secs => $3), $4, now())
        ON CONFLICT (id) DO NOTHING";
    client.execute(SQL, &[&id.0, &service, &LEASE.as_secs_f64(), &config_version]).await?;
    Ok(())
}

/// Renews the lease and confirms the configuration in use; false: that life is over.
pub async fn renew(client: &impl GenericClient, id: ReplicaId, config_version: i64) -> Result<bool, Error> {
    const SQL: &str = "
        UPDATE replicas SET lease_until = now() + make_interval(secs => $2), config_version = $3
         WHERE id = $1 AND dead_at IS NULL
        RETURNING id";
    Ok(client.query_opt(SQL, &[&id.0, &LEASE.as_secs_f64(), &config_version]).await?.is_some())
}

/// Ends a life by its own wish: what it owns can be taken over at once.
pub async fn release(client: &impl GenericClient, id: ReplicaId) -> Result<(), Error> {
    client.execute("UPDATE replicas SET dead_at = now() WHERE id = $1 AND dead_at IS NULL", &[&id.0]).await?;
    Ok(())
}

/// Ends the lives whose lease has run out, and names them. Only for a replica that stood for a lease
/// itself ([`crate::replica::Replica::stood_for_a_lease`]); not within a larger transaction.
///
/// A renewal that holds the row meanwhile wins: the condition is looked at again after its commit.
pub async fn bury(client: &impl GenericClient) -> Result<Vec<ReplicaId>, Error> {
    const SQL: &str = "
        UPDATE replicas SET dead_at = now() WHERE dead_at IS NULL AND lease_until < now() RETURNING id";
    client.query(SQL, &[]).await?.iter().map(|row| Ok(ReplicaId(row.try_get(0)?))).collect()
}

/// Writes down as dead whoever owns something and is not in the table, as after a restore of a part: what
/// they own can be taken over then. Each owner is one look into an index, however much it owns.
pub async fn bury_absent(client: &impl GenericClient) -> Result<Vec<ReplicaId>, Error> {
    const SQL: &str = "
        WITH RECURSIVE
        of_queue (owner) AS (
            (SELECT owner FROM queue WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT (SELECT q.owner FROM queue AS q WHERE q.owner > o.owner ORDER BY q.owner LIMIT 1)
              FROM of_queue AS o WHERE o.owner IS NOT NULL),
        of_outbox (owner) AS (
            (SELECT owner FROM outbox WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT (SELECT q.owner FROM outbox AS q WHERE q.owner > o.owner ORDER BY q.owner LIMIT 1)
              FROM of_outbox AS o WHERE o.owner IS NOT NULL)
        INSERT INTO replicas (id, service, lease_until, dead_at)
        SELECT owner, 'dispatcher', now(), now()
          FROM (SELECT owner FROM of_queue UNION SELECT owner FROM of_outbox) AS found
         WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM replicas AS r WHERE r.id = found.owner)
        ON CONFLICT (id) DO NOTHING
        RETURNING id";
    client.query(SQL, &[]).await?.iter().map(|row| Ok(ReplicaId(row.try_get(0)?))).collect()
}

/// When a life ended last, of those that are still listed.
pub async fn last_death(client: &impl GenericClient) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(client.query_one("SELECT max(dead_at) FROM replicas", &[]).await?.try_get(0)?)
}

/// Forgets lives that ended an hour ago and own nothing any more; returns how many.
pub async fn sweep(client: &impl GenericClient) -> Result<u64, Error> {
    const SQL: &str = "
        DELETE FROM replicas AS r
         WHERE r.dead_at < now() - interval '1 hour'
           AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.owner = r.id)
           AND NOT EXISTS (SELECT 1 FROM queue AS q WHERE q.owner = r.id)";
    Ok(client.execute(SQL, &[]).await?)
}

/// How many replicas of a service live.
pub async fn count(client: &impl GenericClient, service: &str) -> Result<usize, Error> {
    const SQL: &str = "
        SELECT count(*) FROM replicas WHERE service = $1 AND dead_at IS NULL AND lease_until > now()";
    let count: i64 = client.query_one(SQL, &[&service]).await?.try_get(0)?;
    Ok(usize::try_from(count).unwrap_or_default())
}
