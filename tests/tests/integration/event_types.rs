//! The catalog of a tenant: what is published must fit it, what comes in is never refused for it.

mod access;
mod hostile;
mod reference;

use bowline_proto::v1::{self, publish_event_result::Outcome};
use bowline_tests::admin::{Admin, KEY, endpoint, reason, violations};
use bowline_tests::{BOUND, Cli, Receiver, Stack, eventually, http};
use tempfile::TempDir;
use tonic::{Code, Status};

const SCHEMA: &str =
    r#"{"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}"#;

async fn create(admin: &Admin, name: &str, json_schema: &str) -> Result<v1::EventType, Status> {
    let event_type =
        v1::EventType { name: name.into(), json_schema: json_schema.into(), ..Default::default() };
    let request = v1::CreateEventTypeRequest { event_type: Some(event_type), ..Default::default() };
    Ok(admin.event_types().create_event_type(request).await?.into_inner().event_type.unwrap())
}

async fn set_strict(admin: &Admin, strict: bool) {
    let id = bowline_core::id::DEFAULT_TENANT.to_string();
    let request = v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant { id, strict_event_catalog: strict, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["strict_event_catalog".into()] }),
    };
    let changed = admin.tenants().update_tenant(request).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(changed.strict_event_catalog, strict);
}

async fn publish(admin: &Admin, event_type: &str, body: impl Into<String>) -> Result<String, Status> {
    let body = body.into();
    let request = v1::PublishEventRequest {
        event_type: event_type.into(),
        content_type: if body.starts_with('<') { "text/xml".into() } else { String::new() },
        body: body.into(),
        ..Default::default()
    };
    Ok(admin.events().publish_event(request).await?.into_inner().event_id)
}

#[tokio::test]
async fn what_is_published_fits_the_schema_of_its_type() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let made = create(&admin, "order.created", SCHEMA).await.unwrap();
    publish(&admin, "order.created", "{\"total\": 5}").await.unwrap();
    publish(&admin, "order.lost", "<lost/>").await.unwrap();
    for (body, why) in [("{\"total\": \"5\"}", "/total"), ("{}", "total"), ("<order/>", "is not JSON")] {
        let refused = publish(&admin, "order.created", body).await.unwrap_err();
        assert_eq!(violations(&refused), ["body"], "{body}");
        assert!(refused.message().contains(why), "{refused:?}");
    }
    let events = vec![
        v1::PublishEventRequest {
            event_type: "order.created".into(),
            body: "{\"total\": 1}".into(),
            ..Default::default()
        },
        v1::PublishEventRequest {
            event_type: "order.created".into(),
            body: "{}".into(),
            ..Default::default()
        },
    ];
    let batch = v1::PublishEventBatchRequest { events, ..Default::default() };
    let results = admin.events().publish_event_batch(batch).await.unwrap().into_inner().results;
    assert!(matches!(results[0].outcome, Some(Outcome::Published(_))), "{results:?}");
    assert!(
        matches!(&results[1].outcome, Some(Outcome::Failure(failure)) if failure.message.contains("total"))
    );

    // A change holds for the other service too, as soon as it has read it.
    let request = v1::UpdateEventTypeRequest {
        event_type: Some(v1::EventType { id: made.id, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["json_schema".into()] }),
    };
    admin.event_types().update_event_type(request).await.unwrap();
    publish(&admin, "order.created", "{}").await.unwrap();
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    eventually(BOUND, async || publish(&by_dispatcher, "order.created", "{}").await).await;
}

#[tokio::test]
async fn a_repeat_is_answered_as_it_was_before_the_catalog_changed() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let publish = async |event_type: &str, key: &str, body: &str| {
        let request = v1::PublishEventRequest {
            event_type: event_type.into(),
            body: body.to_owned().into(),
            idempotency_key: key.into(),
            ..Default::default()
        };
        admin.events().publish_event(request).await.map(tonic::Response::into_inner)
    };
    let with_schema = publish("order.created", "a", "{}").await.unwrap();
    let unknown = publish("order.lost", "b", "{}").await.unwrap();
    assert!(!with_schema.duplicate && !unknown.duplicate);
    create(&admin, "order.created", SCHEMA).await.unwrap();
    set_strict(&admin, true).await;
    for (event_type, key, first) in [("order.created", "a", with_schema), ("order.lost", "b", unknown)] {
        let again = publish(event_type, key, "{}").await.unwrap();
        assert_eq!((again.event_id, again.duplicate), (first.event_id, true));
        // Another event with that key, and this one with another key or none, are what they were.
        let refused = publish(event_type, key, "{\"total\": \"5\"}").await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED")
        );
        for key in ["c", ""] {
            assert_eq!(publish(event_type, key, "{}").await.unwrap_err().code(), Code::InvalidArgument);
        }
    }
    // After its time a key is like any other.
    stack.database.sql().execute("UPDATE dedup_keys SET expires_at = now()", &[]).await.unwrap();
    let refused = publish("order.created", "a", "{}").await.unwrap_err();
    assert_eq!(violations(&refused), ["body"]);
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 2);
}

