//! Nothing is sent to an address that is not the internet's, unless configured.

use bowline_proto::v1::{self, AttemptKind, DeadReason, DeliveryState};
use bowline_tests::{Receiver, Stack, admin, http, service};
use serde_json::json;
use tonic::Code;

use super::presets::TOKEN;
use super::sources_over_http::custom;

const CIDRS: &str = "BOWLINE_EGRESS_ALLOW_CIDRS";

/// An address that is open in the tests, as it hides in IPv6. Each of these leads there by way of somebody's gateway,
/// which is not the open socket.
static HIDDEN_LOOPBACK: [(&str, &str); 5] = [
    // RFC 4380: the server, which is public, and the client, every bit turned.
    ("teredo", "2001:0:101:101:0:fff8:80ff:fffe"),
    ("6to4", "2002:7f00:1::1"),
    ("nat64", "64:ff9b::7f00:1"),
    ("translated", "::ffff:0:7f00:1"),
    ("compatible", "::7f00:1"),
];
/// A private address that is not, in the one form that is the socket itself, and where Teredo's server is the private one.
static HIDDEN_PRIVATE: [(&str, &str); 2] =
    [("mapped", "::ffff:10.0.0.1"), ("teredo-server", "2001:0:a00:1:0:fff8:fefe:fefe")];

