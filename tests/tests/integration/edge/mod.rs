//! The HTTP edge: bytes as a test writes them, over a socket of their own.

mod frames;
mod framing;
mod heads;
mod networks;
mod rates;
mod slow;
mod tls;

use std::fmt::Write as _;

use bowline_proto::v1;
use bowline_tests::{BOUND, Stack, eventually, http};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A source that takes whatever comes: what matters here is how it comes.
pub(super) async fn open_source(stack: &Stack) -> String {
    open_source_like(stack, v1::Source::default()).await
}

pub(super) async fn open_source_like(stack: &Stack, source: v1::Source) -> String {
    let wanted = v1::Source { preset: "custom".into(), insecure: true, ..source };
    stack.admin().source_like(wanted, "").await.id
}

/// One connection.
pub(super) struct Raw {
    stream: TcpStream,
    /// Read, and not yet part of an answer.
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct RawAnswer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl RawAnswer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Raw {
    /// At the first ingest.
    pub(super) async fn connect(stack: &Stack) -> Self {
        Self::connect_to(&stack.ingests[0].http_url()).await
    }

    pub(super) async fn connect_to(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
        Self { stream, read: Vec::new() }
    }

    /// It may be closed while it is written to.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        self
    }

    /// Nothing more is sent; answers are still read.
    pub(super) async fn close_sending(&mut self) -> &mut Self {
        let _ = self.stream.shutdown().await;
        self
    }

    /// The next answer; `None` when the connection ends without one.
    pub(super) async fn try_answer(&mut self) -> Option<RawAnswer> {
        let answer = tokio::time::timeout(BOUND, async {
            loop {
                if let Some(answer) = self.next() {
                    return Some(answer);
                }
                if !self.stream.read_buf(&mut self.read).await.is_ok_and(|read| read > 0) {
                    return None;
                }
            }
        });
        answer.await.expect("an answer or an end in time")
    }

    #[track_caller]
    pub(super) fn answer(&mut self) -> impl Future<Output = RawAnswer> {
        let place = std::panic::Location::caller();
        async move { self.try_answer().await.unwrap_or_else(|| panic!("{place}: closed without an answer")) }
    }

    /// Nothing more comes, and no answer.
    pub(super) async fn ends(&mut self) -> bool {
        self.try_answer().await.is_none() && self.read.is_empty()
    }

    fn next(&mut self) -> Option<RawAnswer> {
        let end = self.read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = RawAnswer { status, head, body: String::new() };
        let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let whole = self.read.get(end..end + length)?;
        answer.body = String::from_utf8_lossy(whole).into_owned();
        self.read.drain(..end + length);
        Some(answer)
    }
}

/// The head of a good request up to its own headers, without the empty line.
pub(super) fn head(source: &str) -> String {
    format!("POST /in/{source} HTTP/1.1\r\nHost: ingest.test\r\nContent-Type: application/json\r\n")
}

/// A good request; the connection goes on.
pub(super) fn post(source: &str, body: &str) -> String {
    let mut request = head(source);
    write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    request
}

/// A sender as they should be is answered as it should be, soon.
#[track_caller]
pub(super) fn is_served<'a>(stack: &'a Stack, source: &'a str) -> impl Future<Output = ()> + 'a {
    let place = std::panic::Location::caller();
    async move {
        let began = std::time::Instant::now();
        let answer = http::post(&stack.inbound(source), &Vec::new(), "{}").await;
        let answer = answer.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(answer.status, 200, "{place}: {}", answer.text());
        assert!(began.elapsed() < BOUND / 4, "{place}: {:?}", began.elapsed());
    }
}

pub(super) async fn events(stack: &Stack) -> i64 {
    stack.database.count("SELECT count(*) FROM events").await
}

/// One connection of HTTP/2, without TLS.
pub(super) async fn http2(stack: &Stack) -> http2::SendRequest<Full<Bytes>> {
    let address = stack.ingests[0].http_url();
    let stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Waits until a metric of the first ingest holds so much.
pub(super) async fn await_metric(stack: &Stack, line_start: &str, at_least: f64) {
    let url = format!("{}/metrics", stack.ingests[0].ops_url());
    eventually(BOUND, async || {
        let text = http::send(::http::Method::GET, &url, &Vec::new(), "").await.unwrap().text();
        let found = text.lines().find(|line| line.starts_with(line_start)).map(str::to_owned);
        let value = found.as_deref().and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        if value.is_some_and(|value| value >= at_least) { Ok(()) } else { Err(found) }
    })
    .await;
}
