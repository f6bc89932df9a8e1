//! Ordered endpoints that are made and changed while events come.

use bowline_core::id::DEFAULT_TENANT;
use bowline_proto::v1::EndpointOrdering;
use bowline_tests::http;
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

async fn set_strict(admin: &Admin, strict: bool) {
    let id = DEFAULT_TENANT.to_string();
    let request = v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant { id, strict_event_catalog: strict, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["strict_event_catalog".into()] }),
    };
    admin.tenants().update_tenant(request).await.unwrap();
}

#[tokio::test]
async fn a_writer_learns_what_a_strict_catalog_has_before_it_commits() {
    let stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    let receiver = Receiver::start().await;
    let admin = stack.admin();
    admin.endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let source = v1::Source { insecure: true, event_type: "order.changed".into(), ..Default::default() };
    let source = admin.source_like(source, "").await.id;
    let url = format!("{}/in/{source}", stack.ingests[1].http_url());
    let mut wanted = 0;
    // Each change is made at one replica, and comes to the other no sooner than the event.
    let mut comes = async |is_known: bool| {
        http::post(&url, &Vec::new(), "{}").await.unwrap().accepted();
        wanted += i64::from(is_known);
        let placed = stack.database.count("SELECT count(*) FROM queue WHERE seq IS NOT NULL").await;
        assert_eq!(placed, wanted, "a place for what the catalog has, and for nothing else");
    };
    comes(true).await;
    for _ in 0..4 {
        set_strict(&admin, true).await;
        comes(false).await;
        let event_type = v1::EventType { name: "order.changed".into(), ..Default::default() };
        let request = v1::CreateEventTypeRequest { event_type: Some(event_type), ..Default::default() };
        let made = admin.event_types().create_event_type(request).await.unwrap().into_inner();
        comes(true).await;
        let id = made.event_type.unwrap().id;
        let request = v1::DeleteEventTypeRequest { id, ..Default::default() };
        admin.event_types().delete_event_type(request).await.unwrap();
        comes(false).await;
        set_strict(&admin, false).await;
        comes(true).await;
    }
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

#[tokio::test]
async fn only_what_places_are_given_away_by_makes_writers_look_again() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let version = async || stack.database.count("SELECT ordered_version FROM config_state").await;
    let receiver = Receiver::start().await;
    let (id, _) = admin.endpoint(ordered(&receiver, EndpointOrdering::PerChannel)).await;
    let (plain, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let update = async |id: &str, field: &str, endpoint: v1::Endpoint| {
        let request = v1::UpdateEndpointRequest {
            endpoint: Some(v1::Endpoint { id: id.to_owned(), ..endpoint }),
            update_mask: Some(FieldMask { paths: vec![field.into()] }),
        };
        let before = version().await;
        admin.endpoints().update_endpoint(request).await.unwrap();
        version().await > before
    };
    let changed = || v1::Endpoint {
        url: receiver.url().replace("/hook", "/elsewhere"),
        display_name: "Shop".into(),
        retry: Some(v1::RetryPolicy { max_attempts: 3, ..Default::default() }),
        concurrency: 3,
        event_types: vec!["order.*".into()],
        channels: vec!["a".into(), "b".into()],
        ordering: EndpointOrdering::Strict.into(),
        ..Default::default()
    };
    for field in ["url", "display_name", "retry", "concurrency"] {
        assert!(!update(&id, field, changed()).await, "{field}");
    }
    for field in ["event_types", "channels", "ordering"] {
        assert!(update(&id, field, changed()).await, "{field}");
        assert!(!update(&id, field, changed()).await, "{field} again is no change");
    }
    // Where there is no order, nobody has places to give away.
    for field in ["url", "event_types", "channels"] {
        assert!(!update(&plain, field, changed()).await, "{field} without order");
    }
    assert!(update(&plain, "ordering", changed()).await);
    for id in [&id, &plain] {
        let before = version().await;
        admin.set_state(id, v1::EndpointState::Paused).await;
        assert_eq!(version().await, before, "what is paused keeps its places");
        let request = v1::DeleteEndpointRequest { id: id.clone(), ..Default::default() };
        admin.endpoints().delete_endpoint(request).await.unwrap();
        assert!(version().await > before, "deleted");
    }
}
