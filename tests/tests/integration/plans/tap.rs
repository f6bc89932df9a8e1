//! Listens to what Postgres says of its plans: `auto_explain` sends each as a notice, which nobody but
//! this reads.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bowline_tests::database::Database;
use bowline_tests::stores;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// For sessions that begin after this.
const EXPLAIN: [&str; 6] = [
    "session_preload_libraries = 'auto_explain'",
    "auto_explain.log_min_duration = 0",
    "auto_explain.log_level = 'notice'",
    "auto_explain.log_format = 'json'",
    "auto_explain.log_analyze = on",
    "auto_explain.log_timing = off",
];

/// A server that passes bytes on to Postgres, and keeps the plans that come back.
pub(super) struct Tap {
    url: String,
    plans: Arc<Mutex<Vec<Plan>>>,
    _accept: AbortOnDropHandle<()>,
}

impl Tap {
    pub(super) async fn start(database: &Database) -> Self {
        for setting in EXPLAIN {
            let sql = format!("ALTER DATABASE \"{}\" SET {setting}", database.name);
            database.sql().batch_execute(&sql).await.unwrap();
        }
        let upstream = stores::address(&database.url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let plans = Arc::new(Mutex::new(Vec::new()));
        let accept = AbortOnDropHandle::new(tokio::spawn(accept(listener, upstream, Arc::clone(&plans))));
        let url = database.url.replace(&upstream.to_string(), &here.to_string());
        assert_ne!(url, database.url);
        Self { url, plans, _accept: accept }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The plans since this was asked last. Those of a statement come before its result.
    pub(super) fn take(&self) -> Vec<Plan> {
        std::mem::take(&mut self.plans.lock().unwrap())
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, plans: Arc<Mutex<Vec<Plan>>>) {
    while let Ok((client, _)) = listener.accept().await {
        let plans = Arc::clone(&plans);
        tokio::spawn(async move {
            // Either side closing ends the connection.
            let _ = pass(client, upstream, &plans).await;
        });
    }
}

async fn pass(client: TcpStream, upstream: SocketAddr, plans: &Mutex<Vec<Plan>>) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        let (mut buffer, mut partial) = (vec![0; 64 * 1024], Vec::new());
        loop {
            let read = from_server.read(&mut buffer).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            partial.extend_from_slice(&buffer[..read]);
            while let Some(message) = next_message(&mut partial) {
                plans.lock().unwrap().extend(Plan::of(&message));
            }
            to_client.write_all(&buffer[..read]).await?;
        }
    };
    tokio::select! {
        asked = tokio::io::copy(&mut from_client, &mut to_server) => asked.map(|_| ()),
        answered = answers => answered,
    }
}

/// A type byte, a length that counts itself, and the rest.
fn next_message(arrived: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(arrived.get(1..5)?.try_into().ok()?) as usize;
    (arrived.len() > length).then(|| arrived.drain(..=length).collect())
}

/// A scan that was executed.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) kind: String,
    pub(super) relation: String,
    /// Rows that were looked at, wanted or not.
    pub(super) rows: f64,
}

/// What Postgres did for one statement.
#[derive(Clone)]
pub(super) struct Plan {
    json: Value,
    pub(super) scans: Vec<Scan>,
}

impl Plan {
    fn of(message: &[u8]) -> Option<Self> {
        if message.first() != Some(&b'N') {
            return None;
        }
        let text = message[5..].split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"))?;
        let (_, plan) = std::str::from_utf8(text).ok()?.split_once("plan:\n")?;
        let json: Value = serde_json::from_str(plan).unwrap();
        let mut scans = Vec::new();
        gather(&json["Plan"], &mut scans);
        Some(Self { json, scans })
    }
}

fn gather(node: &Value, scans: &mut Vec<Scan>) {
    let number = |name: &str| node[name].as_f64().unwrap_or(0.0);
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let loops = number("Actual Loops");
    if let Some(relation) = node["Relation Name"].as_str().filter(|_| kind.ends_with("Scan") && loops > 0.0) {
        // Postgres gives the mean over the loops.
        let each = number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck");
        scans.push(Scan { kind: kind.to_owned(), relation: relation.to_owned(), rows: each * loops });
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        gather(child, scans);
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.json["Query Text"].as_str().unwrap_or_default())?;
        sketch(f, &self.json["Plan"], 0)
    }
}

/// The tree as `EXPLAIN` draws it, in short.
fn sketch(f: &mut fmt::Formatter<'_>, node: &Value, depth: usize) -> fmt::Result {
    write!(f, "{:depth$}{}", "", node["Node Type"].as_str().unwrap_or_default())?;
    for (name, before) in [("Index Name", " by "), ("Relation Name", " on "), ("Subplan Name", " as ")] {
        if let Some(text) = node[name].as_str() {
            write!(f, "{before}{text}")?;
        }
    }
    write!(f, ": {} rows in {} loops", node["Actual Rows"], node["Actual Loops"])?;
    if let Some(removed) = node["Rows Removed by Filter"].as_f64() {
        write!(f, ", {removed} removed")?;
    }
    writeln!(f)?;
    for child in node["Plans"].as_array().into_iter().flatten() {
        sketch(f, child, depth + 2)?;
    }
    Ok(())
}
