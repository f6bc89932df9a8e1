//! How endpoints authenticate to their receivers: Basic, Bearer, OAuth 2 tokens, certificates.

use std::time::Duration;

use bowline_proto::v1::endpoint_auth::Method;
use bowline_proto::v1::{self, AttemptDecision, DeliveryState};
use bowline_tests::admin::{self, Admin, violations};
use bowline_tests::{Authority, BOUND, Receiver, Reply, Stack, eventually};
use prost_types::FieldMask;
use tonic::Code;

use crate::by_hand::somebody;

const SECRET: &str = "bowline-test-auth-0123456789";
const SEALED: &str = "(sealed)";

fn auth(method: Method) -> Option<v1::EndpointAuth> {
    Some(v1::EndpointAuth { method: Some(method) })
}

fn basic(password: &str) -> Option<v1::EndpointAuth> {
    auth(Method::Basic(v1::BasicAuth { username: "bowline".into(), password: password.into() }))
}

fn bearer(token: &str) -> Option<v1::EndpointAuth> {
    auth(Method::Bearer(v1::BearerAuth { token: token.into() }))
}

fn client(token_url: String) -> v1::ClientCredentialsAuth {
    v1::ClientCredentialsAuth {
        token_url,
        client_id: "shop & co".into(),
        client_secret: SECRET.into(),
        scopes: vec!["hooks.write".into(), "hooks.read".into()],
        audience: "https://crm.example".into(),
        secret_in_body: false,
    }
}

fn token(token: &str, expires_in_s: u32) -> Reply {
    Reply::Json(
        200,
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{expires_in_s}}}"#),
    )
}

async fn update(
    admin: &Admin,
    endpoint: v1::Endpoint,
    fields: &[&str],
) -> Result<v1::Endpoint, tonic::Status> {
    let mask = FieldMask { paths: fields.iter().map(ToString::to_string).collect() };
    let request = v1::UpdateEndpointRequest { endpoint: Some(endpoint), update_mask: Some(mask) };
    Ok(admin.endpoints().update_endpoint(request).await?.into_inner().endpoint.unwrap())
}

async fn refused(admin: &Admin, endpoint: v1::Endpoint) -> Vec<String> {
    let request = v1::CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() };
    violations(&admin.endpoints().create_endpoint(request).await.unwrap_err())
}

#[tokio::test]
async fn passwords_and_tokens_are_sent_and_never_shown() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    let endpoint = v1::Endpoint { auth: basic(SECRET), ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(endpoint).await;
    let viewer = somebody(&stack, "default", "viewer").await;
    assert_eq!(viewer.get_endpoint(&id).await.auth, basic(SEALED));
    admin.publish("order.created").await;
    let requests = receiver.await_count(1, BOUND).await;
    // "bowline:bowline-test-auth-0123456789"
    let pair = "Basic Ym93bGluZTpib3dsaW5lLXRlc3QtYXV0aC0wMTIzNDU2Nzg5";
    assert_eq!(requests[0].header("authorization"), pair);

    // Another method has another secret; the mark finds none.
    let of = |auth| v1::Endpoint { id: id.clone(), auth, ..Default::default() };
    let none = update(&admin, of(bearer(SEALED)), &["auth"]).await.unwrap_err();
    assert_eq!(violations(&none), ["endpoint.auth.bearer.token"]);
    let shown = update(&admin, of(bearer(SECRET)), &["auth"]).await.unwrap();
    assert_eq!(shown.auth, bearer(SEALED));
    update(&admin, of(shown.auth), &["auth"]).await.unwrap();
    let event = admin.publish("order.created").await;
    let requests = receiver.await_count(2, BOUND).await;
    assert_eq!(requests[1].header("authorization"), format!("Bearer {SECRET}"));
    let delivery = admin.await_delivery(&event, &id, DeliveryState::Delivered).await;
    let logged = delivery.attempts[0].request_headers.iter().find(|header| header.name == "authorization");
    assert_eq!(logged.map(|header| header.value.as_str()), Some("(redacted)"));

    assert_eq!(stack.database.count("SELECT count(*) FROM secrets WHERE name LIKE 'auth:%'").await, 1);
    for text in [SECRET, &pair["Basic ".len()..]] {
        assert_eq!(stack.database.tables_with(text).await, Vec::<String>::new());
        assert!(!stack.logs().contains(text));
    }
    update(&admin, of(None), &["auth"]).await.unwrap();
    admin.publish("order.created").await;
    assert_eq!(receiver.await_count(3, BOUND).await[2].header("authorization"), "");
    assert_eq!(stack.database.count("SELECT count(*) FROM secrets WHERE name LIKE 'auth:%'").await, 0);
}

