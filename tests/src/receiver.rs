//! A customer's server: records what arrives and answers as the test says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the receiver does with one request.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// A status with one header.
    With(u16, &'static str, String),
    /// A status with a body of JSON.
    Json(u16, String),
    /// 200 to requests with this `authorization`, 401 to others.
    OnlyWith(String),
    /// Answers with this status once [`Receiver::release`] was called.
    Held(u16),
    /// Never answers.
    Hang,
    /// A head with status 200, then nothing.
    HangAfterHead,
    /// A head, then a byte now and then, for ever.
    Trickle,
    /// A head that promises more than comes before the connection is closed.
    CloseMidResponse,
    /// As fast as it goes, for ever.
    EndlessBody,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub at: Instant,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Recorded {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The stable id every format carries.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// # Panics
    /// When the body is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

#[derive(Debug)]
struct Shared {
    requests: Mutex<Vec<Recorded>>,
    script: Mutex<(VecDeque<Reply>, Reply)>,
    count: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

/// Stops when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    secure: bool,
    _stop: DropGuard,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Receiver {
    /// One that answers 200.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        Self::scripted([]).await
    }

    /// One that answers with each of `script` in turn, then 200.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn scripted(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::listen(script, None).await
    }

    /// One that speaks TLS, and answers 200.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn secure(tls: TlsAcceptor) -> Self {
        Self::listen([], Some(tls)).await
    }

    async fn listen(script: impl IntoIterator<Item = Reply>, tls: Option<TlsAcceptor>) -> Self {
        let secure = tls.is_some();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            script: Mutex::new((script.into_iter().collect(), Reply::Status(200))),
            count: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        let stop = CancellationToken::new();
        let accepting = accept(listener, tls, shared.clone(), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self { shared, address, secure, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("{}://{}/hook", if self.secure { "https" } else { "http" }, self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it answers from now on, the script forgotten.
    pub fn answer(&self, reply: Reply) {
        *lock(&self.shared.script) = (VecDeque::new(), reply);
    }

    /// Lets all held requests go, now and later.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }

    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// The ids that arrived, sorted, each once.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.requests().iter().map(|request| request.id().to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The requests, once there are at least `count`.
    ///
    /// # Panics
    /// When there are fewer after `bound`.
    pub async fn await_count(&self, count: usize, bound: Duration) -> Vec<Recorded> {
        let mut seen = self.shared.count.subscribe();
        let enough = tokio::time::timeout(bound, seen.wait_for(|seen| *seen >= count)).await;
        assert!(enough.is_ok(), "{} of {count} requests after {} s", self.count(), bound.as_secs());
        self.requests()
    }

    /// The requests, once each of `ids` arrived; how often does not matter.
    ///
    /// # Panics
    /// When some have not after `bound`.
    pub async fn await_ids(&self, ids: &[String], bound: Duration) -> Vec<Recorded> {
        let mut seen = self.shared.count.subscribe();
        let missing = || {
            let here = self.ids();
            ids.iter().filter(|id| !here.contains(id)).cloned().collect::<Vec<_>>()
        };
        let all = tokio::time::timeout(bound, seen.wait_for(|_| missing().is_empty())).await.is_ok();
        assert!(all, "never arrived within {} s: {:?}", bound.as_secs(), missing());
        self.requests()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let service = service_fn(move |request| respond(shared.clone(), request));
        let tls = tls.clone();
        let connection = async move {
            let http = hyper::server::conn::http1::Builder::new();
            // A connection that ends in an error is what half of the replies are for.
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    // A request that was cut off never arrived.
    let Ok(body) = body.collect().await else { return Ok(status(400)) };
    let reply = {
        let mut script = lock(&shared.script);
        script.0.pop_front().unwrap_or_else(|| script.1.clone())
    };
    let asked = head.headers.get("authorization").map(|value| value.as_bytes().to_vec());
    lock(&shared.requests).push(Recorded {
        at: Instant::now(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    });
    shared.count.send_modify(|count| *count += 1);
    Ok(match reply {
        Reply::Status(code) => status(code),
        Reply::With(code, name, value) => {
            let mut response = status(code);
            response.headers_mut().insert(name, value.parse().expect("the test's own header value"));
            response
        }
        Reply::Json(code, text) => {
            let mut response = status(code);
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert("content-type", json);
            *response.body_mut() = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
            response
        }
        Reply::OnlyWith(authorization) => {
            status(if asked.as_deref() == Some(authorization.as_bytes()) { 200 } else { 401 })
        }
        Reply::Held(code) => {
            // The sender lives as long as `shared`, which this future holds.
            let _ = shared.released.subscribe().wait_for(|released| *released).await;
            status(code)
        }
        Reply::Hang => std::future::pending().await,
        Reply::HangAfterHead => Response::new(streamed(stream::pending())),
        Reply::Trickle => Response::new(streamed(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"."))), ()))
        }))),
        Reply::CloseMidResponse => {
            let cut = stream::iter([
                Ok(Frame::data(Bytes::from_static(b"half"))),
                Err(std::io::Error::other("closed by the test")),
            ]);
            let mut response = Response::new(streamed(cut));
            response.headers_mut().insert("content-length", http::HeaderValue::from_static("1000"));
            response
        }
        Reply::EndlessBody => {
            let block = Bytes::from(vec![b'x'; 64 * 1024]);
            Response::new(streamed(stream::repeat_with(move || Ok(Frame::data(block.clone())))))
        }
    })
}

fn streamed<S>(frames: S) -> Body
where
    S: stream::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync + 'static,
{
    StreamBody::new(frames).boxed()
}

fn status(code: u16) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from_static(b"ok")).map_err(|never| match never {}).boxed());
    *response.status_mut() = http::StatusCode::from_u16(code).expect("the test's own status");
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::post;

    #[tokio::test]
    async fn it_answers_as_scripted_and_counts() {
        let receiver =
            Receiver::scripted([Reply::Status(500), Reply::Held(201), Reply::CloseMidResponse]).await;
        let headers = vec![("webhook-id".to_owned(), "evt_1".to_owned())];
        assert_eq!(post(&receiver.url(), &headers, "{}").await.unwrap().status, 500);
        let url = receiver.url();
        let held = tokio::spawn(async move { post(&url, &Vec::new(), "{}").await });
        receiver.await_count(2, crate::BOUND).await;
        assert!(!held.is_finished());
        receiver.release();
        assert_eq!(held.await.unwrap().unwrap().status, 201);
        post(&receiver.url(), &headers, "{}").await.expect_err("cut in the middle");
        assert_eq!(post(&receiver.url(), &headers, "{}").await.unwrap().status, 200);
        assert_eq!(receiver.requests()[0].id(), "evt_1");
        assert_eq!(receiver.ids(), ["", "evt_1"]);
    }
}
