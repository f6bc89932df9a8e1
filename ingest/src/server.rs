//! Connections: a bounded number, HTTP/1.1 and HTTP/2, over TLS where a certificate is configured; each
//! with bounded headers and time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_core::bootstrap::config::IngestConfig;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::framing::{Framing, Watched};
use crate::intake::Intake;
use crate::places::{Line, Place, Places};
use crate::tls::Tls;

/// What one HTTP/2 connection may send ahead of what is read of it.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (too many open files, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server allows its connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    connections_max: usize,
    streams_per_connection_max: usize,
    headers_max: usize,
    header_bytes_max: usize,
    header_timeout: Duration,
    /// How long requests that are in may take to finish when the server stops.
    drain: Duration,
}

impl ServerLimits {
    pub(crate) fn of(config: &IngestConfig) -> Self {
        Self {
            connections_max: config.connections_max,
            streams_per_connection_max: config.streams_per_connection_max,
            headers_max: config.headers_max,
            header_bytes_max: config.header_bytes_max,
            header_timeout: config.header_timeout,
            drain: config.request_timeout,
        }
    }
}

/// What requests share that come over one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) line: Arc<Line>,
    framing: Arc<Framing>,
    requests: AtomicU64,
}

impl Connection {
    /// Counts a request, and says whether it is known for certain where it ends. Requests of HTTP/1
    /// are counted in the order they came in.
    pub(crate) fn is_next_ambiguous(&self) -> bool {
        self.framing.is_ambiguous(self.requests.fetch_add(1, Ordering::Relaxed))
    }
}

/// What connections are served with.
struct Server {
    http: auto::Builder<TokioExecutor>,
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
    let header_timeout = limits.header_timeout;
    let server = Arc::new(Server { http: builder(limits), tls, intake, header_timeout });
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

fn builder(limits: ServerLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A sender may close its side once it has sent its request, and still waits for the answer.
        .half_close(true)
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection_max as u32)
        .max_header_list_size(limits.header_bytes_max as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(ANSWER_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
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
        let framing = Arc::new(Framing::default());
        let stream = Watched::new(stream, Arc::clone(&framing));
        let requests = AtomicU64::new(0);
        let connection = Arc::new(Connection { peer, line: Arc::clone(line), framing, requests });
        let service = service_fn({
            let (intake, connection) = (Arc::clone(&self.intake), Arc::clone(&connection));
            move |request: Request<Incoming>| {
                let (intake, connection) = (Arc::clone(&intake), Arc::clone(&connection));
                async move { Ok::<_, Infallible>(intake.answer(request, &connection).await) }
            }
        });
        let serving = self.http.serve_connection(TokioIo::new(stream), service);
        let serving = pin!(watcher.watch(serving.into_owned()));
        // Until the version of HTTP is known no timeout of HTTP counts.
        let silent = async {
            tokio::time::sleep(self.header_timeout).await;
            if connection.requests.load(Ordering::Relaxed) > 0 {
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
