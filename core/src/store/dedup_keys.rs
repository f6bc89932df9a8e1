//! Reads deduplication keys. The journal alone writes them.

use deadpool_postgres::GenericClient;

use super::Error;
use crate::id::EventId;
use crate::journal::DedupKey;

/// What holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub event_id: EventId,
    /// See [`DedupKey::fingerprint`].
    pub fingerprint: Option<Vec<u8>>,
}

/// The event that came with this key, within its time.
pub async fn holder(client: &impl GenericClient, key: &DedupKey) -> Result<Option<Holder>, Error> {
    const SQL: &str = "
        SELECT event_id, fingerprint FROM dedup_keys
         WHERE scope_id = $1 AND key_hash = $2 AND expires_at > now()";
    let Some(row) = client.query_opt(SQL, &[&key.scope, &key.hash]).await? else { return Ok(None) };
    Ok(Some(Holder { event_id: EventId(row.try_get(0)?), fingerprint: row.try_get(1)? }))
}
