//! Sends hostile calls and frames to the admin listeners of both services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::calls::{Call, call};
use super::frames::frames;
use super::{Tally, Volume};

const AT_ONCE: u64 = 16;
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// HTTP/2 that is merely odd is not answered; for the rest the connection is closed soon.
const FRAMES_FOR: Duration = Duration::from_millis(100);

type Sender = SendRequest<Full<Bytes>>;

pub async fn send_all(volume: Volume, admins: &[SocketAddr], tally: &Arc<Tally>) {
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let admin = admins[worker as usize % admins.len()];
        let (next, tally) = (next.clone(), tally.clone());
        workers.spawn(async move {
            let mut random = StdRng::seed_from_u64(volume.seed.wrapping_mul(7_000).wrapping_add(worker));
            let mut connection: Option<Sender> = None;
            while next.fetch_add(1, Ordering::Relaxed) < volume.grpc {
                if random.random_range(0..5_u32) == 0 {
                    send_frames(admin, &frames(&mut random), &tally).await;
                    continue;
                }
                let call = call(&admin.to_string(), &mut random);
                send_call(admin, call, &mut connection, &tally).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            tally.wrong(format!("a sender failed: {error}"));
        }
    }
}

async fn send_frames(admin: SocketAddr, bytes: &[u8], tally: &Tally) {
    const KIND: &str = "grpc: broken frames";
    let Ok(mut stream) = TcpStream::connect(admin).await else {
        return tally.wrong(format!("nobody listens at {admin}"));
    };
    // A server that has closed already need not read on.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = timeout(FRAMES_FOR, stream.read_to_end(&mut answer)).await.is_ok();
    if closed && answer.is_empty() { tally.dropped(KIND) } else { tally.refused(KIND) }
}

async fn send_call(admin: SocketAddr, call: Call, connection: &mut Option<Sender>, tally: &Tally) {
    let Call { kind, request, must_fail } = call;
    let shown = format!("{kind} {} {:?}", request.uri().path(), request.headers());
    let asked = async {
        let mut sender = match connection.take() {
            Some(sender) if sender.is_ready() => sender,
            _ => connect(admin).await?,
        };
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let (head, body) = response.into_parts();
        let trailers = body.collect().await?.trailers().cloned().unwrap_or_default();
        *connection = Some(sender);
        let code = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status")).cloned();
        Ok::<_, anyhow::Error>((status, code))
    };
    match timeout(ANSWERED_WITHIN, asked).await {
        Err(_) => tally.wrong(format!("never answered: {shown}")),
        // The connection went with it: refused too, without a word.
        Ok(Err(_)) => tally.dropped(kind),
        Ok(Ok((200, Some(code)))) if code.as_bytes() == b"0" && must_fail => {
            tally.wrong(format!("accepted: {shown}"));
        }
        Ok(Ok(_)) => tally.refused(kind),
    }
}

async fn connect(admin: SocketAddr) -> Result<Sender> {
    let stream = TcpStream::connect(admin).await.context("the admin listener")?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Its end shows in the next call.
    tokio::spawn(connection);
    Ok(sender)
}
