//! Queries over what a source has received, as a caller of the admin API meets them.

mod turns;
mod window;

use bowline_proto::v1::{self, AggregateOp as Op, AggregateWindow as Window, SortOrder};
use bowline_tests::admin::{Admin, KEY, reason, violations};
use bowline_tests::{Stack, http};
use sha2::{Digest, Sha256};
use tonic::Code;
use uuid::Uuid;

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

/// A source that takes anything from anyone.
async fn source(stack: &Stack, source: v1::Source) -> String {
    stack.admin().source_like(v1::Source { insecure: true, ..source }, "").await.id
}

/// Posts one after the other; the ids of the events.
async fn send(stack: &Stack, source_id: &str, bodies: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for body in bodies {
        let answer =
            http::post(&stack.inbound(source_id), &json_headers(), (*body).to_owned()).await.unwrap();
        ids.push(answer.accepted());
    }
    ids
}

fn json_headers() -> bowline_tests::sign::Headers {
    vec![("content-type".to_owned(), "application/json".to_owned())]
}

async fn latest(admin: &Admin, source_id: &str) -> Option<v1::Payload> {
    let request = v1::GetLatestPayloadRequest { source_id: source_id.to_owned() };
    admin.payloads().get_latest_payload(request).await.unwrap().into_inner().payload
}

fn fold(window: Window, op: Op, field: &str) -> v1::AggregateQuery {
    v1::AggregateQuery { window: window.into(), op: op.into(), field: field.to_owned() }
}

async fn aggregate(admin: &Admin, source_id: &str, query: v1::AggregateQuery) -> (f64, i64) {
    let request =
        v1::AggregatePayloadsRequest { source_id: source_id.to_owned(), query: Some(query.clone()) };
    let answer = admin.payloads().aggregate_payloads(request).await.unwrap().into_inner();
    assert_eq!((answer.window, answer.op), (query.window, query.op));
    (answer.value, answer.count)
}

async fn list(
    admin: &Admin,
    source_id: &str,
    query: v1::ListQuery,
    page_token: &str,
) -> v1::ListPayloadsResponse {
    let request = v1::ListPayloadsRequest {
        source_id: source_id.to_owned(),
        query: Some(query),
        page_token: page_token.to_owned(),
    };
    admin.payloads().list_payloads(request).await.unwrap().into_inner()
}

fn bodies(page: &v1::ListPayloadsResponse) -> Vec<String> {
    page.payloads.iter().map(|payload| String::from_utf8(payload.body.to_vec()).unwrap()).collect()
}

fn sorted(sort_by: &str, order: SortOrder, limit: i32) -> v1::ListQuery {
    v1::ListQuery { limit, sort_by: sort_by.to_owned(), order: order.into() }
}

#[tokio::test]
async fn the_latest_is_the_newest_body_or_none() {
    let stack = Stack::start().await;
    let source_id = source(&stack, v1::Source::default()).await;
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    for admin in [&stack.admin(), &by_dispatcher] {
        assert_eq!(latest(admin, &source_id).await, None);
    }
    // The exact bytes, JSON or not.
    for body in ["{ \"b\" : 1,\"a\":2.50 }\n", "no JSON \u{1f9f6}", ""] {
        let id = send(&stack, &source_id, &[body]).await.remove(0);
        for admin in [&stack.admin(), &by_dispatcher] {
            let payload = latest(admin, &source_id).await.unwrap();
            assert_eq!((payload.event_id.as_str(), &payload.body[..]), (id.as_str(), body.as_bytes()));
            assert_eq!(payload.content_type, "application/json");
            assert!(payload.receive_time.is_some() && !payload.event_type.is_empty());
        }
    }
}

