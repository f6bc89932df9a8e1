//! Heads: how many headers and how large, what is asked for before a body, HTTP/2.

use bowline_proto::v1;
use bowline_tests::{BOUND, Stack, eventually, http, sign};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Raw, events, head, http2, is_served, open_source, open_source_like};

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_size() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_HEADERS_MAX", "40")
        .set_ingest("BOWLINE_INGEST_HEADER_BYTES_MAX", "16KiB")
        .start()
        .await;
    let source = open_source(&stack).await;
    let many = |count: usize| "X-A: b\r\n".repeat(count);
    let large = |bytes: usize| format!("X-A: {}\r\n", "b".repeat(bytes));
    for (name, headers, status) in [
        ("as many as may be", many(37), 200),
        ("one more", many(38), 431),
        ("as large as may be", large(15_000), 200),
        ("larger", large(17_000), 431),
    ] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{}{headers}Content-Length: 2\r\n\r\n{{}}", head(&source))).await;
        assert_eq!(raw.answer().await.status, status, "{name}");
    }
    let target = format!("POST /in/{source}?{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(17_000));
    let mut raw = Raw::connect(&stack).await;
    raw.send(target).await;
    assert!(matches!(raw.answer().await.status, 414 | 431));

    let mut sender = http2(&stack).await;
    // With the length that the client adds.
    for (count, status) in [(39, 200), (40, 431)] {
        let mut request = ::http::Request::post(stack.inbound(&source));
        for number in 0..count {
            request = request.header(format!("x-{number}"), "b");
        }
        let answer = sender.send_request(request.body(Full::new(Bytes::from("{}"))).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{count} over HTTP/2");
    }
    let large = ::http::Request::post(stack.inbound(&source)).header("x-a", "b".repeat(17_000));
    let answer = sender.send_request(large.body(Full::new(Bytes::from("{}"))).unwrap()).await;
    assert!(answer.is_err() || answer.unwrap().status() == 431);
    is_served(&stack, &source).await;
}

/// What is read to the end of the connection; an error where it is reset.
async fn read_whole(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    tokio::time::timeout(BOUND, stream.read_to_end(&mut bytes)).await.expect("an end in time")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn an_early_refusal_reaches_a_sender_who_has_more_to_send() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    let address = stack.ingests[0].http_url();
    let address = address.trim_start_matches("http://");
    let more = "b".repeat(1024 * 1024);
    for (name, request, status, code) in [
        ("a header", format!("{}X-A: {more}\r\n\r\n", head(&source)), "431", "headers_too_large"),
        ("a target", format!("POST /in/{source}?{more} HTTP/1.1\r\n\r\n"), "431", "headers_too_large"),
        ("no header", format!("{}no header\r\n\r\n{more}", head(&source)), "400", "malformed_request"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It is refused long before it has all been sent.
        stream.write_all(request.as_bytes()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = read_whole(&mut stream).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code),
            "{name}: {answer}"
        );
    }
    // Who never ends is cut off.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let endless = async { while stream.write_all(more.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(BOUND, endless).await.expect("the connection is closed in time");
    // And so is who says nothing more, and does not close either.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"no request\r\n\r\n").await.unwrap();
    let answer = read_whole(&mut stream).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    eventually(BOUND, async || match stream.write_all(b"x").await {
        Ok(()) => Err("still open"),
        Err(_) => Ok(()),
    })
    .await;
    is_served(&stack, &source).await;
}

#[tokio::test]
async fn a_body_is_only_asked_for_where_it_can_be_taken() {
    let stack = ingest_only().await;
    let source =
        open_source_like(&stack, v1::Source { body_limit_bytes: 100, ..v1::Source::default() }).await;
    let unknown = bowline_core::id::SourceId::new().to_string();
    for (source, length, status) in [(&unknown, 2, 404), (&source, 101, 413)] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n", head(source))).await;
        // The first answer is the last one: nothing asks for the body.
        assert_eq!(raw.answer().await.status, status);
    }
    for chunked in [false, true] {
        let mut raw = Raw::connect(&stack).await;
        let (length, body) = if chunked {
            ("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n")
        } else {
            ("Content-Length: 2", "{}")
        };
        raw.send(format!("{}Expect: 100-Continue\r\n{length}\r\n\r\n", head(&source))).await;
        assert_eq!(raw.answer().await.status, 100);
        raw.send(body).await;
        assert_eq!(raw.answer().await.status, 200);
    }
    assert_eq!(events(&stack).await, 2);
}

