//! Which events an endpoint gets: filters, freshness, pauses, deletion.

use std::time::Duration;

use bowline_proto::v1::event_service_client::EventServiceClient;
use bowline_proto::v1::{self, DeliveryState, EndpointState};
use bowline_tests::admin::{self, Admin};
use bowline_tests::{BOUND, Cli, Provider, Receiver, Reply, Stack};
use tonic::Code;
use tonic::codegen::Service;

#[tokio::test]
async fn types_and_channels_choose() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let subscribe = async |types: &[&str], channels: &[&str]| {
        let receiver = Receiver::start().await;
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let endpoint = v1::Endpoint {
            event_types: owned(types),
            channels: owned(channels),
            ..admin::endpoint(receiver.url())
        };
        admin.endpoint(endpoint).await;
        receiver
    };
    let all = subscribe(&["*"], &[]).await;
    let unfiltered = subscribe(&[], &[]).await;
    let orders = subscribe(&["order.*"], &[]).await;
    let exact = subscribe(&["order.created", "user.deleted"], &[]).await;
    let of_bot = subscribe(&["*"], &["bot-1"]).await;

    let publish = async |event_type: &str, channel: &str| {
        let event = v1::PublishEventRequest {
            event_type: event_type.into(),
            channel: channel.into(),
            body: "{}".into(),
            ..Default::default()
        };
        admin.events().publish_event(event).await.unwrap().into_inner().event_id
    };
    let created = publish("order.created", "").await;
    let paid = publish("order.paid", "bot-1").await;
    let other = publish("orders.created", "bot-2").await;
    let every = [created.clone(), paid.clone(), other.clone()];
    all.await_ids(&every, BOUND).await;
    unfiltered.await_ids(&every, BOUND).await;
    orders.await_ids(&[created.clone(), paid.clone()], BOUND).await;
    exact.await_ids(std::slice::from_ref(&created), BOUND).await;
    of_bot.await_ids(std::slice::from_ref(&paid), BOUND).await;
    stack.await_quiet().await;
    let counts = [&all, &unfiltered, &orders, &exact, &of_bot].map(Receiver::count);
    assert_eq!(counts, [3, 3, 2, 1, 1]);
}

#[tokio::test]
async fn an_endpoint_gets_no_event_from_before_it_was_made() {
    // Nobody matches before the endpoint is there: the dispatcher starts last.
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let old = Receiver::start().await;
    admin.endpoint(admin::endpoint(old.url())).await;
    let before = admin.publish("order.created").await;
    let new = Receiver::start().await;
    let (id, _) = admin.endpoint(admin::endpoint(new.url())).await;
    let after = admin.publish("order.created").await;
    stack.add_dispatcher(&[]).await;
    old.await_ids(&[before.clone(), after.clone()], BOUND).await;
    new.await_ids(std::slice::from_ref(&after), BOUND).await;
    stack.await_quiet().await;
    assert_eq!(new.ids(), [after]);
    let unmatched = admin.delivery(&before, &id).await;
    assert!(
        matches!(&unmatched, Ok(delivery) if delivery.state() == DeliveryState::Unmatched),
        "{unmatched:?}"
    );
}

#[tokio::test]
async fn an_event_that_follows_a_new_endpoint_at_once_reaches_it() {
    let stack = Stack::builder().ingests(2).dispatchers(2).start().await;
    let services = || stack.ingests.iter().chain(&stack.dispatchers);
    let provider = Provider::create(&stack).await;
    for (round, service) in services().chain(services()).enumerate() {
        let receiver = Receiver::start().await;
        let admin = admin::Admin::new(&service.admin_url(), Some(admin::KEY));
        let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
        let event = provider.push(&format!("round-{round}")).await.accepted();
        receiver.await_ids(&[event], BOUND).await;
        let delete = v1::DeleteEndpointRequest { id: endpoint, ..Default::default() };
        admin.endpoints().delete_endpoint(delete).await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_endpoint_keeps_its_backlog() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (receiver, witness) = (Receiver::start().await, Receiver::start().await);
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    admin.endpoint(admin::endpoint(witness.url())).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let ids = admin.publish_many("order.created", 20).await;
    witness.await_ids(&ids, BOUND).await;
    for id in &ids {
        admin.await_delivery(id, &endpoint, DeliveryState::Waiting).await;
    }
    assert_eq!(receiver.count(), 0);
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    receiver.await_ids(&ids, BOUND).await;
    stack.await_quiet().await;
    assert_eq!((receiver.count(), witness.count()), (20, 20));
}

#[tokio::test]
async fn deletion_cancels_what_waits_and_nothing_more_is_sent() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::Status(500));
    let endpoint = admin::with_waits(receiver.url(), &[Duration::from_secs(3600)]);
    let (endpoint, _) = admin.endpoint(endpoint).await;
    let event = admin.publish("order.created").await;
    admin.await_attempts(&event, &endpoint, 1).await;
    let delete = v1::DeleteEndpointRequest { id: endpoint.clone(), ..Default::default() };
    let deleted = admin.endpoints().delete_endpoint(delete).await.unwrap().into_inner();
    assert_eq!(deleted.cancelled_count, 1);
    admin.await_delivery(&event, &endpoint, DeliveryState::Cancelled).await;
    let get = v1::GetEndpointRequest { id: endpoint };
    assert_eq!(admin.endpoints().get_endpoint(get).await.unwrap_err().code(), Code::NotFound);
    admin.publish("order.created").await;
    stack.await_quiet().await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn what_waits_follows_a_changed_url() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let (endpoint, _) = admin.endpoint(admin::endpoint(old.url())).await;
    admin.set_state(&endpoint, EndpointState::Paused).await;
    let event = admin.publish("order.created").await;
    admin.await_delivery(&event, &endpoint, DeliveryState::Waiting).await;
    let update = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint { id: endpoint.clone(), url: new.url(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["url".into()] }),
    };
    admin.endpoints().update_endpoint(update).await.unwrap();
    admin.set_state(&endpoint, EndpointState::Enabled).await;
    new.await_ids(&[event], BOUND).await;
    assert_eq!(old.count(), 0);
}

