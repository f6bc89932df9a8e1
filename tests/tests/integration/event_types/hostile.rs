//! Schemas and payloads by which somebody would do harm: refused by what is wrong with them, while everybody
//! else goes on. What the validator itself withstands is in `core/src/catalog/schema/tests.rs`.

use bowline_proto::v1;
use bowline_tests::admin::violations;
use bowline_tests::{Receiver, Stack};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tonic::Code;

use super::{create, publish};

#[tokio::test]
async fn nothing_is_fetched_for_a_schema() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, server) = (stack.admin(), Receiver::start().await);
    let url = server.url();
    for schema in [
        format!(r#"{{"$ref": "{url}"}}"#),
        format!(r#"{{"$schema": "{url}"}}"#),
        format!(r#"{{"$id": "{url}", "items": {{"$ref": "other.json"}}}}"#),
        r#"{"$ref": "file:///etc/hostname"}"#.to_owned(),
    ] {
        let refused = create(&admin, "order.created", &schema).await.unwrap_err();
        assert_eq!(violations(&refused), ["event_type.json_schema"], "{schema}");
    }
    assert_eq!(server.count(), 0, "{:?}", server.requests());
    // An address that a payload brings is a text like any other.
    create(&admin, "order.created", r#"{"properties": {"$ref": {"type": "string"}}}"#).await.unwrap();
    publish(&admin, "order.created", format!(r#"{{"$ref": "{url}"}}"#)).await.unwrap();
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn what_is_too_much_is_refused_by_name() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let long = format!("{{\"description\": \"{}\"}}", "x".repeat(64 * 1024));
    let many = format!("{{\"enum\": [{}0]}}", "0,".repeat(10_000));
    let deep = format!("{}{}", "{\"not\":".repeat(200), "true") + &"}".repeat(200);
    for (schema, why) in [
        (long.as_str(), "at most 65536"),
        (many.as_str(), "values; at most 10000"),
        (deep.as_str(), "is not JSON"),
        (r#"{"pattern": "((\\p{L}{100}){100}){100}"}"#, "pattern"),
        (r#"{"pattern": "(?=a)b"}"#, "pattern"),
    ] {
        let refused = create(&admin, "order.created", schema).await.unwrap_err();
        assert_eq!(violations(&refused), ["event_type.json_schema"]);
        assert!(refused.message().contains(why), "{why}: {}", refused.message());
    }
    // As many as there is room for, and no more; a page of them ends before it is too long to read.
    let wide = format!("{{\"description\": \"{}\"}}", "x".repeat(60 * 1024));
    let mut made = Vec::new();
    for n in 0..70 {
        made.push(create(&admin, &format!("order.n{n}"), &wide).await);
    }
    let refused: Vec<_> = made.iter().filter_map(|made| made.as_ref().err()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|refused| refused.message().contains("at most 4194304")), "{refused:?}");
    let mut page_token = String::new();
    let mut names = Vec::new();
    loop {
        let request = v1::ListEventTypesRequest { page_size: 1000, page_token, ..Default::default() };
        let page = admin.event_types().list_event_types(request).await.unwrap().into_inner();
        names.extend(page.event_types.into_iter().map(|event_type| event_type.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 68);
}

#[tokio::test]
async fn a_payload_that_takes_too_long_to_check_is_given_up() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let choices: Vec<String> = (0..9_000).map(|n| n.to_string()).collect();
    let hostile = format!(r#"{{"items": {{"enum": [{}]}}}}"#, choices.join(","));
    create(&admin, "order.hostile", &hostile).await.unwrap();
    create(&admin, "order.created", r#"{"required": ["total"]}"#).await.unwrap();
    create(&admin, "order.tree", r##"{"type": "object", "additionalProperties": {"$ref": "#"}}"##)
        .await
        .unwrap();
    // Each is found, and found last.
    let payload = format!("[{}1]", "8999,".repeat(200_000));
    let (hostile, others) = tokio::join!(
        join_all((0..4).map(|_| publish(&admin, "order.hostile", payload.clone()))),
        join_all((0..20).map(|_| publish(&admin, "order.created", "{\"total\": 1}"))),
    );
    for refused in hostile {
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), violations(&refused)), (Code::InvalidArgument, vec!["body".to_owned()]));
        assert!(refused.message().contains("too much work"), "{}", refused.message());
    }
    others.into_iter().for_each(|published| drop(published.unwrap()));

    let nested = |depth: usize| format!("{}{}{}", "{\"a\":".repeat(depth), "{}", "}".repeat(depth));
    publish(&admin, "order.tree", nested(100)).await.unwrap();
    let refused = publish(&admin, "order.tree", nested(10_000)).await.unwrap_err();
    assert_eq!(violations(&refused), ["body"]);
    assert!(refused.message().contains("recursion limit"), "{}", refused.message());
}

#[tokio::test]
async fn a_tenant_whose_checks_take_long_does_not_keep_the_others_waiting() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let tenant = v1::Tenant { name: "other".into(), ..Default::default() };
    let tenant = v1::CreateTenantRequest { tenant: Some(tenant) };
    let other = admin.tenants().create_tenant(tenant).await.unwrap().into_inner().tenant.unwrap().id;
    let choices: Vec<String> = (0..9_000).map(|n| n.to_string()).collect();
    create(&admin, "order.slow", &format!(r#"{{"items": {{"enum": [{}]}}}}"#, choices.join(",")))
        .await
        .unwrap();
    let event_type = v1::EventType {
        name: "order.created".into(),
        json_schema: r#"{"required": ["total"]}"#.into(),
        ..Default::default()
    };
    let request = v1::CreateEventTypeRequest {
        tenant_id: other.clone(),
        event_type: Some(event_type),
        ..Default::default()
    };
    admin.event_types().create_event_type(request).await.unwrap();

    // Twelve that are given up after a long while, one after the other; once the first is through, the others wait.
    let payload = format!("[{}1]", "8999,".repeat(200_000));
    let mut slow: FuturesUnordered<_> =
        (0..12).map(|_| publish(&admin, "order.slow", payload.clone())).collect();
    slow.next().await.unwrap().unwrap_err();
    let mut published = Box::pin(async {
        for _ in 0..3 {
            let request = v1::PublishEventRequest {
                tenant_id: other.clone(),
                event_type: "order.created".into(),
                body: "{\"total\": 1}".into(),
                ..Default::default()
            };
            admin.events().publish_event(request).await.unwrap();
        }
    });
    let mut checked = 1;
    loop {
        tokio::select! {
            () = &mut published => break,
            Some(refused) = slow.next() => {
                refused.unwrap_err();
                checked += 1;
            }
        }
    }
    assert!(checked < 12, "the others waited until all was checked");
}
