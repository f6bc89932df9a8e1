//! Configuration as each process keeps it: what changed since a version, and word of new versions.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::{GenericClient, Object, Transaction};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_postgres::types::Json;
use tokio_postgres::{AsyncMessage, IsolationLevel, NoTls, Row};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{Error, config_writes, connection_config, endpoints, event_types, sources, stored_secrets};
use crate::catalog::EventType;
use crate::endpoint::{Endpoint, EndpointSpec, EndpointState};
use crate::id::{EndpointId, EventTypeId, SourceId, TenantId};
use crate::secrets::StoredSecret;
use crate::source::Source;

/// Everything that changed after a version, of one moment.
#[derive(Debug)]
pub struct Changes {
    pub version: i64,
    /// These rows are all there is, whatever was known before.
    pub complete: bool,
    pub sources: Vec<(SourceId, Reading<Source>)>,
    pub endpoints: Vec<(EndpointId, Reading<Endpoint>)>,
    /// Tenants, and whether their catalogs are strict.
    pub catalogs: Vec<(TenantId, bool)>,
    pub event_types: Vec<(TenantId, EventTypeId, Reading<EventType>)>,
    /// Of a process that needs no others; those that are not ordered any more count as deleted.
    pub ordered: Vec<(EndpointId, Reading<Endpoint>)>,
    /// Every secret of the sources and endpoints above, newest first.
    pub secrets: HashMap<Uuid, Vec<StoredSecret>>,
}

/// What a process has need of: the other half is not even read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To take webhooks in: the sources, and of the endpoints those that are ordered.
    Sources,
    /// To send webhooks out.
    Endpoints,
}

/// What a row says.
#[derive(Debug)]
pub enum Reading<T> {
    Live(T),
    Deleted,
    /// Written by a newer version, or damaged. It fails alone.
    Unreadable {
        problem: String,
        /// As much of it as its backlog needs, paused.
        held: Option<T>,
    },
}

pub async fn version(client: &impl GenericClient) -> Result<i64, Error> {
    Ok(client.query_one("SELECT version FROM config_state WHERE id = 1", &[]).await?.try_get(0)?)
}

/// What is newer than `applied`; 0 for all. `None`: nothing is.
///
/// Versions are raised under a row lock that is held until commit, so a transaction that sees a
/// version sees everything up to it. A version below `applied` means another history of the database
/// (a restored backup): everything is read anew.
pub async fn changes(client: &mut Object, need: Need, applied: i64) -> Result<Option<Changes>, Error> {
    // One row, no transaction: most looks end here.
    if applied > 0 && version(client).await? == applied {
        return Ok(None);
    }
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let version = version(&transaction).await?;
    let since = if version < applied { 0 } else { applied };
    let (mut sources, mut endpoints, mut ordered) = (Vec::new(), Vec::new(), Vec::new());
    match need {
        Need::Sources => {
            sources = changed_sources(&transaction, since).await?;
            ordered = changed_ordered(&transaction, since).await?;
        }
        Need::Endpoints => endpoints = changed_endpoints(&transaction, since).await?,
    }
    let catalogs = changed_catalogs(&transaction, since).await?;
    let event_types = changed_event_types(&transaction, since).await?;
    let owners: Vec<Uuid> =
        sources.iter().map(|(id, _)| id.0).chain(endpoints.iter().map(|(id, _)| id.0)).collect();
    let secrets = if owners.is_empty() {
        HashMap::new()
    } else {
        stored_secrets::of_owners(&transaction, &owners).await?
    };
    transaction.commit().await?;
    Ok(Some(Changes {
        version,
        complete: since == 0,
        sources,
        endpoints,
        catalogs,
        event_types,
        ordered,
        secrets,
    }))
}

/// A changed secret changes its owner.
const CHANGED: &str = "config_version > $1::bigint
             OR id = ANY (ARRAY(SELECT owner_id FROM secrets WHERE config_version > $1::bigint))";
/// The first look takes every row, also one that no configuration write brought. Tombstones are of no
/// use to who knows nothing yet.
const LIVE: &str = "deleted_at IS NULL AND $1::bigint = 0";

fn wanted(since: i64) -> &'static str {
    if since == 0 { LIVE } else { CHANGED }
}

async fn changed_sources(
    transaction: &Transaction<'_>,
    since: i64,
) -> Result<Vec<(SourceId, Reading<Source>)>, Error> {
    let sql = format!(
        "SELECT {}, deleted_at IS NOT NULL AS deleted FROM sources WHERE {}",
        sources::COLUMNS,
        wanted(since)
    );
    let read = |row: &Row| {
        let id = SourceId(row.try_get("id")?);
        Ok((id, reading(row, sources::read, |_| None)?))
    };
    query(transaction, &sql, since, read).await
}

async fn changed_endpoints(
    transaction: &Transaction<'_>,
    since: i64,
) -> Result<Vec<(EndpointId, Reading<Endpoint>)>, Error> {
    let sql = format!(
        "SELECT {}, deleted_at IS NOT NULL AS deleted FROM endpoints WHERE {}",
        endpoints::COLUMNS,
        wanted(since)
    );
    let read = |row: &Row| {
        let id = EndpointId(row.try_get("id")?);
        Ok((id, reading(row, endpoints::read, held_endpoint)?))
    };
    query(transaction, &sql, since, read).await
}

