//! Whose data there is.

use std::time::Duration;

use bowline_proto::v1::{self, ApiKeyRole};
use bowline_tests::admin::{self, Admin, reason, violations};
use bowline_tests::{Cli, Stack};
use tonic::{Code, Status};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn stack() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

async fn make(admin: &Admin, tenant: v1::Tenant) -> Result<v1::Tenant, Status> {
    let request = v1::CreateTenantRequest { tenant: Some(tenant) };
    Ok(admin.tenants().create_tenant(request).await?.into_inner().tenant.unwrap())
}

fn named(name: &str) -> v1::Tenant {
    v1::Tenant { name: name.into(), ..Default::default() }
}

async fn delete(admin: &Admin, id: &str) -> Result<(), Status> {
    let request = v1::DeleteTenantRequest { id: id.into(), ..Default::default() };
    admin.tenants().delete_tenant(request).await.map(drop)
}

#[tokio::test]
async fn a_tenant_is_made_changed_and_ended() {
    let stack = stack().await;
    let admin = stack.admin();
    let made = make(&admin, v1::Tenant { retention: Some(admin::duration(2 * DAY)), ..named("shop") })
        .await
        .unwrap();
    assert!(made.id.starts_with("ten_") && made.retention == Some(admin::duration(2 * DAY)));
    let taken = make(&admin, named("shop")).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "NAME_TAKEN"));
    let wrong = v1::Tenant { retention: Some(admin::duration(DAY / 2)), ..named("Not a slug") };
    assert_eq!(violations(&make(&admin, wrong).await.unwrap_err()), ["tenant.name", "tenant.retention"]);

    let change = |tenant, paths: &[&str]| v1::UpdateTenantRequest {
        tenant: Some(tenant),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
    };
    let new = v1::Tenant { id: made.id.clone(), display_name: "The shop".into(), ..Default::default() };
    let changed = admin.tenants().update_tenant(change(new, &["display_name", "retention"])).await.unwrap();
    let changed = changed.into_inner().tenant.unwrap();
    assert_eq!((changed.name.as_str(), changed.display_name.as_str()), ("shop", "The shop"));
    assert_eq!(changed.retention, None, "named by the mask and left out: as the deployment's");
    let stale = v1::Tenant { etag: made.etag, ..changed.clone() };
    let refused = admin.tenants().update_tenant(change(stale, &["name"])).await.unwrap_err();
    assert_eq!(reason(&refused), "ETAG_MISMATCH");

    let listed = admin.tenants().list_tenants(v1::ListTenantsRequest::default()).await.unwrap().into_inner();
    let names: Vec<&str> = listed.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["default", "shop"]);

    // Not while it has something; then it is gone, and its name is free.
    let request = v1::CreateEndpointRequest {
        tenant_id: made.id.clone(),
        endpoint: Some(admin::endpoint("https://hooks.example.com/in")),
        ..Default::default()
    };
    let endpoint = admin.endpoints().create_endpoint(request).await.unwrap().into_inner().endpoint.unwrap();
    let full = delete(&admin, &made.id).await.unwrap_err();
    assert_eq!((full.code(), reason(&full).as_str()), (Code::FailedPrecondition, "TENANT_NOT_EMPTY"));
    let request = v1::DeleteEndpointRequest { id: endpoint.id, ..Default::default() };
    admin.endpoints().delete_endpoint(request).await.unwrap();
    delete(&admin, &made.id).await.unwrap();
    assert_eq!(delete(&admin, &made.id).await.unwrap_err().code(), Code::NotFound);
    make(&admin, named("shop")).await.unwrap();
    let default = listed.tenants[0].id.clone();
    assert_eq!(delete(&admin, &default).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_key_of_one_tenant_knows_its_own_alone_and_ends_with_it() {
    let stack = stack().await;
    let admin = stack.admin();
    let (own, other) =
        (make(&admin, named("own")).await.unwrap(), make(&admin, named("other")).await.unwrap());
    let key = v1::ApiKey { role: ApiKeyRole::Admin.into(), ..Default::default() };
    let request =
        v1::CreateApiKeyRequest { tenant_id: own.id.clone(), api_key: Some(key), all_tenants: false };
    let token = admin.api_keys().create_api_key(request).await.unwrap().into_inner().token;
    let theirs = Admin::new(&stack.ingests[0].admin_url(), Some(&token));
    let get = async |id: &str| theirs.tenants().get_tenant(v1::GetTenantRequest { id: id.into() }).await;
    assert_eq!(get(&own.id).await.unwrap().into_inner().tenant.unwrap().name, "own");
    assert_eq!(get(&other.id).await.unwrap_err().code(), Code::NotFound);
    let update = v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant { id: own.id.clone(), display_name: "Ours".into(), ..Default::default() }),
        update_mask: None,
    };
    theirs.tenants().update_tenant(update).await.unwrap();
    let refusals = [
        make(&theirs, named("mine")).await.map(drop),
        theirs.tenants().list_tenants(v1::ListTenantsRequest::default()).await.map(drop),
        delete(&theirs, &own.id).await,
    ];
    for refused in refusals {
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    delete(&admin, &own.id).await.unwrap();
    let refused = bowline_tests::eventually(bowline_tests::BOUND, async || match get(&own.id).await {
        Err(refused) if refused.code() == Code::Unauthenticated => Ok(()),
        other => Err(other),
    });
    refused.await;
}

#[tokio::test]
async fn the_command_line_keeps_tenants() {
    let stack = stack().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let made = cli.json(&["tenant", "create", "shop", "--retention", "7days"]).await;
    assert_eq!(made["retention"], "7days");
    let id = made["id"].as_str().unwrap();
    cli.ok(&["tenant", "update", "shop", "--clear-retention", "--label", "plan=small"]).await;
    let got = cli.json(&["tenant", "get", id]).await;
    assert_eq!((&got["retention"], &got["labels"]["plan"]), (&"".into(), &"small".into()));
    cli.ok(&["--tenant", id, "endpoint", "create", "e", "--url", "http://127.0.0.1:9/hook"]).await;
    cli.refused(1, &["tenant", "delete", "shop"]).await;
    cli.ok(&["--tenant", id, "endpoint", "delete", "e"]).await;
    cli.ok(&["tenant", "delete", "shop"]).await;
    assert_eq!(cli.json(&["tenant", "list"]).await["tenants"].as_array().unwrap().len(), 1);
}
