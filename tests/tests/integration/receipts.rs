//! The audit of what was received: an entry for each payload, among what callers did, though none is written.

use std::time::{Duration, SystemTime};

use bowline_proto::v1::{self, ApiKeyRole};
use bowline_tests::admin::Admin;
use bowline_tests::{Cli, Stack, http};
use tonic::Code;

async fn open_source(admin: &Admin, name: &str) -> String {
    let source = v1::Source {
        name: name.into(),
        insecure: true,
        event_type: "door.opened".into(),
        dedup_key: r#"request.headers["x-key"]"#.into(),
        ..Default::default()
    };
    admin.source_like(source, "").await.id
}

async fn receive(stack: &Stack, source: &str, key: &str) -> String {
    let headers = vec![("x-key".to_owned(), key.to_owned())];
    http::post(&stack.inbound(source), &headers, "{}").await.unwrap().accepted()
}

async fn page(admin: &Admin, request: v1::ListAuditEntriesRequest) -> (Vec<v1::AuditEntry>, String) {
    let page = admin.audit().list_audit_entries(request).await.unwrap().into_inner();
    (page.entries, page.next_page_token)
}

async fn entries(admin: &Admin, filter: v1::AuditFilter) -> Vec<v1::AuditEntry> {
    page(admin, v1::ListAuditEntriesRequest { filter: Some(filter), ..Default::default() }).await.0
}

async fn page_by_page(admin: &Admin, filter: v1::AuditFilter, page_size: i32) -> Vec<v1::AuditEntry> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = Some(filter.clone());
        let request = v1::ListAuditEntriesRequest { filter, page_size, page_token, ..Default::default() };
        let (entries, next) = page(admin, request).await;
        all.extend(entries);
        page_token = next;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// The events of receipts.
fn received(entries: &[v1::AuditEntry]) -> Vec<&str> {
    let receipts = entries.iter().filter(|entry| entry.action == "ReceivePayload");
    receipts.map(|entry| entry.resource.as_str()).collect()
}

fn with_receipts() -> v1::AuditFilter {
    v1::AuditFilter { receipts: true, ..Default::default() }
}

#[tokio::test]
async fn each_payload_is_an_entry_of_the_audit_log() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let first = open_source(&admin, "first").await;
    let one = receive(&stack, &first, "a").await;
    let repeated = vec![("x-key".to_owned(), "a".to_owned())];
    let repeated = http::post(&stack.inbound(&first), &repeated, "{}").await.unwrap();
    assert_eq!(repeated.json()["duplicate"], true);
    let second = open_source(&admin, "second").await;
    let two = receive(&stack, &second, "a").await;
    let published = admin.publish("door.shut").await;
    let three = receive(&stack, &first, "b").await;

    // Who received what, newest first, among what was done; no publication, and no duplicate.
    let all = entries(&admin, with_receipts()).await;
    assert_eq!(received(&all), [&three, &two, &one]);
    let order: Vec<&str> =
        all.iter().map(|entry| entry.action.as_str()).filter(|action| *action != "unseal").collect();
    assert_eq!(order, ["ReceivePayload", "ReceivePayload", "CreateSource", "ReceivePayload", "CreateSource"]);
    let receipt = all.iter().find(|entry| entry.resource == two).unwrap();
    assert_eq!((receipt.actor.as_str(), receipt.outcome.as_str()), (second.as_str(), "OK"));
    let request = v1::GetEventRequest { id: two.clone() };
    let event = admin.events().get_event(request).await.unwrap().into_inner().event.unwrap();
    assert_eq!((&receipt.tenant_id, receipt.create_time), (&event.tenant_id, event.create_time));
    assert!(receipt.id.replace('-', "").len() == 32 && receipt.request_id.is_empty());
    // None of it was written: the log alone holds what was done.
    assert_eq!(received(&entries(&admin, v1::AuditFilter::default()).await), [""; 0]);
    assert_eq!(
        stack.database.count("SELECT count(*) FROM audit_log WHERE action = 'ReceivePayload'").await,
        0
    );

    // Page by page the same, each once.
    for size in [1, 2, 1000] {
        assert_eq!(page_by_page(&admin, with_receipts(), size).await, all, "pages of {size}");
    }
    let everybodys = v1::ListAuditEntriesRequest {
        filter: Some(with_receipts()),
        all_tenants: true,
        ..Default::default()
    };
    assert_eq!(received(&page(&admin, everybodys).await.0), [&three, &two, &one]);

    // Narrowed.
    let of = |filter: v1::AuditFilter| entries(&admin, filter);
    let alone = v1::AuditFilter { action: "ReceivePayload".into(), ..Default::default() };
    assert_eq!(received(&of(alone.clone()).await), [&three, &two, &one]);
    assert_eq!(of(alone.clone()).await.len(), 3);
    let of_first = v1::AuditFilter { actor: first.clone(), ..with_receipts() };
    assert_eq!(received(&of(of_first.clone()).await), [&three, &one]);
    assert_eq!(received(&page_by_page(&admin, of_first, 1).await), [&three, &one]);
    let of_two = v1::AuditFilter { resource: two.clone(), ..with_receipts() };
    assert_eq!(received(&of(of_two).await), [&two]);
    let of_published = v1::AuditFilter { resource: published, ..with_receipts() };
    assert_eq!(of(of_published).await.len(), 0);
    let refused = v1::AuditFilter { outcome: "NOT_FOUND".into(), ..alone.clone() };
    assert_eq!(of(refused).await.len(), 0);
    let later = SystemTime::now() + Duration::from_secs(60);
    let later = v1::AuditFilter { start_time: Some(later.into()), ..alone.clone() };
    assert_eq!(of(later).await.len(), 0);
    let until_now =
        v1::AuditFilter { end_time: Some((SystemTime::now() + Duration::from_secs(60)).into()), ..alone };
    assert_eq!(of(until_now).await.len(), 3);

    // On the command line.
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let by_name = cli.json(&["audit", "list", "--source", "first"]).await;
    let resources: Vec<&str> = by_name["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"].as_str().unwrap())
        .collect();
    assert_eq!(resources, [&three, &one]);
    let table = cli.ok(&["audit", "list", "--receipts"]).await.text();
    assert!(table.contains("CreateSource") && table.contains(&three) && table.contains("ReceivePayload"));
}

