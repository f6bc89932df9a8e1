//! A stretch of network between two parties that can be cut, slowed, or left half-open.
//!
//! Everything of a run talks through links, so that each address stays the same while what is behind
//! it dies and comes back on another port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const BUFFER_BYTES: usize = 64 * 1024;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Whole,
    /// Connections are reset and new ones closed at once.
    Cut,
    /// Each piece of data is on its way for so long, in either direction.
    Slow(Duration),
    /// What is asked arrives, what is answered does not, and nobody is told.
    HalfOpen,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<Option<SocketAddr>>,
    state: watch::Sender<State>,
    /// Cancelled, then replaced, to end all connections.
    connections: Mutex<CancellationToken>,
}

/// Stops, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Link {
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: Option<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            state: watch::Sender::new(State::Whole),
            connections: Mutex::new(CancellationToken::new()),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared.clone(), stop.clone())));
        Ok(Self { shared, address, _stop: stop.drop_guard() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is behind it from now on; nothing: connections are closed at once.
    pub fn lead_to(&self, upstream: Option<SocketAddr>) {
        *lock(&self.shared.upstream) = upstream;
    }

    pub fn set(&self, state: State) {
        self.shared.state.send_replace(state);
        if state == State::Cut {
            let mut connections = lock(&self.shared.connections);
            connections.cancel();
            *connections = CancellationToken::new();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    while let Ok((client, _)) = listener.accept().await {
        let upstream = *lock(&shared.upstream);
        let (Some(upstream), false) = (upstream, *shared.state.borrow() == State::Cut) else { continue };
        let cut = lock(&shared.connections).clone();
        let state = shared.state.subscribe();
        let connection = cut.run_until_cancelled_owned(async move {
            // Either side closing ends the connection: there is nobody to tell.
            let _ = pass(client, upstream, state).await;
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn pass(client: TcpStream, upstream: SocketAddr, state: watch::Receiver<State>) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // A direction that has ended leaves the other one to say what it still has to say.
    tokio::try_join!(
        carry(from_client, to_server, state.clone(), false),
        carry(from_server, to_client, state, true)
    )?;
    Ok(())
}

/// Carries one direction to its end.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    is_answer: bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        loop {
            let now = *state.borrow_and_update();
            match now {
                State::Slow(delay) => tokio::time::sleep(delay).await,
                State::HalfOpen if is_answer => {
                    if state.changed().await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                _ => {}
            }
            break;
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_tests::http::post;
    use bowline_tests::{BOUND, Receiver};

    #[tokio::test]
    async fn it_breaks_as_told_and_heals() {
        let receiver = Receiver::start().await;
        let link = Link::start(Some(receiver.address())).await.unwrap();
        let url = format!("http://{}/", link.address());
        let posted = async || post(&url, &Vec::new(), "x").await;
        assert_eq!(posted().await.unwrap().status, 200);
        link.set(State::Cut);
        posted().await.expect_err("cut");
        assert_eq!(receiver.count(), 1);

        link.set(State::HalfOpen);
        let url_of_held = url.clone();
        let held = tokio::spawn(async move { post(&url_of_held, &Vec::new(), "x").await });
        receiver.await_count(2, BOUND).await;
        assert!(!held.is_finished(), "the question arrived, the answer did not");
        link.set(State::Whole);
        assert_eq!(held.await.unwrap().unwrap().status, 200);

        link.set(State::Slow(Duration::from_millis(30)));
        let began = std::time::Instant::now();
        posted().await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(60), "there and back");
        link.lead_to(None);
        posted().await.expect_err("nobody behind it");
    }
}