#[tokio::test]
async fn values_become_numbers_as_in_javascript() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    // What stands there, and what it counts as.
    for (value, number) in [
        ("42", Some(42.0)),
        ("\"42\"", Some(42.0)),
        ("\" 12 \"", Some(12.0)),
        ("\"\"", Some(0.0)),
        ("\"0x10\"", Some(16.0)),
        ("\"0b11\"", Some(3.0)),
        ("true", Some(1.0)),
        ("[]", Some(0.0)),
        ("[5]", Some(5.0)),
        ("\"Infinity\"", Some(f64::INFINITY)),
        ("1e400", Some(f64::INFINITY)),
        ("{}", None),
        ("[1,2]", None),
        ("\"12px\"", None),
        ("null", None),
    ] {
        let source_id = source(&stack, v1::Source::default()).await;
        let body = format!("{{\"deep\": {{\"v\": {value}}}}}");
        // Passed over: what has none of it, and what is no JSON.
        send(&stack, &source_id, &[&body, "{\"deep\": 1}", "{}", "deep.v=7", "null"]).await;
        for path in ["deep.v", "$.deep.v", "$..v"] {
            // Only a path of names and places reads numbers that other JSON parsers refuse.
            if path == "$..v" && value == "1e400" {
                continue;
            }
            let folded = aggregate(&admin, &source_id, fold(Window::AggregateWindow1h, Op::Sum, path)).await;
            assert_eq!(folded, (number.unwrap_or(0.0), i64::from(number.is_some())), "{value} at {path}");
        }
    }
}

#[tokio::test]
async fn each_op_over_each_window() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source_id = source(&stack, v1::Source::default()).await;
    for op in [Op::Sum, Op::Count, Op::Avg, Op::Min, Op::Max] {
        let nothing = aggregate(&admin, &source_id, fold(Window::AggregateWindow7d, op, "n")).await;
        assert_eq!(nothing, (0.0, 0), "{op:?} of nothing");
    }
    let source_id = source(&stack, v1::Source::default()).await;
    let ids = send(
        &stack,
        &source_id,
        &["{\"n\": 1}", "{\"n\": 2}", "{\"n\": 4}", "{\"n\": 8}", "{\"n\": 16}", "{\"n\": \"none\"}"],
    )
    .await;
    // Received so many minutes ago; just within and just beyond each window.
    let minutes = [7 * 24 * 60 + 1, 7 * 24 * 60 - 1, 24 * 60 - 1, 59, 14, 0];
    for (id, minutes) in ids.iter().zip(minutes) {
        let id: bowline_core::id::EventId = id.parse().unwrap();
        let aged = "UPDATE events SET create_time = create_time - $2 * interval '1 minute' WHERE id = $1";
        stack.database.sql().execute(aged, &[&id.0, &f64::from(minutes)]).await.unwrap();
    }
    for (window, values) in [
        (Window::AggregateWindow15m, &[16.0][..]),
        (Window::AggregateWindow1h, &[8.0, 16.0]),
        (Window::AggregateWindow24h, &[4.0, 8.0, 16.0]),
        (Window::AggregateWindow7d, &[2.0, 4.0, 8.0, 16.0]),
    ] {
        let (sum, count) = (values.iter().sum::<f64>(), values.len() as i64);
        for (op, value) in [
            (Op::Sum, sum),
            (Op::Count, count as f64),
            (Op::Avg, sum / count as f64),
            (Op::Min, values[0]),
            (Op::Max, 16.0),
        ] {
            let folded = aggregate(&admin, &source_id, fold(window, op, "n")).await;
            assert_eq!(folded, (value, count), "{op:?} {window:?}");
        }
        // Without a field payloads are counted, whatever is in them.
        let counted = aggregate(&admin, &source_id, fold(window, Op::Count, "")).await;
        assert_eq!(counted, (count as f64 + 1.0, count + 1));
    }
}

