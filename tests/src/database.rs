//! A fresh migrated database for each test, copied from a template.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

const TEMPLATE: &str = "bowline_template";
/// Held while the template is made.
const TEMPLATE_LOCK: i64 = 0x626f_776c_7465_7374;

/// One test's database.
#[derive(Debug)]
pub struct Database {
    pub url: String,
    /// Unique in the run; fit for a stream prefix too.
    pub name: String,
    client: Client,
}

impl Database {
    /// A new one on the server of `server_url`, which has the template.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(server_url: &str) -> Result<Self> {
        // No process id: those come again, since one run takes more of them than a system may have.
        let name = Uuid::now_v7().simple().to_string();
        let server = connect(server_url).await?;
        copy_template(&server, &name).await?;
        let url = url_of(server_url, &name);
        let client = connect(&url).await?;
        Ok(Self { url, name, client })
    }

    /// A connection for looking into the database as a test may.
    pub fn sql(&self) -> &Client {
        &self.client
    }

    /// The one number that `query` gives.
    ///
    /// # Panics
    /// When it gives anything else.
    pub async fn count(&self, query: &str) -> i64 {
        let row = self.client.query_one(query, &[]).await;
        row.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
    }

    /// The tables in which a text stands, also within bytes.
    ///
    /// # Panics
    /// When Postgres refuses to look.
    pub async fn tables_with(&self, text: &str) -> Vec<String> {
        let tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1";
        let tables = self.client.query(tables, &[]).await.expect("the tables");
        let hex = hex::encode(text);
        let mut found = Vec::new();
        for table in tables.iter().map(|row| row.get::<_, String>(0)) {
            let look = format!(
                "SELECT count(*) FROM \"{table}\" AS whole
                  WHERE strpos(whole::text, $1) > 0 OR strpos(whole::text, $2) > 0"
            );
            let row = self.client.query_one(&look, &[&text, &hex]).await.expect("a look into a table");
            if row.get::<_, i64>(0) > 0 {
                found.push(table);
            }
        }
        found
    }
}

/// Another database of the same server.
pub fn url_of(server_url: &str, name: &str) -> String {
    let (server, _) = server_url.rsplit_once('/').unwrap_or((server_url, ""));
    format!("{server}/{name}")
}

/// A connection that lives as long as its client.
///
/// # Errors
/// When the server refuses.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connecting to Postgres")?;
    // Its end shows in the client's next call.
    tokio::spawn(connection);
    Ok(client)
}

/// Makes the template, once per server, whoever comes first.
///
/// # Errors
/// When the server or the migration refuses.
pub async fn prepare(server_url: &str) -> Result<()> {
    let server = connect(server_url).await?;
    server.execute("SELECT pg_advisory_lock($1)", &[&TEMPLATE_LOCK]).await?;
    let exists =
        server.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&TEMPLATE]).await?.is_some();
    if !exists {
        // Under another name until it is whole: a run that was cut off left half of one.
        let unfinished = format!("{TEMPLATE}_unfinished");
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await?;
        server.batch_execute(&format!("CREATE DATABASE {unfinished}")).await?;
        bowline_core::store::migrate(&url_of(server_url, &unfinished))
            .await
            .context("migrating the template")?;
        while_in_use(&server, &format!("ALTER DATABASE {unfinished} RENAME TO {TEMPLATE}")).await?;
    }
    server.execute("SELECT pg_advisory_unlock($1)", &[&TEMPLATE_LOCK]).await?;
    Ok(())
}

async fn copy_template(server: &Client, name: &str) -> Result<()> {
    while_in_use(server, &format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}")).await
}

/// A template may not be in use while it is copied: a session that is about to end is waited for.
async fn while_in_use(server: &Client, statement: &str) -> Result<()> {
    let mut tries_left = 500;
    loop {
        match server.batch_execute(statement).await {
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) && tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other.with_context(|| statement.to_owned()),
        }
    }
}
