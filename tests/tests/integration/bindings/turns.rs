//! Bindings of one tenant that cannot be refreshed keep no other tenant's waiting.

use super::*;

async fn create_tenant(admin: &Admin, name: &str) -> String {
    let request =
        v1::CreateTenantRequest { tenant: Some(v1::Tenant { name: name.to_owned(), ..Default::default() }) };
    admin.tenants().create_tenant(request).await.unwrap().into_inner().tenant.unwrap().id
}

async fn source_of(admin: &Admin, tenant_id: &str) -> String {
    let request = v1::CreateSourceRequest {
        tenant_id: tenant_id.to_owned(),
        source: Some(v1::Source { insecure: true, ..Default::default() }),
        ..Default::default()
    };
    admin.sources().create_source(request).await.unwrap().into_inner().source.unwrap().id
}

async fn sum_of(admin: &Admin, tenant_id: &str, source_id: &str) -> String {
    let fields = [("sum", field("value", FieldFormat::Number))];
    let request = v1::CreateBindingRequest {
        tenant_id: tenant_id.to_owned(),
        binding: Some(binding(source_id, super::sum_of("n"), &fields)),
        ..Default::default()
    };
    admin.bindings().create_binding(request).await.unwrap().into_inner().binding.unwrap().id
}

async fn await_sum(admin: &Admin, id: &str, sum: &str) {
    eventually(BOUND, async || {
        let shown = get(admin, id).await.map_err(|status| status.to_string())?;
        holds(text(&shown, "sum") == sum, text(&shown, "sum"))
    })
    .await;
}

#[tokio::test]
async fn refreshes_that_hang_hold_up_no_other_tenant() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (busy, quiet) = (create_tenant(&admin, "busy").await, create_tenant(&admin, "quiet").await);
    let (busy_source, quiet_source) = (source_of(&admin, &busy).await, source_of(&admin, &quiet).await);
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(sum_of(&admin, &busy, &busy_source).await);
    }
    let shown = sum_of(&admin, &quiet, &quiet_source).await;
    // The replica knows all of them.
    send(&stack.inbound(&busy_source), "{\"n\": 1}").await;
    for id in &held {
        await_sum(&admin, id, "1").await;
    }

    // No refresh of the busy tenant comes to its end while this is open.
    let lock = bowline_tests::database::connect(&stack.database.url).await.unwrap();
    let ids: Vec<_> = held.iter().map(|id| id.parse::<bowline_core::id::BindingId>().unwrap().0).collect();
    lock.batch_execute("BEGIN").await.unwrap();
    let rows = "SELECT 1 FROM binding_results WHERE binding_id = ANY($1) FOR UPDATE";
    lock.execute(rows, &[&ids]).await.unwrap();
    send(&stack.inbound(&busy_source), "{\"n\": 1}").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(BOUND, async || {
        let waiting = stack.database.count(waiting).await;
        holds(waiting == 2, format!("{waiting} refreshes wait for the lock"))
    })
    .await;

    for sum in 1..=3 {
        send(&stack.inbound(&quiet_source), "{\"n\": 1}").await;
        await_sum(&admin, &shown, &sum.to_string()).await;
    }
    lock.batch_execute("ROLLBACK").await.unwrap();
    for id in &held {
        await_sum(&admin, id, "2").await;
    }
}
