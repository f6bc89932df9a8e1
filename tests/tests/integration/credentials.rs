//! Credentials that endpoints send along: sealed, written and never shown, in no log.

use bowline_proto::v1::{self, DeliveryState};
use bowline_tests::admin::{self, Admin, violations};
use bowline_tests::{BOUND, Receiver, Reply, Stack, eventually};
use prost_types::FieldMask;
use tonic::Code;

use crate::by_hand::somebody;

const TOKEN: &str = "bowline-test-token-0123456789";
const OTHER: &str = "bowline-test-other-9876543210";
const SEALED: &str = "(sealed)";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn with_headers(url: String, headers: &[(&str, &str)]) -> v1::Endpoint {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    v1::Endpoint { headers, ..admin::endpoint(url) }
}

async fn set_headers(
    admin: &Admin,
    id: &str,
    headers: &[(&str, &str)],
) -> Result<v1::Endpoint, tonic::Status> {
    let endpoint = v1::Endpoint { id: id.to_owned(), ..with_headers(String::new(), headers) };
    let mask = FieldMask { paths: vec!["headers".into()] };
    let request = v1::UpdateEndpointRequest { endpoint: Some(endpoint), update_mask: Some(mask) };
    Ok(admin.endpoints().update_endpoint(request).await?.into_inner().endpoint.unwrap())
}

/// Publishes one event and waits for its request, the `count`-th of the receiver.
async fn sent(admin: &Admin, receiver: &Receiver, count: usize) -> bowline_tests::receiver::Recorded {
    admin.publish("order.created").await;
    receiver.await_count(count, BOUND).await[count - 1].clone()
}

async fn header_secrets(stack: &Stack) -> i64 {
    stack.database.count("SELECT count(*) FROM secrets WHERE name LIKE 'header:%'").await
}

#[tokio::test]
async fn a_credential_in_a_header_is_sent_and_stands_nowhere_in_clear() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    receiver.answer(Reply::With(200, "x-you-said", bearer(TOKEN)));
    let headers = [("Authorization", bearer(TOKEN)), ("x-team", "billing".to_owned())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (endpoint, _) = admin.endpoint(with_headers(receiver.url(), &headers)).await;
    let event = admin.publish("order.created").await;
    let request = receiver.await_count(1, BOUND).await[0].clone();
    assert_eq!((request.header("authorization"), request.header("x-team")), (&*bearer(TOKEN), "billing"));

    let delivery = admin.await_delivery(&event, &endpoint, DeliveryState::Delivered).await;
    let attempt = &delivery.attempts[0];
    let logged = |headers: &[v1::Header], name: &str| {
        headers
            .iter()
            .find(|header| header.name == name)
            .map(|header| header.value.clone())
            .unwrap_or_default()
    };
    assert_eq!(logged(&attempt.request_headers, "authorization"), "(redacted)");
    assert_eq!(logged(&attempt.request_headers, "x-team"), "billing");
    assert!(logged(&attempt.request_headers, "webhook-signature").starts_with("v1,"), "no credential");
    assert_eq!(logged(&attempt.response_headers, "x-you-said"), "(redacted)", "what it hands back");

    let viewer = somebody(&stack, "default", "viewer").await;
    let shown = viewer.get_endpoint(&endpoint).await;
    let expected: [(String, String); 2] =
        [("Authorization".into(), SEALED.into()), ("x-team".into(), "billing".into())];
    assert_eq!(shown.headers, expected.clone().into());
    assert_eq!(shown.secrets.len(), 1, "only what it signs with is listed: {:?}", shown.secrets);
    let listed = viewer.endpoints().list_endpoints(v1::ListEndpointsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().endpoints[0].headers, expected.into());

    eventually(BOUND, async || {
        let opened = "SELECT count(*) FROM audit_log WHERE action = 'secret.unseal.authenticate'";
        let count = stack.database.count(opened).await;
        (count == 1).then_some(()).ok_or(format!("{count} unsealings in the audit log"))
    })
    .await;
    assert_eq!(stack.database.tables_with(TOKEN).await, Vec::<String>::new());
    let tables = stack.database.tables_with("x-team").await;
    assert!(
        ["attempts", "endpoints"].iter().all(|table| tables.iter().any(|found| found == table)),
        "{tables:?}"
    );
    assert!(!stack.logs().contains(TOKEN), "a log holds the token");
}

