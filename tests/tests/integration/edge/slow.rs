//! Slow senders: they cost themselves alone.

use std::time::Duration;

use bowline_proto::v1;
use bowline_tests::{BOUND, Provider, Stack, eventually, http};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::select_all;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Raw, await_metric, events, head, is_served, open_source};

/// Of each body that has begun.
const BEGUN_BYTES: usize = 100;
const WHOLE_BYTES: usize = 1000;
/// At a byte a second those that have come pay for more than the time that a body has at most.
const SLOWEST: (&str, &str) = ("BOWLINE_INGEST_BODY_BYTES_PER_S_MIN", "1");

/// A body that has begun and does not go on, of a request nobody has verified.
async fn stalled(stack: &Stack, source: &str) -> Raw {
    let mut raw = Raw::connect(stack).await;
    let begun = "x".repeat(BEGUN_BYTES);
    raw.send(format!("{}Content-Length: {WHOLE_BYTES}\r\n\r\n{begun}", head(source))).await;
    raw
}

#[tokio::test]
async fn bodies_that_do_not_come_hold_no_place_of_those_that_do() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_IN_FLIGHT_MAX", "4")
        .set_ingest("BOWLINE_INGEST_CONNECTIONS_MAX", "200")
        // On a busy machine, too, they give way before they are too slow.
        .set_ingest(SLOWEST.0, SLOWEST.1)
        .start()
        .await;
    let provider = Provider::create(&stack).await;
    let neighbour = open_source(&stack).await;
    let mut slow = Vec::new();
    for _ in 0..99 {
        slow.push(stalled(&stack, &provider.source_id).await);
    }
    // All have been taken up, in whatever order. Its share of the arriving is full: the oldest gave way.
    await_metric(&stack, "bowline_ingest_bodies_gave_way_total", 49.0).await;
    let mut newest = stalled(&stack, &provider.source_id).await;
    await_metric(&stack, "bowline_ingest_bodies_gave_way_total", 50.0).await;
    for number in 0..10 {
        provider.push(&format!("beside-{number}")).await.accepted();
        is_served(&stack, &neighbour).await;
    }
    let (first, index, _) = select_all(slow.iter_mut().map(|raw| Box::pin(raw.answer()))).await;
    assert_eq!((first.status, first.code().as_str()), (503, "overloaded"), "{first:?}");
    assert!(first.header("retry-after").is_some() && first.header("connection") == Some("close"));
    assert!(slow[index].ends().await);
    // The newest is still heard, and refused for what it is.
    newest.send("x".repeat(WHOLE_BYTES - BEGUN_BYTES)).await;
    assert_eq!(newest.answer().await.status, 400);
    assert_eq!(events(&stack).await, 20);
}

#[tokio::test]
async fn streams_that_do_not_go_on_are_like_connections_that_do_not() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_IN_FLIGHT_MAX", "4")
        .set_ingest("BOWLINE_INGEST_CONNECTIONS_MAX", "200")
        .set_ingest(SLOWEST.0, SLOWEST.1)
        .start()
        .await;
    let provider = Provider::create(&stack).await;
    let address = stack.ingests[0].http_url();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..100 {
            let begun = Frame::data(Bytes::from("x".repeat(BEGUN_BYTES)));
            let begun = futures_util::stream::iter([Ok::<_, std::io::Error>(begun)]);
            let body = StreamBody::new(begun.chain(futures_util::stream::pending()));
            let request = ::http::Request::post(&provider.url).body(body).unwrap();
            sender.ready().await.unwrap();
            streams.push(tokio::spawn(sender.send_request(request)));
        }
    }
    await_metric(&stack, "bowline_ingest_bodies_gave_way_total", 200.0).await;
    for number in 0..10 {
        provider.push(&format!("beside-{number}")).await.accepted();
    }
    let (first, _, streams) = select_all(streams).await;
    assert_eq!(first.unwrap().unwrap().status(), 503);
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_body_that_is_too_slow_is_408() {
    let stack = Stack::builder().dispatchers(0).set_ingest("BOWLINE_INGEST_BODY_TIMEOUT", "1s").start().await;
    let source = open_source(&stack).await;
    let mut silent = stalled(&stack, &source).await;
    let mut dripping = stalled(&stack, &source).await;
    let drip = async {
        loop {
            dripping.send("x").await;
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), dripping.answer()).await {
                return answer;
            }
        }
    };
    let (silent, dripping) = tokio::join!(silent.answer(), drip);
    for answer in [silent, dripping] {
        assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(events(&stack).await, 0);
}

