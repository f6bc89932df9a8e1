//! One request through the guard, and what comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{self, timeout_at};
use url::Url;

use super::connect::{Birth, Timings};
use super::send::{EgressSendError, SendErrorKind};

/// A request that is to leave.
#[derive(Debug, Clone)]
pub struct EgressRequest {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// For the whole exchange, the body of the answer included.
    pub timeout: Duration,
}

impl EgressRequest {
    pub(super) fn into_http(mut self) -> Result<http::Request<Full<Bytes>>, EgressSendError> {
        // Never sent, and no part of a request target.
        self.url.set_fragment(None);
        let uri: Uri = self.url.as_str().parse().map_err(|_| {
            EgressSendError::new(SendErrorKind::Protocol, "the URL has characters that HTTP cannot carry")
        })?;
        let mut request = http::Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri;
        self.headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// The head of an answer, and its body as it comes.
#[derive(Debug)]
pub struct EgressResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Of the connection, if this request is why it was made.
    pub timings: Timings,
    body: Incoming,
    deadline: time::Instant,
}

impl EgressResponse {
    /// Of a request that began at `since`.
    pub(super) fn new(response: Response<Incoming>, since: Instant, deadline: time::Instant) -> Self {
        let (head, body) = response.into_parts();
        let birth = head.extensions.get::<Birth>();
        let timings = birth.map(|birth| birth.take(since)).unwrap_or_default();
        Self { status: head.status, headers: head.headers, timings, body, deadline }
    }

    /// The next bytes of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, EgressSendError> {
        loop {
            let frame = timeout_at(self.deadline, self.body.frame()).await.map_err(|_| {
                EgressSendError::new(SendErrorKind::Timeout, "the body of the answer did not end in time")
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(EgressSendError::of_connection(&error, SendErrorKind::Body)),
                Some(Ok(frame)) => {
                    // Trailers are of no interest.
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}