#[tokio::test]
async fn an_event_nobody_wants_is_settled_at_once_and_shown_as_such() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let wants = |kind: &str| v1::Endpoint {
        event_types: vec![kind.to_owned()],
        filter: "event.data.hello == 'nobody'".into(),
        ..admin::endpoint(receiver.url())
    };
    admin.endpoint(wants("order.created")).await;
    admin.endpoint(v1::Endpoint { filter: String::new(), ..wants("order.paid") }).await;
    let by_filter = admin.publish("order.created").await;
    let by_type = admin.publish("order.deleted").await;
    let wanted = admin.publish("order.paid").await;
    stack.await_quiet().await;
    let flag = async |id: &str| {
        let request = v1::GetEventRequest { id: id.to_owned() };
        admin.events().get_event(request).await.unwrap().into_inner().event.unwrap().flag()
    };
    for (id, is) in [
        (&by_filter, v1::EventFlag::Unmatched),
        (&by_type, v1::EventFlag::Unmatched),
        (&wanted, v1::EventFlag::Unspecified),
    ] {
        assert_eq!(flag(id).await, is);
    }
    let page = admin.events().list_events(v1::ListEventsRequest::default()).await.unwrap().into_inner();
    let shown: Vec<_> = page.events.iter().map(|event| (&event.id, event.flag())).collect();
    let flags = [v1::EventFlag::Unspecified, v1::EventFlag::Unmatched, v1::EventFlag::Unmatched];
    assert_eq!(shown, [&wanted, &by_type, &by_filter].into_iter().zip(flags).collect::<Vec<_>>());
    let cli = Cli::new(&stack.ingests[0].admin_url());
    assert_eq!(cli.json(&["event", "get", by_type.as_str()]).await["flag"], "unmatched");

    // One that is still on its way is neither.
    let mut paused = Stack::builder().dispatchers(0).start().await;
    let id = paused.admin().publish("order.created").await;
    let get = async |admin: &Admin| {
        let request = v1::GetEventRequest { id: id.clone() };
        admin.events().get_event(request).await.unwrap().into_inner().event.unwrap().flag()
    };
    assert_eq!(get(&paused.admin()).await, v1::EventFlag::Unspecified);
    paused.add_dispatcher(&[]).await;
    paused.await_quiet().await;
    assert_eq!(get(&paused.admin()).await, v1::EventFlag::Unmatched);
}

#[tokio::test]
async fn a_page_of_large_endpoints_ends_before_a_client_refuses_it() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let mut made = Vec::new();
    for _ in 0..40 {
        let headers = (0..32).map(|number| (format!("x-padding-{number}"), "x".repeat(4096))).collect();
        let large = v1::Endpoint { headers, ..admin::endpoint("https://hooks.example.com/in") };
        made.push(admin.endpoint(large).await.0);
    }
    let (mut seen, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = v1::ListEndpointsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = admin.endpoints().list_endpoints(request).await.unwrap().into_inner();
        seen.extend(page.endpoints.into_iter().map(|endpoint| endpoint.id));
        (pages, page_token) = (pages + 1, page.next_page_token);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), (made, 2), "5 MiB in pages of 3");
}

/// Sends what a client writes to another method.
#[derive(Clone)]
struct Misdirected<S>(S);

impl<S> Service<http::Request<tonic::body::Body>> for Misdirected<S>
where
    S: Service<http::Request<tonic::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> S::Future {
        let uri =
            request.uri().to_string().replace("EventService/PublishEvent", "EndpointService/CreateEndpoint");
        *request.uri_mut() = uri.parse().unwrap();
        self.0.call(request)
    }
}

#[tokio::test]
async fn a_message_that_is_none_of_its_method_is_the_callers_mistake() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let mut client = EventServiceClient::new(Misdirected(stack.admin().channel()));
    let message = v1::PublishEventRequest {
        event_type: "order.created".into(),
        body: b"{}".as_slice().into(),
        ..Default::default()
    };
    let refused = client.publish_event(message).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().starts_with("failed to decode Protobuf message"), "{refused:?}");
}
