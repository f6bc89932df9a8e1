//! What is older than the retention goes, and nothing that is still needed goes with it.

use std::time::Duration;

use bowline_core::delivery::DeliveryKey;
use bowline_core::id::{EndpointId, EventId};
use bowline_core::store::partitions;
use bowline_proto::v1::{self, AttemptDecision, DeliveryState, EndpointState};
use bowline_tests::eventually::holds;
use bowline_tests::service::Kind;
use bowline_tests::{BOUND, Receiver, Stack, admin, eventually, http};
use chrono::{DateTime, Days, Utc};
use tonic::Code;
use uuid::Uuid;

mod sweeps;

const TENANT: &str = "00000000-0000-0000-0000-000000000001";
const OLD_DAYS: u64 = 10;

/// A `UUIDv7` of noon, so many days ago.
fn id_of_past(days: u64, number: u128) -> Uuid {
    let noon = (Utc::now().date_naive() - Days::new(days)).and_hms_opt(12, 0, 0).unwrap().and_utc();
    let unix_ms = u128::try_from(noon.timestamp_millis()).unwrap();
    Uuid::from_u128(unix_ms << 80 | 0x7 << 76 | 0x8 << 60 | number)
}

fn in_past(days: u64) -> DateTime<Utc> {
    Utc::now() - Days::new(days)
}

/// A stack whose janitor, once a dispatcher runs, looks all the time and keeps two days.
async fn stack(dropped_after: &str) -> Stack {
    let stack = Stack::builder()
        .dispatchers(0)
        .set("BOWLINE_RETENTION_EVENTS", "2days")
        .set("BOWLINE_RETENTION_JANITOR_PERIOD", "100ms")
        .set("BOWLINE_RETENTION_DROPPED_AFTER", dropped_after)
        .start()
        .await;
    let day = Utc::now().date_naive() - Days::new(OLD_DAYS);
    partitions::ensure(stack.database.sql(), day, 1).await.unwrap();
    stack
}

async fn event(stack: &Stack, id: Uuid, tenant: &str) {
    let sql = "
        INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time)
        VALUES ($1, $2::text::uuid, 'order.created', 'application/json', '', '{\"old\":true}', now() - interval '10 days')";
    stack.database.sql().execute(sql, &[&id, &tenant]).await.unwrap();
}

async fn failed_attempt(stack: &Stack, event: Uuid, endpoint: EndpointId, decision: &str) {
    let sql = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at, status)
        VALUES ($1, $2, 0, $1, $3::text::uuid, 1, 'request', $4, now(), 500)";
    stack.database.sql().execute(sql, &[&event, &endpoint.0, &TENANT, &decision]).await.unwrap();
}

async fn waiting(stack: &Stack, event: Uuid, endpoint: EndpointId, attempt: i32, since: DateTime<Utc>) {
    let sql = "
        INSERT INTO queue (event_id, endpoint_id, run, tenant_id, due_at, attempt, budget_from)
        VALUES ($1, $2, 0, $3::text::uuid, now(), $4, $5)";
    stack.database.sql().execute(sql, &[&event, &endpoint.0, &TENANT, &attempt, &since]).await.unwrap();
}

async fn dead(stack: &Stack, event: Uuid, endpoint: EndpointId) {
    let sql = "
        INSERT INTO dead_letters (event_id, endpoint_id, run, tenant_id, reason, attempt, died_at)
        VALUES ($1, $2, 0, $3::text::uuid, 'attempts_exhausted', 1, now())";
    stack.database.sql().execute(sql, &[&event, &endpoint.0, &TENANT]).await.unwrap();
}