#[tokio::test]
async fn the_mark_keeps_a_value_and_a_removed_header_takes_its_secret_along() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(with_headers(receiver.url(), &[("X-Api-Key", TOKEN)])).await;
    assert_eq!(sent(&admin, &receiver, 1).await.header("x-api-key"), TOKEN);

    let kept = set_headers(&admin, &endpoint, &[("x-api-key", SEALED), ("x-team", "billing")]).await.unwrap();
    assert_eq!(kept.headers.get("x-api-key").map(String::as_str), Some(SEALED));
    let request = sent(&admin, &receiver, 2).await;
    assert_eq!((request.header("x-api-key"), request.header("x-team")), (TOKEN, "billing"));

    set_headers(&admin, &endpoint, &[("x-api-key", OTHER)]).await.unwrap();
    let request = sent(&admin, &receiver, 3).await;
    assert_eq!((request.header("x-api-key"), request.header("x-team")), (OTHER, ""));
    assert_eq!(header_secrets(&stack).await, 1, "the value it replaced is gone");

    let refused = set_headers(&admin, &endpoint, &[("cookie", SEALED), ("x-b", SEALED)]).await.unwrap_err();
    let fields: Vec<String> = ["cookie", "x-b"].map(|name| format!("endpoint.headers[{name}]")).into();
    assert_eq!((refused.code(), violations(&refused)), (Code::InvalidArgument, fields));

    set_headers(&admin, &endpoint, &[]).await.unwrap();
    assert_eq!(sent(&admin, &receiver, 4).await.header("x-api-key"), "");
    assert_eq!(header_secrets(&stack).await, 0);

    let request = v1::CreateEndpointRequest {
        endpoint: Some(with_headers(receiver.url(), &[("x-api-key", SEALED)])),
        ..Default::default()
    };
    let refused = admin.endpoints().create_endpoint(request).await.unwrap_err();
    assert_eq!(violations(&refused), ["endpoint.headers[x-api-key]"]);
    assert!(refused.message().contains("none is stored"), "{}", refused.message());
}

#[tokio::test]
async fn rotation_and_reveal_concern_what_signs_alone() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint {
        secret_revealable: Some(true),
        ..with_headers(receiver.url(), &[("authorization", TOKEN)])
    };
    let (endpoint, first) = admin.endpoint(endpoint).await;
    let rotate = v1::RotateEndpointSecretRequest { id: endpoint.clone(), ..Default::default() };
    let rotated = admin.endpoints().rotate_endpoint_secret(rotate).await.unwrap().into_inner();
    assert_ne!(rotated.secret, first);
    assert_eq!(rotated.endpoint.unwrap().secrets.len(), 1);
    let reveal = v1::RevealEndpointSecretRequest { id: endpoint.clone() };
    let revealed = admin.endpoints().reveal_endpoint_secret(reveal).await.unwrap().into_inner().secrets;
    assert_eq!(revealed.iter().map(|secret| &secret.secret).collect::<Vec<_>>(), [&rotated.secret]);

    let request = sent(&admin, &receiver, 1).await;
    assert_eq!(request.header("authorization"), TOKEN);
    let signed = bowline_tests::sign::standard_signature(
        &rotated.secret,
        request.id(),
        request.header("webhook-timestamp"),
        &request.body,
    );
    assert_eq!(request.header("webhook-signature"), signed, "by the new secret, and by nothing else");
    admin
        .endpoints()
        .delete_endpoint(v1::DeleteEndpointRequest { id: endpoint, ..Default::default() })
        .await
        .unwrap();
    assert_eq!(header_secrets(&stack).await, 0);
}

#[tokio::test]
async fn a_repeated_create_with_another_credential_is_another_one() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let create = async |token: &str| {
        let request = v1::CreateEndpointRequest {
            endpoint: Some(with_headers("http://127.0.0.1:1/".into(), &[("authorization", token)])),
            request_id: "once".into(),
            ..Default::default()
        };
        Ok::<_, tonic::Status>(
            admin.endpoints().create_endpoint(request).await?.into_inner().endpoint.unwrap().id,
        )
    };
    let first = create(TOKEN).await.unwrap();
    assert_eq!(create(TOKEN).await.unwrap(), first);
    assert_eq!(create(OTHER).await.unwrap_err().code(), Code::AlreadyExists);
    for token in [TOKEN, OTHER] {
        assert_eq!(stack.database.tables_with(token).await, Vec::<String>::new());
    }
    set_headers(&admin, &first, &[("authorization", OTHER)]).await.unwrap();
    assert_eq!(create(TOKEN).await.unwrap(), first, "the same call, after a change by another one");
}

#[tokio::test]
async fn what_was_stored_in_clear_is_sealed_by_the_next_change() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let (endpoint, _) = admin.endpoint(admin::endpoint(receiver.url())).await;
    let old = format!(
        "UPDATE endpoints SET spec = jsonb_set(spec, '{{headers}}', '{{\"Authorization\": \"{TOKEN}\"}}');
         UPDATE config_state SET version = version + 1;
         UPDATE endpoints SET config_version = (SELECT version FROM config_state)"
    );
    stack.database.sql().batch_execute(&old).await.unwrap();
    assert_eq!(admin.get_endpoint(&endpoint).await.headers["Authorization"], SEALED);
    let update = v1::UpdateEndpointRequest {
        endpoint: Some(v1::Endpoint {
            id: endpoint.clone(),
            display_name: "Shop".into(),
            ..Default::default()
        }),
        update_mask: None,
    };
    admin.endpoints().update_endpoint(update).await.unwrap();
    assert_eq!(stack.database.tables_with(TOKEN).await, Vec::<String>::new());
    assert_eq!(sent(&admin, &receiver, 1).await.header("authorization"), TOKEN);
}
