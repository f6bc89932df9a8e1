//! What the admin API lists, page by page.

use bowline_core::delivery::{DeadReason, Decision, DeliveryKey};
use bowline_core::id::{DEFAULT_TENANT, EndpointId, EventId, SourceId};
use bowline_core::store::dead_letters::{self, DeadLetterQuery};
use bowline_core::store::deliveries::{self, Bounds, DeliveryQuery, StateFilter};
use bowline_core::store::events::{self, EventQuery, IdRange};
use bowline_core::store::receipts::{self, Of};
use bowline_core::store::unmatched::unmatched;
use bowline_core::store::{self, endpoints};

use super::{BUSY_ENDPOINT, DAYS, ENDPOINT, EVENTS, SMALL_TENANT, Site, filled, id_of, opened};

const PAGE: i64 = 51;
const FIRST_LOOK: Bounds = Bounds { keys: PAGE, looks: 1000 };

fn at(day: i64) -> Option<chrono::DateTime<chrono::Utc>> {
    Some(chrono::Utc::now() - chrono::TimeDelta::days(day))
}

pub(super) async fn lists_of_events(site: &mut Site) {
    let client = site.pool.get().await.unwrap();
    let of_source = EventQuery { source_id: Some(SourceId(id_of(3, 5))), ..Default::default() };
    let of_type = EventQuery { event_type: Some("order.created".into()), ..Default::default() };
    let of_channel = EventQuery { channel: Some("bot-3".into()), ..Default::default() };
    let of_a_day = EventQuery { range: IdRange::between(at(3), at(2)), ..Default::default() };
    for (what, query, rows, days) in [
        ("newest", EventQuery::default(), 500, 2),
        ("of a source", of_source, 200, 5),
        ("of a type", of_type, 500, 2),
        ("of a channel", of_channel, 30_000, 4),
        ("of a day", of_a_day, 500, 2),
    ] {
        let found = events::list(&client, DEFAULT_TENANT, &query, None, PAGE).await.unwrap();
        assert_eq!(found.len(), PAGE as usize, "{what}");
        site.check(&format!("events, {what}"), rows, days);
        let last = found.last().map(|event| event.id);
        let next = events::list(&client, DEFAULT_TENANT, &query, last, PAGE).await.unwrap();
        assert_eq!(next.len(), PAGE as usize, "{what}");
        site.check(&format!("events, {what}, next page"), rows, days);
    }
    let found = events::list(&client, SMALL_TENANT, &EventQuery::default(), None, PAGE).await.unwrap();
    assert_eq!(found.len(), EVENTS as usize / 5000);
    site.check("events of a small tenant", 100, DAYS as usize);
    events::find(&client, Some(SMALL_TENANT), found[0].id).await.unwrap().unwrap();
    site.check("one event", 1, 1);
    let rare = EventQuery { event_type: Some("order.rare".into()), ..Default::default() };
    let seen_to = events::nth(&client, DEFAULT_TENANT, &rare, None, 1000).await.unwrap();
    assert!(seen_to.is_some());
    site.check("events, how far one looks for a type", 1000, 2);
    let step = EventQuery { range: rare.range.down_to(seen_to), ..rare };
    events::list(&client, DEFAULT_TENANT, &step, None, PAGE).await.unwrap();
    site.check("events of a rare type, as far as one looks", 1000, 2);
    let newest = events::list(&client, DEFAULT_TENANT, &EventQuery::default(), None, PAGE).await.unwrap();
    site.tap.take();
    let nobody = unmatched(&client, newest.iter().map(|event| event.id)).await.unwrap();
    assert!(nobody.is_empty());
    site.check("events that nobody wanted", 500, 2);
}

pub(super) async fn lists_of_receipts(site: &mut Site) {
    let client = site.pool.get().await.unwrap();
    let day = IdRange::between(at(3), at(2));
    let source = Of::Source(SourceId(id_of(3, 5)));
    for (what, of, range, rows, days) in [
        ("of a tenant", Of::Tenant(DEFAULT_TENANT), IdRange::default(), 500, 2),
        ("of all tenants", Of::All, IdRange::default(), 500, 2),
        ("of a source", source, IdRange::default(), 500, 5),
        ("of a day", Of::Tenant(DEFAULT_TENANT), day, 500, 2),
    ] {
        let page = receipts::list(&client, of, range, PAGE).await.unwrap();
        assert_eq!((page.found.len(), page.looked_to), (PAGE as usize, None), "{what}");
        site.check(&format!("receipts, {what}"), rows, days);
    }
    // Fewer than a page: whether all was looked at is asked as well.
    let few = receipts::list(&client, Of::Tenant(SMALL_TENANT), IdRange::default(), PAGE).await.unwrap();
    assert_eq!((few.found.len(), few.looked_to), (EVENTS as usize / 5000, None));
    site.check("receipts of a small tenant", 100, DAYS as usize);
}

