//! Answers that a client asks for and does not read.

use bowline_proto::v1;
use bowline_tests::admin::{Admin, reason};
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Stack, eventually, http};
use tokio::task::JoinSet;
use tonic::Code;

const BODY_BYTES: usize = 1_000_000;
/// What may wait in all of one caller's, less what frames a message.
const HELD_MAX: usize = 64 * 1024 * 1024 / BODY_BYTES;
const CALLS: usize = HELD_MAX + 40;

#[tokio::test]
async fn what_is_not_read_is_bounded_and_ends_with_its_connection() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = v1::Source { insecure: true, ..Default::default() };
    let source = stack.admin().source_like(source, "").await.id;
    let body = format!("[\"{}\"]", "a".repeat(BODY_BYTES - 4));
    http::post(&stack.inbound(&source), &Vec::new(), body).await.unwrap().accepted();
    let request = || v1::GetLatestPayloadRequest { source_id: source.clone() };

    let deaf = Admin::deaf(&stack.ingests[0].admin_url());
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let (mut payloads, request) = (deaf.payloads(), request());
        calls.spawn(async move { payloads.get_latest_payload(request).await });
    }
    for _ in 0..CALLS - HELD_MAX {
        let refused = tokio::time::timeout(BOUND, calls.join_next()).await.unwrap().unwrap().unwrap();
        let status = refused.expect_err("nothing of an answer can be read");
        assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "OVERLOADED"), "{status:?}");
    }
    assert!(calls.try_join_next().is_none(), "the others wait");

    drop((calls, deaf));
    eventually(BOUND, async || {
        let answer = stack.admin().payloads().get_latest_payload(request()).await;
        holds(answer.is_ok(), answer.err())
    })
    .await;
}
