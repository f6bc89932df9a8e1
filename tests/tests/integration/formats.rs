//! What arrives at a receiver, checked as its provider's page says.

use bowline_core::headers::decode_headers;
use bowline_proto::v1;
use bowline_tests::receiver::Recorded;
use bowline_tests::{BOUND, Receiver, Stack, admin, http, sign};
use serde_json::{Value, json};

const GITHUB_PUSH: &[u8] = include_bytes!("../../../core/presets/github/example.json");
const STRIPE_EVENT: &[u8] = include_bytes!("../../../core/presets/stripe/example.json");

fn is_standard(request: &Recorded, secret: &str) -> bool {
    let timestamp = request.header("webhook-timestamp");
    let fresh = timestamp.parse::<i64>().is_ok_and(|at| (sign::unix_now(0) - at).abs() <= 300);
    let expected = sign::standard_signature(secret, request.id(), timestamp, &request.body);
    fresh && request.header("webhook-signature").split(' ').any(|signature| signature == expected)
}

fn is_chimpbase(request: &Recorded, secret: &str) -> bool {
    let timestamp = request.header("x-chimpbase-timestamp");
    let fresh = timestamp.parse::<i64>().is_ok_and(|at| (sign::unix_now(0) - at).abs() <= 300);
    let mac = sign::hmac_sha256(secret.as_bytes(), &[timestamp.as_bytes(), b".", &request.body]);
    fresh && request.header("x-chimpbase-signature") == format!("sha256={}", hex::encode(mac))
}

/// `endpoint` with another format.
fn in_format(receiver: &Receiver, format: &str) -> v1::Endpoint {
    v1::Endpoint { format: format.into(), ..admin::endpoint(receiver.url()) }
}

#[tokio::test]
async fn github_and_stripe_arrive_at_standard_and_chimpbase_receivers() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (standard, chimpbase) = (Receiver::start().await, Receiver::start().await);
    let (_, standard_secret) = admin.endpoint(in_format(&standard, "standard")).await;
    let (_, chimpbase_secret) = admin.endpoint(in_format(&chimpbase, "chimpbase")).await;
    let github = admin.source("github", "It's a Secret to Everybody").await;
    let stripe = admin.source("stripe", "whsec_bowline-test-stripe-secret").await;

    let headers = sign::github(
        "It's a Secret to Everybody",
        "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "push",
        GITHUB_PUSH,
    );
    let push = http::post(&stack.inbound(&github), &headers, GITHUB_PUSH).await.unwrap().accepted();
    let headers = sign::stripe("whsec_bowline-test-stripe-secret", sign::unix_now(0), STRIPE_EVENT);
    let charge = http::post(&stack.inbound(&stripe), &headers, STRIPE_EVENT).await.unwrap().accepted();

    let sent: [Value; 2] = [GITHUB_PUSH, STRIPE_EVENT].map(|body| serde_json::from_slice(body).unwrap());
    let ids = [push, charge];
    for request in standard.await_ids(&ids, BOUND).await {
        assert!(is_standard(&request, &standard_secret), "{request:?}");
        let which = ids.iter().position(|id| id == request.id()).unwrap();
        let body = request.json();
        assert_eq!(body["data"], sent[which]);
        assert_eq!(body.as_object().unwrap().len(), 3, "type, timestamp, data");
        let event_type = if which == 0 { "push" } else { sent[1]["type"].as_str().unwrap() };
        assert_eq!(body["type"], event_type);
        assert_eq!(request.header("bowline-attempt"), "1");
    }
    for request in chimpbase.await_ids(&ids, BOUND).await {
        assert!(is_chimpbase(&request, &chimpbase_secret), "{request:?}");
        let which = ids.iter().position(|id| id == request.id()).unwrap();
        let body = request.json();
        assert_eq!(body["payload"], sent[which]);
        assert_eq!(body["event"], request.header("x-chimpbase-event"));
        assert_eq!(body["deliveryId"], request.header("x-chimpbase-delivery-id"));
    }
    stack.await_quiet().await;
    assert_eq!((standard.count(), chimpbase.count()), (2, 2));
}

