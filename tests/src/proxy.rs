//! A TCP proxy that breaks connections where a test wants them broken.
//!
//! It passes bytes on until it is told to refuse, or until a client sends a Postgres statement that
//! holds a given text. Then it cuts that connection either before the statement reaches the server
//! (it never happened) or once the server has answered (it happened, and nobody knows).
//!
//! It can also have another session do something between any two statements, and it knows how long answers were.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::{CancellationToken, DropGuard};

/// On which side of the statement the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never saw it.
    Before,
    /// The server did it; its answer is lost.
    Answer,
}

#[derive(Debug)]
struct Rule {
    text: String,
    cut: Cut,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    rule: Mutex<Option<Rule>>,
    cuts: watch::Sender<usize>,
    /// Cancelled, then replaced, to end all connections.
    connections: Mutex<CancellationToken>,
    refusing: watch::Sender<bool>,
    /// What another session does before anything that a client sends is passed on.
    between: Mutex<Option<Arc<(Client, String)>>>,
    answer_bytes_max: AtomicU64,
}

/// Stops, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Proxy {
    /// # Panics
    /// When no port is free.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream,
            rule: Mutex::new(None),
            cuts: watch::Sender::new(0),
            connections: Mutex::new(stop.child_token()),
            refusing: watch::Sender::new(false),
            between: Mutex::new(None),
            answer_bytes_max: AtomicU64::new(0),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared.clone())));
        Self { shared, address, _stop: stop.drop_guard() }
    }

    /// `url` with this proxy in place of the server.
    ///
    /// # Panics
    /// When `url` does not name the server behind this proxy.
    pub fn in_front_of(&self, url: &str) -> String {
        let through = url.replace(&self.shared.upstream.to_string(), &self.address.to_string());
        assert_ne!(through, url, "{url} names another server than {}", self.shared.upstream);
        through
    }

    /// Cuts the next connection that sends a statement holding `text`, once. An answer is cut only where
    /// the statement did something.
    pub fn cut_once(&self, text: &str, cut: Cut) {
        *lock(&self.shared.rule) = Some(Rule { text: text.to_owned(), cut });
    }

    /// How many connections were cut by [`cut_once`](Self::cut_once) so far.
    pub fn cuts(&self) -> usize {
        *self.shared.cuts.borrow()
    }

    /// Until so many connections were cut by [`cut_once`](Self::cut_once).
    ///
    /// # Panics
    /// After [`BOUND`](crate::BOUND).
    pub async fn await_cuts(&self, count: usize) {
        let mut cuts = self.shared.cuts.subscribe();
        let cut = tokio::time::timeout(crate::BOUND, cuts.wait_for(|cuts| *cuts >= count)).await;
        assert!(cut.is_ok(), "no statement did what was to be cut at: {:?}", lock(&self.shared.rule));
    }

    /// Ends all connections and refuses new ones.
    pub fn refuse(&self) {
        self.shared.refusing.send_replace(true);
        let mut connections = lock(&self.shared.connections);
        connections.cancel();
        *connections = CancellationToken::new();
    }

    pub fn admit(&self) {
        self.shared.refusing.send_replace(false);
    }

    /// Has `other` execute `sql` before anything that a client sends is passed on, until
    /// [`leave_alone`](Self::leave_alone): what stands in Postgres is another thing at each statement.
    pub fn disturb(&self, other: Client, sql: &str) {
        *lock(&self.shared.between) = Some(Arc::new((other, sql.to_owned())));
    }

    pub fn leave_alone(&self) {
        lock(&self.shared.between).take();
    }

    /// The longest answer to one statement so far.
    pub fn answer_bytes_max(&self) -> u64 {
        self.shared.answer_bytes_max.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        // Before the look, so that what is refused in between ends it.
        let token = lock(&shared.connections).clone();
        if *shared.refusing.borrow() {
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(token.run_until_cancelled_owned(async move {
            // Either side closing ends the connection: there is nobody to tell.
            let _ = pass(client, &shared).await;
        }));
    }
}

