//! Sends hostile requests over raw sockets, each on a connection of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::requests::{Attack, attack};
use super::{Tally, Target, Volume};

const AT_ONCE: u64 = 64;
/// The server has to answer or to close by then, slow requests included.
const ENDED_WITHIN: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 256 * 1024;

pub async fn send_all(volume: Volume, ingest: SocketAddr, targets: &[Target], tally: &Arc<Tally>) {
    let next = Arc::new(AtomicU64::new(0));
    let targets: Arc<[Target]> = targets.into();
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (next, tally, targets) = (next.clone(), tally.clone(), targets.clone());
        workers.spawn(async move {
            let mut random = StdRng::seed_from_u64(volume.seed.wrapping_mul(1_000).wrapping_add(worker));
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= volume.http {
                    return;
                }
                send(ingest, attack(&targets, number, &mut random), number, &tally).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            tally.wrong(format!("a sender failed: {error}"));
        }
    }
}

async fn send(ingest: SocketAddr, attack: Attack, number: u64, tally: &Tally) {
    let Ok(mut stream) = connect(ingest, number).await else {
        return tally.wrong(format!("request {number}: nobody listens at the door"));
    };
    let exchange = async {
        let (mut read, mut write) = stream.split();
        let sending = async {
            // A server that has refused already need not read on. Left open: a sender that closes its
            // half says that it does not wait for the answer, and would hide an acceptance.
            let _ = write.write_all(&attack.bytes).await;
        };
        let mut answer = Vec::new();
        let reading = async {
            let mut piece = vec![0; 16 * 1024];
            while answer.len() < ANSWER_BYTES_MAX {
                match read.read(&mut piece).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => answer.extend_from_slice(&piece[..count]),
                }
            }
        };
        tokio::join!(sending, reading);
        answer
    };
    let Ok(answer) = timeout(ENDED_WITHIN, exchange).await else {
        return tally.wrong(format!("request {number} ({}): neither answered nor closed", attack.kind));
    };
    if accepts(&answer) {
        let sent = String::from_utf8_lossy(&attack.bytes[..attack.bytes.len().min(600)]).into_owned();
        let said = String::from_utf8_lossy(&answer[..answer.len().min(600)]).into_owned();
        return tally.wrong(format!("request {number} ({}) was accepted: {sent:?} -> {said:?}", attack.kind));
    }
    if answer.is_empty() { tally.dropped(attack.kind) } else { tally.refused(attack.kind) }
}

/// Whether any response in it has a 2xx status.
fn accepts(answer: &[u8]) -> bool {
    answer.windows(10).any(|window| window.starts_with(b"HTTP/1.") && &window[8..] == b" 2")
}

/// From an address of its own: there are more requests than ports.
async fn connect(to: SocketAddr, number: u64) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = Ipv4Addr::new(127, 0, 1 + (number / 250 % 200) as u8, 1 + (number % 250) as u8);
    socket.bind(SocketAddr::new(IpAddr::V4(host), 0))?;
    socket.connect(to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acceptance_is_seen_wherever_it_stands() {
        assert!(accepts(b"HTTP/1.1 200 OK\r\n\r\n"));
        assert!(accepts(b"HTTP/1.1 400 Bad Request\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n"));
        assert!(!accepts(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 200\r\n\r\n"));
        assert!(!accepts(b""));
    }
}
