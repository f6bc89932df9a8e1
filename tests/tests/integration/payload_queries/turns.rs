//! What one tenant has read for a long time keeps no other's queries waiting.

use bowline_proto::v1::{self, AggregateOp as Op, AggregateWindow as Window};
use bowline_tests::admin::{Admin, reason};
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Stack, eventually, http};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tonic::Code;

use super::{aggregate, fold, json_headers};
use crate::by_hand::somebody;

/// Half of the connections for calls, so that all of them come to read.
const QUERIES: usize = 8;
/// Enough that a query reads for seconds.
const PAYLOADS: usize = 120;
/// Each is larger than what is read where it is.
const NUMBERS: usize = 12_000;

async fn source_of(stack: &Stack, tenant: &Admin, payloads: usize) -> String {
    let source = v1::Source { insecure: true, ..Default::default() };
    let id = tenant.source_like(source, "").await.id;
    let url = stack.inbound(&id);
    let body = format!("[{}1]", "1,".repeat(NUMBERS));
    for round in vec![(); payloads].chunks(20) {
        join_all(round.iter().map(async |()| {
            http::post(&url, &json_headers(), body.clone()).await.unwrap().accepted();
        }))
        .await;
    }
    id
}

/// Nothing that was read for one of these serves another.
fn heavy(number: usize) -> v1::AggregateQuery {
    let path = format!("$..[?@.a{number} == 1 || @.b == 1 || @.c == 1 || @.d == 1]");
    fold(Window::AggregateWindow1h, Op::Count, &path)
}

#[tokio::test]
async fn a_tenant_whose_queries_take_long_waits_behind_itself() {
    let stack = Stack::builder()
        .dispatchers(0)
        .set("BOWLINE_POSTGRES_ADMIN_POOL_SIZE", &(2 * QUERIES).to_string())
        .start()
        .await;
    let (busy, modest) = (somebody(&stack, "busy", "admin").await, somebody(&stack, "modest", "admin").await);
    let (theirs, ours) = (source_of(&stack, &busy, PAYLOADS).await, source_of(&stack, &modest, 1).await);
    let mut queries = JoinSet::new();
    for first in 0..QUERIES {
        let (mut payloads, source_id) = (busy.payloads(), theirs.clone());
        queries.spawn(async move {
            for number in (first..).step_by(QUERIES) {
                let query = Some(heavy(number));
                let request = v1::AggregatePayloadsRequest { source_id: source_id.clone(), query };
                let Err(status) = payloads.aggregate_payloads(request).await else { continue };
                let why = (status.code(), reason(&status));
                let expected = [(Code::DeadlineExceeded, "TIMEOUT"), (Code::ResourceExhausted, "OVERLOADED")];
                assert!(expected.contains(&(why.0, &*why.1)), "{status:?}");
            }
        });
    }
    // Who has the bodies waits for a place to read them, or has one.
    let reading = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'idle'
                      AND query LIKE '%create_time, event_type, content_type, body%'";
    eventually(BOUND, async || {
        let reading = stack.database.count(reading).await;
        holds(reading >= QUERIES as i64, format!("{reading} queries read"))
    })
    .await;

    for number in 0..4 {
        let count = fold(Window::AggregateWindow1h, Op::Sum, &format!("$..[{number}]"));
        assert_eq!(aggregate(&modest, &ours, count).await, (1.0, 1));
    }
    assert!(queries.try_join_next().is_none(), "they go on");
}
