//! Who can verify what an endpoint is sent: the public packages, receivers without a secret, receivers with a
//! scheme of their own.

use std::path::Path;
use std::time::Duration;

use bowline_proto::v1::{self, SecretKind};
use bowline_tests::receiver::Recorded;
use bowline_tests::{BOUND, Receiver, Stack, admin, http, receivers, sign};
use prost_types::value::Kind;
use serde_json::{Value, json};
use tonic::Code;

fn in_format(receiver: &Receiver, format: &str) -> v1::Endpoint {
    v1::Endpoint { format: format.into(), ..admin::endpoint(receiver.url()) }
}

async fn one(receiver: &Receiver) -> Recorded {
    receiver.await_count(1, BOUND).await.remove(0)
}

#[tokio::test]
async fn standard_webhooks_are_verified_by_the_public_packages() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (_, secret) = admin.endpoint(in_format(&receiver, "standard")).await;
    admin.publish("order.created").await;
    let request = one(&receiver).await;
    let mut given = receivers::seen(&request);
    let folder = receivers::node_packages().await;
    let packages = receivers::python_packages().await;
    let ask = async |given: &Value| {
        let mut said = Vec::new();
        if let Some(folder) = &folder {
            said.push(receivers::ask(Path::new("node"), "standard.mjs", &[folder], given).await);
        }
        if let Some(packages) = &packages {
            said.push(receivers::ask(Path::new("python3"), "standard.py", &[packages], given).await);
        }
        said
    };
    given["secret"] = secret.into();
    for said in ask(&given).await {
        let event = said.unwrap();
        assert_eq!((&event["type"], &event["data"]), (&json!("order.created"), &json!({"hello": "world"})));
    }
    // A receiver that would take anything shows nothing.
    given["secret"] = sign::test_secret("another").into();
    for said in ask(&given).await {
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test]
async fn the_reference_systems_receivers_take_what_they_are_sent() {
    /// Every way to write this that a parser does not keep; `JSON.stringify` writes it otherwise.
    const BODY: &str = r#"{ "b": 1.0, "10": 1e3, "2": "\u00e9\/", "a": [ true , null, -0.5E-2 ] }"#;
    let stack = Stack::start().await;
    let admin = stack.admin();
    let mut there = Vec::new();
    for system in ["chimpbase", "rkt", "chatbase", "connectgain", "chatblocks"] {
        let receiver = Receiver::start().await;
        let request = v1::CreateEndpointRequest {
            endpoint: Some(in_format(&receiver, system)),
            secret: "bowline-test-reference-secret".into(),
            ..Default::default()
        };
        let made = admin.endpoints().create_endpoint(request).await.unwrap().into_inner();
        there.push((system, receiver, made.secret));
    }
    let published = v1::PublishEventRequest {
        event_type: "lead.captured".into(),
        channel: "bot-1".into(),
        body: BODY.into(),
        ..Default::default()
    };
    admin.events().publish_event(published).await.unwrap();
    let data: Value = serde_json::from_str(BODY).unwrap();
    let numbers = |value: &Value| value["b"].as_f64().zip(value["10"].as_f64());
    for (system, receiver, secret) in &there {
        let request = one(receiver).await;
        let mut given = receivers::seen(&request);
        (given["system"], given["secret"]) = ((*system).into(), secret.as_str().into());
        let Some(said) = receivers::node("reference.mjs", &given).await else { return };
        let said = said.unwrap_or_else(|error| panic!("{system}: {error:#}"));
        assert_eq!(
            (&said["data"]["a"], &said["data"]["2"]),
            (&json!([true, null, -0.005]), &data["2"]),
            "{system}"
        );
        assert_eq!(numbers(&said["data"]), Some((1.0, 1000.0)), "{system}");
        if *system != "chatblocks" {
            assert_eq!(said["event"], "lead.captured", "{system}");
        }
        if ["rkt", "chatbase"].contains(system) {
            assert_eq!(said["channel"], "bot-1", "{system}");
        }
        // One that would take anything shows nothing.
        given["secret"] = "bowline-test-another-secret".into();
        assert!(receivers::node("reference.mjs", &given).await.unwrap().is_err(), "{system}");
    }
}

