//! What is read of a delivery while it goes on.

use bowline_tests::admin::{self, Admin};
use bowline_tests::proxy::Proxy;
use bowline_tests::{Stack, database, stores};

#[tokio::test]
async fn a_delivery_and_its_attempts_are_of_one_moment() {
    // Nobody delivers: the test records the attempts.
    const ATTEMPT: &str = "
        INSERT INTO attempts (event_id, endpoint_id, run, attempt_id, tenant_id, attempt, kind, decision, started_at,
                              status, recorded_at)
        SELECT v.id, e.id, 0, gen_random_uuid(), v.tenant_id, (SELECT count(*) + 1 FROM attempts), 'request', 'retry',
               now(), 503, now()
          FROM events AS v, endpoints AS e";
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let (endpoint, _) = stack.admin().endpoint(admin::endpoint("http://127.0.0.1:9/")).await;
    let event = stack.admin().publish("order.created").await;
    stack.database.sql().batch_execute(ATTEMPT).await.unwrap();
    let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
    let through = proxy.in_front_of(&stack.database.url);
    let service = stack.add_ingest(&[("BOWLINE_POSTGRES_URL", &through)]).await;
    let admin = Admin::new(&service.admin_url(), Some(admin::KEY));
    proxy.disturb(database::connect(&stack.database.url).await.unwrap(), ATTEMPT);
    for _ in 0..5 {
        let delivery = admin.delivery(&event, &endpoint).await.unwrap();
        assert_eq!(delivery.attempts.len(), delivery.attempt_count as usize);
        let recorded = stack.database.count("SELECT count(*) FROM attempts").await;
        assert!(recorded > i64::from(delivery.attempt_count), "{recorded}: none came while it was read");
    }
    proxy.leave_alone();
}
