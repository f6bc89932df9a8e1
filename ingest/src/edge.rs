//! One connection, as HTTP/1.1 or HTTP/2: bounded heads, none that could be read in two ways, and a body
//! in every refusal. Whoever answers gets each request with the verdict over its head.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_core::inbound::Refusal;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::framing::Framing;
use crate::head;
use crate::watched::Watched;

/// What one HTTP/2 connection may send ahead of what is read of it.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ready to be sent.
pub type Reply = Response<Full<Bytes>>;

/// What a connection may do.
#[derive(Debug, Clone, Copy)]
pub struct EdgeLimits {
    pub streams_per_connection_max: usize,
    pub headers_max: usize,
    /// Of the request line and all headers.
    pub header_bytes_max: usize,
    pub header_timeout: Duration,
}

/// A request, and why it must be refused whatever it asks for.
#[derive(Debug)]
pub struct Heard {
    pub request: Request<Incoming>,
    pub verdict: Result<(), Refusal>,
}

/// How far a connection has come.
#[derive(Debug)]
pub struct Progress(Arc<Framing>);

impl Progress {
    /// Those whose heads were read.
    pub fn requests(&self) -> u64 {
        self.0.requests()
    }
}

/// What connections are served with.
#[derive(Debug)]
pub struct Edge {
    http: auto::Builder<TokioExecutor>,
    headers_max: usize,
}

impl Edge {
    pub fn new(limits: EdgeLimits) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            // A sender may close its side once it has sent its request, and still waits for the answer.
            .half_close(true)
            .header_read_timeout(limits.header_timeout)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.header_bytes_max);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection_max as u32)
            .max_header_list_size(limits.header_bytes_max as u32)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(ANSWER_BUFFER_BYTES)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Self { http, headers_max: limits.headers_max }
    }

    /// The connection, to be driven to its end.
    pub fn serve<S, A, F>(
        &self,
        stream: S,
        answer: A,
    ) -> (impl GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + use<S, A, F>, Progress)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Heard) -> F + Send + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let framing = Arc::new(Framing::default());
        let progress = Progress(Arc::clone(&framing));
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&framing)));
        let headers_max = self.headers_max;
        let service = service_fn(move |request: Request<Incoming>| {
            let underway = Underway::begin(&framing);
            let (head, body) = request.into_parts();
            let verdict = head::check(&head, framing.next_request(), headers_max);
            let answered = answer(Heard { request: Request::from_parts(head, body), verdict });
            async move {
                let reply = answered.await;
                Ok::<_, Infallible>(reply.map(|body| Answered { body, _underway: underway }))
            }
        });
        (self.http.serve_connection(stream, service).into_owned(), progress)
    }
}

/// An answer that the library does not have in full yet.
struct Underway(Arc<Framing>);

impl Underway {
    fn begin(framing: &Arc<Framing>) -> Self {
        framing.answer_begins();
        Self(Arc::clone(framing))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.answer_ends();
    }
}

/// A body that says when it has been handed over.
struct Answered {
    body: Full<Bytes>,
    _underway: Underway,
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
