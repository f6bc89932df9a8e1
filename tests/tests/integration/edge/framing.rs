//! Where a request ends: what two parties could see in two ways is refused, and nothing of it is taken.

use bowline_tests::Stack;

use super::{Raw, events, head, is_served, open_source, post};

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

/// Bytes after the start of a good head, and what may be answered; 0 for a connection that just ends.
fn two_faced() -> Vec<(&'static str, String, &'static [u16])> {
    let chunk = "1\r\nZ\r\n0\r\n\r\n";
    let with = |headers: &str, body: &str| format!("{headers}\r\n{body}");
    vec![
        ("length, then coding", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", chunk), &[400]),
        ("coding, then length", with("Transfer-Encoding: chunked\r\nContent-Length: 11\r\n", chunk), &[400]),
        ("lengths that differ", with("Content-Length: 2\r\nContent-Length: 3\r\n", "{} "), &[400]),
        ("a list of lengths", with("Content-Length: 2, 2\r\n", "{}"), &[400]),
        ("a signed length", with("Content-Length: +2\r\n", "{}"), &[400]),
        ("a negative length", with("Content-Length: -1\r\n", "{}"), &[400]),
        ("a length in hex", with("Content-Length: 0x2\r\n", "{}"), &[400]),
        ("no length", with("Content-Length: \r\n", "{}"), &[400]),
        ("a length of 64 bits", with("Content-Length: 18446744073709551615\r\n", "{}"), &[400]),
        ("a length of 65 bits", with("Content-Length: 18446744073709551618\r\n", "{}"), &[400]),
        ("a length of 63 bits", with("Content-Length: 9223372036854775807\r\n", "{}"), &[413]),
        ("a length far away", with(&format!("Content-Length:{}2\r\n", " ".repeat(200)), "{}"), &[400]),
        ("a blank before the colon", with("Content-Length : 2\r\n", "{}"), &[400]),
        ("two codings", with("Transfer-Encoding: gzip, chunked\r\n", chunk), &[501]),
        (
            "chunked twice",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunk),
            &[501],
        ),
        ("chunked first", with("Transfer-Encoding: chunked, identity\r\n", chunk), &[400, 501]),
        ("almost chunked", with("Transfer-Encoding: xchunked\r\n", chunk), &[400, 501]),
        ("a vertical tab", with("Transfer-Encoding: \x0bchunked\r\n", chunk), &[400, 501]),
        ("two hosts", with("Host: other.test\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("the same host twice", with("Host: ingest.test\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a line feed alone", with("X-A: b\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a folded line", with("X-A: b\r\n c\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a bare carriage return", with("X-A: b\rContent-Length: 5\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a NUL in a header", with("X-A: b\0c\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a blank in a name", with("X A: b\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a line without a colon", with("xyz\r\nContent-Length: 2\r\n", "{}"), &[400]),
        ("a chunk of negative size", with("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"), &[400]),
        (
            "a chunk of 68 bits",
            with("Transfer-Encoding: chunked\r\n", "10000000000000002\r\n{}\r\n0\r\n\r\n"),
            &[400],
        ),
        ("chunks by line feeds", with("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n"), &[400]),
        ("a chunk without its end", with("Transfer-Encoding: chunked\r\n", "2\r\n{}0\r\n\r\n"), &[400]),
        ("chunks that end early", with("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n"), &[400]),
        ("a body that ends early", with("Content-Length: 10\r\n", "{}"), &[400]),
    ]
}

#[tokio::test]
async fn what_could_end_in_two_places_is_refused() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    for (name, rest, expected) in two_faced() {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{}{rest}", head(&source))).await.close_sending().await;
        let answer = raw.try_answer().await.unwrap_or_else(|| panic!("{name}: closed without an answer"));
        assert!(expected.contains(&answer.status), "{name}: {answer:?}");
        assert!(raw.ends().await, "{name}: the connection goes on");
    }
    assert_eq!(events(&stack).await, 0);
    is_served(&stack, &source).await;
}

#[tokio::test]
async fn a_host_must_be_named_once() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    let path = format!("/in/{source}");
    for (head, status) in [
        (format!("POST {path} HTTP/1.1\r\n"), 400),
        (format!("POST {path} HTTP/1.1\r\nHost: a b\r\n"), 400),
        (format!("POST {path} HTTP/1.1\r\nHost: someone@ingest.test\r\n"), 400),
        (format!("POST {path} HTTP/1.1\r\nHost:\r\n"), 200),
        (format!("POST {path} HTTP/1.0\r\n"), 200),
        (format!("POST {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n"), 400),
        (format!("POST {path} HTTP/2.0\r\nHost: x\r\n"), 400),
    ] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{head}Content-Length: 2\r\n\r\n{{}}")).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, status, "{head}: {answer:?}");
        if head.contains("a b") {
            assert_eq!(answer.code(), "bad_host");
        }
    }
}

#[tokio::test]
async fn a_request_hidden_in_another_is_never_taken_up() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    let hidden = post(&source, r#"{"hidden":true}"#);
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
    ] {
        // Behind a good one on the same connection, which has its answer.
        let mut raw = Raw::connect(&stack).await;
        let smuggling = format!("{}{lengths}\r\n0\r\n\r\n{hidden}", head(&source));
        raw.send(format!("{}{smuggling}", post(&source, "{}"))).await;
        assert_eq!(raw.answer().await.status, 200, "{lengths}");
        let refused = raw.answer().await;
        assert!(matches!(refused.status, 400 | 501), "{lengths}: {refused:?}");
        assert!(!refused.code().is_empty(), "{lengths}: {refused:?}");
        assert_eq!(refused.header("connection"), Some("close"), "{lengths}");
        assert!(raw.ends().await, "{lengths}: the hidden request was answered");
    }
    assert_eq!(events(&stack).await, 3);
}

