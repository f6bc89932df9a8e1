//! The connection over which chunks read from the streams are claimed.
//!
//! Its commits wait for no disk: only a crash of Postgres takes such a claim back, and a row that was
//! recorded under it brings it to the disk as well. After the loss of the connection nobody can know
//! whether that has happened, so an owner [confirms](ClaimSession::confirm) what it has before it starts
//! anything else (invariant 3).

use std::time::Duration;

use tokio_postgres::{Client, NoTls, Statement};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chunks::{self, ClaimedChunk};
use super::{BY_INDEX, Error, NOT_COMPILED, PLANNED_ONCE, connection_config};
use crate::id::{ChunkId, ReplicaId};

/// A claim that takes longer has failed; the session with it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct ClaimSession {
    client: Client,
    claim: Statement,
    lost: CancellationToken,
}

impl ClaimSession {
    /// Needs a session of Postgres itself: a pooler that shares sessions forgets the setting.
    pub async fn open(direct_url: &str) -> Result<Self, Error> {
        let (client, connection) = connection_config(direct_url)?.connect(NoTls).await?;
        let lost = CancellationToken::new();
        let ended = lost.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = ended;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection of claims ended");
            }
        });
        let settings = format!(
            "SET synchronous_commit = off; SET statement_timeout = {}; {NOT_COMPILED}; {PLANNED_ONCE}; {BY_INDEX}",
            REPLY_TIMEOUT.as_millis()
        );
        client.batch_execute(&settings).await?;
        let claim = client.prepare(chunks::CLAIM).await?;
        Ok(Self { client, claim, lost })
    }

    /// Cancelled when the connection has ended.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Claims the named chunks; what is not returned is settled or held by a live replica.
    pub async fn claim(&self, owner: ReplicaId, ids: &[Uuid]) -> Result<Vec<ClaimedChunk>, Error> {
        let rows = self.answered(self.client.query(&self.claim, &[&owner.0, &ids])).await?;
        rows.iter().map(chunks::read).collect()
    }

    /// Which of these chunks are this owner's, after claiming again what a crash has taken back. That
    /// is on the disk when this returns.
    pub async fn confirm(&self, owner: ReplicaId, ids: &[Uuid]) -> Result<Vec<ChunkId>, Error> {
        const SQL: &str = "
            UPDATE outbox AS o SET owner = $1
             WHERE o.id = ANY($2)
               AND (o.owner IS NULL OR o.owner = $1
                    OR NOT EXISTS (SELECT 1 FROM replicas AS r WHERE r.id = o.owner AND r.dead_at IS NULL))
               AND (SELECT set_config('synchronous_commit', 'on', true)) IS NOT NULL
            RETURNING o.id";
        let rows = self.answered(self.client.query(SQL, &[&owner.0, &ids])).await?;
        rows.iter().map(|row| Ok(ChunkId(row.try_get(0)?))).collect()
    }

    async fn answered<T>(
        &self,
        reply: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let Ok(answer) = tokio::time::timeout(REPLY_TIMEOUT, reply).await else {
            self.lost.cancel();
            return Err(Error::TimedOut(REPLY_TIMEOUT));
        };
        Ok(answer?)
    }
}
