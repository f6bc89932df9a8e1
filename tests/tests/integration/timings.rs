//! Where the time of an attempt went.

use std::time::Duration;

use bowline_proto::v1::{self, DeliveryState};
use bowline_tests::eventually::holds;
use bowline_tests::{Authority, BOUND, Receiver, Stack, admin, eventually};

#[tokio::test]
async fn an_attempt_says_what_its_steps_took() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let authority = Authority::new("bowline test servers");
    let receiver = Receiver::secure(authority.server(None)).await;
    let tls = v1::EndpointTls { ca_certificates: authority.pem(), ..Default::default() };
    let url = receiver.url().replace("127.0.0.1", "localhost");
    let (id, _) = admin.endpoint(v1::Endpoint { tls: Some(tls), ..admin::endpoint(url) }).await;
    let attempt = async || {
        let event = admin.publish("order.created").await;
        let delivery = admin.await_delivery(&event, &id, DeliveryState::Delivered).await;
        delivery.attempts[0].clone()
    };
    let first = attempt().await;
    let timings = first.timings.expect("timings of a request");
    let steps = [timings.dns, timings.connect, timings.tls, timings.first_byte];
    let steps = steps.map(|step| Duration::try_from(step.expect("every step")).unwrap());
    assert!(steps[..3].iter().sum::<Duration>() <= steps[3], "{steps:?}");
    let whole = Duration::try_from(first.duration.expect("how long it took")).unwrap();
    assert!(steps[3] <= whole, "{steps:?} of {whole:?}");

    // A connection is free again a moment after its answer was read to the end.
    let again = eventually(BOUND, async || {
        let again = attempt().await.timings.expect("timings of a request");
        holds((again.dns, again.connect, again.tls) == (None, None, None), again)
    })
    .await;
    assert!(again.first_byte.is_some());

    // One that goes nowhere says how far it came.
    let (closed, _) = admin.endpoint(admin::endpoint("http://localhost:1/")).await;
    let event = admin.publish("order.created").await;
    let dead = admin.await_delivery(&event, &closed, DeliveryState::Dead).await;
    let timings = dead.attempts[0].timings.expect("timings of a request");
    assert!(timings.dns.is_some() && timings.connect.is_none() && timings.first_byte.is_none());
}