#[tokio::test]
async fn a_private_address_is_a_dead_letter_at_once() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    // The service that takes the endpoint may send to loopback; the dispatcher may not.
    let port = receiver.address().port();
    let (literal, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let named = admin::endpoint(format!("http://localhost:{port}/hook"));
    let named = match admin
        .endpoints()
        .create_endpoint(v1::CreateEndpointRequest { endpoint: Some(named), ..Default::default() })
        .await
    {
        Ok(created) => created.into_inner().endpoint.map(|endpoint| endpoint.id),
        // A name that is private by definition may be refused from the start.
        Err(status) => {
            assert_eq!(status.code(), Code::InvalidArgument);
            None
        }
    };
    stack.add_dispatcher(&[("BOWLINE_EGRESS_ALLOW_CIDRS", "")]).await;
    let event = admin.publish("order.created").await;
    for endpoint in std::iter::once(literal).chain(named) {
        let dead = admin.await_delivery(&event, &endpoint, DeliveryState::Dead).await;
        assert_eq!(dead.dead_reason(), DeadReason::EgressRefused);
        assert_eq!((dead.attempt_count, dead.attempts.len()), (0, 1), "no request, one decision");
        assert_eq!(dead.attempts[0].kind(), AttemptKind::Refused);
        assert_eq!(dead.last_error_kind, "egress_refused");
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn an_endpoint_at_a_private_address_is_refused_when_it_is_made() {
    let stack = Stack::builder().dispatchers(0).set("BOWLINE_EGRESS_ALLOW_CIDRS", "").start().await;
    let admin = stack.admin();
    for url in [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:192.168.0.1]/",
        "https://100.64.0.1/",
        "https://[64:ff9b::a00:1]/",
        "https://[2002:a00:1::]/",
        "https://[2001:0:101:101:0:fff8:f5ff:fffe]/",
        "https://[2001:0:a00:1:0:fff8:fefe:fefe]/",
        "https://[::ffff:0:a00:1]/",
        "https://[64:ff9b:1::a00:1]/",
        "https://user:pass@example.com/",
        "ftp://example.com/",
        "not a url",
    ] {
        let request =
            v1::CreateEndpointRequest { endpoint: Some(admin::endpoint(url)), ..Default::default() };
        let refused = admin.endpoints().create_endpoint(request).await.expect_err(url);
        assert_eq!(refused.code(), Code::InvalidArgument, "{url}");
        assert_eq!(admin::violations(&refused), ["endpoint.url"], "{url}");
    }
}

/// What became of a delivery that was refused before it left; in words.
async fn refused(admin: &admin::Admin, event: &str, endpoint: &str) -> String {
    let dead = admin.await_delivery(event, endpoint, DeliveryState::Dead).await;
    assert_eq!(dead.dead_reason(), DeadReason::EgressRefused, "{dead:?}");
    assert_eq!((dead.attempt_count, dead.attempts.len()), (0, 1), "{dead:?}");
    assert_eq!(dead.attempts[0].kind(), AttemptKind::Refused, "{dead:?}");
    assert_eq!(dead.last_error_kind, "egress_refused", "{dead:?}");
    dead.attempts[0].error_message.clone()
}

#[tokio::test]
async fn an_address_that_hides_in_another_is_found_out_in_a_url() {
    // Who takes the endpoint lets all of it pass; who sends does not.
    let lets_pass = "127.0.0.0/8,10.0.0.0/8,2001::/32,2002::/16,64:ff9b::/96,::ffff:0:0:0/96,::/96";
    let stack = Stack::builder().set_ingest(CIDRS, lets_pass).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let port = receiver.address().port();
    let (control, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let mut hidden = Vec::new();
    for (form, address) in HIDDEN_LOOPBACK.iter().chain(&HIDDEN_PRIVATE) {
        let (id, _) = admin.endpoint(admin::endpoint(format!("http://[{address}]:{port}/hook"))).await;
        hidden.push((form, id));
    }
    let event = admin.publish("order.created").await;
    for (form, endpoint) in &hidden {
        let words = refused(&admin, &event, endpoint).await;
        assert!(words.contains("loopback") || words.contains("private"), "{form}: {words}");
    }
    admin.await_delivery(&event, &control, DeliveryState::Delivered).await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn an_address_that_hides_in_another_is_found_out_behind_a_name() {
    if !service::can_have_own_hosts() {
        return;
    }
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let port = receiver.address().port();
    // The last has a good address too: which one is taken must not be a matter of luck.
    let mut hosts = "127.0.0.1 localhost\n127.0.0.1 open.test\n127.0.0.1 both.test\n".to_owned();
    hosts += "2002:a00:1::1 both.test\n";
    let mut names = vec!["both".to_owned()];
    for (form, address) in HIDDEN_LOOPBACK.iter().chain(&HIDDEN_PRIVATE) {
        hosts += &format!("{address} {form}.test\n");
        names.push((*form).to_owned());
    }
    let at = |name: &str| admin::endpoint(format!("http://{name}.test:{port}/hook"));
    let (control, _) = admin.endpoint(at("open")).await;
    let mut hidden = Vec::new();
    for name in names {
        let (id, _) = admin.endpoint(at(&name)).await;
        hidden.push((name, id));
    }
    stack.add_dispatcher_with_hosts(&hosts).await;
    let event = admin.publish("order.created").await;
    admin.await_delivery(&event, &control, DeliveryState::Delivered).await;
    for (name, endpoint) in &hidden {
        let words = refused(&admin, &event, endpoint).await;
        assert!(words.contains(&format!("{name}.test")), "{words}");
        assert!(words.contains("loopback") || words.contains("private"), "{name}: {words}");
    }
    assert_eq!(receiver.count(), 1, "the control's");
}

#[tokio::test]
async fn keys_at_a_private_address_are_not_fetched() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let server = Receiver::start().await;
    let port = server.address().port();
    // The first ingest takes the sources; the second may send nothing to this machine.
    stack.add_ingest(&[(CIDRS, "")]).await;
    let bearer = vec![("authorization".to_owned(), format!("Bearer {TOKEN}"))];
    for url in [format!("http://127.0.0.1:{port}/keys"), format!("http://localhost:{port}/keys")] {
        let scheme = json!({
            "algorithm": "jwt", "body_bound": false,
            "signature": {"sources": ["header:authorization"], "prefix": "Bearer "},
            "jwt": {"algorithms": ["EdDSA"], "issuer": "provider.test"},
            "key_source": {"kind": "jwks", "url": url},
        });
        let source = stack.admin().source_like(custom(scheme), "").await.id;
        let answer = http::post(&format!("{}/in/{source}", stack.ingests[1].http_url()), &bearer, "{}").await;
        // The provider is asked to try again; the operator is told why.
        assert_eq!(answer.unwrap().refused(503), "keys_unavailable", "{url}");
    }
    assert_eq!(server.count(), 0);
    let log = stack.ingests[1].log();
    for host in ["127.0.0.1", "localhost"] {
        let why = format!("host `{host}` is refused");
        assert!(log.contains(&why), "{why}: {log}");
    }
}
