//! Which payloads a query sees: exactly those of the source's window, as they are committed.

use bowline_proto::v1::{self, AggregateOp as Op, AggregateWindow as Window, SortOrder};
use bowline_tests::http;
use futures_util::future::join_all;
use uuid::Uuid;

use super::{aggregate, bodies, fold, ingest_only, json_headers, list, send, sorted, source};

#[tokio::test]
async fn queries_see_exactly_the_window() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source_id = source(&stack, v1::Source { query_window_payloads: 3, ..Default::default() }).await;
    let other = source(&stack, v1::Source { query_window_payloads: 3, ..Default::default() }).await;
    let sum = || fold(Window::AggregateWindow1h, Op::Sum, "n");
    let all = || sorted("n", SortOrder::Asc, 100);
    for (number, seen) in [(1, &[1][..]), (2, &[1, 2]), (3, &[1, 2, 3]), (4, &[2, 3, 4]), (5, &[3, 4, 5])] {
        send(&stack, &source_id, &[&format!("{{\"n\": {number}}}")]).await;
        send(&stack, &other, &["{\"n\": 1000}"]).await;
        let total = f64::from(seen.iter().sum::<i32>());
        assert_eq!(aggregate(&admin, &source_id, sum()).await, (total, seen.len() as i64), "after {number}");
        let expected: Vec<_> = seen.iter().map(|n| format!("{{\"n\": {n}}}")).collect();
        assert_eq!(bodies(&list(&admin, &source_id, all(), "").await), expected);
        let by_receipt = list(&admin, &source_id, sorted("", SortOrder::Asc, 100), "").await;
        assert_eq!(bodies(&by_receipt), expected);
    }
    // A larger window sees what a smaller one did not: nothing has been deleted.
    for (payloads, seen) in [(5, 15.0), (2, 9.0), (4, 14.0)] {
        let update = v1::UpdateSourceRequest {
            source: Some(v1::Source {
                id: source_id.clone(),
                query_window_payloads: payloads,
                ..Default::default()
            }),
            ..Default::default()
        };
        let updated = admin.sources().update_source(update).await.unwrap().into_inner().source.unwrap();
        assert_eq!(updated.query_window_payloads, payloads);
        assert_eq!(aggregate(&admin, &source_id, sum()).await, (seen, i64::from(payloads)));
    }
}

#[tokio::test]
async fn a_thousand_is_the_window_unless_said_otherwise() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source_id = source(&stack, v1::Source::default()).await;
    send(&stack, &source_id, &["{\"n\": 1000000}", "{\"n\": 1000000}"]).await;
    let sum = || fold(Window::AggregateWindow1h, Op::Sum, "n");
    // Asked all the while: what is remembered of one call must not spoil the next.
    let url = stack.inbound(&source_id);
    let posts = async {
        for _ in 0..20 {
            let round = (0..50)
                .map(|_| async { http::post(&url, &json_headers(), "{\"n\": 1}").await.unwrap().accepted() });
            join_all(round).await;
        }
    };
    let asks = async {
        let (mut folded, mut before) = (0.0, 2);
        while (folded - 1000.0_f64).abs() > 0.5 {
            let (value, count) = aggregate(&admin, &source_id, sum()).await;
            assert!(count >= before && count <= 1000, "{before} to {count}");
            (folded, before) = (value, count);
        }
        before
    };
    let ((), count) =
        tokio::time::timeout(bowline_tests::BOUND, async { tokio::join!(posts, asks) }).await.unwrap();
    assert_eq!(count, 1000);
    assert_eq!(
        aggregate(&admin, &source_id, fold(Window::AggregateWindow1h, Op::Count, "")).await,
        (1000.0, 1000)
    );
    let page = list(&admin, &source_id, sorted("", SortOrder::Desc, 1000), "").await;
    assert_eq!((page.payloads.len(), page.next_page_token.as_str()), (1000, ""));
}

/// What becomes visible late has an older id than what was seen before.
#[tokio::test]
async fn what_is_committed_late_is_seen_all_the_same() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source_id = source(&stack, v1::Source::default()).await;
    let first = send(&stack, &source_id, &["{\"n\": 1}"]).await.remove(0);
    let late = bowline_tests::database::connect(&stack.database.url).await.unwrap();
    late.batch_execute("BEGIN").await.unwrap();
    let copy =
        "INSERT INTO events (id, tenant_id, source_id, event_type, content_type, headers, body, create_time)
                SELECT $1, tenant_id, source_id, event_type, content_type, headers, '{\"n\": 10}', create_time
                  FROM events WHERE id = $2";
    let first: bowline_core::id::EventId = first.parse().unwrap();
    late.execute(copy, &[&Uuid::now_v7(), &first.0]).await.unwrap();
    send(&stack, &source_id, &["{\"n\": 100}"]).await;
    let sum = || fold(Window::AggregateWindow1h, Op::Sum, "n");
    for _ in 0..3 {
        assert_eq!(aggregate(&admin, &source_id, sum()).await, (101.0, 2));
    }
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(aggregate(&admin, &source_id, sum()).await, (111.0, 3));
    send(&stack, &source_id, &["{\"n\": 1000}"]).await;
    assert_eq!(aggregate(&admin, &source_id, sum()).await, (1111.0, 4));
}

/// What is remembered of one call is not what the next one is answered.
#[tokio::test]
async fn what_is_gone_is_seen_no_longer_and_what_is_new_at_once() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let like = v1::Source { body_limit_bytes: 8 << 20, query_window_payloads: 6, ..Default::default() };
    let source_id = source(&stack, like).await;
    let ids = send(&stack, &source_id, &["{\"n\": 1}", "{\"n\": 2}", "{\"n\": 3}", "{\"n\": 4}"]).await;
    let sum = || fold(Window::AggregateWindow1h, Op::Sum, "n");
    let ascending = || sorted("n", SortOrder::Asc, 100);
    for _ in 0..2 {
        assert_eq!(aggregate(&admin, &source_id, sum()).await, (10.0, 4));
        assert_eq!(bodies(&list(&admin, &source_id, ascending(), "").await).len(), 4);
    }

    // As retention takes an event away, and a sweep its body.
    let id = |at: usize| ids[at].parse::<bowline_core::id::EventId>().unwrap().0;
    stack.database.sql().execute("DELETE FROM events WHERE id = $1", &[&id(1)]).await.unwrap();
    let drop = "UPDATE events SET body = '', body_dropped_at = now() WHERE id = $1";
    stack.database.sql().execute(drop, &[&id(2)]).await.unwrap();
    for _ in 0..2 {
        let left = bodies(&list(&admin, &source_id, ascending(), "").await);
        assert_eq!(left, ["{\"n\": 1}", "{\"n\": 4}"]);
        assert_eq!(aggregate(&admin, &source_id, sum()).await, (5.0, 2));
    }

    // More is new than is read at a time.
    let large = [10, 20, 30].map(|n| format!("{{\"n\": {n}, \"x\": \"{}\"}}", "x".repeat(2 << 20)));
    send(&stack, &source_id, &large.each_ref().map(String::as_str)).await;
    for _ in 0..2 {
        let most = list(&admin, &source_id, sorted("n", SortOrder::Desc, 1), "").await;
        assert!(bodies(&most) == [large[2].clone()]);
        assert_eq!(aggregate(&admin, &source_id, sum()).await, (65.0, 5));
    }
}
