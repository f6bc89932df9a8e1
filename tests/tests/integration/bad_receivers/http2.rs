//! Over HTTP/2: what a receiver says that it did not process goes again by itself, and nothing else does.

use bowline_proto::v1::{self, DeliveryState};
use bowline_tests::admin::Admin;
use bowline_tests::raw::Http2Reply;
use bowline_tests::{Authority, RawReceiver, Stack, admin};

use super::{Case, attempted};

fn trusting(authority: &Authority) -> Option<v1::EndpointTls> {
    Some(v1::EndpointTls { ca_certificates: authority.pem(), ..Default::default() })
}

async fn delivered(admin: &Admin, endpoint: &str) -> v1::Delivery {
    let event = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&event, endpoint, DeliveryState::Delivered).await;
    assert_eq!((delivery.attempts.len(), delivery.attempt_count), (1, 1), "{delivery:?}");
    delivery
}

#[tokio::test]
async fn an_unprocessed_request_goes_again_within_its_attempt() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let authority = Authority::new("bowline test servers");
    for (what, first, connections) in
        [("refused", Http2Reply::Refused, 1), ("the connection takes no more", Http2Reply::GoAway, 2)]
    {
        let reply = move |connection, request| match (connection, request) {
            (0, 0) => first.clone(),
            _ => Http2Reply::Ok,
        };
        let receiver = RawReceiver::http2(authority.server(None), reply).await;
        let endpoint = v1::Endpoint { tls: trusting(&authority), ..admin::endpoint(receiver.url()) };
        let (id, _) = admin.endpoint(endpoint).await;
        delivered(&admin, &id).await;
        assert_eq!((receiver.count(), receiver.connections()), (2, connections), "{what}");
        admin.set_state(&id, v1::EndpointState::Disabled).await;
    }
}

#[tokio::test]
async fn after_a_goaway_the_next_request_has_a_connection_of_its_own() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let authority = Authority::new("bowline test servers");
    let receiver = RawReceiver::http2(authority.server(None), |_, _| Http2Reply::OkAndGoAway).await;
    let endpoint = v1::Endpoint { tls: trusting(&authority), ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(endpoint).await;
    for round in 1..=3 {
        delivered(&admin, &id).await;
        assert_eq!((receiver.count(), receiver.connections()), (round, round));
    }
}

#[tokio::test]
async fn what_may_have_been_processed_is_a_failure() {
    let stack = Stack::start().await;
    let authority = Authority::new("bowline test servers");
    let always =
        async |reply: Http2Reply| RawReceiver::http2(authority.server(None), move |_, _| reply.clone()).await;
    let refusing = always(Http2Reply::Refused).await;
    let broken = always(Http2Reply::InternalError).await;
    let flood = always(Http2Reply::HeaderFlood).await;
    let hinted = always(Http2Reply::OkAfterHints).await;
    let cases = [
        Case::failed("refuses always", refusing.url(), "protocol", "refused"),
        Case::failed("breaks", broken.url(), "protocol", "internal"),
        Case::failed("a flood of headers", flood.url(), "protocol", ""),
        Case::delivered("100 and 103 before it", hinted.url()),
    ]
    .map(|case| Case { tls: trusting(&authority), ..case });
    attempted(&stack, &cases).await;
    assert_eq!(refusing.count(), 3, "twice more, and then no more");
    assert_eq!((broken.count(), flood.count(), hinted.count()), (1, 1, 1));
}
