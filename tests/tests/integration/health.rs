//! The count of an endpoint's consecutive failures.

use std::time::Duration;

use bowline_proto::v1::{self, DeliveryState, EndpointState};
use bowline_tests::{BOUND, Receiver, Reply, Stack, admin, eventually};

#[tokio::test]
async fn a_success_between_failures_begins_the_count_anew() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([500, 500, 200, 500, 500, 200].map(Reply::Status)).await;
    let endpoint = v1::Endpoint {
        disable: Some(v1::DisablePolicy { after_failures: 3, ..Default::default() }),
        ..admin::with_waits(receiver.url(), &[Duration::ZERO; 9])
    };
    let (endpoint, _) = admin.endpoint(endpoint).await;
    // Four failures in all, and never three in a row.
    for round in 1..=2 {
        let event = admin.publish("order.created").await;
        admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
        assert_eq!(receiver.count(), 3 * round);
        // The count follows the record of the attempt in a transaction of its own.
        eventually(BOUND, async || {
            match stack.database.count("SELECT count(*) FROM endpoint_health").await {
                0 => Ok(()),
                left => Err(format!("{left} counts left")),
            }
        })
        .await;
    }
    assert_eq!(admin.get_endpoint(&endpoint).await.state(), EndpointState::Enabled);

    receiver.answer(Reply::Status(500));
    admin.publish("order.created").await;
    eventually(BOUND, async || {
        let seen = admin.get_endpoint(&endpoint).await;
        if seen.state() == EndpointState::Disabled { Ok(()) } else { Err(seen) }
    })
    .await;
}
