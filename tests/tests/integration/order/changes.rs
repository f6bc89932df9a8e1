//! Ordered endpoints that are made and changed while events come.

use bowline_proto::v1::EndpointOrdering;
use prost_types::FieldMask;

use super::*;

async fn set_ordering(admin: &Admin, id: &str, ordering: EndpointOrdering) {
    let endpoint = v1::Endpoint { id: id.to_owned(), ordering: ordering.into(), ..Default::default() };
    let request = v1::UpdateEndpointRequest {
        endpoint: Some(endpoint),
        update_mask: Some(FieldMask { paths: vec!["ordering".into()] }),
    };
    admin.endpoints().update_endpoint(request).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_does_not_know_an_endpoint_yet_learns_of_it_before_it_commits() {
    let stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    let admins = admins(&stack);
    // Each is published to at the other replica, as soon as it is there.
    for round in 1..=10 {
        let endpoint = v1::Endpoint {
            event_types: vec!["order.changed".into()],
            ..ordered(&receiver, EndpointOrdering::PerChannel)
        };
        admins[0].endpoint(endpoint).await;
        publish(&admins[1], "a").await;
        let placed = stack.database.count("SELECT count(*) FROM queue WHERE seq IS NOT NULL").await;
        assert_eq!(placed, (1..=round).sum::<i64>(), "each endpoint that is there has its delivery");
    }
    let named = "SELECT count(*) FROM outbox WHERE cardinality(ordered) > 0";
    assert_eq!(stack.database.count(named).await, 10);
}

#[tokio::test]
async fn endpoints_made_while_events_come_have_every_later_event_in_order() {
    let stack = Stack::builder().ingests(2).dispatchers(2).start().await;
    let admins = admins(&stack);
    let mut made = Vec::new();
    let mut channels: HashMap<String, Vec<String>> = HashMap::new();
    for round in 0..4 {
        let receiver = Receiver::start().await;
        let ordering = [EndpointOrdering::PerChannel, EndpointOrdering::Strict][round % 2];
        let endpoint = ordered(&receiver, ordering);
        let (_, sent) = tokio::join!(
            admins[round % admins.len()].endpoint(endpoint),
            publish_to(&admins, &["a", "b", "c"], 6)
        );
        // Those of one round are accepted before those of the next are sent.
        for (channel, ids) in sent {
            channels.entry(channel).or_default().extend(ids);
        }
        made.push((receiver, channels["a"].len()));
    }
    stack.await_quiet().await;
    for (receiver, before) in &made {
        assert_eq!(receiver.count(), receiver.ids().len(), "each once");
        for ids in channels.values() {
            // Of those that were sent while the endpoint was made some may be its; from then on, all are.
            let seen = arrived(receiver, ids);
            let from = ids.len() - seen.len();
            assert_eq!(seen, ids[from..], "behind the first of them none is missing");
            assert!(from <= *before, "{from} of {before}");
        }
    }
}

#[tokio::test]
async fn an_order_that_is_changed_loses_nothing_and_holds_from_then_on() {
    let stack = Stack::builder().ingests(2).dispatchers(2).start().await;
    let admins = admins(&stack);
    let receiver = Receiver::scripted(failing(5, 60)).await;
    let (endpoint, _) = admins[0].endpoint(ordered(&receiver, EndpointOrdering::Unspecified)).await;
    let mut all = 0;
    for ordering in [
        EndpointOrdering::PerChannel,
        EndpointOrdering::Unspecified,
        EndpointOrdering::Strict,
        EndpointOrdering::PerChannel,
        EndpointOrdering::Unspecified,
    ] {
        set_ordering(&admins[0], &endpoint, ordering).await;
        let sent = publish_to(&admins, &["a", "b"], 12).await;
        all += 24;
        if ordering != EndpointOrdering::Unspecified {
            stack.await_quiet().await;
            assert_in_order(&receiver, &sent);
        }
    }
    stack.await_quiet().await;
    assert_eq!(receiver.ids().len(), all);
    let delivered = "SELECT count(*) FROM attempts WHERE decision = 'delivered'";
    assert_eq!(stack.database.count(delivered).await, all as i64, "each once");
}
