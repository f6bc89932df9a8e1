//! Who may call, and what the audit log tells of it.

use std::time::{Duration, SystemTime};

use bowline_proto::v1::{self, ApiKeyRole};
use bowline_tests::admin::{self, Admin, reason, violations};
use bowline_tests::{BOUND, Cli, Stack, eventually};
use tonic::{Code, Status};

async fn stack() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

async fn make(admin: &Admin, role: ApiKeyRole, all_tenants: bool) -> Result<(v1::ApiKey, String), Status> {
    let key = v1::ApiKey { role: role.into(), display_name: "a test's".into(), ..Default::default() };
    let request = v1::CreateApiKeyRequest { api_key: Some(key), all_tenants, ..Default::default() };
    let made = admin.api_keys().create_api_key(request).await?.into_inner();
    Ok((made.api_key.unwrap(), made.token))
}

fn with(stack: &Stack, token: &str) -> Admin {
    Admin::new(&stack.ingests[0].admin_url(), Some(token))
}

async fn entries(admin: &Admin, filter: v1::AuditFilter, all_tenants: bool) -> Vec<v1::AuditEntry> {
    let request = v1::ListAuditEntriesRequest { filter: Some(filter), all_tenants, ..Default::default() };
    admin.audit().list_audit_entries(request).await.unwrap().into_inner().entries
}

#[tokio::test]
async fn each_role_may_do_what_it_says() {
    let stack = stack().await;
    let bootstrap = stack.admin();
    for (role, reads, writes, publishes, keys) in [
        (ApiKeyRole::Admin, true, true, true, true),
        (ApiKeyRole::Operator, true, true, true, false),
        (ApiKeyRole::Publisher, false, false, true, false),
        (ApiKeyRole::Viewer, true, false, false, false),
    ] {
        let (key, token) = make(&bootstrap, role, false).await.unwrap();
        assert!(token.starts_with("bwl_") && token.len() > 40 && key.id.starts_with("key_"));
        assert_eq!((key.role(), key.revoke_time), (role, None));
        let caller = with(&stack, &token);
        let read = caller.events().list_events(v1::ListEventsRequest::default()).await.map(drop);
        let endpoint = admin::endpoint("https://hooks.example.com/in");
        let create = v1::CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() };
        let write = caller.endpoints().create_endpoint(create).await.map(drop);
        let event =
            v1::PublishEventRequest { event_type: "a.b".into(), body: "{}".into(), ..Default::default() };
        let publish = caller.events().publish_event(event).await.map(drop);
        let list = caller.api_keys().list_api_keys(v1::ListApiKeysRequest::default()).await.map(drop);
        let audit = caller.audit().list_audit_entries(v1::ListAuditEntriesRequest::default()).await.map(drop);
        for (done, may) in [(read, reads), (write, writes), (publish, publishes), (list, keys), (audit, keys)]
        {
            let code = done.map_or_else(|status| status.code(), |()| Code::Ok);
            assert_eq!(code, if may { Code::Ok } else { Code::PermissionDenied }, "{role:?}");
        }
    }
}

#[tokio::test]
async fn a_token_is_shown_once_and_a_revoked_key_is_refused() {
    let stack = stack().await;
    let bootstrap = stack.admin();
    let (key, token) = make(&bootstrap, ApiKeyRole::Viewer, false).await.unwrap();
    let caller = with(&stack, &token);
    caller.events().list_events(v1::ListEventsRequest::default()).await.unwrap();
    let stored =
        "SELECT count(*) FROM api_keys WHERE encode(key_hash, 'escape') LIKE '%bwl%' OR name LIKE '%bwl%'";
    assert_eq!(stack.database.count(stored).await, 0);
    let listed = eventually(BOUND, async || {
        let listed = bootstrap.api_keys().list_api_keys(v1::ListApiKeysRequest::default()).await.unwrap();
        let listed = listed.into_inner().api_keys;
        if listed[0].last_use_time.is_some() { Ok(listed) } else { Err(listed) }
    })
    .await;
    assert_eq!((listed.len(), &listed[0].id, listed[0].display_name.as_str()), (1, &key.id, "a test's"));
    assert!(!format!("{listed:?}").contains(&token));

    let revoke =
        async |id: &str| bootstrap.api_keys().revoke_api_key(v1::RevokeApiKeyRequest { id: id.into() }).await;
    let first = revoke(&key.id).await.unwrap().into_inner().api_key.unwrap();
    let again = revoke(&key.id).await.unwrap().into_inner().api_key.unwrap();
    assert!(first.revoke_time.is_some() && first.revoke_time == again.revoke_time);
    let refused = eventually(BOUND, async || {
        match caller.events().list_events(v1::ListEventsRequest::default()).await {
            Ok(_) => Err("still let in"),
            Err(refused) => Ok(refused),
        }
    })
    .await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "KEY_INVALID"));
    let unknown = revoke("key_01h2xcejqtf2nbrexx3vqjhp41").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let expired = v1::ApiKey {
        expire_time: Some((SystemTime::now() - Duration::from_secs(1)).into()),
        ..Default::default()
    };
    let request = v1::CreateApiKeyRequest { api_key: Some(expired), ..Default::default() };
    let refused = bootstrap.api_keys().create_api_key(request).await.unwrap_err();
    assert_eq!(violations(&refused), ["api_key.role", "api_key.expire_time"]);
}

