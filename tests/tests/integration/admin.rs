//! The gRPC admin API as an operator meets it.

use bowline_proto::v1;
use bowline_tests::admin::{self, Admin, KEY, reason, violations};
use bowline_tests::{BOUND, Receiver, Stack, sign};
use prost_types::FieldMask;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() })
}

#[tokio::test]
async fn nothing_is_told_without_a_key() {
    let stack = Stack::start().await;
    for service in stack.ingests.iter().chain(&stack.dispatchers) {
        for (key, why) in
            [(None, "KEY_MISSING"), (Some("bowline-test-bootstrap-key-012345678"), "KEY_INVALID")]
        {
            let stranger = Admin::new(&service.admin_url(), key);
            let refusals = [
                stranger.sources().list_sources(v1::ListSourcesRequest::default()).await.err(),
                stranger.endpoints().list_endpoints(v1::ListEndpointsRequest::default()).await.err(),
                stranger.events().publish_event(v1::PublishEventRequest::default()).await.err(),
                stranger.deliveries().list_deliveries(v1::ListDeliveriesRequest::default()).await.err(),
                stranger.dead_letters().list_dead_letters(v1::ListDeadLettersRequest::default()).await.err(),
            ];
            for refusal in refusals {
                let status = refusal.expect("a refusal");
                assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, why));
            }
        }
        let health = HealthClient::new(Admin::new(&service.admin_url(), None).channel())
            .check(HealthCheckRequest::default())
            .await
            .expect("health is open");
        assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    }
}

