//! Receivers that answer with bytes of the test's own making, right or wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is sent in answer to a request.
#[derive(Debug, Clone)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Each byte by itself, so far apart.
    Slowly(Vec<u8>, Duration),
    /// Again and again, for as long as somebody reads.
    Endlessly(Vec<u8>),
    /// The same, with a pause each time.
    NowAndThen(Vec<u8>, Duration),
    /// Nothing more, and the connection stays open.
    Silence,
    /// The connection ends with a reset, not in order.
    Reset,
}

impl Piece {
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

/// Stops when it is dropped.
#[derive(Debug)]
pub struct RawReceiver {
    address: SocketAddr,
    secure: bool,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl RawReceiver {
    /// Reads a request, sends these pieces, and closes the connection.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(pieces: Vec<Piece>) -> Self {
        let pieces = Arc::new(pieces);
        Self::serve(false, move |mut stream, requests| {
            let pieces = Arc::clone(&pieces);
            async move {
                read_request(&mut stream).await?;
                requests.fetch_add(1, Ordering::SeqCst);
                answer(stream, &pieces).await
            }
        })
        .await
    }

    /// Speaks HTTP/2 over TLS: `reply` has the number of the connection, from 0, and of the request on it.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn http2<F>(tls: TlsAcceptor, reply: F) -> Self
    where
        F: Fn(usize, usize) -> Http2Reply + Send + Sync + 'static,
    {
        let (reply, numbers) = (Arc::new(reply), Arc::new(AtomicUsize::new(0)));
        let tls = with_http2(&tls);
        Self::serve(true, move |stream, requests| {
            let (reply, tls) = (Arc::clone(&reply), tls.clone());
            let connection = numbers.fetch_add(1, Ordering::SeqCst);
            async move {
                let stream = tls.accept(stream).await?;
                speak_http2(stream, &requests, |request| reply(connection, request)).await
            }
        })
        .await
    }

    async fn serve<S, F>(secure: bool, serve: S) -> Self
    where
        S: Fn(TcpStream, Arc<AtomicUsize>) -> F + Send + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let stop = CancellationToken::new();
        let (seen, made, child) = (Arc::clone(&requests), Arc::clone(&connections), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                made.fetch_add(1, Ordering::SeqCst);
                let served = serve(stream, Arc::clone(&seen));
                // A connection that ends in an error is what it is made for.
                tokio::spawn(child.clone().run_until_cancelled_owned(served));
            }
        }));
        Self { address, secure, requests, connections, _stop: stop.drop_guard() }
    }

    pub fn url(&self) -> String {
        format!("{}://{}/hook", if self.secure { "https" } else { "http" }, self.address)
    }

    /// Requests that arrived.
    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, pieces: &[Piece]) -> io::Result<()> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => stream.write_all(bytes).await?,
            Piece::Slowly(bytes, apart) => {
                for byte in bytes {
                    stream.write_u8(*byte).await?;
                    tokio::time::sleep(*apart).await;
                }
            }
            Piece::Endlessly(bytes) => loop {
                stream.write_all(bytes).await?;
            },
            Piece::NowAndThen(bytes, apart) => loop {
                stream.write_all(bytes).await?;
                tokio::time::sleep(*apart).await;
            },
            Piece::Silence => std::future::pending().await,
            Piece::Reset => stream.set_zero_linger()?,
        }
    }
    Ok(())
}

/// A head, and as much of a body as it says.
async fn read_request(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(())
}

/// What a server says to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Http2Reply {
    Ok,
    /// 100 and 103 before it.
    OkAfterHints,
    /// 200, and that this connection takes no more.
    OkAndGoAway,
    /// That this request was not processed.
    Refused,
    /// That this connection takes no more, and that this request was not processed.
    GoAway,
    /// More headers than anybody needs.
    HeaderFlood,
    /// That the request failed, for a reason of the server's own.
    InternalError,
}

fn with_http2(tls: &TlsAcceptor) -> TlsAcceptor {
    let mut config = rustls::ServerConfig::clone(tls.config());
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` of HPACK's static table.
const STATUS_200: &[u8] = &[0x88];

/// RFC 9113, 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A head with this status, as a literal.
fn hint(stream: u32, status: &str) -> Vec<u8> {
    let block = [&[0x08, 3], status.as_bytes()].concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// 80 KiB of headers, in frames of the size that all must take.
fn flood(stream: u32) -> Vec<u8> {
    let entry = [&[0x00, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let block = [STATUS_200, &entry.repeat(800)].concat();
    let parts: Vec<&[u8]> = block.chunks(16_000).collect();
    let last = parts.len() - 1;
    let frames = parts.into_iter().enumerate().map(|(number, part)| {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if number == 0 { END_STREAM } else { 0 };
        flags |= if number == last { END_HEADERS } else { 0 };
        frame(kind, flags, stream, part)
    });
    frames.flatten().collect()
}

fn frames_of(reply: &Http2Reply, stream: u32) -> Vec<u8> {
    let ok = frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200);
    let go_away = |last: u32| frame(GO_AWAY, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    match reply {
        Http2Reply::Ok => ok,
        Http2Reply::OkAfterHints => [hint(stream, "100"), hint(stream, "103"), ok].concat(),
        Http2Reply::OkAndGoAway => [ok, go_away(stream)].concat(),
        Http2Reply::Refused => frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes()),
        Http2Reply::GoAway => go_away(stream.saturating_sub(2)),
        Http2Reply::HeaderFlood => flood(stream),
        Http2Reply::InternalError => frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes()),
    }
}

async fn speak_http2<S>(
    mut stream: S,
    requests: &AtomicUsize,
    reply: impl Fn(usize) -> Http2Reply,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let mut seen = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        stream.read_exact(&mut vec![0; length]).await?;
        match kind {
            SETTINGS if flags & 1 == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            HEADERS | DATA if flags & END_STREAM != 0 => {
                requests.fetch_add(1, Ordering::SeqCst);
                stream.write_all(&frames_of(&reply(seen), id)).await?;
                seen += 1;
            }
            _ => {}
        }
        stream.flush().await?;
    }
}