async fn key_set(stack: &Stack, jwks_url: &str) -> http::Answer {
    let path = jwks_url.strip_prefix("http://ingest.test").unwrap();
    let url = format!("{}{path}", stack.ingests[0].http_url());
    http::send(::http::Method::GET, &url, &Vec::new(), "").await.unwrap()
}

#[tokio::test]
async fn a_receiver_verifies_v1a_by_the_public_keys_and_needs_no_secret() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    for format in ["standard", "raw", "cloudevents"] {
        let receiver = Receiver::start().await;
        let request = v1::CreateEndpointRequest {
            endpoint: Some(in_format(&receiver, format)),
            secret_kind: SecretKind::Ed25519.into(),
            ..Default::default()
        };
        let created = admin.endpoints().create_endpoint(request).await.unwrap().into_inner();
        let endpoint = created.endpoint.unwrap();
        assert!(created.secret.starts_with("whsk_") && endpoint.secrets[0].public_key.starts_with("whpk_"));
        assert!(!format!("{endpoint:?}").contains(&created.secret), "the private half is shown once");
        let answer = key_set(&stack, &endpoint.jwks_url).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/jwk-set+json"));
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
        assert_eq!(answer.json()["keys"][0]["kid"], endpoint.secrets[0].id);
        assert!(!answer.text().contains("\"d\""), "{}", answer.text());

        let published = v1::PublishEventRequest {
            event_type: "order.created".into(),
            body: br#"{"a": "\u00e9"}"#.as_slice().into(),
            ..Default::default()
        };
        admin.events().publish_event(published.clone()).await.unwrap();
        let request = one(&receiver).await;
        let signers = async |request: &Recorded, jwks: Value| {
            let mut given = receivers::seen(request);
            given["jwks"] = jwks;
            receivers::ask(Path::new("node"), "public_key.mjs", &[], &given).await
        };
        let signed = signers(&request, answer.json()).await.unwrap();
        assert_eq!(signed, json!([endpoint.secrets[0].id]), "{format}");
        let mut forged = request.clone();
        forged.body = br#"{"a": "b"}"#.as_slice().into();
        assert!(signers(&forged, answer.json()).await.is_err());

        // A rotation keeps the kind; during its overlap both sign, and both keys can be read.
        let rotate = v1::RotateEndpointSecretRequest {
            id: endpoint.id.clone(),
            overlap: Some(admin::duration(Duration::from_secs(3600))),
            ..Default::default()
        };
        let rotated = admin.endpoints().rotate_endpoint_secret(rotate).await.unwrap().into_inner();
        assert!(rotated.secret.starts_with("whsk_") && rotated.secret != created.secret);
        admin.set_state(&endpoint.id, v1::EndpointState::Enabled).await;
        admin.events().publish_event(published).await.unwrap();
        let request = receiver.await_count(2, BOUND).await.remove(1);
        let keys = bowline_tests::eventually(BOUND, async || {
            let keys = key_set(&stack, &endpoint.jwks_url).await.json();
            if keys["keys"].as_array().is_some_and(|keys| keys.len() == 2) { Ok(keys) } else { Err(keys) }
        })
        .await;
        assert_eq!(signers(&request, keys.clone()).await.unwrap().as_array().unwrap().len(), 2, "{format}");
        let delete = v1::DeleteEndpointRequest { id: endpoint.id.clone(), ..Default::default() };
        admin.endpoints().delete_endpoint(delete).await.unwrap();
    }
}

#[tokio::test]
async fn public_keys_are_refused_where_there_are_none() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let (shared, _) = admin.endpoint(admin::endpoint("https://hooks.example.com/in")).await;
    assert_eq!(admin.get_endpoint(&shared).await.jwks_url, "");
    let unknown = shared.replace(|last: char| last.is_ascii_digit(), "0");
    for id in [&shared, &unknown] {
        let path = format!("http://ingest.test/endpoints/{id}/jwks.json");
        assert_eq!(key_set(&stack, &path).await.refused(404), "unknown_keys", "{id}");
    }
    let url = format!("{}/endpoints/{shared}/jwks.json", stack.ingests[0].http_url());
    let answer = http::send(::http::Method::POST, &url, &Vec::new(), "").await.unwrap();
    assert_eq!((answer.refused(405).as_str(), answer.header("allow")), ("method_not_allowed", "GET, HEAD"));

    let asked = |format: &str, secret: &str| v1::CreateEndpointRequest {
        endpoint: Some(v1::Endpoint {
            format: format.into(),
            ..admin::endpoint("https://hooks.example.com/in")
        }),
        secret: secret.into(),
        secret_kind: SecretKind::Ed25519.into(),
        ..Default::default()
    };
    for (format, secret) in [("rkt", ""), ("standard", &sign::test_secret("given"))] {
        let refused = admin.endpoints().create_endpoint(asked(format, secret)).await.unwrap_err();
        assert_eq!(
            (refused.code(), admin::violations(&refused)),
            (Code::InvalidArgument, vec!["secret_kind".into()])
        );
    }
}

