//! Claims that a crash of Postgres took back: their commits wait for no disk. The crash is played by
//! cutting every connection of a dispatcher and freeing what it had claimed. And claims of a replica
//! that is itself forgotten.

use bowline_proto::v1;
use bowline_proto::v1::DeliveryState;
use bowline_tests::eventually::holds;
use bowline_tests::proxy::Proxy;
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin, eventually, stores};

const EVENTS: usize = 20;

/// One request is out, and the rest of what was claimed waits behind it.
struct Scene {
    stack: Stack,
    proxy: Proxy,
    receiver: Receiver,
    endpoint: String,
    events: Vec<String>,
}

impl Scene {
    async fn begin() -> Self {
        let mut stack = Stack::builder().dispatchers(0).start().await;
        let receiver = Receiver::start().await;
        receiver.answer(Reply::Held(200));
        let endpoint = v1::Endpoint { concurrency: 1, ..admin::endpoint(receiver.url()) };
        let (endpoint, _) = stack.admin().endpoint(endpoint).await;
        let events = stack.admin().publish_many("order.created", EVENTS).await;
        let proxy = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
        let through = proxy.in_front_of(&stack.database.url);
        // What waits stays in memory, so that only the claim stands for it.
        let settings = [("BOWLINE_POSTGRES_URL", &*through), ("BOWLINE_DISPATCHER_PARK_AFTER", "30s")];
        stack.add_dispatcher(&settings).await;
        receiver.await_count(1, BOUND).await;
        eventually(BOUND, async || {
            let unowned = stack.database.count("SELECT count(*) FROM outbox WHERE owner IS NULL").await;
            holds(unowned == 0, unowned)
        })
        .await;
        Self { stack, proxy, receiver, endpoint, events }
    }

    /// Nothing but the claims is undone.
    async fn crash(&self) {
        self.proxy.refuse();
        let forget = "UPDATE outbox SET owner = NULL, created_at = now() - interval '10 s'";
        self.stack.database.sql().batch_execute(forget).await.unwrap();
    }

    /// Postgres is back, and the dispatcher has looked at its claims.
    async fn recover(&self) {
        self.proxy.admit();
        eventually(BOUND, async || {
            let log = self.stack.dispatchers[0].log();
            // The first was at its start.
            holds(log.matches("claims are confirmed").count() >= 2, log)
        })
        .await;
    }

    async fn await_end(&self) {
        for event in &self.events {
            let admin = self.stack.admin();
            let delivery = admin.await_delivery(event, &self.endpoint, DeliveryState::Delivered).await;
            assert!(delivery.attempts.iter().all(|attempt| attempt.error_kind.is_empty()), "{delivery:?}");
        }
        self.stack.await_quiet().await;
    }
}

#[tokio::test]
async fn what_postgres_forgot_is_claimed_again_and_sent_once() {
    let scene = Scene::begin().await;
    scene.crash().await;
    scene.recover().await;
    scene.receiver.release();
    scene.await_end().await;
    assert_eq!(scene.receiver.count(), EVENTS);
}

#[tokio::test]
async fn what_another_took_meanwhile_is_let_go() {
    let mut scene = Scene::begin().await;
    scene.crash().await;
    scene.stack.add_dispatcher(&[]).await;
    // The one request is out twice now; the first dispatcher gets its answer, and goes on to the next.
    scene.receiver.await_count(2, BOUND).await;
    scene.receiver.release();
    scene.receiver.await_ids(&scene.events, BOUND).await;
    scene.recover().await;
    scene.await_end().await;
    assert_eq!(scene.receiver.count(), EVENTS + 1, "only what was out at the crash is sent twice");
}

#[tokio::test]
async fn what_nobody_known_owns_is_taken_over() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    let events = stack.admin().publish_many("order.created", EVENTS).await;
    stack.database.sql().batch_execute("UPDATE outbox SET owner = gen_random_uuid()").await.unwrap();
    stack.add_dispatcher(&[]).await;
    for event in &events {
        stack.admin().await_delivery(event, &endpoint, DeliveryState::Delivered).await;
    }
    stack.await_quiet().await;
    assert_eq!(receiver.count(), EVENTS);
}
