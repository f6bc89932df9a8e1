//! Connections: a bounded number, HTTP/1.1 and HTTP/2 without TLS, each with bounded headers and time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::bootstrap::config::IngestConfig;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::intake::Intake;

const HEADERS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 * 1024;
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (too many open files, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server allows its connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    connections_max: usize,
    header_timeout: Duration,
    /// How long requests that are in may take to finish when the server stops.
    drain: Duration,
}

impl ServerLimits {
    pub(crate) fn of(config: &IngestConfig) -> Self {
        Self {
            connections_max: config.connections_max,
            header_timeout: config.header_timeout,
            drain: config.request_timeout,
        }
    }
}

/// Serves until `stop`: then nothing more is accepted, and what is in finishes within a bound. What is
/// cut was not acknowledged, so its sender sends it again.
pub(crate) async fn serve(
    listener: TcpListener,
    intake: Arc<Intake>,
    limits: ServerLimits,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let builder = Arc::new(builder(limits));
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, peer, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (builder, intake, watcher) = (Arc::clone(&builder), Arc::clone(&intake), graceful.watcher());
        connections.spawn(async move {
            let _place = place;
            connection(&builder, intake, (stream, peer), watcher, limits.header_timeout).await;
        });
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
        .header_read_timeout(limits.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

/// A connection and its place; none is accepted beyond the limit, the next waits in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "ingest could not accept a connection");
            None
        }
    }
}

async fn connection(
    builder: &auto::Builder<TokioExecutor>,
    intake: Arc<Intake>,
    (stream, peer): (TcpStream, SocketAddr),
    watcher: Watcher,
    header_timeout: Duration,
) {
    // An error says that it closed as it was accepted; serving it will find out.
    let _ = stream.set_nodelay(true);
    let asked = CancellationToken::new();
    let first = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        first.cancel();
        let intake = Arc::clone(&intake);
        async move { Ok::<_, Infallible>(intake.answer(request, peer.ip().to_canonical()).await) }
    });
    let serving = pin!(watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()));
    // Until the version of HTTP is known no timeout of HTTP counts.
    let silent = async {
        if tokio::time::timeout(header_timeout, asked.cancelled()).await.is_ok() {
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
