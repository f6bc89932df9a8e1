//! Channels of ordered endpoints, with a backlog in each.

use std::time::Duration;

use bowline_core::store::channels::{self, Release};
use uuid::Uuid;

use super::{DAYS, ENDPOINT, LIVE, ROUNDS, SMALL_TENANT, Site};

const CHANNELS: i64 = 3000;
const BACKLOG: i64 = 20;

async fn fill(site: &Site) {
    let sql = site.database.sql();
    let queue = "
        INSERT INTO queue (endpoint_id, event_id, run, tenant_id, due_at, attempt, priority, channel, seq)
        SELECT $1, e.id, c.n, $2, now(), 0, -2, 'c' || c.n, s.n
          FROM generate_series(1, $3::bigint) AS s (n)
          JOIN (SELECT id, row_number() OVER (ORDER BY id DESC) AS n FROM events ORDER BY id DESC LIMIT $3) AS e USING (n)
         CROSS JOIN generate_series(1, $4::int) AS c (n)";
    sql.execute(queue, &[&ENDPOINT.0, &SMALL_TENANT.0, &BACKLOG, &(CHANNELS as i32)]).await.unwrap();
    let channels = "
        INSERT INTO channels (endpoint_id, channel, tail, due_at)
        SELECT CASE WHEN c.n = 1 THEN $1 ELSE gen_random_uuid() END, 'c' || s.n, $2, now()
          FROM generate_series(1, $3::bigint) AS s (n), generate_series(1, 2) AS c (n)";
    sql.execute(channels, &[&ENDPOINT.0, &BACKLOG, &CHANNELS]).await.unwrap();
    sql.batch_execute("ANALYZE queue, channels").await.unwrap();
}

pub(super) async fn held(site: &mut Site) {
    fill(site).await;
    let mut client = site.pool.get().await.unwrap();
    for _ in 0..ROUNDS {
        let due = channels::endpoints_with_due(&client, Uuid::nil(), 100).await.unwrap();
        assert_eq!(due.len(), 100);
        site.check("endpoints with due channels", 1000, 0);
        let claimed = channels::claim(&client, LIVE, &[ENDPOINT], &[64]).await.unwrap();
        assert_eq!(claimed.len(), 64);
        site.check("claim channels", 1000, 0);
        let waiting = channels::next(&client, &claimed[..32], 10).await.unwrap();
        assert!(waiting.iter().all(|list| list.len() == 10 && list[0].seq == 1));
        site.check("what waits in channels", 1000, DAYS as usize);
        assert_eq!(channels::owned(&client, LIVE).await.unwrap().len(), 64);
        site.check("channels of a replica", 1000, 0);
        for some in claimed.chunks(32) {
            let releases: Vec<_> = some
                .iter()
                .map(|one| Release { key: one.key.clone(), hold: one.hold, head: 1, wait: Duration::ZERO })
                .collect();
            let due_in = channels::release(&mut client, LIVE, &releases).await.unwrap();
            assert_eq!(due_in, Some(Duration::ZERO));
            site.check("give channels back", 1000, 0);
        }
        channels::free_orphaned(&client).await.unwrap();
        site.check("channels of the dead", 1000, 0);
    }
    assert!(channels::owned(&client, LIVE).await.unwrap().is_empty());
    site.tap.take();
}
