//! Where the only way out is a forward proxy: what it does wrong is not the receivers' fault.

use bowline_proto::v1::{self, AttemptDecision, AttemptKind, DeliveryState};
use bowline_tests::admin;
use bowline_tests::connect_proxy::Tunnel;
use bowline_tests::eventually::holds;
use bowline_tests::{Authority, BOUND, ConnectProxy, Receiver, Stack, eventually};

const PROXY_URL: &str = "BOWLINE_EGRESS_PROXY_URL";

#[tokio::test]
async fn requests_go_through_the_proxy_to_the_checked_address() {
    let proxy = ConnectProxy::start().await;
    let stack = Stack::builder().set_dispatcher(PROXY_URL, &proxy.url()).start().await;
    let admin = stack.admin();
    let authority = Authority::new("bowline test servers");
    let (plain, secure) = (Receiver::start().await, Receiver::secure(authority.server(None)).await);
    let named = |receiver: &Receiver| receiver.url().replace("127.0.0.1", "localhost");
    let (by_name, _) = admin.endpoint(admin::endpoint(named(&plain))).await;
    let tls = v1::EndpointTls { ca_certificates: authority.pem(), ..Default::default() };
    let (over_tls, _) =
        admin.endpoint(v1::Endpoint { tls: Some(tls), ..admin::endpoint(named(&secure)) }).await;
    let event = admin.publish("order.created").await;
    for endpoint in [&by_name, &over_tls] {
        admin.await_delivery(&event, endpoint, DeliveryState::Delivered).await;
    }
    let mut asked = proxy.asked();
    asked.sort();
    asked.dedup();
    let mut expected = [plain.address().to_string(), secure.address().to_string()];
    expected.sort();
    assert_eq!(asked, expected, "addresses, and no names");
    assert!(!stack.logs().contains("proxy-pass"));
}

#[tokio::test]
async fn a_proxy_that_fails_counts_against_nobody() {
    let proxy = ConnectProxy::start().await;
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    // One attempt in all: what uses one up is dead.
    let endpoint = v1::Endpoint {
        retry: Some(v1::RetryPolicy { max_attempts: 1, ..Default::default() }),
        ..admin::endpoint(receiver.url())
    };
    let (id, _) = admin.endpoint(endpoint).await;
    let event = admin.publish("order.created").await;
    stack.add_dispatcher(&[(PROXY_URL, &proxy.url_without_credentials())]).await;
    admin.await_attempts(&event, &id, 1).await;
    let waiting = admin.await_delivery(&event, &id, DeliveryState::Waiting).await;
    let attempt = &waiting.attempts[0];
    assert_eq!((attempt.error_kind.as_str(), attempt.kind()), ("proxy", AttemptKind::Refused), "{waiting:?}");
    assert_eq!((attempt.decision(), waiting.state()), (AttemptDecision::Retry, DeliveryState::Waiting));
    assert!(attempt.error_message.contains("407") && attempt.error_message.contains("egress.proxy_url"));
    assert_eq!(waiting.attempt_count, 0);

    for (fault, kind, says) in [
        (Tunnel::Close, "proxy_refused", "broke off"),
        (Tunnel::Refuse(501), "proxy", "501"),
        (Tunnel::Refuse(403), "proxy_refused", "its rules do not allow"),
        (Tunnel::Refuse(500), "proxy_refused", "500"),
    ] {
        proxy.set(fault);
        admin.deliveries().retry_delivery(v1::RetryDeliveryRequest { id: waiting.id.clone() }).await.unwrap();
        let seen = eventually(BOUND, async || {
            let seen = admin.delivery(&event, &id).await.map_err(|status| status.to_string())?;
            let last = seen.attempts.last().cloned().unwrap_or_default();
            let told = last.error_kind == kind
                && last.error_message.contains(says)
                && seen.state() == DeliveryState::Waiting;
            holds(told, seen).map_err(|seen| format!("{seen:?}"))
        })
        .await;
        assert_eq!(seen.attempt_count, 0, "{fault:?}: {seen:?}");
    }
    assert_eq!(stack.database.count("SELECT count(*) FROM endpoint_health WHERE failures > 0").await, 0);
    assert_eq!(receiver.count(), 0);

    // The way is open again: the one attempt there is was kept.
    stack.dispatchers[0].terminate(BOUND).await;
    proxy.set(Tunnel::Open);
    stack.add_dispatcher(&[(PROXY_URL, &proxy.url())]).await;
    admin.deliveries().retry_delivery(v1::RetryDeliveryRequest { id: waiting.id.clone() }).await.unwrap();
    let delivered = admin.await_delivery(&event, &id, DeliveryState::Delivered).await;
    assert_eq!(delivered.attempt_count, 1, "{delivered:?}");
}

