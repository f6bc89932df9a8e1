//! Nothing is sent to an address that is not the internet's, unless configured.

use bowline_proto::v1::{self, AttemptKind, DeadReason, DeliveryState};
use bowline_tests::{Receiver, Stack, admin};
use tonic::Code;

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