#[allow(clippy::too_many_lines, reason = "a table of what can be asked")]
pub(super) async fn lists_of_deliveries(site: &mut Site) {
    let client = site.pool.get().await.unwrap();
    let event = site.event_ids("n = 20003").await[0];
    let all = DeliveryQuery::default;
    let dead = Some(StateFilter::Decided(Decision::Dead));
    let delivered = Some(StateFilter::Decided(Decision::Delivered));
    let cancelled = Some(StateFilter::Decided(Decision::Cancelled));
    let days = DAYS as usize;
    for (what, tenant, query, rows, days) in [
        ("newest", DEFAULT_TENANT, all(), 1000, 2),
        ("newest of a small tenant", SMALL_TENANT, all(), 1000, days),
        ("of an endpoint", DEFAULT_TENANT, DeliveryQuery { endpoint_id: Some(ENDPOINT), ..all() }, 2000, 5),
        (
            "of the busy endpoint",
            DEFAULT_TENANT,
            DeliveryQuery { endpoint_id: Some(BUSY_ENDPOINT), ..all() },
            2000,
            3,
        ),
        ("of an event", DEFAULT_TENANT, DeliveryQuery { event_id: Some(event), ..all() }, 100, 1),
        ("waiting", DEFAULT_TENANT, DeliveryQuery { state: Some(StateFilter::Waiting), ..all() }, 2000, 2),
        (
            "waiting, of a small tenant",
            SMALL_TENANT,
            DeliveryQuery { state: Some(StateFilter::Waiting), ..all() },
            2000,
            days,
        ),
        ("dead", DEFAULT_TENANT, DeliveryQuery { state: dead, ..all() }, 4000, days),
        ("delivered", DEFAULT_TENANT, DeliveryQuery { state: delivered, ..all() }, 2000, 2),
        ("with a status", DEFAULT_TENANT, DeliveryQuery { status_code: Some(500), ..all() }, 4000, days),
        // Nothing has these: a page ends all the same.
        ("cancelled", DEFAULT_TENANT, DeliveryQuery { state: cancelled, ..all() }, 4000, days),
        (
            "with a rare failure",
            DEFAULT_TENANT,
            DeliveryQuery { status_code: Some(599), ..all() },
            4000,
            days,
        ),
        ("with a rare success", DEFAULT_TENANT, DeliveryQuery { status_code: Some(299), ..all() }, 2000, 2),
        (
            "with a rare status, of the busy endpoint",
            DEFAULT_TENANT,
            DeliveryQuery { status_code: Some(299), endpoint_id: Some(BUSY_ENDPOINT), ..all() },
            2000,
            days,
        ),
        (
            "of a type, of the busy endpoint",
            DEFAULT_TENANT,
            DeliveryQuery {
                event_type: Some("order.created".into()),
                endpoint_id: Some(BUSY_ENDPOINT),
                ..all()
            },
            4000,
            days,
        ),
        (
            "of a channel, dead",
            DEFAULT_TENANT,
            DeliveryQuery { channel: Some("bot-98".into()), state: dead, ..all() },
            4000,
            days,
        ),
        // No more than how far one looks, and of each event that is shown its deliveries.
        (
            "of a common type",
            DEFAULT_TENANT,
            DeliveryQuery { event_type: Some("order.created".into()), ..all() },
            1000,
            2,
        ),
        (
            "of a common type, delivered",
            DEFAULT_TENANT,
            DeliveryQuery { event_type: Some("order.created".into()), state: delivered, ..all() },
            1000,
            2,
        ),
        (
            "of a rare type",
            DEFAULT_TENANT,
            DeliveryQuery { event_type: Some("order.rare".into()), ..all() },
            2000,
            2,
        ),
        (
            "of a channel that waits, of an endpoint",
            DEFAULT_TENANT,
            DeliveryQuery {
                channel: Some("bot-3".into()),
                endpoint_id: Some(ENDPOINT),
                state: Some(StateFilter::Waiting),
                ..all()
            },
            4000,
            days,
        ),
        (
            "of a day",
            DEFAULT_TENANT,
            DeliveryQuery { range: IdRange::between(at(3), at(2)), ..all() },
            2000,
            2,
        ),
    ] {
        let found = deliveries::keys(&client, tenant, &query, None, FIRST_LOOK).await.unwrap();
        site.check(&format!("deliveries, {what}"), rows, days);
        deliveries::describe(&client, tenant, &query, &found.keys).await.unwrap();
        site.check(&format!("deliveries, {what}, described"), 600, days);
        let nothing_has_it = ["rare", "cancelled"].iter().any(|word| what.contains(word));
        assert!(nothing_has_it || !found.keys.is_empty(), "{what}");
        deliveries::keys(&client, tenant, &query, found.next, FIRST_LOOK).await.unwrap();
        site.check(&format!("deliveries, {what}, next page"), rows, days);
    }
    drop(client);
    deliveries_one_by_one(site).await;
}