#[tokio::test]
async fn receipts_are_for_admins_of_the_tenant() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let source = open_source(&admin, "ours").await;
    let event = receive(&stack, &source, "a").await;
    let create = |tenant_id: String, role: ApiKeyRole| v1::CreateApiKeyRequest {
        tenant_id,
        api_key: Some(v1::ApiKey { role: role.into(), ..Default::default() }),
        all_tenants: false,
    };
    let tenant = v1::Tenant { name: "other".into(), ..Default::default() };
    let tenant = v1::CreateTenantRequest { tenant: Some(tenant) };
    let other = admin.tenants().create_tenant(tenant).await.unwrap().into_inner().tenant.unwrap().id;
    let with = async |request: v1::CreateApiKeyRequest| {
        let token = admin.api_keys().create_api_key(request).await.unwrap().into_inner().token;
        Admin::new(&stack.ingests[0].admin_url(), Some(&token))
    };
    let theirs = with(create(other, ApiKeyRole::Admin)).await;
    for filter in [
        with_receipts(),
        v1::AuditFilter { actor: source.clone(), ..with_receipts() },
        v1::AuditFilter { resource: event.clone(), ..with_receipts() },
    ] {
        assert_eq!(received(&entries(&theirs, filter).await), [""; 0]);
    }
    let operator = with(create(String::new(), ApiKeyRole::Operator)).await;
    let request = v1::ListAuditEntriesRequest { filter: Some(with_receipts()), ..Default::default() };
    let refused = operator.audit().list_audit_entries(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // What a deleted source had received stays on record.
    let delete = v1::DeleteSourceRequest { id: source.clone(), ..Default::default() };
    admin.sources().delete_source(delete).await.unwrap();
    let of_source = v1::AuditFilter { actor: source, ..with_receipts() };
    assert_eq!(received(&entries(&admin, of_source).await), [&event]);
}

#[tokio::test]
async fn a_receipt_behind_many_publications_is_found_without_one_long_look() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let source = open_source(&admin, "quiet").await;
    let event = receive(&stack, &source, "a").await;
    // Of no source, of the same millisecond, and newer.
    let many = "
        INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time)
        SELECT overlay(id::text PLACING 'bfff-ffff' || lpad(to_hex(n), 8, '0') FROM 20)::uuid, tenant_id, 'a.b',
               'text/plain', '', '', create_time
          FROM events, generate_series(1, 20500) AS n";
    let added = stack.database.sql().execute(many, &[]).await.unwrap();
    assert_eq!(added, 20_500);
    let alone = v1::AuditFilter { action: "ReceivePayload".into(), ..Default::default() };
    let request = v1::ListAuditEntriesRequest { filter: Some(alone.clone()), ..Default::default() };
    let (entries, next) = page(&admin, request).await;
    assert!(entries.is_empty() && !next.is_empty(), "{entries:?}");
    assert_eq!(received(&page_by_page(&admin, alone, 50).await), [&event]);
    // The log goes on as far as the events were looked at, and no further.
    let all = page_by_page(&admin, with_receipts(), 50).await;
    assert_eq!(received(&all), [&event]);
    let written = stack.database.count("SELECT count(*) FROM audit_log").await;
    assert_eq!(all.len() as i64, written + 1);
    assert!(all.windows(2).all(|pair| pair[0].id > pair[1].id));
    // Of the source itself it is there at once.
    let of_source = v1::AuditFilter { actor: source, ..with_receipts() };
    let request = v1::ListAuditEntriesRequest { filter: Some(of_source), ..Default::default() };
    let (entries, next) = page(&admin, request).await;
    assert_eq!((received(&entries), next.as_str()), (vec![event.as_str()], ""));
}
