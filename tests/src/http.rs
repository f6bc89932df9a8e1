//! One HTTP request over a connection of its own, byte for byte as the test says.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::BOUND;
use crate::sign::Headers;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is not JSON: that is the failure being reported.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The id of an accepted event.
    ///
    /// # Panics
    /// When it was not accepted.
    #[track_caller]
    pub fn accepted(&self) -> String {
        assert_eq!(self.status, 200, "expected 200: {} {}", self.status, self.text());
        let json = self.json();
        assert_eq!(json["duplicate"], false, "{json}");
        json["id"].as_str().unwrap_or_default().to_owned()
    }

    /// The code of a refusal.
    ///
    /// # Panics
    /// When the body is not an error document.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{} {}", self.status, self.text());
        let json = self.json();
        let code = json["error"]["code"].as_str().unwrap_or_default();
        assert!(!code.is_empty() && json["error"]["message"].is_string(), "{json}");
        code.to_owned()
    }
}

/// Posts and waits for the whole answer.
///
/// # Errors
/// When the connection fails or the answer takes longer than [`BOUND`].
pub async fn post(url: &str, headers: &Headers, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
    send(Method::POST, url, headers, body).await
}

/// As [`post`], with any method.
///
/// # Errors
/// As [`post`].
pub async fn send(
    method: Method,
    url: &str,
    headers: &Headers,
    body: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    let exchange = exchange(method, url, headers, body.into());
    tokio::time::timeout(BOUND, exchange).await.map_err(|_| anyhow::anyhow!("no answer from {url}"))?
}

async fn exchange(method: Method, url: &str, headers: &Headers, body: Bytes) -> anyhow::Result<Answer> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or_else(|| anyhow::anyhow!("{url} has no host"))?.clone();
    let stream = TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(target).header("host", authority.as_str());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}
