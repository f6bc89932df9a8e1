//! A Postgres of our own: on loopback, with a password, as durable as one in production.

use std::fs::File;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;

use super::account::Account;
use super::binaries::{self, PostgresPrograms};
use super::cluster::{self, DATA, ROLE, choose, make_cluster, reachable};
use super::folder::{Folder, Home};
use super::process::{Launch, Output, Process};
use super::readiness::{POLL, Starting};
use super::server::{Server, Site};
use super::{LocalError, port};

const NAME: &str = "postgres";
const DATABASE: &str = "bowline";
/// Postgres will not run as root; Debian's package brings the first of these.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];
const LOG: &str = "postgres.log";
/// Another process can take a port between the moment we found it free and the server's start.
const PORT_TRIES: u32 = 5;
/// A keeper kills after 10 s what does not stop before.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
/// Given at each start, so that a kept folder follows a newer Bowline. Durability is left alone on
/// purpose: `fsync` and the WAL are as on a production server.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=128MB",
    "synchronous_commit=on",
    "log_min_messages=warning",
    "log_min_error_statement=panic",
    "timezone=UTC",
];

/// A running Postgres.
pub type PrivatePostgres = Server<PostgresSite>;

#[derive(Debug)]
pub struct PostgresSite {
    folder: Folder,
    programs: PostgresPrograms,
    account: Option<Account>,
    password: String,
}

impl PrivatePostgres {
    /// Whether this home holds its database already; making it takes the most of a first start.
    pub fn is_made(home: &Home) -> bool {
        cluster::is_made(home, NAME)
    }

    /// Makes the data folder where there is none, starts the server, waits until it answers, and
    /// makes the database `bowline`.
    ///
    /// # Errors
    /// Each names what is wrong and, where that is known, what to do.
    pub async fn start(home: &Home) -> Result<Self, LocalError> {
        let installed = binaries::postgres()?;
        let account = Account::unprivileged(NAME, ACCOUNTS)?;
        let folder = Folder::make(home, NAME, account.as_ref())?;
        reachable(&folder.path, account.as_ref()).await?;
        let programs = choose(&installed, &folder.path.join(DATA))?;
        let password = make_cluster(&folder, &programs, account.as_ref()).await?;
        let site = PostgresSite { folder, programs, account, password };
        let (process, port) = site.launch_on_a_free_port().await?;
        let server = Self { process, site, port };
        server.make_database().await?;
        Ok(server)
    }

    /// The database `bowline`, as its superuser.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// Another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        self.site.url(self.port, database)
    }

    async fn make_database(&self) -> Result<(), LocalError> {
        let refused =
            |error: tokio_postgres::Error| LocalError::Refused { program: NAME, message: error.to_string() };
        let (client, connection) =
            tokio_postgres::connect(&self.url_of("postgres"), NoTls).await.map_err(refused)?;
        let connection = tokio::spawn(connection);
        let exists = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE])
            .await
            .map_err(refused)?
            .is_some();
        if !exists {
            client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await.map_err(refused)?;
        }
        drop(client);
        // The end of the connection says nothing that the statements have not said.
        let _ = connection.await;
        Ok(())
    }
}

impl PostgresSite {
    fn url(&self, port: u16, database: &str) -> String {
        format!("postgres://{ROLE}:{}@127.0.0.1:{port}/{database}", self.password)
    }

    async fn launch_on_a_free_port(&self) -> Result<(Process, u16), LocalError> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let mut tries = 0;
        loop {
            tries += 1;
            let kept = if tries == 1 { self.folder.kept_port() } else { None };
            let port = kept.map_or_else(port::free, Ok)?;
            match self.launch(port).await {
                Ok(process) => {
                    self.folder.keep_port(port);
                    return Ok((process, port));
                }
                Err(LocalError::Ended { .. }) if tries < PORT_TRIES && self.port_was_taken() => {}
                // The keeper of one who was killed is still stopping what ran in this folder.
                Err(LocalError::Ended { .. }) if Instant::now() < deadline && self.folder_is_in_use() => {
                    sleep(POLL * 10).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn port_was_taken(&self) -> bool {
        self.folder.last_words(LOG).contains("could not create any TCP/IP sockets")
    }

    fn folder_is_in_use(&self) -> bool {
        let last_words = self.folder.last_words(LOG);
        last_words.contains("lock file") || last_words.contains("pre-existing shared memory block")
    }
}

impl Site for PostgresSite {
    fn leave_to_keeper(&mut self) {
        self.folder.leave_to_keeper();
    }

    async fn launch(&self, port: u16) -> Result<Process, LocalError> {
        let log_path = self.folder.path.join(LOG);
        let log = File::create(&log_path).map_err(LocalError::file("write", &log_path))?;
        let mut arguments: Vec<_> = vec!["-D".into(), self.folder.path.join(DATA).into()];
        for setting in SETTINGS.iter().map(ToString::to_string).chain([format!("port={port}")]) {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let process = Process::spawn(Launch {
            name: NAME,
            program: self.programs.folder.join("postgres"),
            arguments,
            environment: Vec::new(),
            current_dir: self.folder.path.clone(),
            account: self.account.clone(),
            output: Output::File(log),
            stop_signal: Signal::SIGINT,
            leftover: self.folder.leftover(),
        })?;
        let url = self.url(port, "postgres");
        let probe =
            async || tokio_postgres::connect(&url, NoTls).await.map(drop).map_err(|error| error.to_string());
        Starting { program: NAME, folder: &self.folder, log: LOG }.answered(process, probe).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::process::Stopped;

    async fn answers(url: &str) -> Option<String> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
        tokio::spawn(connection);
        let row =
            client.query_one("SELECT current_setting('fsync') || current_setting('max_connections')", &[]);
        row.await.ok().map(|row| row.get(0))
    }

    #[tokio::test]
    async fn it_starts_durable_survives_a_kill_and_leaves_nothing() {
        let mut server = PrivatePostgres::start(&Home::Temporary).await.unwrap();
        let folder = server.site.folder.path.clone();
        let url = server.url();
        assert_eq!(answers(&url).await.as_deref(), Some("on200"));
        server.kill().await.unwrap();
        assert_eq!(answers(&url).await, None);
        server.restart().await.unwrap();
        assert_eq!(answers(&url).await.as_deref(), Some("on200"));
        assert!(matches!(server.stop().await.unwrap(), Stopped::Asked(status) if status.success()));
        drop(server);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_kept_home_is_found_again() {
        let parent = std::env::temp_dir().join(format!("bowline-kept-{}", std::process::id()));
        let home = Home::Kept(parent.clone());
        let mut ports = Vec::new();
        for statement in ["CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)"] {
            let mut server = PrivatePostgres::start(&home).await.unwrap();
            ports.push(server.port());
            let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(statement).await.unwrap();
            server.stop().await.unwrap();
        }
        std::fs::remove_dir_all(parent).unwrap();
        assert_eq!(ports[0], ports[1]);
    }
}