#[tokio::test]
async fn a_receiver_that_the_proxy_refuses_is_asked_for_by_single_probes() {
    const EVENTS: i64 = 40;
    let proxy = ConnectProxy::start().await;
    let stack = Stack::builder().set_dispatcher(PROXY_URL, &proxy.url()).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint { concurrency: 2, ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(endpoint).await;
    proxy.set(Tunnel::Refuse(403));
    let ids = admin.publish_many("order.created", EVENTS as usize).await;
    let asked = "SELECT count(*) FROM attempts WHERE error_kind = 'proxy_refused'";
    let asked = eventually(BOUND, async || {
        let waiting = stack.database.count("SELECT count(*) FROM queue").await;
        let asked = stack.database.count(asked).await;
        holds(waiting == EVENTS && asked >= 5, (waiting, asked)).map(|(_, asked)| asked)
    })
    .await;
    // Five open its breaker, and another may be out by then.
    assert!(asked < 20, "{asked} of {EVENTS} have asked");
    assert_eq!(stack.database.count("SELECT count(*) FROM endpoint_health WHERE failures > 0").await, 0);

    // Its rules were changed: nobody has to do anything else.
    proxy.set(Tunnel::Open);
    receiver.await_ids(&ids, BOUND).await;
    for event in &ids {
        let delivery = admin.await_delivery(event, &id, DeliveryState::Delivered).await;
        assert_eq!(delivery.attempt_count, 1, "{delivery:?}");
    }
}

#[tokio::test]
async fn what_the_proxy_does_to_one_receiver_holds_up_no_other() {
    const EVENTS: usize = 30;
    for (fault, says) in [
        (Tunnel::Refuse(403), "its rules do not allow"),
        (Tunnel::Close, "broke off"),
        (Tunnel::Garbage, "does not speak HTTP"),
    ] {
        let proxy = ConnectProxy::start().await;
        let stack = Stack::builder().set_dispatcher(PROXY_URL, &proxy.url()).start().await;
        let admin = stack.admin();
        let (shut, open) = (Receiver::start().await, Receiver::start().await);
        proxy.set_for(shut.address(), fault);
        let one_try = v1::RetryPolicy { max_attempts: 1, ..Default::default() };
        let made = |receiver: &Receiver| v1::Endpoint {
            retry: Some(one_try.clone()),
            ..admin::endpoint(receiver.url())
        };
        let (waits, _) = admin.endpoint(made(&shut)).await;
        let (goes, _) = admin.endpoint(made(&open)).await;
        let ids = admin.publish_many("order.created", EVENTS).await;
        for event in &ids {
            // One attempt is all there is: it was made, and reached its receiver.
            let delivery = admin.await_delivery(event, &goes, DeliveryState::Delivered).await;
            assert_eq!(delivery.attempts.len(), 1, "{fault:?}: {delivery:?}");
        }
        let asked = "SELECT count(*) FROM attempts WHERE error_kind = 'proxy_refused'";
        eventually(BOUND, async || {
            let waiting = stack.database.count("SELECT count(*) FROM queue").await;
            let asked = stack.database.count(asked).await;
            holds(waiting == EVENTS as i64 && asked > 0, (waiting, asked))
        })
        .await;
        let of_proxy = "SELECT count(*) FROM attempts WHERE error_kind = 'proxy'";
        assert_eq!(stack.database.count(of_proxy).await, 0, "{fault:?} is no fault for all");
        let told = "SELECT count(*) FROM attempts WHERE error_message LIKE '%' || $1 || '%'";
        let told: i64 = stack.database.sql().query_one(told, &[&says]).await.unwrap().get(0);
        assert!(told > 0, "{fault:?}: nothing says `{says}`");
        assert_eq!((shut.count(), open.count()), (0, EVENTS), "{fault:?}");

        proxy.set_for(shut.address(), Tunnel::Open);
        for event in &ids {
            let delivery = admin.await_delivery(event, &waits, DeliveryState::Delivered).await;
            assert_eq!(delivery.attempt_count, 1, "{fault:?}: {delivery:?}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_the_proxy_cannot_reach_has_failed() {
    let proxy = ConnectProxy::start().await;
    let stack = Stack::builder().set_dispatcher(PROXY_URL, &proxy.url()).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (id, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    proxy.set(Tunnel::Refuse(502));
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &id, DeliveryState::Dead).await;
    assert_eq!((dead.last_error_kind.as_str(), dead.attempt_count), ("connect", 3), "{dead:?}");
    assert!(dead.attempts[0].error_message.contains("could not connect to the receiver (502)"));
}

#[tokio::test]
async fn what_is_private_is_refused_before_the_proxy_is_asked() {
    let proxy = ConnectProxy::start().await;
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (id, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let event = admin.publish("order.created").await;
    let settings = [(PROXY_URL, proxy.url()), ("BOWLINE_EGRESS_ALLOW_CIDRS", String::new())];
    stack.add_dispatcher(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let dead = admin.await_delivery(&event, &id, DeliveryState::Dead).await;
    assert_eq!(dead.last_error_kind, "egress_refused");
    assert_eq!(proxy.asked(), Vec::<String>::new());
}
