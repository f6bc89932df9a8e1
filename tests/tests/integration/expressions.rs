//! CEL at the outside: sources that name, deduplicate and verify by it, endpoints that filter and
//! transform by it.

use bowline_proto::v1::{self, DeadReason, DeliveryState};
use bowline_tests::http::{self, Answer};
use bowline_tests::{BOUND, Receiver, Stack, admin, sign};
use serde_json::{Value, json};
use tonic::Code;

use super::sources_over_http::headers;

fn insecure() -> v1::Source {
    v1::Source { insecure: true, ..Default::default() }
}

async fn post(stack: &Stack, source: &str, kind: &str, body: &str) -> Answer {
    http::post(&stack.inbound(source), &headers([("x-kind", kind)]), body.to_owned()).await.unwrap()
}

async fn publish(admin: &admin::Admin, body: &Value) -> String {
    let event = v1::PublishEventRequest {
        event_type: "order.paid".into(),
        body: body.to_string().into(),
        ..Default::default()
    };
    admin.events().publish_event(event).await.unwrap().into_inner().event_id
}

#[tokio::test]
async fn a_source_names_and_deduplicates_by_expressions() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let only = v1::Endpoint {
        event_types: vec!["order.*".into()],
        channels: vec!["shop-7".into()],
        ..admin::endpoint(receiver.url())
    };
    admin.endpoint(only).await;
    let source = v1::Source {
        event_type_cel: "'order.' + header('x-kind').lowerAscii()".into(),
        channel_cel: "'shop-' + string(request.json.shop)".into(),
        dedup_key: "has(request.json.key) ? request.json.key : null".into(),
        ..insecure()
    };
    let source = admin.source_like(source, "").await.id;
    let first = post(&stack, &source, "Paid", r#"{"shop": 7, "key": "k-1"}"#).await.accepted();
    let again = post(&stack, &source, "Paid", r#"{"shop": 7, "key": "k-1", "more": 1}"#).await;
    assert_eq!(again.json(), json!({"id": first, "duplicate": true}));
    let without = post(&stack, &source, "Paid", r#"{"shop": 7}"#).await.accepted();
    let other = post(&stack, &source, "Paid", r#"{"shop": 8}"#).await.accepted();
    let got = receiver.await_ids(&[first.clone(), without.clone()], BOUND).await;
    assert!(got.iter().all(|request| request.json()["type"] == "order.paid"), "{got:?}");
    stack.await_quiet().await;
    assert!(!receiver.ids().contains(&other), "another channel");

    // One request on which an expression fails is refused alone, with the expression named.
    for (kind, body, expression) in [
        ("Paid", "{}", "channel_cel"),
        ("Paid", "no json", "channel_cel"),
        ("", r#"{"shop": 7, "key": [1]}"#, "dedup_key"),
    ] {
        let refused = post(&stack, &source, kind, body).await;
        assert_eq!(refused.refused(400), "expression_failed", "{body}");
        assert!(refused.text().contains(expression), "{}", refused.text());
    }
    let nameless = http::post(&stack.inbound(&source), &Vec::new(), "{\"shop\": 7}").await.unwrap();
    assert_eq!(nameless.refused(400), "expression_failed");
    assert!(nameless.text().contains("event_type_cel") && nameless.text().contains("line 1, column"));
    post(&stack, &source, "Paid", r#"{"shop": 7}"#).await.accepted();
}

#[tokio::test]
async fn nothing_from_outside_makes_one_of_bowlines_own_events() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (everything, own) = (Receiver::start().await, Receiver::start().await);
    admin.endpoint(admin::endpoint(everything.url())).await;
    let named = vec!["bowline.*".to_owned(), "bowline.endpoint.disabled".to_owned()];
    admin.endpoint(v1::Endpoint { event_types: named, ..admin::endpoint(own.url()) }).await;
    let secret = "It's a Secret to Everybody";
    let github = admin.source("github", secret).await;
    let signed = sign::github(secret, "d-1", "bowline.endpoint.disabled", b"{}");
    let answer = http::post(&stack.inbound(&github), &signed, "{}").await.unwrap();
    assert_eq!(answer.refused(400), "reserved_event_type");
    let by_expression = admin
        .source_like(v1::Source { event_type_cel: "header('x-kind')".into(), ..insecure() }, "")
        .await
        .id;
    let answer = post(&stack, &by_expression, "  bowline.delivery.dead", "{}").await;
    assert_eq!(answer.refused(400), "reserved_event_type");
    let event = post(&stack, &by_expression, "bowline", "{}").await.accepted();
    everything.await_ids(&[event], BOUND).await;
    stack.await_quiet().await;
    assert_eq!((everything.count(), own.count()), (1, 0));
}

#[tokio::test]
async fn a_source_verifies_by_an_expression_and_a_secret() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let verify = "constant_time_eq(header('x-kind'), 'v1=' + hex.encode(hmac_sha256(secret('default'), \
                  request.method + '\\n' + request.path + '\\n' + string(request.body))))";
    let source = v1::Source { verify: verify.into(), ..Default::default() };
    let source = admin.source_like(source, "bowline-test-cel-secret").await;
    assert_eq!(source.verify, verify);
    let path = format!("/in/{}", source.id);
    let signature = |secret: &str, body: &str| {
        let parts = [b"POST\n", path.as_bytes(), b"\n", body.as_bytes()];
        format!("v1={}", hex::encode(sign::hmac_sha256(secret.as_bytes(), &parts)))
    };
    let good = signature("bowline-test-cel-secret", "hello");
    post(&stack, &source.id, &good, "hello").await.accepted();
    for (given, body) in [(good.as_str(), "hello!"), ("v1=", "hello"), ("", "hello")] {
        assert_eq!(post(&stack, &source.id, given, body).await.refused(401), "wrong_signature");
    }
    let missing = http::post(&stack.inbound(&source.id), &Vec::new(), "hello").await.unwrap();
    assert_eq!(missing.refused(401), "expression_failed");
    assert!(!missing.text().contains("bowline-test-cel-secret"), "{}", missing.text());

    // Both secrets of an overlap are tried.
    let rotate = v1::RotateSourceSecretRequest {
        id: source.id.clone(),
        secret: "bowline-test-cel-secret-2".into(),
        overlap: Some(admin::duration(std::time::Duration::from_secs(3600))),
    };
    admin.sources().rotate_source_secret(rotate).await.unwrap();
    post(&stack, &source.id, &signature("bowline-test-cel-secret-2", "two"), "two").await.accepted();
    post(&stack, &source.id, &good, "hello").await.accepted();
    assert_eq!(post(&stack, &source.id, &signature("other", "x"), "x").await.refused(401), "wrong_signature");
    assert!(!stack.logs().contains("bowline-test-cel-secret"));
}

#[tokio::test]
async fn a_filter_chooses_and_what_it_fails_on_is_a_dead_letter() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (rich, all) = (Receiver::start().await, Receiver::start().await);
    let filter = "event.type == 'order.paid' && event.data.total > 100".to_owned();
    let (endpoint, _) = admin.endpoint(v1::Endpoint { filter, ..admin::endpoint(rich.url()) }).await;
    admin.endpoint(admin::endpoint(all.url())).await;
    let large = publish(&admin, &json!({"total": 250})).await;
    let small = publish(&admin, &json!({"total": 5})).await;
    let poison = publish(&admin, &json!({"total": "lots"})).await;
    all.await_ids(&[large.clone(), small.clone(), poison.clone()], BOUND).await;
    rich.await_ids(std::slice::from_ref(&large), BOUND).await;
    let dead = admin.await_delivery(&poison, &endpoint, DeliveryState::Dead).await;
    assert_eq!(dead.dead_reason(), DeadReason::FilterFailed);
    admin.await_delivery(&small, &endpoint, DeliveryState::Unmatched).await;
    stack.await_quiet().await;
    assert_eq!((rich.count(), all.count()), (1, 3));

    // Mended, it is asked again when the dead letter is redriven.
    let mend = async |filter: &str| {
        let update = v1::UpdateEndpointRequest {
            endpoint: Some(v1::Endpoint {
                id: endpoint.clone(),
                filter: filter.into(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["filter".into()] }),
        };
        admin.endpoints().update_endpoint(update).await.unwrap();
    };
    mend("string(event.data.total) == 'lots'").await;
    let redrive = v1::RedriveDeadLettersRequest {
        filter: Some(v1::DeadLetterFilter { endpoint_id: endpoint.clone(), ..Default::default() }),
        ..Default::default()
    };
    admin.dead_letters().redrive_dead_letters(redrive).await.unwrap();
    rich.await_ids(&[large, poison], BOUND).await;
}

#[tokio::test]
async fn a_transform_makes_the_body_and_what_it_fails_on_dies_at_once() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (enveloped, plain) = (Receiver::start().await, Receiver::start().await);
    let transform = "{'order': event.data.id, 'lines': event.data.items.filter(i, i.n > 0).map(i, i.sku), \
                     'attempt': delivery.attempt, 'of': event.type}";
    let with = |receiver: &Receiver, format: &str| v1::Endpoint {
        transform: transform.into(),
        format: format.into(),
        ..admin::endpoint(receiver.url())
    };
    let (endpoint, secret) = admin.endpoint(with(&enveloped, "standard")).await;
    admin.endpoint(with(&plain, "raw")).await;
    let event =
        publish(&admin, &json!({"id": "o-1", "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 0}]})).await;
    let expected = json!({"order": "o-1", "lines": ["a"], "attempt": 1, "of": "order.paid"});
    let got = &enveloped.await_ids(std::slice::from_ref(&event), BOUND).await[0];
    assert_eq!(got.json()["data"], expected);
    let signature = sign::standard_signature(&secret, got.id(), got.header("webhook-timestamp"), &got.body);
    assert!(got.header("webhook-signature").split(' ').any(|given| given == signature), "signed as sent");
    let got = &plain.await_ids(std::slice::from_ref(&event), BOUND).await[0];
    assert_eq!((got.json(), got.header("content-type")), (expected, "application/json"));

    let poison = publish(&admin, &json!({"id": "o-2", "items": 3})).await;
    let dead = admin.await_delivery(&poison, &endpoint, DeliveryState::Dead).await;
    assert_eq!(dead.dead_reason(), DeadReason::TransformFailed);
    let source =
        admin.source_like(v1::Source { body_limit_bytes: 2 * 1024 * 1024, ..insecure() }, "").await.id;
    let body = json!({"id": "x".repeat(1024 * 1024), "items": []}).to_string();
    let large = post(&stack, &source, "any", &body).await.accepted();
    let dead = admin.await_delivery(&large, &endpoint, DeliveryState::Dead).await;
    assert_eq!(dead.dead_reason(), DeadReason::TransformFailed);
    stack.await_quiet().await;
    assert_eq!((enveloped.count(), plain.count()), (1, 1));
}

#[tokio::test]
async fn a_bad_expression_is_refused_with_its_position() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let refused = async |endpoint: v1::Endpoint| {
        let request = v1::CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() };
        admin.endpoints().create_endpoint(request).await.expect_err("a refusal")
    };
    let base = || admin::endpoint("https://hooks.example.com/in");
    let status = refused(v1::Endpoint { filter: "event.typ == 'a'".into(), ..base() }).await;
    assert_eq!(
        (status.code(), admin::violations(&status)),
        (Code::InvalidArgument, vec!["endpoint.filter".into()])
    );
    assert!(
        status.message().contains("line 1, column 6") || format!("{status:?}").contains("line 1, column 6")
    );
    let both = v1::Endpoint { filter: "(".repeat(4096), transform: "[1]".into(), ..base() };
    let status = refused(both).await;
    assert_eq!(admin::violations(&status), ["endpoint.filter", "endpoint.transform"]);
    let source = v1::Source {
        dedup_key: "request.jsn".into(),
        verify: "secret('default') == header('x')".into(),
        event_type_cel: "1".into(),
        channel_cel: "event.type".into(),
        event_type: "a.b".into(),
        ..Default::default()
    };
    let request = v1::CreateSourceRequest { source: Some(source), ..Default::default() };
    let status = admin.sources().create_source(request).await.expect_err("a refusal");
    let mut fields = admin::violations(&status);
    fields.sort();
    fields.dedup();
    let expected = ["source.channel_cel", "source.dedup_key", "source.event_type_cel", "source.verify"];
    assert_eq!(fields, expected);
}
