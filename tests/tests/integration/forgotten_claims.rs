//! Claims that a crash of Postgres took back: their commits wait for no disk. The crash is played by
//! cutting every connection of a dispatcher and freeing what it had claimed. And claims of a replica
//! that is itself forgotten.

use bowline_proto::v1;
use bowline_proto::v1::DeliveryState;
use bowline_tests::eventually::holds;
use bowline_tests::proxy::Proxy;
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin, eventually, stores};

const EVENTS: usize = 20;
/// Every claim is undone.
const FORGET: &str = "UPDATE outbox SET owner = NULL, created_at = now() - interval '10 s'";

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
        let endpoint = v1::Endpoint { concurrency: 1, ..admin::patient(admin::endpoint(receiver.url())) };
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
        self.stack.database.sql().batch_execute(FORGET).await.unwrap();
    }

    /// Postgres is back, and the dispatcher has looked at its claims.
    async fn recover(&self) {
        self.proxy.admit();
        await_confirmed(&self.stack).await;
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

/// The first dispatcher has looked at its claims again.
async fn await_confirmed(stack: &Stack) {
    eventually(BOUND, async || {
        let log = stack.dispatchers[0].log();
        // The first was at its start.
        holds(log.matches("claims are confirmed").count() >= 2, log)
    })
    .await;
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

/// One event is out to two receivers; its claim is undone, and what is recorded goes through meanwhile.
struct Doubt {
    stack: Stack,
    claims: Proxy,
    first: Receiver,
    second: Receiver,
    event: String,
    endpoints: [String; 2],
}

impl Doubt {
    /// The first request to the first receiver is answered so.
    async fn begin(first: u16) -> Self {
        let mut stack = Stack::builder().dispatchers(0).start().await;
        let first = Receiver::scripted([Reply::Held(first), Reply::Status(200)]).await;
        let second = Receiver::start().await;
        second.answer(Reply::Held(200));
        let mut endpoints = [String::new(), String::new()];
        for (id, receiver) in endpoints.iter_mut().zip([&first, &second]) {
            (*id, _) = stack.admin().endpoint(admin::patient(admin::endpoint(receiver.url()))).await;
        }
        let event = stack.admin().publish_many("order.created", 1).await.remove(0);
        let claims = Proxy::start(stores::address(&stack.database.url).unwrap()).await;
        let through = claims.in_front_of(&stack.database.url);
        let settings = [("BOWLINE_POSTGRES_DIRECT_URL", &*through), ("BOWLINE_DISPATCHER_PARK_AFTER", "30s")];
        stack.add_dispatcher(&settings).await;
        first.await_count(1, BOUND).await;
        second.await_count(1, BOUND).await;
        claims.refuse();
        stack.database.sql().batch_execute(FORGET).await.unwrap();
        Self { stack, claims, first, second, event, endpoints }
    }

    async fn await_recorded(&self, attempts: i64) {
        eventually(BOUND, async || {
            let recorded = self.stack.database.count("SELECT count(*) FROM attempts").await;
            holds(recorded == attempts, recorded)
        })
        .await;
    }

    async fn await_end(&self) {
        for endpoint in &self.endpoints {
            self.stack.admin().await_delivery(&self.event, endpoint, DeliveryState::Delivered).await;
        }
        self.stack.await_quiet().await;
    }
}

#[tokio::test]
async fn a_failure_that_is_recorded_before_its_claim_is_confirmed_is_tried_again() {
    let doubt = Doubt::begin(500).await;
    doubt.first.release();
    doubt.await_recorded(1).await;
    doubt.claims.admit();
    await_confirmed(&doubt.stack).await;
    // The end of what this dispatcher knew of the chunk, of which the failure is a part.
    doubt.second.release();
    doubt.await_end().await;
    assert_eq!(doubt.first.count(), 2);
}

#[tokio::test]
async fn what_has_ended_before_its_claim_is_confirmed_is_settled() {
    let doubt = Doubt::begin(200).await;
    doubt.first.release();
    doubt.second.release();
    doubt.await_recorded(2).await;
    doubt.claims.admit();
    doubt.await_end().await;
    assert_eq!((doubt.first.count(), doubt.second.count()), (1, 1), "what is delivered is not sent again");
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