#[tokio::test]
async fn a_key_of_one_tenant_sees_and_ends_nothing_of_another() {
    let stack = stack().await;
    let bootstrap = stack.admin();
    let other = "INSERT INTO tenants (id, name) VALUES ('00000000-0000-0000-0000-0000000000aa', 'other') RETURNING id";
    let id: uuid::Uuid = stack.database.sql().query_one(other, &[]).await.unwrap().get(0);
    let tenant_id = bowline_core::id::TenantId(id).to_string();
    let key = v1::ApiKey { role: ApiKeyRole::Admin.into(), ..Default::default() };
    let request =
        v1::CreateApiKeyRequest { tenant_id: tenant_id.clone(), api_key: Some(key), all_tenants: false };
    let made = bootstrap.api_keys().create_api_key(request).await.unwrap().into_inner();
    let theirs = with(&stack, &made.token);
    let (own, _) = make(&bootstrap, ApiKeyRole::Viewer, false).await.unwrap();
    let (for_all, _) = make(&bootstrap, ApiKeyRole::Viewer, true).await.unwrap();
    assert_eq!((for_all.tenant_id.as_str(), own.tenant_id.is_empty()), ("", false));

    for foreign in [&own.id, &for_all.id] {
        let refused = theirs.api_keys().revoke_api_key(v1::RevokeApiKeyRequest { id: foreign.clone() }).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(make(&theirs, ApiKeyRole::Viewer, true).await.unwrap_err().code(), Code::PermissionDenied);
    let listed =
        theirs.api_keys().list_api_keys(v1::ListApiKeysRequest::default()).await.unwrap().into_inner();
    let ids: Vec<&str> = listed.api_keys.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, [made.api_key.unwrap().id]);
    let all = v1::ListApiKeysRequest { all_tenants: true, ..Default::default() };
    assert_eq!(bootstrap.api_keys().list_api_keys(all).await.unwrap().into_inner().api_keys.len(), 3);

    // Its log is its own: what it was refused, and what was done for it.
    let seen = entries(&theirs, v1::AuditFilter::default(), false).await;
    assert!(!seen.is_empty() && seen.iter().all(|entry| entry.tenant_id == tenant_id), "{seen:?}");
    let request = v1::ListAuditEntriesRequest { all_tenants: true, ..Default::default() };
    let refused = theirs.audit().list_audit_entries(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_to_which() {
    let stack = stack().await;
    let bootstrap = stack.admin();
    let (key, token) = make(&bootstrap, ApiKeyRole::Viewer, false).await.unwrap();
    let (endpoint, _) = bootstrap.endpoint(admin::endpoint("https://hooks.example.com/in")).await;
    let viewer = with(&stack, &token);
    let delete = v1::DeleteEndpointRequest { id: endpoint.clone(), ..Default::default() };
    viewer.endpoints().delete_endpoint(delete).await.unwrap_err();

    let created = v1::AuditFilter { resource: endpoint.clone(), ..Default::default() };
    let found = entries(&bootstrap, created, false).await;
    assert_eq!(
        (found.len(), found[0].action.as_str(), found[0].outcome.as_str()),
        (1, "CreateEndpoint", "OK")
    );
    assert_eq!((found[0].actor.as_str(), found[0].call_id.is_empty()), ("bootstrap", false));
    let denied =
        v1::AuditFilter { actor: key.id.clone(), outcome: "PERMISSION_DENIED".into(), ..Default::default() };
    let found = entries(&bootstrap, denied, true).await;
    assert_eq!((found.len(), found[0].action.as_str()), (1, "DeleteEndpoint"));
    let later = v1::AuditFilter {
        start_time: Some((SystemTime::now() + Duration::from_secs(60)).into()),
        ..Default::default()
    };
    assert!(entries(&bootstrap, later, true).await.is_empty());

    // Page by page, newest first, each once.
    let all = entries(&bootstrap, v1::AuditFilter::default(), true).await;
    let (mut paged, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            v1::ListAuditEntriesRequest { page_size: 1, page_token, all_tenants: true, ..Default::default() };
        let page = bootstrap.audit().list_audit_entries(request).await.unwrap().into_inner();
        paged.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all);
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id));
}

#[tokio::test]
async fn the_command_line_makes_lists_and_revokes_keys() {
    let stack = stack().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let made = cli.json(&["api-key", "create", "--role", "publisher", "--expires-in", "30days"]).await;
    let (id, token) = (made["api_key"]["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!((&made["api_key"]["role"], token.starts_with("bwl_")), (&"publisher".into(), true));
    assert_eq!(with(&stack, token).publish("a.b").await.split('_').next(), Some("evt"));
    let listed = cli.json(&["api-key", "list"]).await;
    assert_eq!(listed["api_keys"][0]["id"], id);
    cli.ok(&["api-key", "revoke", id]).await;
    let audit = cli.json(&["audit", "list", "--resource", id]).await;
    let actions: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["RevokeApiKey", "CreateApiKey"]);
    assert!(cli.ok(&["audit", "list"]).await.text().contains("CreateApiKey"));
}
