//! The one row that orders configuration writes.

use tokio_postgres::Transaction;

use super::Error;

/// The channel that tells other processes of a new version; polling finds it without.
pub const CHANNEL: &str = "bowline_config";

/// Opens a configuration write: takes the lock, raises the version, notifies at commit.
/// The row lock makes commit order version order (never a sequence).
pub async fn begin(transaction: &Transaction<'_>) -> Result<i64, Error> {
    let row = transaction
        .query_one("UPDATE config_state SET version = version + 1 WHERE id = 1 RETURNING version", &[])
        .await?;
    transaction.batch_execute("NOTIFY bowline_config").await?;
    Ok(row.get(0))
}
