//! More at once than a watch holds.

use std::collections::HashSet;

use bowline_core::id::{DEFAULT_TENANT, EventId};
use bowline_proto::v1;
use bowline_tests::admin::{Admin, KEY};
use bowline_tests::{Stack, database};

use super::{Told, all, begun, ids, of_type, since, take, watch, watch_from};

/// More than two pages in one transaction: every third a stray, half of them much older, and one of ten of another type.
const MANY: &str = "
    INSERT INTO events (id, tenant_id, event_type, content_type, headers, body, create_time, stray)
    SELECT overlay(gen_random_uuid()::text placing left(first_id_at(
               clock_timestamp() - CASE WHEN n % 3 = 0 THEN interval '20 hours' * (n % 2) + interval '1 minute'
                                        ELSE interval '0' END)::text, 13) from 1 for 13)::uuid,
           $1, CASE WHEN n % 10 = 0 THEN 'many.tenth' ELSE 'many' END, 'text/plain', '', 'x', now(),
           CASE WHEN n % 3 = 0 THEN true END
      FROM generate_series(1, 3000) AS n";
const COUNT: usize = 3000;

fn is_whole(told: &Told<v1::Event>) -> bool {
    ids(told).into_iter().collect::<HashSet<_>>().len() == COUNT
}

#[tokio::test]
async fn a_backlog_comes_whole_and_a_cursor_within_it_goes_on_elsewhere() {
    let stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    let admin = stack.admin();
    let there = Admin::new(&stack.ingests[1].admin_url(), Some(KEY));
    let (mut live, beginning) = begun(&admin, all()).await;
    let sql = database::connect(&stack.database.url).await.unwrap();
    assert_eq!(sql.execute(MANY, &[&DEFAULT_TENANT.0]).await.unwrap(), COUNT as u64);
    let after = admin.publish("after").await;

    let told = take(&mut live, COUNT).await;
    assert!(is_whole(&told));
    assert_eq!(ids(&take(&mut live, 1).await), [&after]);
    for at in (0..COUNT).step_by(487) {
        let mut rest = watch_from(&there, &told[at].1).await;
        let rest = take(&mut rest, COUNT - at).await;
        assert_eq!(ids(&rest[..COUNT - at - 1]), ids(&told[at + 1..]), "after {at}");
        assert_eq!(rest.last().unwrap().0.id, after);
    }
    assert!(is_whole(&take(&mut watch_from(&there, &beginning).await, COUNT).await));

    // From a time: by when they were received.
    let request = v1::WatchEventsRequest { start_time: since(3 * 24 * 3600), ..all() };
    let mut past = watch(&there, request).await;
    let told = take(&mut past, COUNT + 1).await;
    assert!(is_whole(&told[..].iter().filter(|(event, _)| event.id != after).cloned().collect()));
    let rest = take(&mut watch_from(&admin, &told[COUNT / 2].1).await, COUNT / 2).await;
    assert_eq!(ids(&rest), ids(&told[COUNT / 2 + 1..]));
    let received = |told: &Told<v1::Event>| {
        told.iter().all(|(event, _)| {
            let id: EventId = event.id.parse().unwrap();
            (id.0.as_u128() >> 80) as i64 >= (chrono::Utc::now().timestamp() - 12 * 3600) * 1000
        })
    };
    let request = v1::WatchEventsRequest { start_time: since(12 * 3600), ..all() };
    // Of the strays half are older.
    let today = take(&mut watch(&there, request).await, COUNT - COUNT / 6 + 1).await;
    assert!(received(&today));

    let request =
        v1::WatchEventsRequest { start_time: since(3 * 24 * 3600), filter: of_type("many.tenth"), ..all() };
    let mut tenths = watch(&there, request).await;
    let last = admin.publish("many.tenth").await;
    let told = take(&mut tenths, COUNT / 10 + 1).await;
    assert_eq!(told.last().unwrap().0.id, last);
}