#[tokio::test]
async fn every_format_signs_what_it_sends() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let formats = ["rkt", "chatbase", "connectgain", "chatblocks", "raw"];
    let mut there = Vec::new();
    for format in formats {
        let receiver = Receiver::start().await;
        let request = v1::CreateEndpointRequest {
            endpoint: Some(in_format(&receiver, format)),
            secret: if format == "raw" { String::new() } else { "bowline-test-endpoint-secret".into() },
            ..Default::default()
        };
        let created = admin.endpoints().create_endpoint(request).await.unwrap().into_inner();
        there.push((format, receiver, created.secret));
    }
    let published = v1::PublishEventRequest {
        event_type: "session.created".into(),
        channel: "bot-1".into(),
        body: br#"{"b":1,"a":[true,null]}"#.as_slice().into(),
        ..Default::default()
    };
    let id = admin.events().publish_event(published).await.unwrap().into_inner().event_id;

    for (format, receiver, secret) in &there {
        let request = receiver.await_count(1, BOUND).await.remove(0);
        assert_eq!(request.id(), id, "{format}");
        assert_eq!(request.header("content-type"), "application/json", "{format}");
        assert!(request.header("user-agent").starts_with("Bowline/"), "{format}");
        let sha256 = hex::encode(sign::hmac_sha256(secret.as_bytes(), &[&request.body]));
        let data = json!({"b": 1, "a": [true, null]});
        let body = request.json();
        match *format {
            "rkt" => {
                assert_eq!(request.header("x-rkt-signature"), sha256);
                assert_eq!(
                    (&body["event"], &body["chatbotId"]),
                    (&json!("session.created"), &json!("bot-1"))
                );
                assert_eq!(body["data"], data);
            }
            "chatbase" => {
                let sha1 = hex::encode(sign::hmac_sha1(secret.as_bytes(), &[&request.body]));
                assert_eq!(request.header("x-chatbase-signature"), sha1);
                assert_eq!((&body["eventType"], &body["payload"]), (&json!("session.created"), &data));
            }
            "connectgain" => {
                assert_eq!(request.header("x-webhook-signature"), sha256);
                assert_eq!(request.header("x-webhook-event"), "session.created");
                assert_eq!((&body["event"], &body["data"]), (&json!("session.created"), &data));
            }
            "chatblocks" => {
                let signature = request.header("x-chatblocks-signature");
                let (timestamp, mac) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
                let expected =
                    sign::hmac_sha256(secret.as_bytes(), &[timestamp.as_bytes(), b".", &request.body]);
                assert_eq!(mac, hex::encode(expected));
                assert_eq!(request.header("idempotency-key"), id);
                assert_eq!(&request.body[..], br#"{"b":1,"a":[true,null]}"#);
            }
            _ => {
                assert!(is_standard(&request, secret), "{request:?}");
                assert_eq!(&request.body[..], br#"{"b":1,"a":[true,null]}"#);
            }
        }
    }
}

#[tokio::test]
async fn connectgain_without_a_secret_is_unsigned() {
    let stack = Stack::start().await;
    let receiver = Receiver::start().await;
    let (_, secret) = stack.admin().endpoint(in_format(&receiver, "connectgain")).await;
    assert_eq!(secret, "");
    stack.admin().publish("contact.created").await;
    let request = receiver.await_count(1, BOUND).await.remove(0);
    assert!(!request.headers.contains_key("x-webhook-signature"));
    assert_eq!(request.json()["event"], "contact.created");
}

#[tokio::test]
async fn bodies_stay_the_same_over_attempts_and_signatures_are_fresh() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let twice_500 = || Receiver::scripted([500, 500].map(bowline_tests::Reply::Status));
    let (standard, chimpbase) = (twice_500().await, twice_500().await);
    let (_, standard_secret) = admin.endpoint(in_format(&standard, "standard")).await;
    let (_, chimpbase_secret) = admin.endpoint(in_format(&chimpbase, "chimpbase")).await;
    let id = admin.publish("order.created").await;

    let requests = standard.await_count(3, BOUND).await;
    for (number, request) in requests.iter().enumerate() {
        assert_eq!((request.id(), &request.body), (id.as_str(), &requests[0].body));
        assert_eq!(request.header("bowline-attempt"), (number + 1).to_string());
        assert!(is_standard(request, &standard_secret));
    }
    let requests = chimpbase.await_count(3, BOUND).await;
    let mut deliveries: Vec<_> =
        requests.iter().map(|request| request.header("x-chimpbase-delivery-id")).collect();
    deliveries.sort_unstable();
    deliveries.dedup();
    assert_eq!(deliveries.len(), 3, "a delivery id for each attempt");
    assert!(requests.iter().all(|request| is_chimpbase(request, &chimpbase_secret) && request.id() == id));
}

