//! The ops port: `/healthz`, `/readyz`, `/metrics`. It answers from the start to the very end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::Shutdown;

const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is closed after this, so that none is held for good.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Histograms gather samples until they are drained, scraped or not.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// When accepting fails (out of descriptors) it is not tried again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What must hold before the process takes work. Clones share it.
#[derive(Debug, Clone)]
pub struct Readiness {
    shutdown: Shutdown,
    /// What each condition waits for; `None`: it holds.
    conditions: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
    all_hold: Arc<watch::Sender<bool>>,
}

/// One named condition of [`Readiness`].
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

#[derive(Serialize)]
struct ReadyDocument<'a> {
    ready: bool,
    conditions: BTreeMap<&'static str, ConditionDocument<'a>>,
}

#[derive(Serialize)]
struct ConditionDocument<'a> {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<&'a str>,
}

impl Readiness {
    /// Without conditions it is ready; a shutdown makes it unready for good.
    pub fn new(shutdown: &Shutdown) -> Self {
        Self {
            shutdown: shutdown.clone(),
            conditions: Arc::default(),
            all_hold: Arc::new(watch::Sender::new(true)),
        }
    }

    /// Adds a condition, which does not hold at first.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { name, readiness: self.clone() };
        condition.set_waiting("start");
        condition
    }

    pub fn is_ready(&self) -> bool {
        !self.shutdown.is_requested() && *self.all_hold.borrow()
    }

    /// Resolves when every condition holds.
    pub async fn ready(&self) {
        let mut all_hold = self.all_hold.subscribe();
        // The sender lives in `self`: waiting cannot fail.
        let _ = all_hold.wait_for(|all| *all).await;
    }

    fn set(&self, name: &'static str, waiting_for: Option<String>) {
        let mut conditions = self.conditions.lock();
        conditions.insert(name, waiting_for);
        let all = conditions.values().all(Option::is_none);
        // Sent under the lock, so that the last change is the last word.
        self.all_hold.send_if_modified(|value| std::mem::replace(value, all) != all);
    }

    fn document(&self) -> (bool, String) {
        let ready = self.is_ready();
        let conditions = self.conditions.lock();
        let mut shown: BTreeMap<_, _> = conditions
            .iter()
            .map(|(name, waiting_for)| {
                let waiting_for = waiting_for.as_deref();
                (*name, ConditionDocument { ready: waiting_for.is_none(), waiting_for })
            })
            .collect();
        if self.shutdown.is_requested() {
            shown.insert(
                "shutdown",
                ConditionDocument { ready: false, waiting_for: Some("the end of the process") },
            );
        }
        let document = ReadyDocument { ready, conditions: shown };
        // Plain data: serializing it cannot fail.
        (ready, serde_json::to_string(&document).unwrap_or_default())
    }
}

impl Condition {
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn set_ready(&self) {
        self.readiness.set(self.name, None);
    }

    /// The condition does not hold; `detail` is shown to whoever may reach the ops port.
    pub fn set_waiting(&self, detail: &str) {
        self.readiness.set(self.name, Some(detail.chars().take(256).collect()));
    }
}

/// Ends the ops server with the scope that holds it.
#[derive(Debug)]
pub(super) struct StopOnDrop(pub(super) JoinHandle<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves the ops port until the handle is aborted.
pub fn serve(listener: TcpListener, readiness: Readiness, metrics: PrometheusHandle) -> JoinHandle<()> {
    tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = tokio::task::JoinSet::new();
        let mut upkeep = tokio::time::interval(METRICS_UPKEEP);
        loop {
            let accepted = tokio::select! {
                _ = upkeep.tick() => {
                    metrics.run_upkeep();
                    continue;
                }
                Some(_) = connections.join_next() => continue,
                accepted = accept(&listener, &permits) => accepted,
            };
            let Some((stream, permit)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (readiness, metrics) = (readiness.clone(), metrics.clone());
            connections.spawn(async move {
                let _permit = permit;
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(request.method(), request.uri().path(), &readiness, &metrics);
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // Whatever ends the connection, the caller of an ops port asks again.
                let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            });
        }
    })
}

/// A connection and its permit; none is accepted beyond the limit.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "ops port could not accept");
            None
        }
    }
}

fn answer(
    method: &Method,
    path: &str,
    readiness: &Readiness,
    metrics: &PrometheusHandle,
) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(*method, Method::GET | Method::HEAD) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
    }
    match path {
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => {
            let (ready, document) = readiness.document();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            respond(status, "application/json", document)
        }
        "/metrics" => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render()),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "here are /healthz, /readyz and /metrics\n".into()),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Status line and body of one request to a running server.
    async fn ask(listener_address: std::net::SocketAddr, request_line: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(listener_address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    #[tokio::test]
    async fn the_three_paths_and_no_others() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(&shutdown);
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("bowline_test_total").increment(3));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = serve(listener, readiness.clone(), recorder.handle());

        assert_eq!(ask(address, "GET /healthz").await, (200, "ok\n".into()));
        assert_eq!(ask(address, "GET /readyz").await, (200, r#"{"ready":true,"conditions":{}}"#.into()));

        let postgres = readiness.condition("postgres");
        readiness.condition("redis").set_ready();
        postgres.set_waiting("connection refused");
        let waiting = r#"{"ready":false,"conditions":{"postgres":{"ready":false,"waiting_for":"connection refused"},"redis":{"ready":true}}}"#;
        assert_eq!(ask(address, "GET /readyz").await, (503, waiting.into()));

        postgres.set_ready();
        readiness.ready().await;
        assert_eq!(ask(address, "GET /readyz").await.0, 200);
        shutdown.request();
        assert_eq!(ask(address, "GET /readyz").await.0, 503);

        let (status, body) = ask(address, "GET /metrics").await;
        assert!(status == 200 && body.contains("bowline_test_total 3"), "{body}");
        assert_eq!(ask(address, "POST /healthz").await.0, 405);
        assert_eq!(ask(address, "GET /other").await.0, 404);
        server.abort();
    }
}