async fn pass(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let held = AtomicU64::new(0);
    let questions = async {
        let mut statements = Statements::default();
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        while from_client.read_buf(&mut buffer).await? > 0 {
            let arrived = buffer.split().freeze();
            match statements.see(&arrived, &shared.rule) {
                None => {}
                Some(Cut::Before) => {
                    lock(&shared.rule).take();
                    shared.cuts.send_modify(|cuts| *cuts += 1);
                    return Ok(());
                }
                Some(Cut::Answer) => held.store(statements.answer, Ordering::SeqCst),
            }
            let between = lock(&shared.between).clone();
            if let Some(between) = between {
                let (other, sql) = &*between;
                other.batch_execute(sql).await.expect("what is done between two statements");
            }
            to_server.write_all(&arrived).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = questions => ended,
        ended = answer(from_server, to_client, &held, shared) => ended,
    }
}

/// Passes answers on. The one whose number is `held` is kept back until the server is ready again: the statement is
/// over then, and committed where it stood alone. If it did something the connection ends here, and
/// nobody knows; a statement that found nothing to do is not the one to cut at. Within a transaction it is the answer to
/// its commit that is lost.
async fn answer(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    held: &AtomicU64,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut partial = BytesMut::with_capacity(64 * 1024);
    let (mut kept, mut passed) = (BytesMut::new(), BytesMut::new());
    // The first is the one to the startup message.
    let mut number = 1;
    let mut did_something = false;
    let mut bytes = 0;
    // By the statement to cut at, in a transaction that is open.
    let mut uncommitted = false;
    while from_server.read_buf(&mut partial).await? > 0 {
        while let Some(message) = next_message(&mut partial, 1) {
            kept.extend_from_slice(&message);
            // `UPDATE 0` found nothing; `COMMIT` has no number.
            did_something |= message[0] == b'C' && !message.ends_with(b" 0\0");
            let is_held = uncommitted || held.load(Ordering::SeqCst) == number;
            bytes += message.len() as u64;
            if message[0] == b'Z' {
                let rolled_back = kept[0] == b'C' && kept[5..].starts_with(b"ROLLBACK");
                if message.ends_with(b"T") {
                    uncommitted |= is_held && did_something;
                } else {
                    uncommitted = false;
                    if is_held && did_something && !rolled_back && lock(&shared.rule).take().is_some() {
                        shared.cuts.send_modify(|cuts| *cuts += 1);
                        return Ok(());
                    }
                }
                shared.answer_bytes_max.fetch_max(bytes, Ordering::SeqCst);
                number += 1;
                bytes = 0;
                did_something = false;
            }
            if message[0] == b'Z' || !is_held {
                passed.unsplit(kept.split());
            }
        }
        to_client.write_all(&passed.split()).await?;
    }
    Ok(())
}

/// The next whole message, whose length stands after `head` bytes.
fn next_message(arrived: &mut BytesMut, head: usize) -> Option<Bytes> {
    let length = arrived.get(head..head + 4)?.get_u32() as usize;
    (arrived.len() >= head + length).then(|| arrived.split_to(head + length).freeze())
}

/// The frontend messages of one connection, followed far enough to know which SQL is executed.
#[derive(Debug, Default)]
struct Statements {
    started: bool,
    /// How many answers the server will have completed up to here, that to the startup included.
    answers: u64,
    /// Which of them is the one to the statement that fits the rule.
    answer: u64,
    partial: BytesMut,
    by_name: HashMap<Bytes, Bytes>,
}

impl Statements {
    /// Takes in what the client sent, and says whether it completes a statement to cut at.
    fn see(&mut self, arrived: &[u8], rule: &Mutex<Option<Rule>>) -> Option<Cut> {
        self.partial.extend_from_slice(arrived);
        let mut cut = None;
        while let Some(message) = next_message(&mut self.partial, usize::from(self.started)) {
            if !self.started {
                self.started = true;
                self.answers = 1;
                continue;
            }
            let number = self.answers + 1;
            // Query and Sync: each is answered by one ReadyForQuery.
            self.answers += u64::from(matches!(message[0], b'Q' | b'S'));
            let Some(sql) = self.executed(message[0], &message.slice(5..)) else { continue };
            let rule = lock(rule);
            let fits = |rule: &&Rule| String::from_utf8_lossy(&sql).contains(&rule.text);
            if let Some(rule) = rule.as_ref().filter(fits) {
                self.answer = number;
                cut = Some(rule.cut);
            }
        }
        cut
    }

    /// The SQL that this message executes: a simple query, or a bound prepared statement.
    fn executed(&mut self, tag: u8, message: &Bytes) -> Option<Bytes> {
        let mut texts = message.split(|byte| *byte == 0);
        let (first, second) = (texts.next()?, texts.next());
        match tag {
            b'Q' => Some(message.slice_ref(first)),
            b'P' => {
                self.by_name.insert(message.slice_ref(first), message.slice_ref(second?));
                None
            }
            b'B' => self.by_name.get(second?).cloned(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_bound_statement_is_known_by_its_text_even_in_pieces() {
        let rule = Mutex::new(Some(Rule { text: "UPDATE outbox".into(), cut: Cut::Answer }));
        let mut statements = Statements::default();
        let startup = [0, 0, 0, 8, 0, 3, 0, 0];
        assert_eq!(statements.see(&startup, &rule), None);
        assert_eq!(statements.see(&message(b'P', b"s1\0UPDATE outbox SET\0\0\0"), &rule), None);
        let bind = message(b'B', b"\0s1\0\0\0");
        assert_eq!(statements.see(&bind[..3], &rule), None);
        assert_eq!(statements.see(&bind[3..], &rule), Some(Cut::Answer));
        rule.lock().unwrap().take();
        assert_eq!(statements.see(&bind, &rule), None, "once");
    }

    #[tokio::test]
    async fn a_cut_loses_the_statement_or_only_its_answer() {
        let stores = crate::stores::Stores::found().await.unwrap();
        let proxy = Proxy::start(crate::stores::address(&stores.postgres_url).unwrap()).await;
        let through = proxy.in_front_of(&stores.postgres_url);
        let direct = crate::database::connect(&stores.postgres_url).await.unwrap();
        let table = format!("cut_{}", std::process::id());
        direct.batch_execute(&format!("CREATE TABLE {table} (n int)")).await.unwrap();
        for (cut, expected) in [(Cut::Before, 0_i64), (Cut::Answer, 1)] {
            let client = crate::database::connect(&through).await.unwrap();
            let insert = client.prepare(&format!("INSERT INTO {table} VALUES (1)")).await.unwrap();
            let nothing = format!("INSERT INTO {table} SELECT 1 WHERE false");
            proxy.cut_once("INSERT INTO cut_", cut);
            if cut == Cut::Answer {
                assert_eq!(client.execute(&nothing, &[]).await.unwrap(), 0, "it did nothing: no cut");
            }
            client.execute(&insert, &[]).await.expect_err("the connection is gone");
            let count = direct.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap();
            assert_eq!(count.get::<_, i64>(0), expected, "{cut:?}");
        }
        let mut client = crate::database::connect(&through).await.unwrap();
        proxy.cut_once("INSERT INTO cut_", Cut::Answer);
        for is_kept in [false, true] {
            let transaction = client.transaction().await.unwrap();
            let insert = format!("INSERT INTO {table} VALUES (2)");
            assert_eq!(transaction.execute(&insert, &[]).await.unwrap(), 1, "not yet");
            if is_kept {
                transaction.commit().await.expect_err("the connection is gone");
            } else {
                transaction.rollback().await.expect("nothing is lost");
            }
            let kept = format!("SELECT count(*) FROM {table} WHERE n = 2");
            let kept = direct.query_one(&kept, &[]).await.unwrap();
            assert_eq!(kept.get::<_, i64>(0), i64::from(is_kept));
        }
        proxy.await_cuts(3).await;
        proxy.refuse();
        assert!(crate::database::connect(&through).await.is_err());
        proxy.admit();
        crate::database::connect(&through).await.unwrap();
        direct.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
        stores.stop().await.unwrap();
    }
}
