//! One request over a connection that stays.

use std::time::Duration;

use anyhow::{Context, Result};
use bowline_proto::v1;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use v1::event_service_client::EventServiceClient;

use super::prepare::Requests;
use crate::wire::Target;

/// A server that takes longer than this has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One connection to the target.
pub(super) enum Caller {
    Http { sender: SendRequest<Full<Bytes>>, uri: Uri, host: HeaderValue },
    Grpc { client: EventServiceClient<Channel>, authorization: MetadataValue<Ascii>, event_type: String },
    Client { client: reqwest::Client, urls: Vec<reqwest::Url> },
}

impl Caller {
    pub(super) async fn connect(target: &Target, shared: &reqwest::Client) -> Result<Self> {
        match target {
            Target::Signed { url, .. } | Target::Given { url, .. } => {
                let uri: Uri = url.parse().context("the URL of the load")?;
                let host = HeaderValue::from_str(uri.authority().context("a URL with a host")?.as_str())?;
                Ok(Self::Http { sender: handshake(&uri).await?, uri, host })
            }
            Target::Publish { url, key, event_type } => {
                let channel = Endpoint::from_shared(url.clone())?
                    .timeout(ANSWER_WITHIN)
                    .tcp_nodelay(true)
                    .connect()
                    .await
                    .context("connecting over gRPC")?;
                Ok(Self::Grpc {
                    client: EventServiceClient::new(channel),
                    authorization: format!("Bearer {key}").parse()?,
                    event_type: event_type.clone(),
                })
            }
            Target::Client { urls } => {
                let urls: Result<Vec<_>, _> = urls.iter().map(|url| url.parse()).collect();
                Ok(Self::Client { client: shared.clone(), urls: urls? })
            }
        }
    }

    /// Sends that request; `Err` says what came back instead of success.
    pub(super) async fn call(&mut self, requests: &Requests, number: u64) -> Result<(), String> {
        match tokio::time::timeout(ANSWER_WITHIN, self.exchange(requests, number)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
        }
    }

    async fn exchange(&mut self, requests: &Requests, number: u64) -> Result<(), String> {
        match self {
            Self::Http { sender, uri, host } => {
                if sender.is_closed() {
                    *sender = handshake(uri).await.map_err(|error| format!("{error:#}"))?;
                }
                let request = http_request(uri, host, requests, number);
                let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = response.status();
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    frame.map_err(|error| error.to_string())?;
                }
                if status.is_success() { Ok(()) } else { Err(status.to_string()) }
            }
            Self::Grpc { client, authorization, event_type } => {
                let mut request = tonic::Request::new(v1::PublishEventRequest {
                    event_type: event_type.clone(),
                    body: requests.signed(number).body.clone(),
                    idempotency_key: requests.id(number),
                    ..Default::default()
                });
                request.metadata_mut().insert("authorization", authorization.clone());
                let answer = client.publish_event(request).await;
                answer.map(drop).map_err(|status| format!("{:?}", status.code()))
            }
            Self::Client { client, urls } => {
                let url = urls[number as usize % urls.len()].clone();
                let body = requests.signed(number).body.clone();
                let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
                let response = request.send().await.map_err(|error| error.to_string())?;
                let status = response.status();
                response.bytes().await.map_err(|error| error.to_string())?;
                if status.is_success() { Ok(()) } else { Err(status.to_string()) }
            }
        }
    }
}

fn http_request(uri: &Uri, host: &HeaderValue, requests: &Requests, number: u64) -> Request<Full<Bytes>> {
    let signed = requests.signed(number);
    let mut request = Request::new(Full::new(signed.body.clone()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.path().parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(HOST, host.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::try_from(requests.id(number)) {
        headers.insert("x-github-delivery", id);
    }
    if let Some(event_type) = requests.event_type(number) {
        headers.insert("x-github-event", event_type.clone());
    }
    for (name, value) in &signed.headers {
        headers.insert(name.clone(), value.clone());
    }
    request
}

async fn handshake(uri: &Uri) -> Result<SendRequest<Full<Bytes>>> {
    let authority = uri.authority().context("a URL with a host")?;
    let stream = TcpStream::connect(authority.as_str()).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its end shows in the next call.
    tokio::spawn(connection);
    Ok(sender)
}