#[tokio::test]
async fn lists_by_receipt_and_by_value() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source_id = source(&stack, v1::Source::default()).await;
    let values = [
        "{\"v\": 2}",
        "{\"v\": \"10\"}",
        "{}",
        "{\"v\": null}",
        "{\"v\": [1]}",
        "{\"v\": 10}",
        "no JSON",
        "{\"v\": {}}",
        "{\"v\": true}",
        "{\"v\": 2}",
        "{\"v\": \"2\"}",
        "{\"v\": -1}",
    ];
    let ids = send(&stack, &source_id, &values).await;
    let newest_first: Vec<_> = values.iter().rev().map(ToString::to_string).collect();

    let page = list(&admin, &source_id, v1::ListQuery::default(), "").await;
    assert_eq!((bodies(&page), page.next_page_token.as_str()), (newest_first[..10].to_vec(), ""));
    let page = list(&admin, &source_id, sorted("", SortOrder::Asc, 3), "").await;
    assert_eq!(
        (bodies(&page), page.next_page_token.as_str()),
        (values[..3].iter().map(ToString::to_string).collect(), "")
    );
    assert_eq!(page.payloads[0].event_id, ids[0]);
    let page = list(&admin, &source_id, sorted("", SortOrder::Desc, 1000), "").await;
    assert_eq!(bodies(&page), newest_first);

    // null, booleans, numbers, texts, arrays, objects; equal ones newest first; missing ones last.
    let ascending = [3, 8, 11, 9, 0, 5, 1, 10, 4, 7, 6, 2].map(|at| ids[at].clone());
    let of = |page: v1::ListPayloadsResponse| {
        page.payloads.into_iter().map(|payload| payload.event_id).collect::<Vec<_>>()
    };
    for path in ["v", "$.v"] {
        assert_eq!(of(list(&admin, &source_id, sorted(path, SortOrder::Asc, 100), "").await), ascending);
        // All are sorted before the limit is taken.
        assert_eq!(of(list(&admin, &source_id, sorted(path, SortOrder::Asc, 2), "").await), ascending[..2]);
    }
    let descending = [7, 4, 10, 1, 5, 9, 0, 11, 8, 3, 6, 2].map(|at| ids[at].clone());
    assert_eq!(of(list(&admin, &source_id, sorted("v", SortOrder::Unspecified, 100), "").await), descending);
}

#[tokio::test]
async fn a_page_ends_at_three_mebibytes_and_goes_on_where_it_ended() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let like = v1::Source { body_limit_bytes: 8 << 20, query_window_payloads: 6, ..Default::default() };
    let source_id = source(&stack, like).await;
    let large =
        |number: usize, bytes: usize| format!("{{\"n\": {number}, \"x\": \"{}\"}}", "x".repeat(bytes));
    let sent: Vec<String> = [0, 700_000, 700_000, 4_000_000, 1_700_000, 1_500_000, 100]
        .iter()
        .enumerate()
        .map(|(number, bytes)| large(number, *bytes))
        .collect();
    send(&stack, &source_id, &sent.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let newest_first = vec![vec![6, 5], vec![4], vec![3], vec![2, 1]];
    let oldest_first = vec![vec![1, 2], vec![3], vec![4], vec![5, 6]];
    for (query, pages) in [
        (sorted("", SortOrder::Desc, 0), newest_first.clone()),
        (sorted("", SortOrder::Asc, 1000), oldest_first.clone()),
        (sorted("n", SortOrder::Asc, 100), oldest_first),
        (sorted("n", SortOrder::Desc, 100), newest_first),
        // The limit is of the whole list, not of a page.
        (sorted("", SortOrder::Desc, 3), vec![vec![6, 5], vec![4]]),
        (sorted("n", SortOrder::Asc, 4), vec![vec![1, 2], vec![3], vec![4]]),
    ] {
        let mut token = String::new();
        for (at, numbers) in pages.iter().enumerate() {
            let page = list(&admin, &source_id, query.clone(), &token).await;
            let expected: Vec<_> = numbers.iter().map(|number| sent[*number].clone()).collect();
            assert!(bodies(&page) == expected, "page {at} of {query:?}");
            token = page.next_page_token;
            assert_eq!(token.is_empty(), at + 1 == pages.len(), "page {at} of {query:?}");
        }
    }

    // What comes while someone pages moves nothing; a token is good for its own list only.
    let page = list(&admin, &source_id, sorted("", SortOrder::Desc, 6), "").await;
    send(&stack, &source_id, &["{\"n\": 7}", "{\"n\": 8}"]).await;
    let next = list(&admin, &source_id, sorted("", SortOrder::Desc, 6), &page.next_page_token).await;
    assert!(bodies(&next) == [sent[4].clone()]);
    for query in
        [sorted("", SortOrder::Asc, 6), sorted("n", SortOrder::Desc, 6), sorted("", SortOrder::Desc, 7)]
    {
        let request = v1::ListPayloadsRequest {
            source_id: source_id.clone(),
            query: Some(query),
            page_token: page.next_page_token.clone(),
        };
        let refused = admin.payloads().list_payloads(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "PAGE_TOKEN_INVALID")
        );
    }
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source_id = source(&stack, v1::Source::default()).await;
    let request = v1::AggregatePayloadsRequest {
        source_id: source_id.clone(),
        query: Some(v1::AggregateQuery { field: "a..b".into(), ..Default::default() }),
    };
    let refused = admin.payloads().aggregate_payloads(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), violations(&refused)),
        (Code::InvalidArgument, vec!["query.window".into(), "query.op".into(), "query.field".into()])
    );
    let request = v1::ListPayloadsRequest {
        source_id,
        query: Some(sorted("$[", SortOrder::Asc, 1001)),
        ..Default::default()
    };
    let refused = admin.payloads().list_payloads(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), violations(&refused)),
        (Code::InvalidArgument, vec!["query.limit".into(), "query.sort_by".into()])
    );
}