#[tokio::test]
async fn a_preset_takes_bodies_as_large_as_its_provider_sends() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    for (source, limit) in [
        (open_source(&stack).await, 1024 * 1024),
        (admin.source("chatblocks", "bowline-test-limits").await, 262_144),
        (admin.source("github", "bowline-test-limits").await, 25 * 1024 * 1024),
    ] {
        for (length, status) in [(limit, 100), (limit + 1, 413)] {
            let mut raw = Raw::connect(&stack).await;
            let head = head(&source);
            raw.send(format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n")).await;
            assert_eq!(raw.answer().await.status, status, "{length} bytes");
        }
    }
}

#[tokio::test]
async fn http2_without_tls_carries_many_requests_at_once() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_STREAMS_PER_CONNECTION_MAX", "8")
        .start()
        .await;
    let source = open_source(&stack).await;
    let mut sender = http2(&stack).await;
    // From the first answer on the client knows what is allowed.
    let first = ::http::Request::get("http://ingest.test/").body(Full::default()).unwrap();
    assert_eq!(sender.send_request(first).await.unwrap().status(), 404);
    let posts = (0..50).map(|number| {
        let mut sender = sender.clone();
        let request = ::http::Request::post(stack.inbound(&source));
        let request = request.body(Full::new(Bytes::from(format!("{{\"n\":{number}}}")))).unwrap();
        async move {
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap().to_bytes()
        }
    });
    futures_util::future::join_all(posts).await;
    assert_eq!(events(&stack).await, 50);
    assert_eq!(streams_max(&stack).await, Some(8));
}

/// What the server allows at a time (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113, section 6.5.2).
async fn streams_max(stack: &Stack) -> Option<u32> {
    let address = stack.ingests[0].http_url();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
    let mut settings = vec![0; length];
    stream.read_exact(&mut settings).await.unwrap();
    let mut settings = settings.chunks(6).map(|entry| entry.split_at(2));
    let (_, value) = settings.find(|(name, _)| *name == [0, 3])?;
    Some(u32::from_be_bytes(value.try_into().unwrap()))
}

#[tokio::test]
async fn what_a_preset_cannot_read_is_400_with_the_header_or_the_position() {
    let stack = ingest_only().await;
    let secret = "bowline-test-chatblocks-secret";
    let source = stack.admin().source("chatblocks", secret).await;
    let post = async |content_type: &str, body: &'static [u8]| {
        let mut headers = sign::chatblocks(secret, "key-1", sign::unix_now(0), body);
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        headers.push(("content-type".to_owned(), content_type.to_owned()));
        http::post(&stack.inbound(&source), &headers, body).await.unwrap()
    };
    let answer = post("text/plain", b"{}").await;
    answer.refused(400);
    assert!(answer.text().contains("content-type"), "{}", answer.text());
    let answer = post("application/json", br#"{"event": nonsense}"#).await;
    answer.refused(400);
    assert!(answer.text().contains("column 12") || answer.text().contains("11"), "{}", answer.text());
    post("application/json", b"{}").await.accepted();
}

#[tokio::test]
async fn too_much_in_flight_is_503_and_comes_again() {
    let stack = Stack::builder().dispatchers(0).set_ingest("BOWLINE_INGEST_IN_FLIGHT_MAX", "1").start().await;
    let source = open_source(&stack).await;
    let mut other = bowline_tests::database::connect(&stack.database.url).await.unwrap();
    let lock = other.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await.unwrap();

    let mut waiting = Raw::connect(&stack).await;
    waiting.send(super::post(&source, "{}")).await;
    eventually(BOUND, async || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass";
        let count = stack.database.count(waits).await;
        if count == 1 { Ok(()) } else { Err(count) }
    })
    .await;
    let shed = http::post(&stack.inbound(&source), &Vec::new(), "{}").await.unwrap();
    assert_eq!(shed.refused(503), "overloaded");
    assert!(shed.header("retry-after").parse::<u64>().unwrap() > 0);
    lock.rollback().await.unwrap();
    assert_eq!(waiting.answer().await.status, 200);
    is_served(&stack, &source).await;
}