#[tokio::test]
async fn a_strict_catalog_refuses_what_it_does_not_have() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let (everything, _) = admin.endpoint(endpoint(receiver.url())).await;
    set_strict(&admin, true).await;
    assert_eq!(violations(&publish(&admin, "order.created", "{}").await.unwrap_err()), ["event_type"]);
    let wanted = v1::Endpoint {
        event_types: vec!["order.*".into(), "order.created".into()],
        ..endpoint(receiver.url())
    };
    let request = v1::CreateEndpointRequest { endpoint: Some(wanted.clone()), ..Default::default() };
    let refused = admin.endpoints().create_endpoint(request.clone()).await.unwrap_err();
    assert_eq!(violations(&refused), ["endpoint.event_types[1]"]);

    // Made at one service, it is known at the other at once.
    create(&admin, "order.created", "").await.unwrap();
    by_dispatcher.endpoints().create_endpoint(request).await.unwrap();
    let id = publish(&by_dispatcher, "order.created", "{}").await.unwrap();
    admin.await_delivery(&id, &everything, v1::DeliveryState::Delivered).await;
    let update = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint {
            id: everything,
            event_types: vec!["order.lost".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = admin.endpoints().update_endpoint(update).await.unwrap_err();
    assert_eq!(violations(&refused), ["endpoint.event_types[0]"]);
}

#[tokio::test]
async fn what_comes_in_is_kept_and_flagged_and_not_delivered() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    let (everything, _) = admin.endpoint(endpoint(receiver.url())).await;
    create(&admin, "door.opened", SCHEMA).await.unwrap();
    set_strict(&admin, true).await;
    let source =
        v1::Source { insecure: true, event_type_cel: "request.json.type".into(), ..Default::default() };
    let source = admin.source_like(source, "").await.id;
    let send = async |event_type: &str| {
        let body = format!("{{\"type\": \"{event_type}\"}}");
        http::post(&stack.inbound(&source), &Vec::new(), body).await.unwrap().accepted()
    };
    let unknown = send("door.slammed").await;
    // The schema is for what is published: nobody can mend what a provider sends.
    let known = send("door.opened").await;
    admin.await_delivery(&known, &everything, v1::DeliveryState::Delivered).await;
    let get = async |id: &str| {
        let request = v1::GetEventRequest { id: id.to_owned() };
        admin.events().get_event(request).await.unwrap().into_inner().event.unwrap()
    };
    let event = eventually(BOUND, async || {
        let event = get(&unknown).await;
        if event.flag() == v1::EventFlag::UnknownType { Ok(event) } else { Err(event) }
    })
    .await;
    assert_eq!(event.body, "{\"type\": \"door.slammed\"}");
    assert_eq!(get(&known).await.flag(), v1::EventFlag::Unspecified);
    // Once the type is known, what was kept can be sent after all.
    create(&admin, "door.slammed", "").await.unwrap();
    let replay = v1::ReplayEventsRequest {
        filter: Some(v1::EventFilter { event_type: "door.slammed".into(), ..Default::default() }),
        endpoint_ids: vec![everything.clone()],
        ..Default::default()
    };
    admin.events().replay_events(replay).await.unwrap();
    assert_eq!(receiver.await_count(2, BOUND).await.len(), 2);
    let later = send("door.slammed").await;
    admin.await_delivery(&later, &everything, v1::DeliveryState::Delivered).await;
}

