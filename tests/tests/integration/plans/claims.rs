//! What a dispatcher claims, takes over and tidies up.

use std::time::Duration;

use bowline_core::id::{ChunkId, EventId, SourceId};
use bowline_core::store::claim_session::ClaimSession;
use bowline_core::store::{self, chunks, health, queue, rejections, replicas};
use uuid::Uuid;

use super::{BUSY_ENDPOINT, DAYS, ENDPOINT, EVENTS, LIVE, ROUNDS, SMALL_ENDPOINT, SMALL_TENANT, Site, id_of};

pub(super) async fn claims_of_chunks(site: &mut Site, session: &ClaimSession) {
    let client = site.pool.get().await.unwrap();
    let ids = site.event_ids(&format!("n % 40 = 0 AND n > {}", EVENTS - 2000)).await;
    assert_eq!(ids.len(), 50);
    for round in 0..ROUNDS {
        let some: Vec<Uuid> = (0..64).map(|number| id_of(6, 100 + 64 * round + number)).collect();
        let claimed = session.claim(LIVE, &some).await.unwrap();
        site.check("claim from a stream", 200, 0);
        let held: Vec<Uuid> = claimed.iter().map(|chunk| chunk.id.0).collect();
        assert_eq!(session.confirm(LIVE, &held).await.unwrap().len(), held.len());
        site.check("confirm claims", 200, 0);
        for class in [0, 1] {
            let after = Duration::from_secs(5);
            let claimed = chunks::claim_unowned(&client, LIVE, class, after, 64).await.unwrap();
            assert_eq!(claimed.len(), 64);
            site.check("claim what nobody took", 300, 0);
        }
        assert_eq!(chunks::claim_orphaned(&client, LIVE, 64).await.unwrap().len(), 64);
        // All of the dead one's are put in order, of which there are as many as it held.
        site.check("take over chunks", 5000, 0);
        chunks::owned(&client, LIVE).await.unwrap();
        site.check("chunks of a replica", 5000, 0);
        chunks::settled(&client, &ids).await.unwrap();
        site.check("what is settled", 300, 2);
        assert_eq!(chunks::load(&client, &ids).await.unwrap().len(), 50);
        site.check("bodies of a chunk", 100, 2);
    }
}

/// What a dispatcher does that has next to nothing to do, until its sessions have settled for their plans.
pub(super) async fn idle(pool: &store::Pool, session: &ClaimSession) {
    let client = &pool.get().await.unwrap();
    let (chunk, event) = (ChunkId::new(), EventId::new());
    for _ in 0..ROUNDS {
        session.claim(LIVE, &[chunk.0]).await.unwrap();
        session.confirm(LIVE, &[chunk.0]).await.unwrap();
        for class in [0, 1] {
            chunks::claim_unowned(client, LIVE, class, Duration::from_secs(5), 64).await.unwrap();
        }
        chunks::claim_orphaned(client, LIVE, 64).await.unwrap();
        chunks::settled(client, &[event]).await.unwrap();
        chunks::load(client, &[event]).await.unwrap();
        queue::endpoints_with_due_work(client, Uuid::nil(), 10_000).await.unwrap();
        queue::claim_due(client, LIVE, &[SMALL_ENDPOINT], &[16]).await.unwrap();
        queue::enqueue(client, LIVE, chunk, SMALL_TENANT, &[(event, SMALL_ENDPOINT)]).await.unwrap();
        queue::free_orphaned(client).await.unwrap();
    }
}

pub(super) async fn claims_of_deliveries(site: &mut Site) {
    let client = site.pool.get().await.unwrap();
    let days = DAYS as usize;
    let of_all_days = site.event_ids("n % 50 = 0").await;
    let parked = site.event_ids(&format!("n > {}", EVENTS - 1000)).await;
    let parked: Vec<_> = parked.into_iter().map(|event| (event, SMALL_ENDPOINT)).collect();
    let owned = chunks::owned(&client, LIVE).await.unwrap();
    for round in 0..ROUNDS {
        let due = queue::endpoints_with_due_work(&client, Uuid::nil(), 10_000).await.unwrap();
        assert!(due.len() > 100, "{}", due.len());
        site.check("endpoints with due work", 10_000, 0);
        // A full lane each at a few, and a few rows at many.
        let claimed = queue::claim_due(&client, LIVE, &[BUSY_ENDPOINT, ENDPOINT], &[512, 512]).await.unwrap();
        assert!(claimed.len() >= 512, "{}", claimed.len());
        site.check("claim what is due at a few", 10_000, days);
        let claimed = queue::claim_due(&client, LIVE, &due, &vec![4; due.len()]).await.unwrap();
        assert!(claimed.len() > 400, "{}", claimed.len());
        site.check("claim what is due at many", 10_000, days);
        let keys: Vec<_> = claimed.iter().map(|delivery| delivery.key).collect();
        queue::free(&client, LIVE, &keys).await.unwrap();
        site.check("give back", 25_000, 0);
        assert_eq!(chunks::load(&client, &of_all_days).await.unwrap().len(), of_all_days.len());
        site.check("bodies of what was claimed", 4000, days);
        let all = chunks::load_first(&client, &of_all_days, 1 << 20).await.unwrap();
        assert!(all.iter().map(|event| event.id).eq(of_all_days.iter().copied()), "in this order");
        site.check("bodies of what was claimed, a part that is all", 4000, days);
        let bytes = all.iter().take(99).map(|event| event.body.len()).sum::<usize>() + 1;
        assert_eq!(chunks::load_first(&client, &of_all_days, bytes).await.unwrap().len(), 100);
        site.check("bodies of what was claimed, a part", 4000, days);
        queue::owned(&client, LIVE).await.unwrap();
        site.check("deliveries of a replica", 25_000, 0);
        let freed = queue::free_orphaned(&client).await.unwrap();
        assert_eq!(freed > 0, round == 0, "all of the dead one's at once");
        site.check("take over deliveries", 20_000, 0);
        let chunk = owned[round as usize].id;
        assert!(queue::enqueue(&client, LIVE, chunk, SMALL_TENANT, &parked).await.unwrap());
        site.check("park a thousand", 5000, 0);
    }
}

pub(super) async fn rest(site: &mut Site) {
    let mut client = site.pool.get().await.unwrap();
    replicas::sweep(&client).await.unwrap();
    site.check("forget the dead", 5000, 0);
    replicas::bury(&client).await.unwrap();
    site.check("bury", 100, 0);
    replicas::bury_absent(&client).await.unwrap();
    site.check("bury those nobody knows", 100, 0);
    let sources: Vec<_> = (0..32).map(|number| SourceId(id_of(3, number))).collect();
    rejections::trim(&client, &sources, 20).await.unwrap();
    site.check("rejections are trimmed", 10_000, 0);
    let minute = Some(Duration::from_secs(60));
    health::disable(&mut client, BUSY_ENDPOINT, "failing", minute).await.unwrap();
    site.check("a success since", 2000, DAYS as usize);
}