async fn reflected(admin: &Admin) -> Result<Vec<String>, tonic::Status> {
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let asked = Request::new(futures_util::stream::iter([ask]));
    let mut answers =
        ServerReflectionClient::new(admin.channel()).server_reflection_info(asked).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    match answer {
        Some(
            tonic_reflection::pb::v1::server_reflection_response::MessageResponse::ListServicesResponse(list),
        ) => Ok(list.service.into_iter().map(|service| service.name).collect()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reflection_needs_a_key_unless_it_is_open() {
    let mut stack = ingest_only().await;
    let services = reflected(&stack.admin()).await.unwrap();
    for name in ["SourceService", "EndpointService", "EventService", "DeliveryService", "DeadLetterService"] {
        assert!(services.contains(&format!("bowline.v1.{name}")), "{services:?}");
    }
    let stranger = Admin::new(&stack.ingests[0].admin_url(), None);
    assert_eq!(reflected(&stranger).await.unwrap_err().code(), Code::Unauthenticated);
    let open = stack.add_ingest(&[("BOWLINE_ADMIN_OPEN_REFLECTION", "true")]).await.admin_url();
    let stranger = Admin::new(&open, None);
    assert!(!reflected(&stranger).await.unwrap().is_empty());
    let list = stranger.sources().list_sources(v1::ListSourcesRequest::default()).await;
    assert_eq!(list.unwrap_err().code(), Code::Unauthenticated, "open reflection opens nothing else");
}

#[tokio::test]
async fn an_unknown_id_is_not_found_and_a_malformed_one_invalid() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let source = bowline_core::id::SourceId::new().to_string();
    let endpoint = bowline_core::id::EndpointId::new().to_string();
    let event = bowline_core::id::EventId::new().to_string();
    for (ids, code) in [
        ([source, endpoint.clone(), event.clone(), format!("{event}.{endpoint}.0")], Code::NotFound),
        (
            ["src_1", "ep_?", "src_01h2xcejqtf2nbrexx3vqjhp41", "evt_.ep_.0"].map(str::to_owned),
            Code::InvalidArgument,
        ),
    ] {
        let [source, endpoint, event, delivery] = ids;
        let mut sources = admin.sources();
        let mut endpoints = admin.endpoints();
        let update = v1::UpdateSourceRequest {
            source: Some(v1::Source { id: source.clone(), ..Default::default() }),
            update_mask: mask(&["display_name"]),
        };
        let rotate = v1::RotateEndpointSecretRequest { id: endpoint.clone(), ..Default::default() };
        let refusals = [
            sources.get_source(v1::GetSourceRequest { id: source.clone() }).await.err(),
            sources.update_source(update).await.err(),
            sources.delete_source(v1::DeleteSourceRequest { id: source, ..Default::default() }).await.err(),
            endpoints.get_endpoint(v1::GetEndpointRequest { id: endpoint.clone() }).await.err(),
            endpoints.rotate_endpoint_secret(rotate).await.err(),
            endpoints
                .delete_endpoint(v1::DeleteEndpointRequest { id: endpoint, ..Default::default() })
                .await
                .err(),
            admin.events().get_event(v1::GetEventRequest { id: event }).await.err(),
            admin.deliveries().get_delivery(v1::GetDeliveryRequest { id: delivery }).await.err(),
        ];
        for (number, refusal) in refusals.into_iter().enumerate() {
            assert_eq!(refusal.map(|status| status.code()), Some(code), "call {number}");
        }
    }
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let endpoint = v1::Endpoint {
        name: "Not A Slug".into(),
        url: "gopher://example.com".into(),
        format: "no-such-format".into(),
        event_types: vec!["order*".into()],
        timeout: Some(admin::duration(std::time::Duration::from_secs(3600))),
        concurrency: 100_000,
        headers: [("webhook-id".to_owned(), "mine".to_owned())].into(),
        ..Default::default()
    };
    let request = v1::CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() };
    let refused = admin.endpoints().create_endpoint(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
    let named = violations(&refused);
    for field in ["name", "url", "format", "event_types", "timeout", "concurrency"] {
        let path = format!("endpoint.{field}");
        assert!(named.iter().any(|named| named.starts_with(&path)), "{path} is not in {named:?}");
    }

    let source = v1::Source {
        name: "-".into(),
        preset: "no-such-preset".into(),
        path: "/in/other".into(),
        event_type: "bowline.secret".into(),
        body_limit_bytes: -1,
        ..Default::default()
    };
    let request = v1::CreateSourceRequest { source: Some(source), ..Default::default() };
    let refused = admin.sources().create_source(request).await.unwrap_err();
    let named = violations(&refused);
    for field in ["name", "preset", "path", "event_type", "body_limit_bytes"] {
        assert!(named.contains(&format!("source.{field}")), "{field} is not in {named:?}");
    }

    let event = v1::PublishEventRequest {
        event_type: "bowline.endpoint.disabled".into(),
        body: "{".into(),
        channel: "c".repeat(1000),
        ..Default::default()
    };
    let refused = admin.events().publish_event(event).await.unwrap_err();
    let named = violations(&refused);
    for field in ["event_type", "body", "channel"] {
        assert!(named.contains(&field.to_owned()), "{field} is not in {named:?}");
    }
}

#[tokio::test]
async fn an_outdated_etag_is_aborted_and_the_mask_chooses() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let wanted = v1::Source { preset: "github".into(), name: "one".into(), ..Default::default() };
    let first = admin.source_like(wanted, "bowline-test-github-secret").await;
    let update = |etag: &str, display_name: &str| v1::UpdateSourceRequest {
        source: Some(v1::Source {
            id: first.id.clone(),
            etag: etag.into(),
            display_name: display_name.into(),
            name: "not-in-the-mask".into(),
            ..Default::default()
        }),
        update_mask: mask(&["display_name"]),
    };
    let changed = admin.sources().update_source(update(&first.etag, "Changed")).await.unwrap();
    let changed = changed.into_inner().source.unwrap();
    assert_eq!((changed.display_name.as_str(), changed.name.as_str()), ("Changed", "one"));
    assert_ne!(changed.etag, first.etag);
    let outdated = admin.sources().update_source(update(&first.etag, "Lost")).await.unwrap_err();
    assert_eq!((outdated.code(), reason(&outdated).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    admin.sources().update_source(update("", "Whatever it was")).await.unwrap();
    let unknown = v1::UpdateSourceRequest { update_mask: mask(&["no_such_field"]), ..update("", "x") };
    assert_eq!(admin.sources().update_source(unknown).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn names_and_paths_are_taken_once() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let create = async |name: &str, path: &str| {
        let source = v1::Source {
            preset: "github".into(),
            name: name.into(),
            path: path.into(),
            ..Default::default()
        };
        admin
            .sources()
            .create_source(v1::CreateSourceRequest { source: Some(source), ..Default::default() })
            .await
    };
    create("one", "/hooks/one").await.unwrap();
    let name = create("one", "/hooks/two").await.unwrap_err();
    assert_eq!((name.code(), reason(&name).as_str()), (Code::AlreadyExists, "NAME_TAKEN"));
    let path = create("two", "/hooks/one").await.unwrap_err();
    assert_eq!((path.code(), reason(&path).as_str()), (Code::AlreadyExists, "PATH_TAKEN"));
}

#[tokio::test]
async fn a_repeated_request_id_makes_nothing_new_and_shows_no_secret_again() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let request = |format: &str| v1::CreateEndpointRequest {
        endpoint: Some(v1::Endpoint { format: format.into(), ..admin::endpoint("https://example.com/hook") }),
        request_id: "create-1".into(),
        ..Default::default()
    };
    let first = admin.endpoints().create_endpoint(request("standard")).await.unwrap().into_inner();
    let again = admin.endpoints().create_endpoint(request("standard")).await.unwrap().into_inner();
    assert_eq!(again.endpoint.as_ref().unwrap().id, first.endpoint.as_ref().unwrap().id);
    assert!(first.secret.starts_with("whsec_"));
    assert_eq!(again.secret, "");
    let other = admin.endpoints().create_endpoint(request("rkt")).await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(stack.database.count("SELECT count(*) FROM endpoints").await, 1);
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let secret = sign::test_secret("shown-once");
    let source = admin.source("standard", &secret).await;
    let (endpoint, endpoint_secret) = admin.endpoint(admin::endpoint("https://example.com/hook")).await;
    let source = admin.sources().get_source(v1::GetSourceRequest { id: source }).await.unwrap().into_inner();
    let endpoint = admin.get_endpoint(&endpoint).await;
    let listed = admin.sources().list_sources(v1::ListSourcesRequest::default()).await.unwrap().into_inner();
    let told = format!("{source:?} {endpoint:?} {listed:?}");
    assert!(!told.contains(&secret) && !told.contains(&endpoint_secret));
    assert_eq!((source.source.unwrap().secrets.len(), endpoint.secrets.len()), (1, 1));
}

#[tokio::test]
async fn pages_hold_everything_once_and_their_tokens_fit_their_filters() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let published = admin.publish_many("order.created", 7).await;
    admin.publish("user.created").await;
    let ask = |page_size, page_token: &str, event_type: &str| v1::ListEventsRequest {
        page_size,
        page_token: page_token.into(),
        filter: Some(v1::EventFilter { event_type: event_type.into(), ..Default::default() }),
        ..Default::default()
    };
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = admin.events().list_events(ask(3, &token, "order.created")).await.unwrap().into_inner();
        assert!(page.events.len() <= 3);
        seen.extend(page.events.into_iter().map(|event| event.id));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first: {seen:?}");
    seen.sort();
    assert_eq!(seen, published);

    for refused in [ask(3, &token, "user.created"), ask(3, "garbage", "order.created"), ask(-1, "", "")] {
        assert_eq!(admin.events().list_events(refused).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let other_method = v1::ListSourcesRequest { page_token: token, ..Default::default() };
    let refused = admin.sources().list_sources(other_method).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
    let most = admin.events().list_events(ask(100_000, "", "")).await;
    assert!(most.is_ok_and(|page| page.into_inner().events.len() == 8), "a page is capped, not refused");
}

#[tokio::test]
async fn an_idempotency_key_brings_one_event() {
    let stack = Stack::builder().ingests(1).dispatchers(1).start().await;
    let event = |body: &'static str| v1::PublishEventRequest {
        event_type: "order.created".into(),
        body: body.into(),
        idempotency_key: "order-1".into(),
        ..Default::default()
    };
    let first = stack.admin().events().publish_event(event("{}")).await.unwrap().into_inner();
    assert!(!first.duplicate);
    // At the other service, too.
    let other = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let again = other.events().publish_event(event("{}")).await.unwrap().into_inner();
    assert_eq!((again.event_id, again.duplicate), (first.event_id, true));
    let reused = other.events().publish_event(event("[]")).await.unwrap_err();
    assert_eq!((reused.code(), reason(&reused).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"));
}

#[tokio::test]
async fn deliveries_are_found_by_what_is_known_of_them() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    bad.answer(bowline_tests::Reply::Status(418));
    let (good_id, _) = admin.endpoint(admin::endpoint(good.url())).await;
    let (bad_id, _) = admin.endpoint(admin::with_waits(bad.url(), &[std::time::Duration::ZERO])).await;
    let events = admin.publish_many("order.created", 3).await;
    for event in &events {
        admin.await_delivery(event, &good_id, v1::DeliveryState::Delivered).await;
        admin.await_delivery(event, &bad_id, v1::DeliveryState::Dead).await;
    }
    let found = async |filter: v1::DeliveryFilter| {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let ask = v1::ListDeliveriesRequest {
                filter: Some(filter.clone()),
                page_size: 2,
                page_token,
                ..Default::default()
            };
            let page = admin.deliveries().list_deliveries(ask).await.unwrap().into_inner();
            found.extend(page.deliveries.into_iter().map(|delivery| delivery.id));
            if page.next_page_token.is_empty() {
                found.sort();
                return found;
            }
            page_token = page.next_page_token;
        }
    };
    let all = |endpoint: &str| -> Vec<String> {
        events.iter().map(|event| format!("{event}.{endpoint}.0")).collect()
    };
    let filter = v1::DeliveryFilter::default;
    assert_eq!(found(filter()).await.len(), 6);
    assert_eq!(found(v1::DeliveryFilter { endpoint_id: good_id.clone(), ..filter() }).await, all(&good_id));
    let dead = v1::DeliveryFilter { state: v1::DeliveryState::Dead.into(), ..filter() };
    assert_eq!(found(dead).await, all(&bad_id));
    assert_eq!(found(v1::DeliveryFilter { status_code: 418, ..filter() }).await, all(&bad_id));
    assert_eq!(found(v1::DeliveryFilter { event_id: events[0].clone(), ..filter() }).await.len(), 2);
    assert_eq!(found(v1::DeliveryFilter { event_type: "other".into(), ..filter() }).await.len(), 0);
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let publish = async |size: usize| {
        let event = v1::PublishEventRequest {
            event_type: "blob.stored".into(),
            content_type: "application/octet-stream".into(),
            body: vec![b'x'; size].into(),
            ..Default::default()
        };
        admin.events().publish_event(event).await
    };
    publish(1 << 20).await.unwrap();
    assert_eq!(publish((1 << 20) + 1).await.unwrap_err().code(), Code::InvalidArgument);
    let huge = publish(8 << 20).await.unwrap_err();
    assert!(matches!(huge.code(), Code::ResourceExhausted | Code::OutOfRange), "{huge:?}");
}

#[tokio::test]
async fn who_did_what_is_in_the_audit_log() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    admin.set_state(&endpoint, v1::EndpointState::Paused).await;
    admin.set_state(&endpoint, v1::EndpointState::Enabled).await;
    admin.publish("order.created").await;
    receiver.await_count(1, BOUND).await;
    let log = "SELECT count(*) FROM audit_log WHERE action ILIKE '%";
    for (action, least) in [("create", 1), ("state", 2), ("unseal", 1)] {
        bowline_tests::eventually(BOUND, async || {
            let count = stack.database.count(&format!("{log}{action}%'")).await;
            if count >= least { Ok(()) } else { Err(format!("{action}: {count}")) }
        })
        .await;
    }
}