#[tokio::test]
async fn chunks_that_stop_anywhere_are_408() {
    let stack = Stack::builder().dispatchers(0).set_ingest("BOWLINE_INGEST_BODY_TIMEOUT", "1s").start().await;
    let source = open_source(&stack).await;
    let phases = ["", "2", "2;a", "2\r", "2\r\n", "2\r\n{", "2\r\n{}", "2\r\n{}\r\n", "0\r\n", "0\r\nX: y"];
    let stopped = phases.map(|phase| {
        let (stack, source) = (&stack, &source);
        async move {
            let mut raw = Raw::connect(stack).await;
            raw.send(format!("{}Transfer-Encoding: chunked\r\n\r\n{phase}", head(source))).await;
            (phase, raw.answer().await)
        }
    });
    for (phase, answer) in futures_util::future::join_all(stopped).await {
        assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"), "{phase:?}: {answer:?}");
    }
    is_served(&stack, &source).await;
    assert_eq!(events(&stack).await, 1);
}

#[tokio::test]
async fn a_body_below_the_pace_is_408_long_before_its_time_is_up() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_BODY_TIMEOUT", "10m")
        .set_ingest("BOWLINE_INGEST_BODY_BYTES_PER_S_MIN", "1KiB")
        .start()
        .await;
    let source = open_source(&stack).await;
    let answer = stalled(&stack, &source).await.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"), "{answer:?}");
}

#[tokio::test]
async fn heads_that_do_not_come_are_cut_off() {
    let stack =
        Stack::builder().dispatchers(0).set_ingest("BOWLINE_INGEST_HEADER_TIMEOUT", "1s").start().await;
    let source = open_source(&stack).await;
    let half = head(&source);
    for begun in ["", "P", "POST", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", half.as_str()] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(begun).await;
        // Without an answer, or with one that is no 2xx.
        let answered = raw.try_answer().await.map(|answer| answer.status);
        assert!(answered.is_none_or(|status| status >= 400), "{begun}: {answered:?}");
    }
    // One line after the other does not help.
    let mut raw = Raw::connect(&stack).await;
    raw.send(&half).await;
    let ended = async {
        loop {
            raw.send("X-A: b\r\n").await;
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(50), raw.try_answer()).await {
                return answer.map(|answer| answer.status);
            }
        }
    };
    let ended = tokio::time::timeout(BOUND, ended).await.expect("an end");
    assert!(ended.is_none_or(|status| status >= 400), "{ended:?}");
    is_served(&stack, &source).await;
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_those_that_do() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_INGEST_CONNECTIONS_MAX", "10")
        .set_ingest("BOWLINE_INGEST_HEADER_TIMEOUT", "1m")
        .start()
        .await;
    let source = open_source(&stack).await;
    let mut quiet = Vec::new();
    for number in 0..60 {
        let mut raw = Raw::connect(&stack).await;
        // Idle, within a head, within a body, between two requests.
        raw.send(match number % 4 {
            0 => String::new(),
            1 => head(&source),
            2 => format!("{}Content-Length: 10\r\n\r\n{{", head(&source)),
            _ => super::post(&source, "{}"),
        })
        .await;
        quiet.push(raw);
    }
    for _ in 0..20 {
        is_served(&stack, &source).await;
    }
    await_metric(&stack, "bowline_ingest_connections_gave_way_total", 50.0).await;
    assert!(quiet[0].ends().await);
}

#[tokio::test]
async fn without_postgres_no_body_is_asked_for() {
    let mut stack = Stack::builder().dispatchers(0).own_postgres().start().await;
    let wanted = v1::Source { body_limit_bytes: 20_000_000, ..v1::Source::default() };
    let source = super::open_source_like(&stack, wanted).await;
    is_served(&stack, &source).await;
    stack.postgres.as_mut().unwrap().stop().await.unwrap();
    eventually(BOUND, async || {
        let answer = http::post(&stack.inbound(&source), &Vec::new(), "{}").await.unwrap();
        if answer.status == 503 { Ok(()) } else { Err(answer.status) }
    })
    .await;
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut raw = Raw::connect(&stack).await;
        raw.send(format!("{}{expect}Content-Length: 10000000\r\n\r\n", head(&source))).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{answer:?}");
        assert!(answer.header("retry-after").is_some());
    }
}