async fn deliveries_one_by_one(site: &mut Site) {
    let mut client = site.pool.get().await.unwrap();
    // What matches little is asked for in steps of a thousand.
    let waiting = DeliveryQuery { state: Some(StateFilter::Waiting), ..DeliveryQuery::default() };
    let bounds = Bounds { keys: 1000, looks: 10_000 };
    let keys = deliveries::keys(&client, DEFAULT_TENANT, &waiting, None, bounds).await.unwrap().keys;
    site.check("deliveries, a thousand", 20_000, 2);
    deliveries::describe(&client, DEFAULT_TENANT, &waiting, &keys).await.unwrap();
    site.check("deliveries, a thousand, described", 10_000, 2);
    deliveries::find_whole(&mut client, None, keys[0]).await.unwrap().unwrap();
    site.check("one delivery with its attempts", 100, 1);
    // One of which nothing is recorded: whether its event is settled is in the outbox.
    let unmatched = DeliveryKey { endpoint_id: ENDPOINT, ..keys[0] };
    deliveries::find(&client, None, unmatched).await.unwrap();
    site.check("a delivery that is not recorded", 500, 1);
    endpoints::make_due(&client, ENDPOINT, 1000).await.unwrap();
    site.check("an endpoint's backlog is made due", 5000, 0);
}

pub(super) async fn lists_of_dead_letters(site: &mut Site) {
    let client = site.pool.get().await.unwrap();
    let event = site.event_ids("n = 20001").await[0];
    let all = DeadLetterQuery::default;
    let days = DAYS as usize;
    for (what, tenant, query, rows, days) in [
        ("newest", DEFAULT_TENANT, all(), 1000, 2),
        ("of a small tenant", SMALL_TENANT, all(), 1000, days),
        ("of an endpoint", DEFAULT_TENANT, DeadLetterQuery { endpoint_id: Some(ENDPOINT), ..all() }, 1000, 5),
        ("of an event", DEFAULT_TENANT, DeadLetterQuery { event_id: Some(event), ..all() }, 10, 1),
        (
            "of a day",
            DEFAULT_TENANT,
            DeadLetterQuery { range: IdRange::between(at(3), at(2)), ..all() },
            1000,
            2,
        ),
        (
            "of a reason",
            DEFAULT_TENANT,
            DeadLetterQuery { reason: Some(DeadReason::AttemptsExhausted), ..all() },
            1000,
            2,
        ),
    ] {
        let found = dead_letters::list(&client, tenant, &query, None, PAGE).await.unwrap();
        assert!(!found.is_empty(), "{what}");
        site.check(&format!("dead letters, {what}"), rows, days);
        let last = found.last().map(|letter| letter.key);
        dead_letters::list(&client, tenant, &query, last, PAGE).await.unwrap();
        site.check(&format!("dead letters, {what}, next page"), rows, days);
    }
    dead_letters::count(&client, DEFAULT_TENANT, &all(), 1000).await.unwrap();
    site.check("dead letters, counted", 5000, 2);
    let of_endpoint = DeadLetterQuery { endpoint_id: Some(ENDPOINT), ..all() };
    let locked = dead_letters::lock_matching(&client, DEFAULT_TENANT, &of_endpoint, None, 40).await.unwrap();
    assert_eq!(locked.len(), 40);
    site.check("dead letters, locked by a filter", 2000, days);
    let keys: Vec<_> = locked.iter().map(|letter| letter.key).collect();
    dead_letters::lock(&client, DEFAULT_TENANT, &keys).await.unwrap();
    site.check("dead letters, locked by id", 2000, days);
    dead_letters::requeue(&client, &locked).await.unwrap();
    site.check("dead letters, redriven", 2000, 0);
}

/// The same by a query that takes no care of what it costs: everything there is, newest first, with the state
/// and status of each.
async fn plainly(pool: &store::Pool, wanted: &str) -> Vec<DeliveryKey> {
    let sql = format!(
        "WITH made AS (
             SELECT DISTINCT ON (event_id, endpoint_id, run) event_id, endpoint_id, run, tenant_id, decision, status
               FROM attempts WHERE decision <> 'stale'
              ORDER BY event_id, endpoint_id, run, decision = 'delivered' DESC, attempt_id DESC),
         waits AS (SELECT event_id, endpoint_id, run, tenant_id AS owner FROM queue)
         SELECT event_id, endpoint_id, run
           FROM (SELECT event_id, endpoint_id, run, coalesce(tenant_id, owner) AS tenant_id, status,
                        CASE WHEN owner IS NOT NULL THEN 'waiting' ELSE decision END AS state
                   FROM made FULL JOIN waits USING (event_id, endpoint_id, run)) AS delivery
          WHERE tenant_id = '{}' AND {wanted}
          ORDER BY event_id DESC, endpoint_id, run",
        DEFAULT_TENANT.0
    );
    let rows = pool.get().await.unwrap().query(&sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| DeliveryKey {
            event_id: EventId(row.get(0)),
            endpoint_id: EndpointId(row.get(1)),
            run: row.get(2),
        })
        .collect()
}