/// A chunk held by a replica that lives for as long as the test wants.
async fn unsettled(stack: &Stack, event: Uuid) -> Uuid {
    let owner = Uuid::now_v7();
    let sql = stack.database.sql();
    sql.execute(
        "INSERT INTO replicas (id, service, lease_until) VALUES ($1, 'dispatcher', now() + interval '1 day')",
        &[&owner],
    )
    .await
    .unwrap();
    sql.execute(
        "INSERT INTO outbox (id, shard, class, event_ids, config_version, owner)
         VALUES ($1, 0, 0, ARRAY[$2::uuid], (SELECT version FROM config_state), $3)",
        &[&Uuid::from_u128(event.as_u128() + 1), &event, &owner],
    )
    .await
    .unwrap();
    owner
}

/// Until no table of the old day is left, attached or not.
async fn await_gone(stack: &Stack) {
    let day = (Utc::now().date_naive() - Days::new(OLD_DAYS)).format("%Y%m%d").to_string();
    let sql = format!("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE '%\\_p{day}%'");
    eventually(BOUND, async || {
        let left = stack.database.count(&sql).await
            + stack.database.count("SELECT count(*) FROM retired_partitions").await;
        holds(left == 0, left)
    })
    .await;
}

fn endpoint_id(text: &str) -> EndpointId {
    text.parse().unwrap()
}

fn delivery_id(event: Uuid, endpoint: EndpointId) -> String {
    DeliveryKey { event_id: EventId(event), endpoint_id: endpoint, run: 0 }.to_string()
}