#[tokio::test]
async fn a_secret_does_not_follow_an_endpoint_to_another_host() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let endpoint = v1::Endpoint { auth: bearer(SECRET), ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(endpoint).await;
    let to = |url: String, auth| v1::Endpoint { id: id.clone(), url, auth, ..Default::default() };
    let kept = update(&admin, to(elsewhere.url(), None), &["url"]).await.unwrap_err();
    assert_eq!(
        (kept.code(), violations(&kept)),
        (Code::InvalidArgument, vec!["endpoint.auth.bearer.token".into()])
    );
    let path = receiver.url().replace("/hook", "/v2");
    update(&admin, to(path, None), &["url"]).await.expect("the same host");
    update(&admin, to(elsewhere.url(), bearer("bowline-test-other")), &["url", "auth"]).await.unwrap();
    admin.publish("order.created").await;
    assert_eq!(elsewhere.await_count(1, BOUND).await[0].header("authorization"), "Bearer bowline-test-other");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn one_token_serves_many_attempts_until_it_expires() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (receiver, server) = (Receiver::start().await, Receiver::start().await);
    server.answer(token("bowline-test-t1", 3600));
    let endpoint = v1::Endpoint {
        auth: auth(Method::ClientCredentials(client(server.url()))),
        concurrency: 16,
        ..admin::endpoint(receiver.url())
    };
    let (id, _) = admin.endpoint(endpoint).await;
    let ids = admin.publish_many("order.created", 20).await;
    let requests = receiver.await_ids(&ids, BOUND).await;
    assert!(requests.iter().all(|request| request.header("authorization") == "Bearer bowline-test-t1"));
    let asked = server.requests();
    assert_eq!(asked.len(), 1, "attempts that want one at once share it");
    let expected = "Basic c2hvcCslMjYrY286Ym93bGluZS10ZXN0LWF1dGgtMDEyMzQ1Njc4OQ==";
    assert_eq!(asked[0].header("authorization"), expected, "form-encoded, then base64 (RFC 6749, 2.3.1)");
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    let form =
        "grant_type=client_credentials&scope=hooks.write+hooks.read&audience=https%3A%2F%2Fcrm.example";
    assert_eq!(asked[0].body, form);

    // A change brings a new cache; this token lives nine tenths of a second.
    server.answer(token("bowline-test-t2", 1));
    let in_body = v1::ClientCredentialsAuth {
        client_secret: SEALED.into(),
        secret_in_body: true,
        scopes: Vec::new(),
        audience: String::new(),
        ..client(server.url())
    };
    let change = v1::Endpoint { id, auth: auth(Method::ClientCredentials(in_body)), ..Default::default() };
    update(&admin, change, &["auth"]).await.unwrap();
    eventually(BOUND, async || {
        let event = admin.publish("order.created").await;
        receiver.await_ids(&[event], BOUND).await;
        (server.count() >= 3).then_some(()).ok_or("the second token has not expired yet")
    })
    .await;
    let form = format!("grant_type=client_credentials&client_id=shop+%26+co&client_secret={SECRET}");
    assert_eq!(
        (server.requests()[1].body.as_ref(), server.requests()[1].header("authorization")),
        (form.as_bytes(), "")
    );
    for text in [SECRET, "bowline-test-t1", "bowline-test-t2"] {
        assert_eq!(stack.database.tables_with(text).await, Vec::<String>::new());
        assert!(!stack.logs().contains(text));
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_within_the_attempt() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let server = Receiver::scripted([token("bowline-test-t1", 3600), token("bowline-test-t2", 3600)]).await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply::OnlyWith("Bearer bowline-test-t2".into()));
    let endpoint = v1::Endpoint {
        auth: auth(Method::ClientCredentials(client(server.url()))),
        ..admin::endpoint(receiver.url())
    };
    let (id, _) = admin.endpoint(endpoint).await;
    let event = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&event, &id, DeliveryState::Delivered).await;
    assert_eq!((delivery.attempts.len(), receiver.count(), server.count()), (1, 2, 2), "{delivery:?}");

    // One that refuses every token gets no third request in an attempt, nor does the server without end.
    receiver.answer(Reply::Status(401));
    server.answer(token("bowline-test-t3", 3600));
    let event = admin.publish("order.created").await;
    let delivery = admin.await_delivery(&event, &id, DeliveryState::Dead).await;
    assert_eq!(delivery.attempts.len(), 3);
    assert!(delivery.attempts.iter().all(|attempt| attempt.status_code == 401), "{delivery:?}");
    assert!(receiver.count() <= 2 + 6 && server.count() <= 2 + 3, "{} {}", receiver.count(), server.count());
}

