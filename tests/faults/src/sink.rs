//! A customer's server, spoken byte for byte: it can answer, hang, lie, and it remembers what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_tests::sign;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::now_s;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What it does with a request that has arrived whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Answer,
    /// 500 for so many of a hundred.
    Flaky(u32),
    Hang,
    /// A byte now and then, for ever.
    Trickle,
    /// Promises more than it sends.
    CloseMidResponse,
    /// A status line that is none.
    Garbage,
    /// 200, and a body without an end.
    HugeBody,
}

/// One request that arrived whole.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub at_s: f64,
    pub event_id: String,
    /// The number the generator gave to what it sent.
    pub number: u64,
    /// `Bowline-Attempt`.
    pub attempt: u32,
    /// A whole 2xx was written to the connection.
    pub is_answered: bool,
    pub is_signed: bool,
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    arrivals: Mutex<Vec<Arrival>>,
    secret: Mutex<String>,
    thinks: Duration,
}

/// Stops when it is dropped.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    address: SocketAddr,
    _stop: DropGuard,
}

impl Sink {
    /// # Errors
    /// When no port is free.
    pub async fn start(manner: Manner, thinks: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            arrivals: Mutex::default(),
            secret: Mutex::default(),
            thinks,
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared.clone(), stop.clone())));
        Ok(Self { shared, address, _stop: stop.drop_guard() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn behave(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }

    /// What its deliveries are signed with.
    pub fn knows(&self, secret: &str) {
        secret.clone_into(&mut lock(&self.shared.secret));
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.shared.arrivals).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        let connection = async move {
            // A connection that ends in an error is what half of the manners are for.
            let _ = serve(stream, &shared).await;
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer).await? {
        let index = {
            let arrival = arrival(&head, &body, &lock(&shared.secret));
            let mut arrivals = lock(&shared.arrivals);
            arrivals.push(arrival);
            arrivals.len() - 1
        };
        if !shared.thinks.is_zero() {
            tokio::time::sleep(shared.thinks).await;
        }
        let manner = *lock(&shared.manner);
        if !answer(&mut stream, shared, manner, index).await? {
            return Ok(());
        }
        lock(&shared.arrivals)[index].is_answered = !is_refused(manner, index);
    }
    Ok(())
}

fn is_refused(manner: Manner, index: usize) -> bool {
    // Spread, and the same for the same course of things.
    matches!(manner, Manner::Flaky(percent) if (index as u32).wrapping_mul(2_654_435_761) % 100 < percent)
}

/// Whether the connection may go on.
async fn answer(
    stream: &mut TcpStream,
    shared: &Shared,
    manner: Manner,
    index: usize,
) -> std::io::Result<bool> {
    match manner {
        Manner::Flaky(_) if is_refused(manner, index) => {
            stream.write_all(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await?;
        }
        Manner::Answer | Manner::Flaky(_) => stream.write_all(OK).await?,
        Manner::Hang => return closed_by_peer(stream).await,
        Manner::Trickle => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                stream.write_all(b".").await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Manner::CloseMidResponse => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf").await?;
            return Ok(false);
        }
        Manner::Garbage => {
            stream.write_all(b"\x00\xffHTTP/9.9 2x0 \r\r\nfine: \x01\r\n\r\n").await?;
            return Ok(false);
        }
        Manner::HugeBody => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            // It said 2xx, and nobody has to read all that it says besides.
            lock(&shared.arrivals)[index].is_answered = true;
            let block = vec![b'x'; 256 * 1024];
            loop {
                stream.write_all(&block).await?;
                // Endless, not a test of the loopback's throughput.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    Ok(true)
}

async fn closed_by_peer(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(false)
}

/// Head and body of the next request; `None` when the connection ends between or within requests.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let length = header(&head, "content-length").parse::<usize>().unwrap_or(0);
    if length > BODY_BYTES_MAX {
        return Ok(None);
    }
    while buffer.len() < end + length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Ok(Some((head, body)))
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map_or("", |(_, value)| value.trim())
}

fn arrival(head: &str, body: &[u8], secret: &str) -> Arrival {
    let event_id = header(head, "webhook-id").to_owned();
    let expected = sign::standard_signature(secret, &event_id, header(head, "webhook-timestamp"), body);
    Arrival {
        at_s: now_s(),
        number: number_in(body).unwrap_or(u64::MAX),
        attempt: header(head, "bowline-attempt").parse().unwrap_or(0),
        is_answered: false,
        is_signed: header(head, "webhook-signature").split(' ').any(|signature| signature == expected),
        event_id,
    }
}

/// Every body that is sent begins with `{"n":123,`; formats may wrap it.
fn number_in(body: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"{\"n\":";
    let at = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let digits = &body[at..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_tests::http::post;

    #[tokio::test]
    async fn it_remembers_what_came_and_lies_as_told() {
        let sink = Sink::start(Manner::Answer, Duration::ZERO).await.unwrap();
        let secret = sign::test_secret("sink");
        sink.knows(&secret);
        let url = format!("http://{}/hook", sink.address());
        let body = br#"{"type":"push","data":{"n":17,"pad":""}}"#;
        let mut headers = sign::standard(&secret, "evt_1", sign::unix_now(0), body);
        headers.push(("bowline-attempt".into(), "3".into()));
        assert_eq!(post(&url, &headers, &body[..]).await.unwrap().status, 200);
        for manner in [Manner::CloseMidResponse, Manner::Garbage] {
            sink.behave(manner);
            post(&url, &headers, &b"{\"n\":18}"[..]).await.expect_err("no answer");
        }
        sink.behave(Manner::Flaky(100));
        assert_eq!(post(&url, &headers, &b""[..]).await.unwrap().status, 500);
        let arrivals = sink.arrivals();
        let seen: Vec<_> =
            arrivals.iter().map(|a| (a.number, a.attempt, a.is_answered, a.is_signed)).collect();
        let none = u64::MAX;
        assert_eq!(
            seen,
            [(17, 3, true, true), (18, 3, false, false), (18, 3, false, false), (none, 3, false, false)]
        );
        assert_eq!(arrivals[0].event_id, "evt_1");
    }
}
