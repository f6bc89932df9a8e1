//! Connections: a bounded number, over TLS where a certificate is configured; each with bounded time until
//! its first request, and until the last one is done.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::bootstrap::config::IngestConfig;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, EdgeLimits, Heard};
use crate::intake::Intake;
use crate::places::{Line, Place, Places};
use crate::tls::Tls;

/// After a failed accept (too many open files, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server allows its connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    connections_max: usize,
    edge: EdgeLimits,
    /// How long requests that are in may take to finish when the server stops.
    drain: Duration,
}

impl ServerLimits {
    pub(crate) fn of(config: &IngestConfig) -> Self {
        Self {
            connections_max: config.connections_max,
            edge: EdgeLimits {
                streams_per_connection_max: config.streams_per_connection_max,
                headers_max: config.headers_max,
                header_bytes_max: config.header_bytes_max,
                header_timeout: config.header_timeout,
            },
            drain: config.request_timeout,
        }
    }
}

/// What requests share that come over one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) line: Arc<Line>,
}

/// What connections are served with.
struct Server {
    edge: Edge,
    tls: Option<Arc<Tls>>,
    intake: Arc<Intake>,
    header_timeout: Duration,
}

/// Serves until `stop`: then nothing more is accepted, and what is in finishes within a bound. What is
/// cut was not acknowledged, so its sender sends it again.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    intake: Arc<Intake>,
    limits: ServerLimits,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let header_timeout = limits.edge.header_timeout;
    let server = Arc::new(Server { edge: Edge::new(limits.edge), tls, intake, header_timeout });
    let places = Places::new(limits.connections_max);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "ingest could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = tokio::select! {
            () = stop.cancelled() => break,
            Some(place) = places.take() => place,
            else => break,
        };
        let (server, watcher) = (Arc::clone(&server), graceful.watcher());
        connections.spawn(async move { server.connection(stream, peer, &place, watcher).await });
    }
    // Whoever connects from here on is refused at once, and goes to another replica.
    drop(listener);
    let open = connections.len();
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were cut at shutdown");
    } else {
        tracing::info!(connections = open, "requests that were in have finished");
    }
    connections.shutdown().await;
    Ok(())
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, place: &Place, watcher: Watcher) {
        // An error says that it closed as it was accepted; serving it will find out.
        let _ = stream.set_nodelay(true);
        let line = Arc::clone(place.line());
        let served = async {
            let Some(tls) = &self.tls else { return self.http(stream, peer, &line, watcher).await };
            match tokio::time::timeout(self.header_timeout, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => self.http(stream, peer, &line, watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection came to no TLS"),
                Err(_) => tracing::debug!(%peer, "a connection came to no TLS in time"),
            }
        };
        tokio::select! {
            () = served => {}
            () = line.gives_way() => tracing::debug!(%peer, "a quiet connection was closed: its place was needed"),
        }
    }

    async fn http<S>(&self, stream: S, peer: SocketAddr, line: &Arc<Line>, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Arc::new(Connection { peer, line: Arc::clone(line) });
        let intake = Arc::clone(&self.intake);
        let (serving, progress) = self.edge.serve(stream, move |heard: Heard| {
            let (intake, connection) = (Arc::clone(&intake), Arc::clone(&connection));
            async move { intake.answer(heard, &connection).await }
        });
        let serving = pin!(watcher.watch(serving));
        // Until the version of HTTP is known no timeout of HTTP counts.
        let silent = async {
            tokio::time::sleep(self.header_timeout).await;
            if progress.requests() > 0 {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "a connection ended by an error");
                }
            }
            () = silent => tracing::debug!(%peer, "a connection without a request was closed"),
        }
    }
}