async fn paused(stack: &Stack, receiver: &Receiver) -> (String, EndpointId) {
    let admin = stack.admin();
    let (name, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    admin.set_state(&name, EndpointState::Paused).await;
    let id = endpoint_id(&name);
    (name, id)
}

#[tokio::test]
async fn days_past_the_retention_go_and_what_is_needed_stays() {
    let mut stack = stack("0s").await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (name, endpoint) = paused(&stack, &receiver).await;
    let [retried, letter, open, done] = [1, 2, 3, 4].map(|number| id_of_past(OLD_DAYS, number));
    for id in [retried, letter, open, done] {
        event(&stack, id, TENANT).await;
    }
    for (id, decision) in [(retried, "retry"), (letter, "dead"), (done, "dead")] {
        failed_attempt(&stack, id, endpoint, decision).await;
    }
    waiting(&stack, retried, endpoint, 1, in_past(0)).await;
    dead(&stack, letter, endpoint).await;
    let owner = unsettled(&stack, open).await;
    let fresh = admin.publish("order.created").await;
    stack.add_dispatcher(&[]).await;
    await_gone(&stack).await;

    let get = async |id: Uuid| {
        let request = v1::GetEventRequest { id: EventId(id).to_string() };
        admin.events().get_event(request).await.map(|got| got.into_inner().event.unwrap())
    };
    assert_eq!(get(done).await.unwrap_err().code(), Code::NotFound, "nothing needs it");
    for needed in [retried, letter, open] {
        assert_eq!(get(needed).await.unwrap().body.as_ref(), br#"{"old":true}"#);
    }
    let letters =
        admin.dead_letters().list_dead_letters(v1::ListDeadLettersRequest::default()).await.unwrap();
    assert_eq!(letters.into_inner().dead_letters[0].event_type, "order.created");

    // What waits and what is dead can still be sent. What was never settled is older than any policy allows: it
    // expires, unless it was parked first.
    let redrive = v1::RetryDeliveryRequest { id: delivery_id(letter, endpoint) };
    admin.deliveries().retry_delivery(redrive).await.unwrap();
    stack
        .database
        .sql()
        .execute("UPDATE replicas SET dead_at = now() WHERE id = $1", &[&owner])
        .await
        .unwrap();
    admin.set_state(&name, EndpointState::Enabled).await;
    stack.await_quiet().await;
    let mut expected: Vec<String> = [retried, letter].map(|id| EventId(id).to_string()).into();
    expected.push(fresh);
    expected.sort();
    let mut arrived = receiver.ids();
    arrived.retain(|id| *id != EventId(open).to_string());
    assert_eq!(arrived, expected);
    let retried = admin.delivery(&EventId(retried).to_string(), &name).await;
    if let Ok(retried) = retried {
        // Some may have gone by now; those that are there count on from those from before.
        for attempt in &retried.attempts {
            let is_new = attempt.decision() == AttemptDecision::Delivered;
            assert_eq!(attempt.number, if is_new { 2 } else { 1 }, "{retried:?}");
        }
    }
    // Once delivered they are as old as the others; so is the day that was made again for their attempts.
    eventually(BOUND, async || {
        let left = stack.database.count("SELECT count(*) FROM events_kept").await
            + stack.database.count("SELECT count(*) FROM attempts_kept").await;
        holds(left == 0, left)
    })
    .await;
    await_gone(&stack).await;
}

#[tokio::test]
async fn a_janitor_killed_at_any_step_is_followed_by_one_that_finishes() {
    for point in
        ["janitor_after_rename", "janitor_after_detach", "janitor_before_drop", "janitor_after_sweep"]
    {
        let mut stack = stack("0s").await;
        let receiver = Receiver::start().await;
        let (name, endpoint) = paused(&stack, &receiver).await;
        let needed = id_of_past(OLD_DAYS, 1);
        event(&stack, needed, TENANT).await;
        failed_attempt(&stack, needed, endpoint, "retry").await;
        waiting(&stack, needed, endpoint, 1, in_past(0)).await;
        let mut doomed = stack.launch(Kind::Dispatcher, &[("BOWLINE_CRASH_AT", point)]).unwrap();
        assert!(!doomed.await_end().await.success(), "it dies at {point}");
        stack.add_dispatcher(&[]).await;
        await_gone(&stack).await;
        let admin = stack.admin();
        let delivery = admin.delivery(&EventId(needed).to_string(), &name).await.unwrap();
        assert_eq!((delivery.state(), delivery.attempts.len()), (DeliveryState::Waiting, 1), "{point}");
        admin.set_state(&name, EndpointState::Enabled).await;
        stack.await_quiet().await;
        assert_eq!(receiver.ids(), [EventId(needed).to_string()], "{point}");
    }
}

#[tokio::test]
async fn a_detaching_that_was_cut_off_is_finished_by_the_next_janitor() {
    let mut stack = stack("0s").await;
    event(&stack, id_of_past(OLD_DAYS, 1), TENANT).await;
    // Somebody reads, so the detaching waits between its two transactions.
    let lock = "BEGIN; LOCK TABLE ONLY events IN ACCESS SHARE MODE";
    stack.database.sql().batch_execute(lock).await.unwrap();
    let mut doomed = stack.launch(Kind::Dispatcher, &[]).unwrap();
    let pending =
        "SELECT count(*) FROM pg_inherits WHERE inhdetachpending AND inhparent = 'events'::regclass";
    eventually(BOUND, async || {
        let pending = stack.database.count(pending).await;
        holds(pending == 1, (pending, doomed.log()))
    })
    .await;
    doomed.kill().await;
    // Postgres would go on for a client that is gone.
    let janitor = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                    WHERE application_name = 'bowline-janitor' AND datname = current_database()";
    stack.database.sql().execute(janitor, &[]).await.unwrap();
    assert_eq!(stack.database.count(pending).await, 1);
    stack.database.sql().batch_execute("COMMIT").await.unwrap();
    stack.add_dispatcher(&[]).await;
    await_gone(&stack).await;
    assert_eq!(stack.database.count(pending).await, 0);
}

#[tokio::test]
async fn until_it_is_dropped_a_day_is_copied_from_for_whoever_comes_late() {
    let mut stack = stack("1h").await;
    let receiver = Receiver::start().await;
    let (name, endpoint) = paused(&stack, &receiver).await;
    let late = id_of_past(OLD_DAYS, 1);
    event(&stack, late, TENANT).await;
    stack.add_dispatcher(&[]).await;
    eventually(BOUND, async || {
        let detached = stack
            .database
            .count("SELECT count(*) FROM retired_partitions WHERE detached_at IS NOT NULL")
            .await;
        holds(detached == 2, detached)
    })
    .await;
    assert_eq!(stack.database.count("SELECT count(*) FROM events_kept").await, 0);
    // As by an operation that had read it just before.
    waiting(&stack, late, endpoint, 0, in_past(0)).await;
    let later = "UPDATE retired_partitions SET detached_at = detached_at - interval '1 hour'";
    stack.database.sql().execute(later, &[]).await.unwrap();
    await_gone(&stack).await;
    stack.admin().set_state(&name, EndpointState::Enabled).await;
    receiver.await_ids(&[EventId(late).to_string()], BOUND).await;
}

#[tokio::test]
async fn of_two_dispatchers_one_is_the_janitor_and_the_other_follows_it() {
    let mut stack = stack("0s").await;
    stack.add_dispatcher(&[]).await;
    stack.add_dispatcher(&[]).await;
    let held = async |ops_url: String| {
        let url = format!("{ops_url}/metrics");
        let metrics = http::send(::http::Method::GET, &url, &Vec::new(), "").await.unwrap().text();
        metrics.lines().any(|line| line == "bowline_dispatcher_janitor_held 1")
    };
    let holders = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                    WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
                      AND l.pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'bowline-janitor')";
    let first = eventually(BOUND, async || {
        let both = [held(stack.dispatchers[0].ops_url()).await, held(stack.dispatchers[1].ops_url()).await];
        both.iter().position(|held| *held).ok_or(both)
    })
    .await;
    assert_eq!(stack.database.count(holders).await, 1);
    assert!(!held(stack.dispatchers[1 - first].ops_url()).await);
    await_gone(&stack).await;

    stack.dispatchers[first].kill().await;
    let day = Utc::now().date_naive() - Days::new(OLD_DAYS);
    partitions::ensure(stack.database.sql(), day, 1).await.unwrap();
    let survivor = stack.dispatchers[1 - first].ops_url();
    eventually(BOUND, async || holds(held(survivor.clone()).await, "not the janitor yet")).await;
    assert_eq!(stack.database.count(holders).await, 1);
    await_gone(&stack).await;
}

#[tokio::test]
async fn the_backlog_of_a_paused_endpoint_expires_by_its_policy_and_by_the_retention() {
    let mut stack = stack("1h").await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let hour = Duration::from_secs(3600);
    let mut short = admin::endpoint(receiver.url());
    short.retry.as_mut().unwrap().max_age = Some(admin::duration(hour));
    let (short, _) = admin.endpoint(short).await;
    admin.set_state(&short, EndpointState::Paused).await;
    let (long, _) = paused(&stack, &receiver).await;
    // Of a day that stays, so that what became of them can be read.
    let (old, recent) = (id_of_past(1, 1), id_of_past(1, 2));
    for id in [old, recent] {
        event(&stack, id, TENANT).await;
    }
    for endpoint in [&short, &long] {
        waiting(&stack, old, endpoint_id(endpoint), 0, in_past(OLD_DAYS)).await;
        // Queued again not long ago: an hour and a half.
        waiting(&stack, recent, endpoint_id(endpoint), 0, Utc::now() - hour - hour / 2).await;
    }
    stack.add_dispatcher(&[]).await;
    for (event, endpoint) in [(old, &short), (old, &long), (recent, &short)] {
        let event = EventId(event).to_string();
        let delivery = admin.await_delivery(&event, endpoint, DeliveryState::Expired).await;
        assert_eq!(delivery.attempts.last().unwrap().decision(), AttemptDecision::Expired);
    }
    let kept = admin.delivery(&EventId(recent).to_string(), &long).await.unwrap();
    assert_eq!(kept.state(), DeliveryState::Waiting, "an endpoint without a limit of its own keeps it");
    assert_eq!(receiver.count(), 0);
}