#[tokio::test]
async fn two_secrets_sign_side_by_side_during_an_overlap() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (id, old) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let rotate = v1::RotateEndpointSecretRequest {
        id,
        overlap: Some(admin::duration(std::time::Duration::from_secs(3600))),
        ..Default::default()
    };
    let new = admin.endpoints().rotate_endpoint_secret(rotate).await.unwrap().into_inner().secret;
    assert_ne!(old, new);
    admin.publish("order.created").await;
    let request = receiver.await_count(1, BOUND).await.remove(0);
    assert!(is_standard(&request, &old) && is_standard(&request, &new), "{request:?}");
}

#[tokio::test]
async fn raw_passes_headers_on_but_no_credentials() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    admin.endpoint(in_format(&receiver, "raw")).await;
    let insecure = v1::Source { insecure: true, event_type: "any.thing".into(), ..Default::default() };
    let source = admin.source_like(insecure, "").await;
    let headers: sign::Headers = [
        ("content-type", "text/csv"),
        ("x-custom", "kept"),
        ("authorization", "Bearer not-to-be-passed-on"),
        ("cookie", "session=not-to-be-passed-on"),
        ("connection", "close"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let id = http::post(&stack.inbound(&source.id), &headers, "a,b\n1,2\n").await.unwrap().accepted();
    let request = receiver.await_ids(&[id], BOUND).await.remove(0);
    assert_eq!((&request.body[..], request.header("content-type")), (&b"a,b\n1,2\n"[..], "text/csv"));
    assert_eq!(request.header("x-custom"), "kept");
    assert!(!format!("{request:?}").contains("not-to-be-passed-on"));
    // What is stored is what came, apart from nothing.
    let row = stack.database.sql().query_one("SELECT headers FROM events", &[]).await.unwrap();
    let stored: Vec<u8> = row.get(0);
    assert!(decode_headers(&stored).any(|(name, value)| name == "x-custom" && value == b"kept"));
}

#[tokio::test]
async fn raw_passes_on_headers_of_sixteen_kibibytes_and_no_more() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    admin.endpoint(in_format(&receiver, "raw")).await;
    let insecure = v1::Source { insecure: true, event_type: "any.thing".into(), ..Default::default() };
    let url = stack.inbound(&admin.source_like(insecure, "").await.id);
    // Twenty of a kibibyte each, counted as `name: value` and a line feed.
    let name = |number: usize| format!("x-part-{number:02}");
    let value = "v".repeat(1024 - name(0).len() - ": \n".len());
    let headers: sign::Headers = (0..20).map(|number| (name(number), value.clone())).collect();
    let id = http::post(&url, &headers, "{}").await.unwrap().accepted();
    let request = receiver.await_ids(&[id], BOUND).await.remove(0);
    let passed = (0..20).filter(|number| request.headers.contains_key(name(*number).as_str()));
    let passed: Vec<usize> = passed.collect();
    let bytes: usize = passed.len() * 1024;
    // The beginning of them, as much as fits beside the few that the client itself sends.
    assert!(passed.iter().copied().eq(0..passed.len()), "{passed:?}");
    assert!((15 * 1024..=16 * 1024).contains(&bytes), "{bytes} bytes");
    assert!(passed.iter().all(|number| request.header(&name(*number)) == value));
}

#[tokio::test]
async fn what_is_not_json_travels_in_an_envelope_too() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    admin.endpoint(admin::endpoint(receiver.url())).await;
    for body in [&b"plain text"[..], b"\xff\x00\xfe"] {
        let event = v1::PublishEventRequest {
            event_type: "blob.stored".into(),
            content_type: "application/octet-stream".into(),
            body: body.into(),
            ..Default::default()
        };
        admin.events().publish_event(event).await.unwrap();
    }
    let mut data: Vec<_> =
        receiver.await_count(2, BOUND).await.iter().map(|request| request.json()["data"].clone()).collect();
    data.sort_by_key(Value::is_object);
    assert_eq!(data, [json!("plain text"), json!({"base64": "/wD+"})]);
}

#[tokio::test]
async fn an_endpoints_own_headers_go_along() {
    let stack = Stack::start().await;
    let receiver = Receiver::start().await;
    let headers = [("x-team".to_owned(), "payments".to_owned())].into();
    stack.admin().endpoint(v1::Endpoint { headers, ..admin::endpoint(receiver.url()) }).await;
    stack.admin().publish("order.created").await;
    assert_eq!(receiver.await_count(1, BOUND).await[0].header("x-team"), "payments");
}