#[tokio::test]
async fn pages_of_deliveries_hold_what_a_plain_query_finds() {
    let database = filled(3000).await;
    let pool = opened(store::connect(&database.url, 2).unwrap()).await;
    let event: uuid::Uuid =
        database.sql().query_one("SELECT id FROM filled WHERE n = 1505", &[]).await.unwrap().get(0);
    // Half of what failed or was delivered waits no more.
    let half = "DELETE FROM queue WHERE event_id::text ~ '[02468ace]$'";
    database.sql().batch_execute(half).await.unwrap();
    let of_event = format!("event_id = '{event}'");
    let of_endpoint = format!("endpoint_id = '{}'", ENDPOINT.0);
    let of_busy = format!("endpoint_id = '{}'", BUSY_ENDPOINT.0);
    let day = IdRange::between(at(3), at(2));
    let of_day = format!("event_id >= '{}' AND event_id < '{}'", day.from, day.until);
    let all = DeliveryQuery::default;
    let decided = |decision| Some(StateFilter::Decided(decision));
    let busy = Some(BUSY_ENDPOINT);
    let (bot, created) = (|n: u32| Some(format!("bot-{n}")), Some("order.created".to_owned()));
    // A look often ends in the middle of what is asked for.
    let bounds = Bounds { keys: 97, looks: 61 };
    for (query, wanted) in [
        (all(), "true"),
        (DeliveryQuery { endpoint_id: Some(ENDPOINT), ..all() }, &of_endpoint),
        (DeliveryQuery { endpoint_id: busy, ..all() }, &of_busy),
        (DeliveryQuery { event_id: Some(EventId(event)), ..all() }, &of_event),
        (DeliveryQuery { range: day, ..all() }, &of_day),
        (DeliveryQuery { state: Some(StateFilter::Waiting), ..all() }, "state = 'waiting'"),
        (DeliveryQuery { state: decided(Decision::Dead), ..all() }, "state = 'dead'"),
        (DeliveryQuery { state: decided(Decision::Delivered), ..all() }, "state = 'delivered'"),
        (
            DeliveryQuery { state: decided(Decision::Delivered), endpoint_id: busy, ..all() },
            &format!("state = 'delivered' AND {of_busy}"),
        ),
        (DeliveryQuery { status_code: Some(410), ..all() }, "status = 410"),
        (DeliveryQuery { status_code: Some(204), ..all() }, "status = 204"),
        (
            DeliveryQuery { status_code: Some(204), endpoint_id: busy, ..all() },
            &format!("status = 204 AND {of_busy}"),
        ),
        (
            DeliveryQuery { channel: bot(3), ..all() },
            "event_id IN (SELECT id FROM events WHERE channel = 'bot-3')",
        ),
        (
            DeliveryQuery { channel: bot(6), endpoint_id: busy, ..all() },
            &format!("event_id IN (SELECT id FROM events WHERE channel = 'bot-6') AND {of_busy}"),
        ),
        (
            DeliveryQuery {
                channel: bot(5),
                endpoint_id: busy,
                state: decided(Decision::Delivered),
                ..all()
            },
            &format!(
                "event_id IN (SELECT id FROM events WHERE channel = 'bot-5') AND state = 'delivered' AND {of_busy}"
            ),
        ),
        (
            DeliveryQuery { event_type: created, state: decided(Decision::Dead), range: day, ..all() },
            &format!("state = 'dead' AND {of_day}"),
        ),
    ] {
        let wanted = plainly(&pool, wanted).await;
        assert!(!wanted.is_empty(), "{query:?}");
        let client = pool.get().await.unwrap();
        let mut seen: Vec<DeliveryKey> = Vec::new();
        let mut after = None;
        loop {
            let found = deliveries::keys(&client, DEFAULT_TENANT, &query, after, bounds).await.unwrap();
            let rows = deliveries::describe(&client, DEFAULT_TENANT, &query, &found.keys).await.unwrap();
            seen.extend(rows.iter().map(|row| row.key));
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        assert!(seen == wanted, "{query:?}: {} of {}", seen.len(), wanted.len());
    }
}
