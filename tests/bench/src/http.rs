//! A request now and then, over a connection of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(20);
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The body of a successful answer.
pub(crate) async fn get(url: &str) -> Result<Bytes> {
    tokio::time::timeout(WITHIN, exchange(url)).await.with_context(|| format!("no answer from {url}"))?
}

async fn exchange(url: &str) -> Result<Bytes> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().context("a URL with a host")?.clone();
    let stream = TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request =
        http::Request::get(uri.path()).header("host", authority.as_str()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "{url} answered {}", response.status());
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    driver.abort();
    Ok(body.map_err(|error| anyhow::anyhow!("{url}: {error}"))?.to_bytes())
}
