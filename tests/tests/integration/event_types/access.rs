//! Whose a catalog is, who may change it, and what many changes at once come to.

use std::collections::HashSet;

use bowline_proto::v1::{self, ApiKeyRole};
use bowline_tests::admin::{Admin, reason, violations};
use bowline_tests::{BOUND, Stack, eventually};
use futures_util::future::join_all;
use tonic::{Code, Status};

use super::{SCHEMA, create, publish};

async fn tenant(admin: &Admin, name: &str) -> String {
    let tenant = v1::Tenant { name: name.into(), ..Default::default() };
    let request = v1::CreateTenantRequest { tenant: Some(tenant) };
    admin.tenants().create_tenant(request).await.unwrap().into_inner().tenant.unwrap().id
}

async fn with_role(stack: &Stack, tenant_id: &str, role: ApiKeyRole) -> Admin {
    let key = v1::ApiKey { role: role.into(), ..Default::default() };
    let request =
        v1::CreateApiKeyRequest { tenant_id: tenant_id.into(), api_key: Some(key), ..Default::default() };
    let made = stack.admin().api_keys().create_api_key(request).await.unwrap().into_inner();
    Admin::new(&stack.ingests[0].admin_url(), Some(&made.token))
}

async fn list(admin: &Admin, tenant_id: &str) -> Result<Vec<String>, Status> {
    let request = v1::ListEventTypesRequest { tenant_id: tenant_id.into(), ..Default::default() };
    let page = admin.event_types().list_event_types(request).await?.into_inner();
    Ok(page.event_types.into_iter().map(|event_type| event_type.name).collect())
}

async fn get(admin: &Admin, id: &str) -> Result<v1::EventType, Status> {
    let request = v1::GetEventTypeRequest { id: id.into() };
    Ok(admin.event_types().get_event_type(request).await?.into_inner().event_type.unwrap())
}

async fn update(admin: &Admin, event_type: v1::EventType) -> Result<(), Status> {
    let request = v1::UpdateEventTypeRequest { event_type: Some(event_type), update_mask: None };
    admin.event_types().update_event_type(request).await.map(drop)
}

async fn delete(admin: &Admin, id: &str) -> Result<(), Status> {
    let request = v1::DeleteEventTypeRequest { id: id.into(), ..Default::default() };
    admin.event_types().delete_event_type(request).await.map(drop)
}