async fn changed_catalogs(transaction: &Transaction<'_>, since: i64) -> Result<Vec<(TenantId, bool)>, Error> {
    const STRICT: &str =
        "deleted_at IS NULL AND coalesce((settings->>'strict_event_catalog')::boolean, false)";
    let which = if since == 0 {
        format!("{STRICT} AND $1::bigint = 0")
    } else {
        "config_version > $1::bigint".to_owned()
    };
    let sql = format!("SELECT id, {STRICT} FROM tenants WHERE {which}");
    let read = |row: &Row| Ok((TenantId(row.try_get(0)?), row.try_get(1)?));
    query(transaction, &sql, since, read).await
}

async fn changed_event_types(
    transaction: &Transaction<'_>,
    since: i64,
) -> Result<Vec<(TenantId, EventTypeId, Reading<EventType>)>, Error> {
    let which = if since == 0 { LIVE } else { "config_version > $1::bigint" };
    let sql = format!(
        "SELECT {}, deleted_at IS NOT NULL AS deleted FROM event_types WHERE {which}",
        event_types::COLUMNS
    );
    let read = |row: &Row| {
        let (tenant, id) = (TenantId(row.try_get("tenant_id")?), EventTypeId(row.try_get("id")?));
        Ok((tenant, id, reading(row, event_types::read, |_| None)?))
    };
    query(transaction, &sql, since, read).await
}

async fn changed_ordered(
    transaction: &Transaction<'_>,
    since: i64,
) -> Result<Vec<(EndpointId, Reading<Endpoint>)>, Error> {
    // Of the rows that changed only those that are ordered are sent whole.
    const CHANGED: &str = "config_version > $1::bigint";
    const FIRST: &str = "deleted_at IS NULL AND spec ? 'ordering' AND $1::bigint = 0";
    let sql = format!(
        "SELECT {}, deleted_at IS NOT NULL OR NOT ordered AS deleted
           FROM (SELECT *, spec ? 'ordering' AS ordered FROM endpoints WHERE {}) AS endpoints",
        endpoints::COLUMNS.replace("spec", "CASE WHEN ordered THEN spec END AS spec"),
        if since == 0 { FIRST } else { CHANGED }
    );
    let read = |row: &Row| {
        let id = EndpointId(row.try_get("id")?);
        Ok((id, reading(row, endpoints::read, held_endpoint)?))
    };
    query(transaction, &sql, since, read).await
}

/// Reads each row as it comes: 100,000 of them need not be in memory twice.
async fn query<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    since: i64,
    read: impl Fn(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let rows = transaction.query_raw(sql, [since]).await?;
    rows.map(|row| read(&row?)).try_collect().await
}

fn reading<T>(
    row: &Row,
    read: impl Fn(&Row) -> Result<T, Error>,
    held: impl Fn(&Row) -> Option<T>,
) -> Result<Reading<T>, Error> {
    if row.try_get("deleted")? {
        return Ok(Reading::Deleted);
    }
    Ok(match read(row) {
        Ok(live) => Reading::Live(live),
        Err(error) => Reading::Unreadable { problem: error.to_string(), held: held(row) },
    })
}

/// Of an endpoint whose specification this build can't read: what it wants. Its deliveries are then
/// kept for a build that can send them, not dropped as if nobody wanted them.
fn held_endpoint(row: &Row) -> Option<Endpoint> {
    let Json(written): Json<serde_json::Value> = row.try_get("spec").ok()?;
    let Json(labels) = row.try_get("labels").ok()?;
    let texts = |name: &str| match written.get(name) {
        Some(value) => serde_json::from_value::<Vec<String>>(value.clone()).ok(),
        None => Some(Vec::new()),
    };
    let text = |name: &str| written.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let mut spec = EndpointSpec::new(text("url"), text("format"));
    spec.event_types = texts("event_types")?;
    spec.channels = texts("channels")?;
    let ordering = written.get("ordering").cloned();
    spec.ordering = ordering.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
    Some(Endpoint {
        id: EndpointId(row.try_get("id").ok()?),
        tenant_id: TenantId(row.try_get("tenant_id").ok()?),
        name: row.try_get("name").ok()?,
        display_name: row.try_get("display_name").ok()?,
        labels,
        spec,
        state: EndpointState::Paused,
        disabled_reason: row.try_get("disabled_reason").ok()?,
        config_version: row.try_get("config_version").ok()?,
        created_version: row.try_get("created_version").ok()?,
        create_time: row.try_get("create_time").ok()?,
        update_time: row.try_get("update_time").ok()?,
    })
}

/// Hears of configuration writes, on a connection of its own.
#[derive(Debug)]
pub struct Listener {
    heard: mpsc::Receiver<()>,
    /// LISTEN holds for as long as the session does.
    _session: Arc<tokio_postgres::Client>,
    _driver: AbortOnDropHandle<()>,
}

/// Needs a session of Postgres itself: a pooler that shares sessions forgets the LISTEN.
pub async fn listen(direct_url: &str) -> Result<Listener, Error> {
    let (client, mut connection) = connection_config(direct_url)?.connect(NoTls).await?;
    // One place: a word that waits to be heard stands for all that follow.
    let (tell, heard) = mpsc::channel(1);
    let driver = tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if matches!(message, AsyncMessage::Notification(_)) {
                // Full: the reader will look anyway.
                let _ = tell.try_send(());
            }
        }
    });
    let driver = AbortOnDropHandle::new(driver);
    client.batch_execute(&format!("LISTEN {}", config_writes::CHANNEL)).await?;
    Ok(Listener { heard, _session: Arc::new(client), _driver: driver })
}

impl Listener {
    /// Resolves at the next word of a write; `None` once the connection is lost.
    pub async fn heard(&mut self) -> Option<()> {
        self.heard.recv().await
    }
}
