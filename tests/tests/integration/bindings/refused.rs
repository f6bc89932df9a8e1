//! Paths that ask for too much of one payload.

use super::*;

/// A filter in a filter, which multiplies what each level below it takes.
const COSTLY: &str = "$..[?@[?@[?@]]]";

#[tokio::test]
async fn a_path_that_would_hold_a_processor_is_refused_wherever_it_is_asked_for() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    send(&stack.inbound(&source_id), format!("{}{}", "[".repeat(100), "]".repeat(100))).await;
    let Query::Aggregate(query) = sum_of(COSTLY) else { unreachable!("a sum is an aggregate") };
    let request = v1::AggregatePayloadsRequest { source_id: source_id.clone(), query: Some(query) };
    let refused = admin.payloads().aggregate_payloads(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), violations(&refused)),
        (Code::InvalidArgument, vec!["query.field".to_owned()])
    );
    assert!(refused.message().contains("asks for too much"), "{refused}");

    let query = v1::ListQuery { sort_by: COSTLY.into(), limit: 10, ..Default::default() };
    let request =
        v1::ListPayloadsRequest { source_id: source_id.clone(), query: Some(query), ..Default::default() };
    let refused = admin.payloads().list_payloads(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), violations(&refused)),
        (Code::InvalidArgument, vec!["query.sort_by".to_owned()])
    );

    let fields = [("sum", field(COSTLY, FieldFormat::Number))];
    let request = v1::CreateBindingRequest {
        binding: Some(binding(&source_id, sum_of("n"), &fields)),
        ..Default::default()
    };
    let refused = admin.bindings().create_binding(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("asks for too much"), "{refused}");
}

#[tokio::test]
async fn a_binding_that_an_older_version_took_says_what_is_refused_by_now() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let fields = [("sum", field("$.value", FieldFormat::Number))];
    let id = create(&admin, binding(&source_id, sum_of("n"), &fields)).await.id;
    let older = format!("UPDATE bindings SET spec = replace(spec::text, '$.value', '{COSTLY}')::jsonb");
    stack.database.sql().batch_execute(&older).await.unwrap();
    let sound =
        create(&admin, binding(&source_id, sum_of("n"), &[("sum", field("value", FieldFormat::Number))]))
            .await
            .id;
    send(&stack.inbound(&source_id), "{\"n\": 5}").await;
    eventually(BOUND, async || {
        let refused = get(&admin, &id).await.unwrap();
        holds(refused.refresh_error.contains("asks for too much"), refused.refresh_error)
    })
    .await;
    eventually(BOUND, async || {
        let sum = text(&get(&admin, &sound).await.unwrap(), "sum");
        holds(sum == "5", sum)
    })
    .await;
    let request = v1::ListBindingsRequest::default();
    assert_eq!(admin.bindings().list_bindings(request).await.unwrap().into_inner().bindings.len(), 2);
}