#[tokio::test]
async fn a_token_server_that_fails_is_a_failed_attempt_that_says_so() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (receiver, server) = (Receiver::start().await, Receiver::start().await);
    server.answer(Reply::Json(401, r#"{"error":"invalid_client","error_description":"who?"}"#.into()));
    let endpoint = v1::Endpoint {
        auth: auth(Method::ClientCredentials(client(server.url()))),
        ..admin::with_waits(receiver.url(), &[Duration::from_millis(2500); 20])
    };
    let (id, _) = admin.endpoint(endpoint).await;
    let event = admin.publish("order.created").await;
    server.await_count(1, BOUND).await;
    let waiting = eventually(BOUND, async || {
        let delivery = admin.delivery(&event, &id).await.map_err(|status| status.to_string())?;
        (!delivery.attempts.is_empty()).then_some(delivery).ok_or_else(|| "no attempt yet".to_owned())
    })
    .await;
    let attempt = &waiting.attempts[0];
    assert_eq!((attempt.error_kind.as_str(), attempt.decision()), ("auth", AttemptDecision::Retry));
    assert_eq!(attempt.error_message, "no access token: the token server answered 401: invalid_client");
    assert_eq!(receiver.count(), 0, "nothing is sent without one");
    server.answer(token("bowline-test-t1", 3600));
    admin.await_delivery(&event, &id, DeliveryState::Delivered).await;

    let fields = |auth| v1::Endpoint { auth, ..admin::endpoint("http://127.0.0.1:1/") };
    let bad = v1::ClientCredentialsAuth {
        token_url: "http://10.0.0.1/token".into(),
        client_id: String::new(),
        client_secret: String::new(),
        scopes: vec!["a b".into()],
        ..Default::default()
    };
    let names = ["token_url", "client_id", "client_secret", "scopes[0]"];
    assert_eq!(
        refused(&admin, fields(auth(Method::ClientCredentials(bad)))).await,
        names.map(|name| format!("endpoint.auth.client_credentials.{name}"))
    );
    let mut twice = fields(bearer(SECRET));
    twice.headers.insert("Authorization".into(), "x".into());
    assert_eq!(refused(&admin, twice).await, ["endpoint.auth"]);
    assert_eq!(refused(&admin, fields(Some(v1::EndpointAuth::default()))).await, ["endpoint.auth"]);
}

#[tokio::test]
async fn a_token_server_at_a_private_address_is_not_asked() {
    let mut stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let receiver = Receiver::start().await;
    // The service that takes the endpoint may send to all of loopback; the dispatcher to the receiver alone.
    let mut made = Vec::new();
    for host in ["127.0.0.2", "[::ffff:127.0.0.2]"] {
        let endpoint = v1::Endpoint {
            auth: auth(Method::ClientCredentials(client(format!("http://{host}:9/token")))),
            ..admin::endpoint(receiver.url())
        };
        made.push(admin.endpoint(endpoint).await.0);
    }
    stack.add_dispatcher(&[("BOWLINE_EGRESS_ALLOW_CIDRS", "127.0.0.1/32")]).await;
    let event = admin.publish("order.created").await;
    for id in &made {
        let dead = admin.await_delivery(&event, id, DeliveryState::Dead).await;
        assert_eq!(dead.dead_reason(), v1::DeadReason::EgressRefused);
        assert_eq!((dead.last_error_kind.as_str(), dead.attempts.len()), ("egress_refused", 1), "{dead:?}");
        let words = &dead.attempts[0].error_message;
        assert!(words.starts_with("no access token: the token server could not be asked: "), "{words}");
        assert!(words.contains("is refused: it leads to a loopback address"), "{words}");
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_receiver_that_demands_a_certificate_of_its_own_authority_is_delivered_to() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let (servers, clients) = (Authority::new("bowline test servers"), Authority::new("bowline test clients"));
    let receiver = Receiver::secure(servers.server(Some(&clients))).await;
    let own = clients.client("bowline");
    let key_line = own.key.lines().nth(1).unwrap().to_owned();
    let tls = |ca: &str, certificate: &str, key: &str| {
        Some(v1::EndpointTls {
            client_certificate: certificate.to_owned(),
            client_key: key.to_owned(),
            ca_certificates: ca.to_owned(),
        })
    };
    let with = |tls| v1::Endpoint { tls, ..admin::endpoint(receiver.url()) };
    let (id, _) = admin.endpoint(with(tls(&servers.pem(), &own.certificate, &own.key))).await;
    assert_eq!(admin.get_endpoint(&id).await.tls, tls(&servers.pem(), &own.certificate, SEALED));
    let event = admin.publish("order.created").await;
    admin.await_delivery(&event, &id, DeliveryState::Delivered).await;
    assert_eq!(receiver.count(), 1);

    // Without one of the two there is no connection, and the attempt says why.
    for half in [tls(&servers.pem(), "", ""), tls("", &own.certificate, &own.key), None] {
        let (id, _) = admin.endpoint(with(half)).await;
        let event = admin.publish("order.created").await;
        let dead = admin.await_delivery(&event, &id, DeliveryState::Dead).await;
        assert_eq!(dead.last_error_kind, "tls", "{dead:?}");
    }
    // The certificate is renewed: the same key, which stays sealed, does not fit another certificate.
    let next = clients.client("bowline next");
    let change = |tls| v1::Endpoint { id: id.clone(), tls, ..Default::default() };
    let other =
        update(&admin, change(tls(&servers.pem(), &next.certificate, SEALED)), &["tls"]).await.unwrap_err();
    assert_eq!(violations(&other), ["endpoint.tls.client_key"]);
    update(&admin, change(tls(&servers.pem(), &next.certificate, &next.key)), &["tls"]).await.unwrap();
    let event = admin.publish("order.created").await;
    admin.await_delivery(&event, &id, DeliveryState::Delivered).await;

    for key in [&key_line, next.key.lines().nth(1).unwrap()] {
        assert_eq!(stack.database.tables_with(key).await, Vec::<String>::new());
        assert!(!stack.logs().contains(key));
    }
    let both = format!("{}{}", own.certificate, own.key);
    for (bad, fields) in [
        (tls("nonsense", "", ""), vec!["endpoint.tls.ca_certificates"]),
        (tls("", &own.certificate, ""), vec!["endpoint.tls.client_key"]),
        (tls("", &own.certificate, &next.key), vec!["endpoint.tls.client_key"]),
        (tls("", &both, &own.key), vec!["endpoint.tls.client_certificate"]),
        (tls("", &own.certificate, "-----BEGIN PRIVATE KEY-----"), vec!["endpoint.tls.client_key"]),
        (tls("", "", ""), vec!["endpoint.tls"]),
    ] {
        assert_eq!(refused(&admin, with(bad)).await, fields);
    }
    let plain = v1::Endpoint { tls: tls(&servers.pem(), "", ""), ..admin::endpoint("http://127.0.0.1:1/") };
    assert_eq!(refused(&admin, plain).await, ["endpoint.tls"]);
}
