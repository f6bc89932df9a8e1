//! The server: a bounded number of connections, each with bounded streams and messages.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_core::binding::{Refresher, Watches};
use bowline_core::bootstrap::{Shutdown, supervise};
use bowline_core::query::Queries;
use bowline_core::store::watching::Log;
use bowline_core::stored_payloads;
use bowline_core::watch;
use bowline_proto::FILE_DESCRIPTOR_SET;
use bowline_proto::v1::api_key_service_server::ApiKeyServiceServer;
use bowline_proto::v1::audit_service_server::AuditServiceServer;
use bowline_proto::v1::binding_service_server::BindingServiceServer;
use bowline_proto::v1::dead_letter_service_server::DeadLetterServiceServer;
use bowline_proto::v1::delivery_service_server::DeliveryServiceServer;
use bowline_proto::v1::endpoint_service_server::EndpointServiceServer;
use bowline_proto::v1::event_service_server::EventServiceServer;
use bowline_proto::v1::event_type_service_server::EventTypeServiceServer;
use bowline_proto::v1::operation_service_server::OperationServiceServer;
use bowline_proto::v1::payload_service_server::PayloadServiceServer;
use bowline_proto::v1::source_service_server::SourceServiceServer;
use bowline_proto::v1::tenant_service_server::TenantServiceServer;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;

use crate::AdminContext;
use crate::api_key_service::ApiKeys;
use crate::audit_service::Audits;
use crate::binding_service::Bindings;
use crate::dead_letter_service::DeadLetters;
use crate::delivery_service::Deliveries;
use crate::endpoint_service::Endpoints;
use crate::event_service::Events;
use crate::event_type_service::EventTypes;
use crate::gate::GateLayer;
use crate::operation_service::Operations;
use crate::payload_service::Payloads;
use crate::source_service::Sources;
use crate::streaming::{ANSWER_BYTES_MAX, Room, StreamLayer};
use crate::tenant_service::Tenants;
use crate::watch::Watching;

const CONNECTIONS_MAX: usize = 1024;
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
const CALLS_PER_CONNECTION_MAX: usize = 64;
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// A published body may have 1 MiB; the rest is room for batches.
const REQUEST_BYTES_MAX: usize = 5 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are out at shutdown may take this long to finish.
const DRAIN: Duration = Duration::from_secs(10);
/// After a failed accept (too many open files, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("reflection could not be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the admin API stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `shutdown`, then lets the calls that are out finish within a bound.
pub async fn serve(
    listener: TcpListener,
    context: AdminContext,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let context = Arc::new(context);
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in ["bowline.v1.SourceService", "bowline.v1.EndpointService", "bowline.v1.EventService"]
        .into_iter()
        .chain(["bowline.v1.DeliveryService", "bowline.v1.DeadLetterService", "bowline.v1.PayloadService"])
        .chain(["bowline.v1.TenantService", "bowline.v1.ApiKeyService", "bowline.v1.AuditService"])
        .chain(["bowline.v1.OperationService", "bowline.v1.BindingService", "bowline.v1.EventTypeService"])
    {
        health.set_service_status(service, ServingStatus::Serving).await;
    }

    let background = Background::start(&context);
    let stopping = shutdown.clone();
    let signal = async move {
        stopping.cancelled().await;
        health.set_service_status("", ServingStatus::NotServing).await;
    };
    let gate = GateLayer::new(&context);
    let streams = StreamLayer::new(gate.gate());
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(gate)
        .layer(streams)
        .add_routes(services(&context, &background, &shutdown)?.add_service(health_service))
        .serve_with_incoming_shutdown(accept(listener), signal);

    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        outcome = server => outcome?,
        () = deadline => tracing::warn!(drain_s = DRAIN.as_secs(), "admin calls were cut at shutdown"),
    }
    Ok(())
}

