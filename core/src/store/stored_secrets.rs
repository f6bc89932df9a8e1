//! Sealed secrets: several versions an owner, of which the older may be valid for a while.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::GenericClient;
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Error;
use crate::id::{EndpointId, SecretId, TenantId};
use crate::secrets::{Sealed, StoredSecret};

const COLUMNS: &str = "id, tenant_id, owner_id, name, key_id, sealed, create_time, expires_at, public_key";
/// How long a version that is not valid any more is kept, to tell a repeated call by.
const KEPT_AFTER_EXPIRY_DAYS: i32 = 30;

fn read(row: &Row) -> Result<StoredSecret, Error> {
    Ok(StoredSecret {
        id: SecretId(row.try_get("id")?),
        tenant_id: TenantId(row.try_get("tenant_id")?),
        owner: row.try_get("owner_id")?,
        name: row.try_get("name")?,
        sealed: Sealed { key_id: row.try_get("key_id")?, bytes: row.try_get("sealed")? },
        create_time: row.try_get("create_time")?,
        expires_at: row.try_get("expires_at")?,
        // A CHECK constraint says how long it is.
        public_key: row.try_get::<_, Option<Vec<u8>>>("public_key")?.and_then(|key| key.try_into().ok()),
    })
}

/// Needs the configuration lock ([`super::config_writes::begin`]), as every write here.
pub async fn insert(
    client: &impl GenericClient,
    secret: &StoredSecret,
    config_version: i64,
) -> Result<(), Error> {
    const SQL: &str = "
        INSERT INTO secrets (id, tenant_id, owner_id, name, key_id, sealed, create_time, expires_at, config_version,
                             public_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    client
        .execute(
            SQL,
            &[
                &secret.id.0,
                &secret.tenant_id.0,
                &secret.owner,
                &secret.name,
                &secret.sealed.key_id,
                &secret.sealed.bytes,
                &secret.create_time,
                &secret.expires_at,
                &config_version,
                &secret.public_key.as_ref().map(<[u8; 32]>::as_slice),
            ],
        )
        .await?;
    Ok(())
}

/// Every version of an owner's secrets, newest first, those that are expired too.
pub async fn of_owner(client: &impl GenericClient, owner: Uuid) -> Result<Vec<StoredSecret>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM secrets WHERE owner_id = $1 ORDER BY id DESC");
    client.query(&sql, &[&owner]).await?.iter().map(read).collect()
}

/// The same for many owners at once.
pub async fn of_owners(
    client: &impl GenericClient,
    owners: &[Uuid],
) -> Result<HashMap<Uuid, Vec<StoredSecret>>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM secrets WHERE owner_id = ANY($1) ORDER BY owner_id, id DESC");
    let mut rows = pin!(client.query_raw(&sql, [&owners]).await?);
    let mut found: HashMap<Uuid, Vec<StoredSecret>> = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let secret = read(&row)?;
        found.entry(secret.owner).or_default().push(secret);
    }
    Ok(found)
}

/// Those an endpoint was created with, as far as they are still there and unchanged.
pub async fn of_creation(client: &impl GenericClient, endpoint: Uuid) -> Result<Vec<StoredSecret>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM secrets
          WHERE owner_id = $1 AND config_version = (SELECT created_version FROM endpoints WHERE id = $1)"
    );
    client.query(&sql, &[&endpoint]).await?.iter().map(read).collect()
}

/// Lets the versions of this name that are valid now end after the overlap, by the database's clock; what
/// would end before that keeps its time. Versions that ended long ago go.
///
/// Without overlap they have ended since yesterday: no replica's clock is that wrong, so that none
/// accepts one any more once it has read this.
pub async fn expire(
    client: &impl GenericClient,
    owner: Uuid,
    name: &str,
    overlap: Duration,
    config_version: i64,
) -> Result<(), Error> {
    const FORGET: &str = "
        DELETE FROM secrets WHERE owner_id = $1 AND name = $3 AND expires_at < now() - make_interval(days => $2)";
    const EXPIRE: &str = "
        UPDATE secrets
           SET expires_at = CASE WHEN $2::float8 = 0 THEN now() - interval '1 day'
                                 ELSE now() + make_interval(secs => $2) END,
               config_version = $3
         WHERE owner_id = $1 AND name = $4
           AND (expires_at IS NULL OR expires_at > now() + make_interval(secs => $2))";
    client.execute(FORGET, &[&owner, &KEPT_AFTER_EXPIRY_DAYS, &name]).await?;
    client.execute(EXPIRE, &[&owner, &overlap.as_secs_f64(), &config_version, &name]).await?;
    Ok(())
}

/// One that was replaced, or is of no use any more; its owner must change in the same transaction.
pub async fn delete(client: &impl GenericClient, id: SecretId) -> Result<(), Error> {
    client.execute("DELETE FROM secrets WHERE id = $1", &[&id.0]).await?;
    Ok(())
}

/// The secrets of what is deleted: nothing needs them any more.
pub async fn delete_of_owner(client: &impl GenericClient, owner: Uuid) -> Result<(), Error> {
    client.execute("DELETE FROM secrets WHERE owner_id = $1", &[&owner]).await?;
    Ok(())
}

/// The public halves of the keys by which an endpoint signs now, newest first.
pub async fn public_keys(
    client: &impl GenericClient,
    endpoint: EndpointId,
) -> Result<Vec<(SecretId, [u8; 32])>, Error> {
    const SQL: &str = "
        SELECT s.id, s.public_key FROM secrets AS s JOIN endpoints AS e ON e.id = s.owner_id
         WHERE s.owner_id = $1 AND e.deleted_at IS NULL AND s.public_key IS NOT NULL
           AND (s.expires_at IS NULL OR s.expires_at > now())
         ORDER BY s.id DESC";
    let mut found = Vec::new();
    for row in client.query(SQL, &[&endpoint.0]).await? {
        // A CHECK constraint says how long it is.
        if let Ok(key) = row.try_get::<_, Vec<u8>>(1)?.try_into() {
            found.push((SecretId(row.try_get(0)?), key));
        }
    }
    Ok(found)
}