#[tokio::test]
async fn types_are_made_listed_changed_and_deleted() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let made = create(&admin, "order.created", SCHEMA).await.unwrap();
    assert_eq!(reason(&create(&admin, "order.created", "").await.unwrap_err()), "NAME_TAKEN");
    let refused = create(&admin, "a b", "{\"type\": 5}").await.unwrap_err();
    assert_eq!(violations(&refused), ["event_type.name", "event_type.json_schema"]);
    let refused = create(&admin, "a", r#"{"$ref": "https://example.com/a.json"}"#).await.unwrap_err();
    assert_eq!(violations(&refused), ["event_type.json_schema"]);
    let other = create(&admin, "orders/create", "").await.unwrap();
    let list = async |name: &str| -> Vec<String> {
        let filter = v1::EventTypeFilter { name: name.into(), ..Default::default() };
        let request = v1::ListEventTypesRequest { filter: Some(filter), ..Default::default() };
        let page = admin.event_types().list_event_types(request).await.unwrap().into_inner();
        page.event_types.into_iter().map(|event_type| event_type.id).collect()
    };
    assert_eq!(list("").await, [made.id.clone(), other.id.clone()]);
    assert_eq!(list("orders/create").await, [other.id]);
    let update = v1::UpdateEventTypeRequest {
        event_type: Some(v1::EventType {
            id: made.id.clone(),
            etag: made.etag,
            description: "d".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let changed = admin.event_types().update_event_type(update.clone()).await.unwrap().into_inner();
    let changed = changed.event_type.unwrap();
    // As it was given, to the byte.
    assert_eq!((changed.description.as_str(), changed.json_schema.as_str()), ("d", SCHEMA));
    assert_eq!(admin.event_types().update_event_type(update).await.unwrap_err().code(), Code::Aborted);
    let delete = v1::DeleteEventTypeRequest { id: made.id.clone(), ..Default::default() };
    admin.event_types().delete_event_type(delete.clone()).await.unwrap();
    assert_eq!(admin.event_types().delete_event_type(delete).await.unwrap_err().code(), Code::NotFound);
    // Its name is free again, and its schema asks nothing any more.
    publish(&admin, "order.created", "{}").await.unwrap();
    create(&admin, "order.created", "").await.unwrap();
    let audited = "SELECT count(*) FROM audit_log WHERE action LIKE '%EventType' AND outcome = 'OK'";
    assert_eq!(stack.database.count(audited).await, 5);
}

#[tokio::test]
async fn the_command_line_keeps_the_catalog() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("order.schema.json");
    std::fs::write(&path, SCHEMA).unwrap();
    let schema = ["--schema-file", path.to_str().unwrap()];
    let made = cli.json(&[&["event-type", "create", "order.created"], &schema[..]].concat()).await;
    assert_eq!(made["json_schema"]["required"][0], "total");
    assert_eq!(cli.json(&["event-type", "get", "order.created"]).await, made);
    // A file that was not written yet takes no schema away.
    for verb in [["create", "order.paid"], ["update", "order.created"]] {
        let empty = [&["event-type"], &verb[..], &["--schema-file", "/dev/null"]].concat();
        let refused = cli.refused(64, &empty).await;
        assert!(refused.contains("/dev/null: is empty") && refused.contains("--clear-schema"), "{refused}");
    }
    assert_eq!(cli.json(&["event-type", "get", "order.created"]).await, made);
    let refused = cli.refused(1, &["publish", "--type", "order.created", "--data", "{}"]).await;
    assert!(refused.contains("--data") && refused.contains("total"), "{refused}");
    cli.ok(&["event-type", "update", "order.created", "--clear-schema", "--description", "An order"]).await;
    cli.ok(&["publish", "--type", "order.created", "--data", "{}"]).await;
    assert_eq!(cli.json(&["tenant", "get", "default"]).await["strict_event_catalog"], false);
    cli.ok(&["tenant", "update", "default", "--strict-event-catalog", "true"]).await;
    let refused = cli.refused(1, &["publish", "--type", "order.lost", "--data", "{}"]).await;
    // What is refused says how it would be accepted.
    let add = "`bowline event-type create order.lost`";
    assert!(refused.contains("which is strict") && refused.contains(add), "{refused}");
    let endpoint = ["endpoint", "create", "e", "--url", "http://127.0.0.1:9/", "--event-type", "order.lost"];
    let refused = cli.refused(1, &endpoint).await;
    assert!(refused.contains("--event-type") && refused.contains(add), "{refused}");
    // What else is changed leaves it so, and it can be taken back.
    let changed = cli.json(&["tenant", "update", "default", "--display-name", "All"]).await;
    assert_eq!(changed["strict_event_catalog"], true);
    cli.ok(&["tenant", "update", "default", "--strict-event-catalog", "false"]).await;
    cli.ok(&["publish", "--type", "order.lost", "--data", "{}"]).await;
    let table = cli.ok(&["event-type", "list"]).await.text();
    assert!(table.contains("order.created") && table.contains("An order"), "{table}");
    assert_eq!(cli.json(&["event-type", "delete", "order.created"]).await["id"], made["id"]);
    assert!(cli.refused(1, &["event-type", "get", "order.created"]).await.contains("there is no event-type"));
}
