//! Many who watch.

use super::*;
use crate::by_hand::somebody;

const TENANT_MAX: usize = 256;
const SENT: usize = 20;

async fn sum(admin: &Admin, source_id: &str) -> String {
    let fields = [("sum", field("value", FieldFormat::Number))];
    create(admin, binding(source_id, sum_of("n"), &fields)).await.id
}

#[tokio::test]
async fn a_tenant_has_so_many_and_all_of_them_are_told_the_end() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let id = sum(&admin, &source_id).await;
    let url = stack.ingests[0].admin_url();
    let mut streams = Vec::new();
    // A connection carries no more than 256 of them, and none besides.
    for _ in 0..4 {
        let admin = Admin::new(&url, Some(KEY));
        for _ in 0..TENANT_MAX / 4 {
            streams.push(watch(&admin, &id, "").await);
        }
    }
    let request = || v1::WatchBindingRequest { id: id.clone(), ..Default::default() };
    let refused = admin.bindings().watch_binding(request()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(refused.message().contains("the tenant has 256"), "{refused}");
    // Another tenant has its own.
    let theirs = somebody(&stack, "theirs", "operator").await;
    let source = v1::Source { insecure: true, ..Default::default() };
    let other = sum(&theirs, &theirs.source_like(source, "").await.id).await;
    next(&mut watch(&theirs, &other, "").await).await;

    for _ in 0..SENT {
        send(&stack.inbound(&source_id), "{\"n\": 1}").await;
    }
    join_all(
        streams.iter_mut().map(async |stream| {
            while text(&next(stream).await.binding.unwrap(), "sum") != SENT.to_string() {}
        }),
    )
    .await;
    streams.pop();
    eventually(BOUND, async || admin.bindings().watch_binding(request()).await.map(|_| ())).await;
}

#[tokio::test]
async fn those_who_look_at_once_leave_connections_to_others() {
    const WATCHERS: usize = 100;
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(sum(&admin, &source_id).await);
    }
    // Whoever reads data of bindings waits.
    let lock = bowline_tests::database::connect(&stack.database.url).await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE binding_results IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut streams = Vec::new();
    for at in 0..WATCHERS {
        streams.push(watch(&admin, &ids[at % ids.len()], "").await);
    }
    // Longer than a call waits for a connection.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        admin.events().list_events(v1::ListEventsRequest::default()).await.unwrap();
    }
    lock.batch_execute("ROLLBACK").await.unwrap();
    for first in join_all(streams.iter_mut().map(next)).await {
        assert_eq!(text(&first.binding.unwrap(), "sum"), "0");
    }
    send(&stack.inbound(&source_id), "{\"n\": 5}").await;
    for news in join_all(streams.iter_mut().map(next)).await {
        assert_eq!(text(&news.binding.unwrap(), "sum"), "5");
    }
}
