//! Bytes of a connection: what the edge takes for requests is what a strict reader sees, in the same order
//! and with the same bodies, however the bytes are cut. It may take less, and never more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_ingest::edge::{Edge, EdgeLimits, Heard, Reply};
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::strict::{self, Request};

pub const SEEDS: &[&[u8]] = &[
    b"POST /in/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}POST /in/b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /in/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;n=v\r\n{\"c\r\n4\r\n\":1}\r\n0\r\nX-T: t\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /in/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /a HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
    b"POST /a HTTP/1.1\r\nHost: x\r\nX: a\nContent-Length: 30\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nxGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST http://x/in/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\nPOST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01x\x0f\x0d",
    b"HEAD /a HTTP/1.1\r\nHost: x\r\nContent-Length: 00002\r\n\r\n{}PUT /b#c?d HTTP/1.1\r\nHost: \r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    // The sizes of chunks that are padded, and a trailer whose line is none: what follows is in doubt.
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000000000000000000000000000000000000000000000000000000005\r\nhello\r\n0\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\nPOST / HTTP/1.1\r\nContent-Length: 900\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
];

pub const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    ":",
    " ",
    "\t",
    "\0",
    "\x0b",
    ";",
    ",",
    "0",
    "00",
    "0x",
    "+",
    "-1",
    "Content-Length: ",
    "Content-Length: 0\r\n",
    "content-length:4\r\n",
    "Transfer-Encoding: ",
    "chunked",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tchunked\r\n",
    "identity",
    "gzip, ",
    "Host: x\r\n",
    "Host: y\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "GET / HTTP/1.1\r\n",
    "POST /hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0",
    "HTTP/2.0",
    "PRI * HTTP/2.0\r\n",
    "0\r\n\r\n",
    "2\r\n{}\r\n",
    "ffffffffffffffff",
    "18446744073709551616",
    "\r\n ",
    "\u{e9}",
    "\u{7f}",
    "0000000000000000000000000000000000000000000000000000000000000000000000",
];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LIMITS: EdgeLimits = EdgeLimits {
    streams_per_connection_max: 8,
    headers_max: 16,
    header_bytes_max: 8192,
    header_timeout: Duration::from_secs(10),
};
/// Nothing waits for a clock here: the sender has said all there is.
const HANG: Duration = Duration::from_secs(60);
/// One byte, a few, all of it.
const CUTS: [usize; 3] = [1, 7, usize::MAX];

/// # Panics
/// When the edge takes for a request what a strict reader does not, or answers what nobody asked.
pub fn check(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let seen = strict::requests(input);
    for cut in CUTS {
        let (taken, answered) = runtime.block_on(converse(input, cut));
        // HTTP/2 is another reader's work.
        if input.starts_with(PREFACE) {
            continue;
        }
        assert!(taken.len() <= seen.len(), "cut at {cut}: {taken:?} is more than {seen:?}");
        for (taken, seen) in taken.iter().zip(&seen) {
            assert_eq!((&taken.method, &taken.body), (&seen.method, &seen.body), "cut at {cut}");
            // A fragment is no part of what is asked for.
            let path = seen.target.split('#').next().unwrap_or_default();
            assert!(!path.starts_with('/') || path == taken.target, "cut at {cut}: {taken:?} and {seen:?}");
        }
        check_answers(&answered, &taken, cut);
    }
}

/// One answer to each request that was taken, and at most one refusal behind them, with a body.
fn check_answers(answered: &[u8], taken: &[Request], cut: usize) {
    let text = String::from_utf8_lossy(answered);
    let statuses: Vec<&str> = text
        .match_indices("HTTP/1.")
        .filter_map(|(at, _)| text.get(at + 9..at + 12))
        .filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()) && *status != "100")
        .collect();
    let fine = statuses.iter().filter(|status| **status == "200").count();
    assert_eq!(fine, taken.len(), "cut at {cut}: {text}");
    assert!(statuses.len() <= fine + 1, "cut at {cut}: {text}");
    assert!(statuses.iter().rposition(|status| *status == "200").is_none_or(|at| at + 1 == fine), "{text}");
    assert!(!text.contains("content-length: 0\r\n"), "cut at {cut}, an answer without a body: {text}");
}

/// What was taken, and what was answered.
async fn converse(input: &[u8], cut: usize) -> (Vec<Request>, Vec<u8>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (client, server) = tokio::io::duplex(64 * 1024);
    let edge = Edge::new(LIMITS);
    let (serving, _progress) = edge.serve(server, {
        let taken = Arc::clone(&taken);
        move |heard| answer(heard, Arc::clone(&taken))
    });
    let client = async {
        let (mut reading, mut writing) = tokio::io::split(client);
        let write = async move {
            for piece in input.chunks(cut.min(input.len().max(1))) {
                // It may have been refused by now.
                if writing.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = writing.shutdown().await;
        };
        let mut answered = Vec::new();
        let ((), _) = tokio::join!(write, reading.read_to_end(&mut answered));
        answered
    };
    let both = async { tokio::join!(serving, client) };
    let (_, answered) = tokio::time::timeout(HANG, both).await.expect("the connection ends");
    let taken = taken.lock().expect("nobody panicked").clone();
    (taken, answered)
}

async fn answer(arrived: Heard, taken: Arc<Mutex<Vec<Request>>>) -> Reply {
    let (head, body) = arrived.request.into_parts();
    // Nothing is tunnelled, so nothing of a tunnel is ever begun.
    if arrived.verdict.is_err() || head.method == Method::CONNECT {
        return refusal();
    }
    let Ok(body) = body.collect().await else { return refusal() };
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let request = Request { method: head.method.to_string(), target, body: body.to_bytes().to_vec() };
    taken.lock().expect("nobody panicked").push(request);
    Response::new(Full::new(Bytes::from_static(b"ok")))
}

fn refusal() -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(b"no")));
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply
}
