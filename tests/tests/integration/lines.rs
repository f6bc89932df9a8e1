//! Calls of one tenant leave connections to Postgres for those of others.

use bowline_proto::v1;
use bowline_tests::admin::reason;
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Stack, eventually};
use tokio::task::JoinSet;
use tonic::Code;

use crate::by_hand::somebody;

/// More than there are connections.
const CALLS: usize = 12;
/// Of one tenant: half of the connections for calls.
const AT_ONCE: usize = 2;

#[tokio::test]
async fn a_tenant_whose_calls_hang_waits_behind_itself() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (busy, modest) =
        (somebody(&stack, "busy", "admin").await, somebody(&stack, "modest", "viewer").await);
    // Whoever asks for operations waits, or who did what.
    let lock = bowline_tests::database::connect(&stack.database.url).await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE operations, audit_log IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS / 2 {
        let (mut operations, mut audit) = (busy.operations(), busy.audit());
        calls.spawn(async move {
            operations.list_operations(v1::ListOperationsRequest::default()).await.map(drop)
        });
        calls.spawn(async move {
            audit.list_audit_entries(v1::ListAuditEntriesRequest::default()).await.map(drop)
        });
    }

    let mut refused = Vec::new();
    eventually(BOUND, async || {
        modest.sources().list_sources(v1::ListSourcesRequest::default()).await.unwrap();
        refused.extend(calls.try_join_next());
        holds(refused.len() == CALLS - AT_ONCE, format!("{} were refused", refused.len()))
    })
    .await;
    for refused in refused {
        let status = refused.unwrap().unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "OVERLOADED"), "{status:?}");
    }
    lock.batch_execute("ROLLBACK").await.unwrap();
    for answered in calls.join_all().await {
        answered.unwrap();
    }
}
