//! Rows that nothing needs any more.

use std::collections::BTreeMap;

use super::*;

/// One old row of each, and one that is still needed.
const FILL: &str = "
    INSERT INTO dedup_keys (scope_id, key_hash, event_id, expires_at)
    SELECT gen_random_uuid(), md5(n::text)::uuid, gen_random_uuid(), now() - interval '1 minute'
      FROM generate_series(1, 2500) AS n;
    INSERT INTO dedup_keys (scope_id, key_hash, event_id, expires_at)
    VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() + interval '1 hour');
    INSERT INTO request_ids (tenant_id, method, request_id, fingerprint, resource_id, expires_at)
    SELECT gen_random_uuid(), 'CreateEndpoint', n::text, '', gen_random_uuid(), now() + (n - 1.5) * interval '1 hour'
      FROM generate_series(1, 2) AS n;
    INSERT INTO operations (id, tenant_id, kind, state, request, end_time)
    SELECT gen_random_uuid(), gen_random_uuid(), 'replay', 'done', '{}', now() - n * interval '1 day'
      FROM (VALUES (1), (3)) AS d (n);
    INSERT INTO stats_minute (minute, replica_id, subject_id, metric, value)
    SELECT now() - n * interval '1 day', gen_random_uuid(), gen_random_uuid(), 'delivered', 1
      FROM (VALUES (1), (3)) AS d (n);";
const TABLES: [&str; 7] =
    ["dedup_keys", "request_ids", "operations", "stats_minute", "audit_log", "rejections", "outbox"];

#[tokio::test]
async fn what_has_expired_is_swept_and_the_rest_is_not() {
    let mut stack = Stack::builder()
        .dispatchers(0)
        .set("BOWLINE_RETENTION_EVENTS", "2days")
        .set("BOWLINE_RETENTION_AUDIT", "5days")
        .set("BOWLINE_RETENTION_JANITOR_PERIOD", "100ms")
        .start()
        .await;
    let sql = stack.database.sql();
    sql.batch_execute(FILL).await.unwrap();
    for days in [3, 1] {
        sql.execute(
            "INSERT INTO rejections (id, tenant_id, source_id, code, message, method, path, headers, body, remote_addr)
             VALUES ($1, gen_random_uuid(), gen_random_uuid(), 'x', '', 'POST', '/', '', '', '')",
            &[&id_of_past(days, 1)],
        )
        .await
        .unwrap();
    }
    sql.execute("DELETE FROM audit_log", &[]).await.unwrap();
    for days in [6, 3] {
        sql.execute(
            "INSERT INTO audit_log (id, actor, action, resource, request_id, call_id, outcome, create_time)
             VALUES ($1, 'bootstrap', 'CreateSource', '', '', '', 'OK', now())",
            &[&id_of_past(days, 1)],
        )
        .await
        .unwrap();
    }
    // Old chunks: of one neither an event nor an owner is left, the other's owner lives.
    let lives = "INSERT INTO replicas (id, service, lease_until)
                 VALUES (gen_random_uuid(), 'dispatcher', now() + interval '1 hour')";
    sql.execute(lives, &[]).await.unwrap();
    let (gone, stored) = (id_of_past(3, 1), id_of_past(0, 2));
    event(&stack, stored, TENANT).await;
    let live = "(SELECT id FROM replicas WHERE service = 'dispatcher')";
    for (number, event, owner) in [(1, gone, "gen_random_uuid()"), (2, stored, live)] {
        let chunk = format!(
            "INSERT INTO outbox (id, shard, class, event_ids, config_version, owner)
             VALUES ($1, 0, 0, ARRAY[$2::uuid], 0, {owner})"
        );
        stack.database.sql().execute(&chunk, &[&id_of_past(3, number), &event]).await.unwrap();
    }
    stack.add_dispatcher(&[]).await;
    eventually(BOUND, async || {
        let mut left = BTreeMap::new();
        for table in TABLES {
            left.insert(table, stack.database.count(&format!("SELECT count(*) FROM {table}")).await);
        }
        holds(left.values().all(|rows| *rows == 1), left)
    })
    .await;
    // A batch is counted a moment after it is gone.
    let metrics = eventually(BOUND, async || {
        let metrics = stack.dispatchers[0].metrics().await;
        let swept = "bowline_dispatcher_janitor_rows_total{table=\"dedup_keys\"} 2500";
        holds(metrics.contains(swept), metrics)
    })
    .await;
    assert!(!metrics.contains("bowline_dispatcher_janitor_failures_total"), "{metrics}");
}

#[tokio::test]
async fn a_tenant_may_keep_its_events_for_a_shorter_time() {
    const OTHER: &str = "00000000-0000-0000-0000-0000000000aa";
    let mut stack =
        Stack::builder().dispatchers(0).set("BOWLINE_RETENTION_JANITOR_PERIOD", "100ms").start().await;
    let receiver = Receiver::start().await;
    let (name, endpoint) = paused(&stack, &receiver).await;
    let sql = stack.database.sql();
    let day = Utc::now().date_naive() - Days::new(3);
    partitions::ensure(sql, day, 1).await.unwrap();
    let settings = r#"{"retention": {"secs": 172800, "nanos": 0}}"#;
    sql.execute("UPDATE tenants SET settings = $1::text::jsonb", &[&settings]).await.unwrap();
    sql.execute("INSERT INTO tenants (id, name) VALUES ($1::text::uuid, 'other')", &[&OTHER]).await.unwrap();
    let [done, needed, foreign] = [1, 2, 3].map(|number| id_of_past(3, number));
    let fresh = id_of_past(1, 4);
    for (id, tenant) in [(done, TENANT), (needed, TENANT), (foreign, OTHER), (fresh, TENANT)] {
        event(&stack, id, tenant).await;
    }
    failed_attempt(&stack, done, endpoint, "dead").await;
    waiting(&stack, needed, endpoint, 0, in_past(0)).await;
    // More than fit one transaction.
    let many = "INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time)
                SELECT overlay($1::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, $2::text::uuid, 'a', '', '', '', now()
                  FROM generate_series(4096, 5300) AS n";
    sql.execute(many, &[&done.to_string(), &TENANT]).await.unwrap();
    stack.add_dispatcher(&[]).await;
    let left = eventually(BOUND, async || {
        let rows = stack.database.sql().query("SELECT id FROM events ORDER BY id", &[]).await.unwrap();
        let left: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        if left.len() <= 3 { Ok(left) } else { Err(left.len()) }
    })
    .await;
    assert_eq!(left, [needed, foreign, fresh]);
    assert_eq!(stack.database.count("SELECT count(*) FROM attempts").await, 0);
    stack.admin().set_state(&name, EndpointState::Enabled).await;
    receiver.await_ids(&[EventId(needed).to_string()], BOUND).await;
}

/// What is kept of an event is all of it, whatever columns come later.
#[tokio::test]
async fn the_kept_tables_have_every_column() {
    let stack = Stack::builder().ingests(0).dispatchers(0).start().await;
    let missing = "
        SELECT count(*) FROM pg_attribute AS a
         WHERE a.attrelid IN ('events'::regclass, 'attempts'::regclass) AND a.attnum > 0 AND NOT a.attisdropped
           AND NOT EXISTS (SELECT 1 FROM pg_attribute AS k
                            WHERE k.attrelid = (a.attrelid::regclass::text || '_kept')::regclass
                              AND k.attname = a.attname AND k.atttypid = a.atttypid)";
    assert_eq!(stack.database.count(missing).await, 0);
}