#[tokio::test]
async fn another_tenants_catalog_is_not_seen_and_does_not_bind() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (ours, theirs) = (tenant(&admin, "ours").await, tenant(&admin, "theirs").await);
    let us = with_role(&stack, &ours, ApiKeyRole::Operator).await;
    let them = with_role(&stack, &theirs, ApiKeyRole::Operator).await;
    let type_of_theirs = create(&them, "order.created", SCHEMA).await.unwrap();
    assert_eq!(type_of_theirs.tenant_id, theirs);

    // To us it is as one that does not exist.
    let id = &type_of_theirs.id;
    let changed = v1::EventType { id: id.clone(), description: "ours".into(), ..Default::default() };
    let absent = "typ_01arz3ndektsv4rrffq69g5fav";
    for (theirs, nobodys) in [
        (get(&us, id).await.map(drop), get(&us, absent).await.map(drop)),
        (
            update(&us, changed.clone()).await,
            update(&us, v1::EventType { id: absent.into(), ..changed }).await,
        ),
        (delete(&us, id).await, delete(&us, absent).await),
    ] {
        let (theirs, nobodys) = (theirs.unwrap_err(), nobodys.unwrap_err());
        assert_eq!((theirs.code(), nobodys.code()), (Code::NotFound, Code::NotFound));
        assert_eq!(theirs.message().replace(id.as_str(), absent), nobodys.message());
    }
    assert_eq!(list(&us, &theirs).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(list(&us, "").await.unwrap(), [""; 0]);
    let in_theirs = v1::CreateEventTypeRequest {
        tenant_id: theirs.clone(),
        event_type: Some(v1::EventType { name: "mine".into(), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(us.event_types().create_event_type(in_theirs).await.unwrap_err().code(), Code::NotFound);

    // Its schema is asked of their events alone, and the same name may be ours too.
    publish(&us, "order.created", "{}").await.unwrap();
    assert_eq!(violations(&publish(&them, "order.created", "{}").await.unwrap_err()), ["body"]);
    create(&us, "order.created", "false").await.unwrap();
    assert_eq!(violations(&publish(&us, "order.created", "{}").await.unwrap_err()), ["body"]);
    publish(&them, "order.created", "{\"total\": 1}").await.unwrap();
    assert_eq!(get(&them, id).await.unwrap(), type_of_theirs);

    // A tenant that has ended takes its catalog with it.
    let request = v1::DeleteTenantRequest { id: theirs, ..Default::default() };
    admin.tenants().delete_tenant(request).await.unwrap();
    assert_eq!(get(&admin, id).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn roles_say_who_may_change_a_catalog() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let ours = tenant(&admin, "ours").await;
    let made = create(&with_role(&stack, &ours, ApiKeyRole::Operator).await, "order.created", SCHEMA).await;
    let made = made.unwrap();
    let viewer = with_role(&stack, &ours, ApiKeyRole::Viewer).await;
    assert_eq!(get(&viewer, &made.id).await.unwrap(), made);
    assert_eq!(list(&viewer, "").await.unwrap(), ["order.created"]);
    let publisher = with_role(&stack, &ours, ApiKeyRole::Publisher).await;
    publish(&publisher, "order.created", "{\"total\": 1}").await.unwrap();
    assert_eq!(violations(&publish(&publisher, "order.created", "{}").await.unwrap_err()), ["body"]);
    let nobody = Admin::new(&stack.ingests[0].admin_url(), None);
    for (who, code) in [
        (&viewer, Code::PermissionDenied),
        (&publisher, Code::PermissionDenied),
        (&nobody, Code::Unauthenticated),
    ] {
        let change = v1::EventType { id: made.id.clone(), description: "x".into(), ..Default::default() };
        assert_eq!(create(who, "mine", "").await.unwrap_err().code(), code);
        assert_eq!(update(who, change).await.unwrap_err().code(), code);
        assert_eq!(delete(who, &made.id).await.unwrap_err().code(), code);
    }
    assert_eq!(get(&publisher, &made.id).await.unwrap_err().code(), Code::PermissionDenied);
    // Every refusal by a role is in the audit log, beside what was done.
    let denied =
        "SELECT count(*) FROM audit_log WHERE action LIKE '%EventType' AND outcome = 'PERMISSION_DENIED'";
    eventually(BOUND, async || match stack.database.count(denied).await {
        count if count >= 6 => Ok(()),
        count => Err(count),
    })
    .await;
}

#[tokio::test]
async fn of_many_at_once_one_has_the_name_and_every_change_is_whole() {
    let stack = Stack::builder().dispatchers(0).ingests(2).start().await;
    let admins: Vec<Admin> = stack
        .ingests
        .iter()
        .map(|ingest| Admin::new(&ingest.admin_url(), Some(bowline_tests::admin::KEY)))
        .collect();
    let creates = (0..16).map(|at| create(&admins[at % 2], "order.created", SCHEMA));
    let (made, refused): (Vec<_>, Vec<_>) = join_all(creates).await.into_iter().partition(Result::is_ok);
    let made: HashSet<String> = made.into_iter().map(|made| made.unwrap().id).collect();
    assert_eq!((made.len(), refused.len()), (1, 15));
    for refused in refused {
        assert_eq!(reason(&refused.unwrap_err()), "NAME_TAKEN");
    }
    // The same call twice is one type.
    let request = v1::CreateEventTypeRequest {
        event_type: Some(v1::EventType { name: "order.seen".into(), ..Default::default() }),
        request_id: "once".into(),
        ..Default::default()
    };
    let twice = join_all((0..8).map(async |at: usize| {
        let made = admins[at % 2].event_types().create_event_type(request.clone()).await.unwrap();
        made.into_inner().event_type.unwrap().id
    }));
    assert_eq!(twice.await.into_iter().collect::<HashSet<_>>().len(), 1);

    // While the schema goes to and fro, each event is judged by one of the two.
    let id = made.into_iter().next().unwrap();
    let changes = (0..20).map(async |at: usize| {
        let json_schema = if at.is_multiple_of(2) { "true" } else { SCHEMA };
        let changed = v1::EventType { id: id.clone(), json_schema: json_schema.into(), ..Default::default() };
        update(&admins[at % 2], changed).await.unwrap();
    });
    let events =
        (0..100).map(async |at: usize| match publish(&admins[at % 2], "order.created", "{}").await {
            Ok(_) => None,
            Err(refused) => Some(violations(&refused)),
        });
    let (_, judged) = tokio::join!(join_all(changes), join_all(events));
    assert!(judged.iter().flatten().all(|fields| fields == &["body"]), "{judged:?}");
    for admin in &admins {
        update(admin, v1::EventType { id: id.clone(), json_schema: "true".into(), ..Default::default() })
            .await
            .unwrap();
    }
    for admin in &admins {
        eventually(BOUND, async || publish(admin, "order.created", "{}").await).await;
    }
}
