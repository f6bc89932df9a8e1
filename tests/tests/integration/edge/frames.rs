//! HTTP/2, frame by frame: floods cost the connection they come on, and what HTTP/1 would read in two ways is
//! refused here as well.

use bowline_tests::{BOUND, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{events, is_served, open_source};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header as it is, without a table and without Huffman's code (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127, "one byte for its length");
        bytes.push(text.len() as u8);
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn post(source: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/in/{source}");
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "ingest.test"), (":path", &path)];
    pseudo.iter().chain(more).flat_map(|(name, value)| literal(name, value)).collect()
}

/// A connection that has begun.
async fn connect(stack: &Stack) -> TcpStream {
    let address = stack.ingests[0].http_url();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream
}

/// Writes for as long as anybody reads, at most so often; whether the other side ended it.
async fn flood(stream: &mut TcpStream, times: u32, mut next: impl FnMut(u32) -> Vec<u8>) -> bool {
    let written = async {
        for number in 0..times {
            if stream.write_all(&next(number)).await.is_err() {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(BOUND, written).await.unwrap_or(false)
}

/// The first frame of one of these kinds, and what it holds; `None`: the connection ended without one.
async fn first(stream: &mut TcpStream, kinds: &[u8]) -> Option<(u8, Vec<u8>)> {
    let read = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).await.ok()?;
            if kinds.contains(&head[3]) {
                return Some((head[3], payload));
            }
        }
    };
    tokio::time::timeout(BOUND, read).await.expect("a frame, or the end")
}

#[tokio::test]
async fn streams_that_are_reset_at_once_cost_nobody_else() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = open_source(&stack).await;
    let mut stream = connect(&stack).await;
    let block = post(&source, &[]);
    let ended = flood(&mut stream, 20_000, |number| {
        let id = 1 + 2 * number;
        let (begin, reset) =
            (frame(HEADERS, END_HEADERS, id, &block), frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
        [begin, reset].concat()
    });
    let beside = async {
        for _ in 0..10 {
            is_served(&stack, &source).await;
        }
    };
    tokio::join!(ended, beside);
    drop(stream);
    is_served(&stack, &source).await;
    assert_eq!(events(&stack).await, 11);
}

#[tokio::test]
async fn headers_that_never_end_end_the_connection() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = open_source(&stack).await;
    for piece in [Vec::new(), literal("x-a", &"b".repeat(100)), literal("x-a", &"b".repeat(100)).repeat(140)]
    {
        let mut stream = connect(&stack).await;
        stream.write_all(&frame(HEADERS, 0, 1, &post(&source, &[]))).await.unwrap();
        assert!(
            flood(&mut stream, 1_000_000, |_| frame(CONTINUATION, 0, 1, &piece)).await,
            "{} bytes",
            piece.len()
        );
    }
    is_served(&stack, &source).await;
    assert_eq!(events(&stack).await, 1);
}

#[tokio::test]
async fn settings_and_pings_without_end_cost_nobody_else() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = open_source(&stack).await;
    // As many settings as a frame holds, of which each is to be confirmed; and none of it is ever read.
    let settings = [0, 4, 0, 0, 0x40, 0].repeat(16_384 / 6);
    for (times, piece) in [(2000, frame(SETTINGS, 0, 0, &settings)), (100_000, frame(PING, 0, 0, &[7; 8]))] {
        let mut stream = connect(&stack).await;
        let beside = async {
            for _ in 0..10 {
                is_served(&stack, &source).await;
            }
        };
        let flooded = async {
            let flood = flood(&mut stream, times, |_| piece.clone());
            tokio::pin!(flood);
            // It may be stopped by what it does not read.
            tokio::select! { _ = &mut flood => {} () = beside => {} }
        };
        flooded.await;
        is_served(&stack, &source).await;
    }
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = open_source(&stack).await;
    for (name, broken) in [
        ("a window of 31 bits and one more", frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("settings that are cut", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("a frame larger than was agreed", frame(SETTINGS, 0, 0, &vec![0; 96_000])),
        ("a confirmation that says something", frame(SETTINGS, 1, 0, &[0, 4, 0, 0, 0, 0])),
        ("data before a stream", frame(DATA, END_STREAM, 1, b"{}")),
        ("a stream of the server's", frame(HEADERS, END_HEADERS | END_STREAM, 2, &post(&source, &[]))),
        ("headers that cannot be decoded", frame(HEADERS, END_HEADERS, 1, &[0xff; 16])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[])),
    ] {
        let mut stream = connect(&stack).await;
        stream.write_all(&broken).await.unwrap();
        // No answer, but the end, with a reason.
        let (kind, payload) =
            first(&mut stream, &[HEADERS, GOAWAY]).await.unwrap_or_else(|| panic!("{name}"));
        assert!(kind == GOAWAY && payload[4..8] != [0; 4], "{name}: {kind} {payload:?}");
        assert_eq!(first(&mut stream, &[HEADERS]).await, None, "{name}: the connection goes on");
    }
    is_served(&stack, &source).await;
    assert_eq!(events(&stack).await, 1);
}

#[tokio::test]
async fn what_has_two_lengths_or_hidden_lines_is_no_request() {
    // Indexed: `:status: 200` is one byte (RFC 7541, appendix A).
    const OK: u8 = 0x88;
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = open_source(&stack).await;
    let plain: &[(&str, &str)] = &[];
    for more in [
        plain,
        &[("content-length", "2")],
        &[("content-length", "5")],
        &[("content-length", "1")],
        &[("content-length", "2"), ("content-length", "3")],
        &[("transfer-encoding", "chunked")],
        &[("connection", "close")],
        &[("x-a", "b\r\ntransfer-encoding: chunked")],
        &[("x-a", "b\nc")],
        &[("x-a\r\nb", "c")],
        &[("X-A", "b")],
        &[(":path", "/other")],
        &[("host", "a b")],
        &[("host", "x"), ("host", "x")],
    ] {
        let mut stream = connect(&stack).await;
        let request =
            [frame(HEADERS, END_HEADERS, 1, &post(&source, more)), frame(DATA, END_STREAM, 1, b"{}")];
        stream.write_all(&request.concat()).await.unwrap();
        let answer = first(&mut stream, &[HEADERS, RST_STREAM, GOAWAY]).await;
        let is_accepted = answer.as_ref().is_some_and(|(kind, block)| (*kind, block[0]) == (HEADERS, OK));
        let is_fine = more.is_empty() || more == [("content-length", "2")];
        assert_eq!(is_accepted, is_fine, "{more:?}: {answer:?}");
    }
    is_served(&stack, &source).await;
    assert_eq!(events(&stack).await, 3);
}