fn services(
    context: &Arc<AdminContext>,
    background: &Background,
    stop: &CancellationToken,
) -> Result<Routes, ServeError> {
    /// The limits of messages, the same for each service.
    macro_rules! limited {
        ($server:ident, $service:ident) => {
            limited!($server, $service::new(Arc::clone(context)))
        };
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX)
        };
    }
    let queries = Arc::clone(&background.queries);
    let refresher = Arc::clone(&background.refresher);
    let room = Arc::new(Room::of_watches());
    let [events, attempts] = background.logs.each_ref().map(|watches| Watching {
        watches: Arc::clone(watches),
        room: Arc::clone(&room),
        stopping: stop.clone(),
    });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            // The details of errors: a client that knows only reflection can read them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(limited!(SourceServiceServer, Sources))
        .add_service(limited!(EndpointServiceServer, Endpoints))
        .add_service(limited!(EventServiceServer, Events::new(Arc::clone(context), events)))
        .add_service(limited!(EventTypeServiceServer, EventTypes))
        .add_service(limited!(DeliveryServiceServer, Deliveries::new(Arc::clone(context), attempts)))
        .add_service(limited!(DeadLetterServiceServer, DeadLetters))
        .add_service(limited!(
            BindingServiceServer,
            Bindings::new(Arc::clone(context), refresher, room, stop.clone())
        ))
        .add_service(limited!(PayloadServiceServer, Payloads::new(Arc::clone(context), queries)))
        .add_service(limited!(OperationServiceServer, Operations::new(Arc::clone(context), stop.clone())))
        .add_service(limited!(TenantServiceServer, Tenants))
        .add_service(limited!(ApiKeyServiceServer, ApiKeys))
        .add_service(limited!(AuditServiceServer, Audits))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// What goes on beside the calls, until it is dropped.
struct Background {
    queries: Arc<Queries>,
    refresher: Arc<Refresher>,
    /// Events and attempts.
    logs: [Arc<watch::Watches>; 2],
    end: Shutdown,
}

impl Background {
    /// Bindings are refreshed and those who watch them woken; bodies that sources do not keep go.
    fn start(context: &AdminContext) -> Self {
        let queries = Arc::new(Queries::default());
        let watches = Arc::new(Watches::new(context.pool.clone(), context.journal.streams()));
        let refresher = Arc::new(Refresher::new(
            context.pool.clone(),
            Arc::clone(&queries),
            context.journal.touched(),
            Arc::clone(&watches),
            context.snapshot.versions(),
        ));
        let end = Shutdown::new();
        let (work, token) = (Arc::clone(&refresher), end.token());
        supervise("bindings", &end, move || {
            let (work, token) = (Arc::clone(&work), token.clone());
            async move { token.run_until_cancelled(work.run()).await.map_or(Ok(()), |ended| ended.map(|_| ())) }
        });
        let token = end.token();
        supervise("watches", &end, move || {
            let (watches, token) = (Arc::clone(&watches), token.clone());
            async move { token.run_until_cancelled(watches.run()).await.map_or(Ok(()), |ended| ended.map(|_| ())) }
        });
        let logs =
            [("event watches", Log::Events), ("delivery watches", Log::Attempts)].map(|(name, log)| {
                let watches = Arc::new(watch::Watches::new(context.pool.clone(), log));
                let (work, token) = (Arc::clone(&watches), end.token());
                supervise(name, &end, move || {
                    let (work, token) = (Arc::clone(&work), token.clone());
                    async move {
                        token.run_until_cancelled(work.run()).await.map_or(Ok(()), |ended| ended.map(|_| ()))
                    }
                });
                watches
            });
        let (pool, token) = (context.pool.clone(), end.token());
        supervise("stored payloads", &end, move || {
            let (pool, token) = (pool.clone(), token.clone());
            async move {
                token
                    .run_until_cancelled(stored_payloads::run(pool))
                    .await
                    .map_or(Ok(()), |ended| ended.map(|_| ()))
            }
        });
        Self { queries, refresher, logs, end }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end.request();
    }
}

/// Connections, at most [`CONNECTIONS_MAX`] at a time: the next one waits in the kernel's queue.
fn accept(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    unfold((listener, places), |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection closed as it was accepted");
                        continue;
                    }
                    return Some((Ok(Connection { stream, place }), (listener, places)));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin port: accepting failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// A connection and the place it holds.
struct Connection {
    stream: TcpStream,
    #[allow(dead_code, reason = "held until the connection ends")]
    place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
