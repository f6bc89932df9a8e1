//! A forward proxy that speaks CONNECT, and does as the test says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What it does with a request for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// Connects it, where the credentials are right.
    Open,
    /// Answers with this status.
    Refuse(u16),
    /// Ends the connection.
    Close,
    /// Answers what is no HTTP.
    Garbage,
}

#[derive(Debug)]
struct Shared {
    /// Where each tunnel leads, if not to where it was asked for.
    to: Option<SocketAddr>,
    tunnel: Mutex<Tunnel>,
    /// Where one target has a rule of its own.
    own: Mutex<HashMap<String, Tunnel>>,
    asked: Mutex<Vec<String>>,
}

/// Stops when it is dropped.
#[derive(Debug)]
pub struct ConnectProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _stop: DropGuard,
}

/// Base64 of `bowline:proxy-pass`.
const CREDENTIALS: &str = "proxy-authorization: Basic Ym93bGluZTpwcm94eS1wYXNz";

impl ConnectProxy {
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// One whose tunnels all lead to `address`, whoever was asked for.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start_to(address: SocketAddr) -> Self {
        Self::listen(Some(address)).await
    }

    async fn listen(to: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("the address of a bound socket");
        let shared = Arc::new(Shared {
            to,
            tunnel: Mutex::new(Tunnel::Open),
            own: Mutex::default(),
            asked: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (own, child) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve(Arc::clone(&own), stream);
                tokio::spawn(child.clone().run_until_cancelled_owned(serve));
            }
        }));
        Self { shared, address, _stop: stop.drop_guard() }
    }

    /// With the right credentials.
    pub fn url(&self) -> String {
        format!("http://bowline:proxy-pass@{}", self.address)
    }

    pub fn url_without_credentials(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, tunnel: Tunnel) {
        *self.shared.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = tunnel;
    }

    /// For this target alone, whatever is done with the others.
    pub fn set_for(&self, target: SocketAddr, tunnel: Tunnel) {
        self.shared.own.lock().unwrap_or_else(PoisonError::into_inner).insert(target.to_string(), tunnel);
    }

    /// The targets it was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
    let own = shared.own.lock().unwrap_or_else(PoisonError::into_inner).get(&target).copied();
    let tunnel = own.unwrap_or_else(|| *shared.tunnel.lock().unwrap_or_else(PoisonError::into_inner));
    let status = match tunnel {
        Tunnel::Close => return,
        Tunnel::Garbage => {
            // The client may be gone.
            let _ = stream.write_all(b"220 mail.test ESMTP\r\n\r\n").await;
            return;
        }
        Tunnel::Refuse(status) => status,
        Tunnel::Open if !head.contains(CREDENTIALS) => 407,
        Tunnel::Open => match connect(&shared, &target).await {
            Ok(mut receiver) => {
                let answered = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
                if answered.is_ok() {
                    // Either side may end it.
                    let _ = copy_bidirectional(&mut stream, &mut receiver).await;
                }
                return;
            }
            Err(_) => 502,
        },
    };
    let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
    // The client may be gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn connect(shared: &Shared, target: &str) -> std::io::Result<TcpStream> {
    match shared.to {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect(target).await,
    }
}