/// The rules of the HTTP binding of `CloudEvents` 1.0, binary mode, as its receivers read it.
#[tokio::test]
async fn a_cloudevents_receiver_reads_every_attribute() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (_, secret) = admin.endpoint(in_format(&receiver, "cloudevents")).await;
    let published = v1::PublishEventRequest {
        event_type: "order.created".into(),
        channel: "caf\u{e9} \"100%\"".into(),
        content_type: "application/xml".into(),
        body: b"<order/>".as_slice().into(),
        ..Default::default()
    };
    let id = admin.events().publish_event(published).await.unwrap().into_inner().event_id;
    let request = one(&receiver).await;
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("id", &id),
        ("type", "order.created"),
        ("subject", "caf%C3%A9%20%22100%25%22"),
    ] {
        assert_eq!(request.header(&format!("ce-{attribute}")), value);
    }
    assert!(request.header("ce-source").starts_with("/tenants/ten_"), "a URI reference");
    assert!(chrono::DateTime::parse_from_rfc3339(request.header("ce-time")).is_ok());
    // The body is the data, under its own type; nothing may repeat that as an attribute.
    assert_eq!(
        (request.header("content-type"), request.header("ce-datacontenttype")),
        ("application/xml", "")
    );
    assert_eq!(&request.body[..], b"<order/>");
    let timestamp = request.header("webhook-timestamp");
    let signature = sign::standard_signature(&secret, &id, timestamp, &request.body);
    assert_eq!(request.header("webhook-signature"), signature);

    // From a source, it is the source.
    let source = admin.source("github", "It's a Secret to Everybody").await;
    let body = br#"{"zen":"Design for failure."}"#;
    let headers =
        sign::github("It's a Secret to Everybody", "72d3162e-cc78-11e3-81ab-4c9367dc0959", "ping", body);
    http::post(&stack.inbound(&source), &headers, &body[..]).await.unwrap().accepted();
    let request = receiver.await_count(2, BOUND).await.remove(1);
    assert_eq!(request.header("ce-source"), format!("/sources/{source}"));
}

fn structure(json: Value) -> prost_types::Struct {
    let Value::Object(map) = json else { panic!("an object") };
    prost_types::Struct { fields: map.into_iter().map(|(key, value)| (key, wire(value))).collect() }
}

