//! Unsealings of secrets, from memory into the audit log (invariant 8).

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::{GenericClient, Object};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Error, Pool};
use crate::secrets::{Purpose, UnsealLog, Unsealing};

/// Rows of one statement.
const BATCH_MAX: usize = 500;
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Bowline itself, not a caller.
const ACTOR: &str = "bowline";

/// A batch with the ids of its rows, so that writing it twice is writing it once.
#[derive(Debug)]
struct Batch {
    ids: Vec<Uuid>,
    tenants: Vec<Uuid>,
    actions: Vec<&'static str>,
    resources: Vec<String>,
    times: Vec<DateTime<Utc>>,
}

impl Batch {
    fn new(unsealings: &[Unsealing]) -> Self {
        Self {
            ids: unsealings.iter().map(|_| Uuid::now_v7()).collect(),
            tenants: unsealings.iter().map(|unsealing| unsealing.tenant_id.0).collect(),
            actions: unsealings.iter().map(|unsealing| action(unsealing.purpose)).collect(),
            resources: unsealings.iter().map(|unsealing| unsealing.secret_id.to_string()).collect(),
            times: unsealings.iter().map(|unsealing| unsealing.at).collect(),
        }
    }
}

fn action(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Verify => "secret.unseal.verify",
        Purpose::Sign => "secret.unseal.sign",
        Purpose::Reveal => "secret.unseal.reveal",
        Purpose::Test => "secret.unseal.test",
        Purpose::Authenticate => "secret.unseal.authenticate",
    }
}

async fn insert(client: &impl GenericClient, batch: &Batch) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO audit_log (id, tenant_id, actor, action, resource, request_id, call_id, outcome, create_time)
        SELECT id, tenant_id, $1, action, resource, '', '', 'OK', create_time
          FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
               AS told (id, tenant_id, action, resource, create_time)
        ON CONFLICT (id) DO NOTHING";
    client
        .execute(SQL, &[&ACTOR, &batch.ids, &batch.tenants, &batch.actions, &batch.resources, &batch.times])
        .await?;
    Ok(())
}

async fn write(pool: &Pool, batch: &Batch) -> Result<(), Error> {
    let client = pool.get().await?;
    let Ok(written) = timeout(WRITE_TIMEOUT, insert(&client, batch)).await else {
        // A statement still runs on this connection: nobody else should wait behind it.
        drop(Object::take(client));
        return Err(Error::TimedOut(WRITE_TIMEOUT));
    };
    written
}

/// Writes what the log tells until every vault is gone or the shutdown is asked for, then what is
/// left, once. Postgres away only makes it wait: the log is bounded and tells again what it drops.
pub async fn write_unsealings(
    pool: Pool,
    mut log: UnsealLog,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let unsealings = tokio::select! {
            biased;
            unsealings = log.recv_batch(BATCH_MAX) => unsealings,
            () = shutdown.cancelled() => Vec::new(),
        };
        if unsealings.is_empty() {
            return Ok(());
        }
        let batch = Batch::new(&unsealings);
        let mut backoff = BACKOFF_MIN;
        while let Err(error) = write(&pool, &batch).await {
            let waiting = batch.ids.len();
            if shutdown.is_cancelled() {
                tracing::error!(%error, waiting, "unsealings are missing from the audit log");
                return Ok(());
            }
            tracing::warn!(%error, waiting, "the audit log can't be written, trying again");
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}