#[tokio::test]
async fn what_is_read_in_another_way_than_the_library_does_hides_no_request() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    let hidden = format!(
        "{}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
        head(&source),
        post(&source, r#"{"hidden":true}"#)
    );
    let chunked = format!("{}Transfer-Encoding: chunked\r\n\r\n", head(&source));
    for body in [
        // A size of which only the beginning is looked at, which is not all zeros.
        format!("{}2\r\n{{}}\r\n0\r\n\r\n", "0".repeat(100)),
        // Trailers that go on behind a line feed, in which a head seems to stand that skips what follows.
        "2\r\n{}\r\n0\r\nX: y\n\r\nPOST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n".to_owned(),
    ] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{chunked}{body}{hidden}")).await;
        let refused = raw.answer().await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "body_incomplete"), "{body:?}");
        assert!(raw.ends().await, "{body:?}: the hidden request was answered");
    }
    assert_eq!(events(&stack).await, 0);
}

#[tokio::test]
async fn a_target_of_any_form_names_a_source_or_nothing() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    for (line, status) in [
        (format!("POST http://ingest.test/in/{source} HTTP/1.1"), 200),
        // RFC 9112, section 3.2.2: the target counts, and here nothing depends on either.
        (format!("POST http://other.test/in/{source} HTTP/1.1"), 200),
        (format!("POST /in/{source}#fragment HTTP/1.1"), 200),
        (format!("POST //in/{source} HTTP/1.1"), 404),
        (format!("POST /in/../in/{source} HTTP/1.1"), 404),
        (format!("POST /in/%73{} HTTP/1.1", &source[1..]), 404),
        ("OPTIONS * HTTP/1.1".to_owned(), 404),
        ("CONNECT ingest.test:80 HTTP/1.1".to_owned(), 404),
        ("POST ingest.test HTTP/1.1".to_owned(), 404),
        (format!("POST in/{source} HTTP/1.1"), 400),
        (format!("POST /in/{source} x HTTP/1.1"), 400),
        (format!("post /in/{source} HTTP/1.1"), 405),
    ] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{line}\r\nHost: ingest.test\r\nContent-Length: 2\r\n\r\n{{}}")).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(status == 200 || !answer.code().is_empty(), "{line}: {answer:?}");
    }
    assert_eq!(events(&stack).await, 3);
}

#[tokio::test]
async fn requests_one_behind_the_other_each_have_their_answer() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    let chunked = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n3;name=value\r\n{{\"c\r\n4\r\n\":1}}\r\n0\r\nX-Trailer: t\r\n\r\n",
        head(&source)
    );
    // What looks like a head with two lengths is the body of one.
    let lookalike = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let all = [post(&source, "{\"a\":1}"), chunked, post(&source, lookalike), post(&source, "{\"b\":1}")];
    let mut raw = Raw::connect(&stack).await;
    raw.send(all.concat()).await;
    let mut ids = Vec::new();
    for _ in 0..all.len() {
        let answer = raw.answer().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        ids.push(answer.body);
    }
    let bodies = stack.database.sql().query("SELECT body FROM events ORDER BY id", &[]).await.unwrap();
    let bodies: Vec<Vec<u8>> = bodies.iter().map(|row| row.get(0)).collect();
    assert_eq!(bodies, [&b"{\"a\":1}"[..], b"{\"c\":1}", lookalike.as_bytes(), b"{\"b\":1}"]);
    // One byte at a time it is the same.
    let mut raw = Raw::connect(&stack).await;
    for byte in all[1].bytes() {
        raw.send([byte]).await;
    }
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn a_sender_that_has_said_all_still_has_its_answer() {
    let stack = ingest_only().await;
    let source = open_source(&stack).await;
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        for round in 0..20 {
            let mut raw = Raw::connect(&stack).await;
            raw.send(post(&source, "{}").replace("HTTP/1.1", version)).await.close_sending().await;
            assert_eq!(raw.answer().await.status, 200, "{version}, {round}");
            assert!(raw.ends().await);
        }
    }
    assert_eq!(events(&stack).await, 40);
}

#[tokio::test]
async fn nothing_a_sender_writes_becomes_a_header_of_an_answer() {
    let stack = ingest_only().await;
    let source = stack.admin().source("microsoft-graph", "bowline-test-client-state").await;
    let mut raw = Raw::connect(&stack).await;
    let injected = "x%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0aHTTP/1.1%20200%20OK";
    raw.send(format!(
        "POST /in/{source}?validationToken={injected} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    ))
    .await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None), "{answer:?}");
    assert!(answer.body.starts_with("x\r\nSet-Cookie:"), "{answer:?}");

    let asana = stack.admin().source("asana", "bowline-test-hook-secret").await;
    for value in ["a\rSet-Cookie: a=b", "a\0b", "a\n Set-Cookie: a=b"] {
        let mut raw = Raw::connect(&stack).await;
        let text = format!("{}X-Hook-Secret: {value}\r\nContent-Length: 0\r\n\r\n", head(&asana));
        raw.send(text).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("set-cookie")), (400, None), "{answer:?}");
    }
    assert_eq!(events(&stack).await, 0);
}
