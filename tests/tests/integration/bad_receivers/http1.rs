//! Over HTTP/1.1, byte by byte.

use std::time::Duration;

use bowline_tests::raw::Piece;
use bowline_tests::{RawReceiver, Stack};

use super::{Case, SHORT, attempted};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const PROMISE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf";

async fn saying(text: &str) -> RawReceiver {
    RawReceiver::start(vec![Piece::text(text)]).await
}

/// A head of so many headers, each of so many bytes.
fn head(count: usize, bytes: usize) -> String {
    let line = |number| format!("x-{number}: {}\r\n", "v".repeat(bytes));
    format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", (0..count).map(line).collect::<String>())
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_in_words_of_its_own() {
    let stack = Stack::start().await;
    let nothing = saying("").await;
    let garbage = saying("\u{1}\u{2} this is not HTTP\r\n\r\n").await;
    let cut_head = saying("HTTP/1.1 200 OK\r\ncontent-le").await;
    let cut_body = saying(PROMISE).await;
    let reset = RawReceiver::start(vec![Piece::text(PROMISE), Piece::Reset]).await;
    let cut_chunk = saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab").await;
    let bad_chunk = saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n").await;
    let two_lengths = saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!").await;
    let huge = saying(&head(1, 128 * 1024)).await;
    let many = saying(&head(5000, 1)).await;
    let mut cases = vec![
        Case::failed("closes without a word", nothing.url(), "protocol", "connection closed"),
        Case::failed("garbage", garbage.url(), "protocol", "invalid http"),
        Case::failed("closes in the head", cut_head.url(), "protocol", "connection closed"),
        Case::failed("two lengths", two_lengths.url(), "protocol", "content-length"),
        Case::failed("a huge header", huge.url(), "protocol", "too large"),
        Case::failed("a flood of headers", many.url(), "protocol", "too large"),
    ];
    // Here a head came: a status is known, and is no success without the rest.
    for (what, receiver) in [
        ("closes in the body", &cut_body),
        ("resets in the body", &reset),
        ("closes in a chunk", &cut_chunk),
        ("a chunk of no length", &bad_chunk),
    ] {
        cases.push(Case { status: 200, ..Case::failed(what, receiver.url(), "body", "") });
    }
    attempted(&stack, &cases).await;
    for receiver in
        [&nothing, &garbage, &cut_head, &cut_body, &reset, &cut_chunk, &bad_chunk, &two_lengths, &huge, &many]
    {
        assert_eq!(receiver.count(), 1, "nothing that may have arrived is sent again by itself");
    }
}

#[tokio::test]
async fn what_never_ends_is_a_timeout() {
    let stack = Stack::start().await;
    let second = Duration::from_secs(1);
    let hanging = RawReceiver::start(vec![Piece::Silence]).await;
    let no_body = RawReceiver::start(vec![Piece::text(PROMISE), Piece::Silence]).await;
    let slow_head = RawReceiver::start(vec![Piece::Slowly(OK.into(), second)]).await;
    let drip = RawReceiver::start(vec![Piece::text(PROMISE), Piece::NowAndThen(b".".into(), second)]).await;
    let hints = Piece::Endlessly(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".into());
    let hints = RawReceiver::start(vec![hints]).await;
    let slow_hints = Piece::NowAndThen(b"HTTP/1.1 102 Processing\r\n\r\n".into(), second / 4);
    let slow_hints = RawReceiver::start(vec![slow_hints]).await;
    let never = |what, receiver: &RawReceiver, status| Case {
        status,
        timeout: Some(SHORT),
        ..Case::failed(what, receiver.url(), "timeout", "in time")
    };
    let cases = [
        never("hangs", &hanging, 0),
        never("hangs in the body", &no_body, 200),
        never("a byte of the head a second", &slow_head, 0),
        never("a byte of the body a second", &drip, 200),
        never("hints without end", &hints, 0),
        never("a hint now and then", &slow_hints, 0),
    ];
    for delivery in attempted(&stack, &cases).await {
        let timings = delivery.attempts[0].timings.expect("how far it came");
        assert!(timings.connect.is_some() && timings.tls.is_none(), "{timings:?}");
    }
}

#[tokio::test]
async fn what_is_odd_and_whole_is_an_answer() {
    let stack = Stack::start().await;
    let slow = RawReceiver::start(vec![Piece::Slowly(OK.into(), Duration::from_millis(10))]).await;
    let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    let hinted = saying(&format!("{hints}{OK}")).await;
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";
    let endless =
        RawReceiver::start(vec![Piece::text(endless), Piece::Endlessly(vec![b'x'; 64 * 1024])]).await;
    let to_the_end = saying("HTTP/1.0 200 OK\r\n\r\nuntil it is closed").await;
    let binary =
        [b"HTTP/1.1 200 OK\r\nx-odd: \xff\xfe\r\ncontent-length: 4\r\n\r\n".as_slice(), b"\0\xff\0\n"];
    let binary = RawReceiver::start(vec![Piece::Bytes(binary.concat())]).await;
    let full = saying(&head(98, 500)).await;
    let cases = [
        Case::delivered("slow", slow.url()),
        Case::delivered("100 and 103 before it", hinted.url()),
        Case::delivered("an endless body", endless.url()),
        Case::delivered("HTTP/1.0", to_the_end.url()),
        Case::delivered("binary", binary.url()),
        Case::delivered("as many headers as are read", full.url()),
    ];
    let logged = attempted(&stack, &cases).await;
    let body = |at: usize| logged[at].attempts[0].response_body.as_ref();
    assert_eq!((body(0), body(1), body(3)), (&b"ok"[..], &b"ok"[..], &b"until it is closed"[..]));
    assert_eq!(body(2).len(), 16 * 1024);
    assert_eq!(body(4), b"\0\xff\0\n");
    let kept: usize = logged[5].attempts[0]
        .response_headers
        .iter()
        .map(|header| header.name.len() + header.value.len())
        .sum();
    assert!(kept <= 16 * 1024, "{kept}");
}

#[tokio::test]
async fn a_status_that_nobody_knows_is_a_failure_with_that_status() {
    let stack = Stack::start().await;
    let of = async |status: &str| saying(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
    let (odd, switching, empty) =
        (of("799 Odd").await, of("101 Switching Protocols").await, of("304 ").await);
    let failed =
        |what, receiver: &RawReceiver, status| Case { status, ..Case::failed(what, receiver.url(), "", "") };
    let admin = stack.admin();
    for case in [failed("799", &odd, 799), failed("101", &switching, 101), failed("304", &empty, 304)] {
        let (id, _) = admin.endpoint(case.endpoint()).await;
        let event = admin.publish("order.created").await;
        let delivery = admin.await_attempts(&event, &id, 1).await;
        let attempt = &delivery.attempts[0];
        assert_eq!(
            (attempt.status_code, attempt.decision()),
            (case.status, bowline_proto::v1::AttemptDecision::Retry),
            "{}: {attempt:?}",
            case.what
        );
        admin.set_state(&id, bowline_proto::v1::EndpointState::Disabled).await;
    }
}

#[tokio::test]
async fn a_body_of_any_bytes_is_logged_as_it_came_up_to_a_limit() {
    const LIMIT: usize = 16 * 1024;
    let stack = Stack::start().await;
    // Every byte there is, in an order that no text has; the limit falls in the middle of a round.
    let round: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_mul(37).wrapping_add(91)).collect();
    let body: Vec<u8> = [b"odd".as_slice(), &round.repeat(80)].concat();
    let answer = |status: &str, body: &[u8]| {
        let kind = "content-type: text/plain; charset=utf-8";
        let head = format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        vec![Piece::Bytes([head.as_bytes(), body].concat())]
    };
    let [long, full, over, failed] = [
        RawReceiver::start(answer("200 OK", &body)).await,
        RawReceiver::start(answer("200 OK", &body[..LIMIT])).await,
        RawReceiver::start(answer("200 OK", &body[..=LIMIT])).await,
        RawReceiver::start(answer("500 No", &body)).await,
    ];
    let cases = [
        Case::delivered("longer than is kept", long.url()),
        Case::delivered("as long as is kept", full.url()),
        Case::delivered("a byte longer", over.url()),
        Case { status: 500, ..Case::failed("a failure", failed.url(), "", "") },
    ];
    let admin = stack.admin();
    for case in &cases {
        let (id, _) = admin.endpoint(case.endpoint()).await;
        let event = admin.publish("order.created").await;
        let attempt = admin.await_attempts(&event, &id, 1).await.attempts[0].clone();
        assert_eq!(attempt.status_code, case.status, "{}", case.what);
        assert!(attempt.response_body == body[..LIMIT], "{}: {:?}", case.what, attempt.response_body);
        admin.set_state(&id, bowline_proto::v1::EndpointState::Disabled).await;
    }
}