fn wire(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.into_iter().map(wire).collect() })
        }
        map @ Value::Object(_) => Kind::StructValue(structure(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A receiver that wants `x-acme-signature: ts=...;sig=...` over `{ts}:{body}`, and its own body.
#[tokio::test]
async fn a_custom_format_is_signed_named_and_shaped_as_its_receiver_wants() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let scheme = json!({
        "algorithm": "hmac-sha256",
        "content": "{timestamp}:{body}",
        "signature": {
            "sources": ["header:x-acme-signature"],
            "encoding": "hex",
            "layout": {"item_sep": ";", "kv_sep": "=", "signature_key": "sig", "timestamp_key": "ts"},
        },
        "timestamp": {"unit": "s"},
    });
    let endpoint = v1::Endpoint {
        transform: "{'order': event.data.id, 'kind': event.type}".into(),
        custom_format: Some(v1::CustomFormat {
            scheme: Some(structure(scheme)),
            headers: [
                ("X-Acme-Event".into(), "event_type".into()),
                ("x-acme-delivery".into(), "attempt_id".into()),
            ]
            .into(),
        }),
        ..in_format(&receiver, "custom")
    };
    let request = v1::CreateEndpointRequest {
        endpoint: Some(endpoint),
        secret: "bowline-test-acme-secret".into(),
        ..Default::default()
    };
    let created = admin.endpoints().create_endpoint(request).await.unwrap().into_inner().endpoint.unwrap();
    assert_eq!(created.custom_format.as_ref().unwrap().headers["X-Acme-Event"], "event_type");
    let published = v1::PublishEventRequest {
        event_type: "order.created".into(),
        body: br#"{"id": 7}"#.as_slice().into(),
        ..Default::default()
    };
    let id = admin.events().publish_event(published.clone()).await.unwrap().into_inner().event_id;
    let request = one(&receiver).await;
    assert_eq!(request.json(), json!({"order": 7, "kind": "order.created"}));
    assert_eq!((request.header("x-acme-event"), request.id()), ("order.created", id.as_str()));
    assert_eq!(request.header("x-acme-delivery").len(), 36);
    let parts: Vec<&str> = request.header("x-acme-signature").split(';').collect();
    let timestamp = parts.iter().find_map(|part| part.strip_prefix("ts=")).unwrap();
    let signature = parts.iter().find_map(|part| part.strip_prefix("sig=")).unwrap();
    assert!((sign::unix_now(0) - timestamp.parse::<i64>().unwrap()).abs() <= 300);
    let content = [timestamp.as_bytes(), b":", &request.body];
    assert_eq!(signature, hex::encode(sign::hmac_sha256(b"bowline-test-acme-secret", &content)));

    // Without its transform it is sent the event's bytes.
    let update = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint { id: created.id, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["transform".into()] }),
    };
    admin.endpoints().update_endpoint(update).await.unwrap();
    admin.events().publish_event(published).await.unwrap();
    let request = receiver.await_count(2, BOUND).await.remove(1);
    assert_eq!(&request.body[..], br#"{"id": 7}"#);
}

/// A call with metadata, as an instrumented client makes it.
fn traced<T>(message: T, headers: &[(&'static str, &str)]) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_trace_goes_through_and_one_begins_where_there_is_none() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([bowline_tests::Reply::Status(500)]).await;
    admin.endpoint(in_format(&receiver, "raw")).await;
    let published = || v1::PublishEventRequest {
        event_type: "order.created".into(),
        body: b"{}".as_slice().into(),
        ..Default::default()
    };
    let given = [("traceparent", parent.as_str()), ("tracestate", "congo=t61rcWkgMzE")];
    admin.events().publish_event(traced(published(), &given)).await.unwrap();
    let arrived = receiver.await_count(2, BOUND).await;
    let spans: Vec<&str> = arrived
        .iter()
        .map(|one| one.header("traceparent").strip_prefix(&format!("00-{TRACE}-")).unwrap())
        .collect();
    assert!(
        spans[0] != spans[1] && spans.iter().all(|span| span.len() == 19 && span.ends_with("-01")),
        "{spans:?}"
    );
    assert!(arrived.iter().all(|one| one.header("tracestate") == "congo=t61rcWkgMzE"));

    // Of a webhook that came in.
    let source = admin.source("github", "It's a Secret to Everybody").await;
    let body = br#"{"zen":"Keep it logically awesome."}"#;
    let mut headers =
        sign::github("It's a Secret to Everybody", "72d3162e-cc78-11e3-81ab-4c9367dc0960", "ping", body);
    headers.push(("traceparent".into(), parent.clone()));
    http::post(&stack.inbound(&source), &headers, &body[..]).await.unwrap().accepted();
    let request = receiver.await_count(3, BOUND).await.remove(2);
    assert!(request.header("traceparent").starts_with(&format!("00-{TRACE}-")));

    // What is none is not handed on.
    let garbage = [("traceparent", "00-zz"), ("tracestate", "a=b")];
    admin.events().publish_event(traced(published(), &garbage)).await.unwrap();
    let request = receiver.await_count(4, BOUND).await.remove(3);
    let own = request.header("traceparent");
    assert!(
        own.len() == 55 && own.starts_with("00-") && own.ends_with("-00") && !own.contains(TRACE),
        "{own}"
    );
    assert_eq!(request.header("tracestate"), "");
}