#[tokio::test]
async fn only_who_may_read_the_source_reads_its_payloads() {
    let stack = ingest_only().await;
    let source_id = source(&stack, v1::Source::default()).await;
    send(&stack, &source_id, &["{}"]).await;
    let stranger = Uuid::now_v7();
    let own = Uuid::from_u128(1);
    stack
        .database
        .sql()
        .execute("INSERT INTO tenants (id, name) VALUES ($1, 'stranger')", &[&stranger])
        .await
        .unwrap();
    let keys = [
        ("bowline-test-viewer-key-0001", "viewer", own, None),
        (
            "bowline-test-publisher-key-2",
            "publisher",
            own,
            Some((Code::PermissionDenied, "ROLE_INSUFFICIENT")),
        ),
        ("bowline-test-stranger-key-03", "admin", stranger, Some((Code::NotFound, "RESOURCE_NOT_FOUND"))),
    ];
    let insert = "INSERT INTO api_keys (id, tenant_id, role, key_hash) VALUES ($1, $2, $3, $4)";
    for (key, role, tenant, refusal) in keys {
        let hash = Sha256::digest(key.as_bytes()).to_vec();
        stack.database.sql().execute(insert, &[&Uuid::now_v7(), &tenant, &role, &hash]).await.unwrap();
        let admin = Admin::new(&stack.ingests[0].admin_url(), Some(key));
        check_access(&admin, &source_id, refusal).await;
    }
    let delete = v1::DeleteSourceRequest { id: source_id.clone(), ..Default::default() };
    stack.admin().sources().delete_source(delete).await.unwrap();
    check_access(&stack.admin(), &source_id, Some((Code::NotFound, "RESOURCE_NOT_FOUND"))).await;
}

async fn check_access(admin: &Admin, source_id: &str, refusal: Option<(Code, &str)>) {
    let id = || source_id.to_owned();
    let query = Some(fold(Window::AggregateWindow1h, Op::Count, ""));
    let answers = [
        admin.payloads().get_latest_payload(v1::GetLatestPayloadRequest { source_id: id() }).await.err(),
        admin
            .payloads()
            .aggregate_payloads(v1::AggregatePayloadsRequest { source_id: id(), query })
            .await
            .err(),
        admin
            .payloads()
            .list_payloads(v1::ListPayloadsRequest { source_id: id(), ..Default::default() })
            .await
            .err(),
    ];
    for answer in answers {
        let seen = answer.as_ref().map(|status| (status.code(), reason(status)));
        assert_eq!(seen, refusal.map(|(code, reason)| (code, reason.to_owned())));
    }
}
