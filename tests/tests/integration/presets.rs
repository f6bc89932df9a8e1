//! Each preset takes what its provider sends and answers as its provider expects.

use bowline_core::preset;
use bowline_core::secrets::Secret;
use bowline_proto::v1;
use bowline_tests::http::{self, Answer};
use bowline_tests::receiver::{Receiver, Reply};
use bowline_tests::sign::{self, Headers};
use bowline_tests::{Stack, admin::Admin};
use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::sources_over_http::custom;

struct Case {
    preset: &'static str,
    secret: String,
    body: &'static str,
    headers: fn(&str, &str) -> Headers,
    event_type: &'static str,
    channel: &'static str,
}

fn cases() -> Vec<Case> {
    let text = |preset: &str| format!("bowline-test-{preset}-secret");
    vec![
        Case {
            preset: "standard",
            secret: sign::test_secret("standard"),
            body: r#"{"type":"contact.created","timestamp":"2026-01-01T00:00:00Z","data":{"id":1}}"#,
            headers: |secret, body| sign::standard(secret, "msg_1", sign::unix_now(0), body.as_bytes()),
            event_type: "contact.created",
            channel: "",
        },
        Case {
            preset: "github",
            secret: text("github"),
            body: r#"{"ref":"refs/heads/main"}"#,
            headers: |secret, body| sign::github(secret, "delivery-1", "push", body.as_bytes()),
            event_type: "push",
            channel: "",
        },
        Case {
            preset: "stripe",
            secret: format!("whsec_{}", text("stripe")),
            body: r#"{"id":"evt_1","object":"event","type":"charge.succeeded"}"#,
            headers: |secret, body| sign::stripe(secret, sign::unix_now(0), body.as_bytes()),
            event_type: "charge.succeeded",
            channel: "",
        },
        Case {
            preset: "slack",
            secret: text("slack"),
            body: r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#,
            headers: |secret, body| sign::slack(secret, sign::unix_now(0), body.as_bytes()),
            event_type: "app_mention",
            channel: "",
        },
        Case {
            preset: "chimpbase",
            secret: text("chimpbase"),
            body: r#"{"event":"order.created","payload":{"n":1},"deliveryId":"d-1"}"#,
            headers: |secret, body| {
                sign::chimpbase(secret, "d-1", "order.created", sign::unix_now(0), body.as_bytes())
            },
            event_type: "order.created",
            channel: "",
        },
        Case {
            preset: "rkt",
            secret: format!("whsec_{}", text("rkt")),
            body: r#"{"event":"session.created","chatbotId":"bot-1","timestamp":"2026-01-01T00:00:00.000Z","data":{}}"#,
            headers: |secret, body| sign::rkt(secret, body.as_bytes()),
            event_type: "session.created",
            channel: "bot-1",
        },
        Case {
            preset: "connectgain",
            secret: text("connectgain"),
            body: r#"{"event":"contact.created","timestamp":"2026-01-01T00:00:00Z","data":{}}"#,
            headers: |secret, body| {
                let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                sign::connectgain(secret, "contact.created", &now, body.as_bytes())
            },
            event_type: "contact.created",
            channel: "",
        },
    ]
}

async fn post(stack: &Stack, source: &str, headers: &Headers, body: &str) -> Answer {
    http::post(&stack.inbound(source), headers, body.to_owned()).await.unwrap()
}

async fn event(admin: &Admin, id: &str) -> v1::Event {
    let request = v1::GetEventRequest { id: id.to_owned() };
    admin.events().get_event(request).await.unwrap().into_inner().event.unwrap()
}

#[tokio::test]
async fn what_a_provider_signs_is_accepted_and_what_another_signs_is_not() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    for case in cases() {
        let source = admin.source(case.preset, &case.secret).await;
        let headers = (case.headers)(&case.secret, case.body);
        let id = post(&stack, &source, &headers, case.body).await.accepted();
        let event = event(&admin, &id).await;
        assert_eq!(event.event_type, case.event_type, "{}", case.preset);
        assert_eq!(event.channel, case.channel, "{}", case.preset);
        assert_eq!(event.source_id, source);

        let impostor = case.secret.replacen("test", "tset", 1).replacen("Ym93", "Zm93", 1);
        assert_ne!(impostor, case.secret, "{}", case.preset);
        let headers = (case.headers)(&impostor, case.body);
        let answer = post(&stack, &source, &headers, case.body).await;
        assert_eq!(answer.status, 401, "{}: {}", case.preset, answer.text());
    }
}

#[tokio::test]
async fn shopify_is_known_by_its_base64_signature() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let secret = "bowline-test-shopify-secret";
    let source = stack.admin().source("shopify", secret).await;
    let body = r#"{"id":820982911946154508}"#;
    let headers = sign::shopify(secret, "w-1", "orders/create", body.as_bytes());
    let id = post(&stack, &source, &headers, body).await.accepted();
    let again = post(&stack, &source, &headers, body).await;
    assert_eq!(again.json(), json!({"id": id, "duplicate": true}));
    let wrong = sign::shopify("another", "w-2", "orders/create", body.as_bytes());
    post(&stack, &source, &wrong, body).await.refused(401);
}

#[tokio::test]
async fn chatbase_is_answered_in_its_own_words() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let secret = "bowline-test-chatbase-secret";
    let source = stack.admin().source("chatbase", secret).await;
    let body = r#"{"eventType":"leads.submit","chatbotId":"bot-7","payload":{"customerEmail":"a@b.c"}}"#;
    let accepted = post(&stack, &source, &sign::chatbase(secret, body.as_bytes()), body).await;
    assert_eq!((accepted.status, accepted.text().as_str()), (200, "OK"));
    let refused = post(&stack, &source, &sign::chatbase("another", body.as_bytes()), body).await;
    assert_eq!((refused.status, refused.json()), (400, json!({"message": "Signature didn't match"})));

    let list = stack.admin().events().list_events(v1::ListEventsRequest::default()).await.unwrap();
    let events = list.into_inner().events;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].event_type.as_str(), events[0].channel.as_str()), ("leads.submit", "bot-7"));
}

#[tokio::test]
async fn chatblocks_wants_a_key_and_json() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let secret = "bowline-test-chatblocks-secret";
    let source = stack.admin().source("chatblocks", secret).await;
    let signed = |body: &str| sign::chatblocks(secret, "key-1", sign::unix_now(0), body.as_bytes());
    let without =
        |name: &str| -> Headers { signed("{}").into_iter().filter(|(known, _)| known != name).collect() };

    let no_key = post(&stack, &source, &without("idempotency-key"), "{}").await;
    no_key.refused(400);
    assert!(no_key.text().to_lowercase().contains("idempotency-key"), "{}", no_key.text());
    let mut as_text = without("content-type");
    as_text.push(("content-type".into(), "text/plain".into()));
    post(&stack, &source, &as_text, "{}").await.refused(400);
    for broken in ["{", "", "{\"a\":1,}", "nonsense"] {
        post(&stack, &source, &signed(broken), broken).await.refused(400);
    }
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
    post(&stack, &source, &signed("{}"), "{}").await.accepted();
}

#[tokio::test]
async fn slack_gets_its_challenge_back_and_no_event_is_made() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let secret = "bowline-test-slack-secret";
    let source = stack.admin().source("slack", secret).await;
    let body = r#"{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}"#;
    let answer = post(&stack, &source, &sign::slack(secret, sign::unix_now(0), body.as_bytes()), body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"));
    let forged =
        post(&stack, &source, &sign::slack("another", sign::unix_now(0), body.as_bytes()), body).await;
    assert_eq!(forged.status, 401, "an impostor gets no answer to a challenge: {}", forged.text());
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn unverified_sources_must_be_asked_for() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let silent = v1::CreateSourceRequest {
        source: Some(v1::Source { preset: "custom".into(), ..Default::default() }),
        ..Default::default()
    };
    let refused = admin.sources().create_source(silent).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);

    let wanted = v1::Source {
        preset: "custom".into(),
        insecure: true,
        event_type: "door.opened".into(),
        ..Default::default()
    };
    let source = admin.source_like(wanted, "").await;
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    let id = post(&stack, &source.id, &headers, "not json at all").await.accepted();
    assert_eq!(event(&admin, &id).await.event_type, "door.opened");
}

/// With the one secret that `bowline trigger` would sign with.
#[tokio::test]
async fn every_example_is_taken_by_a_source_of_its_preset() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let mut taken = 0;
    for preset in preset::all().filter(|preset| preset.example().is_some()) {
        let (name, scheme) = (preset.name(), preset.scheme().unwrap());
        let secret = scheme.generate_secret().secret;
        let source = admin.source(name, secret.expose_str().unwrap()).await;
        // As the provider knows it: the services stand behind a proxy.
        let public = format!("http://ingest.test/in/{source}");
        let sign =
            |secret: &Secret| preset.sign_example_to(&public, secret, chrono::Utc::now(), "0001").unwrap();
        let send = async |secret: &Secret| {
            let example = sign(secret);
            let headers: Headers = example
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            http::post(&stack.inbound(&source), &headers, example.body).await.unwrap()
        };
        let answer = send(&secret).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let forged = send(&scheme.generate_secret().secret).await;
        assert!([400, 401].contains(&forged.status), "{name}: {}", forged.text());
        taken += 1;
    }
    assert!(taken > 95, "{taken}");
    let events = stack.database.count("SELECT count(*) FROM events").await;
    assert_eq!(events, taken, "one event each");
}

async fn ask(stack: &Stack, method: Method, source: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    http::send(method, &format!("{}{query}", stack.inbound(source)), &headers, "").await.unwrap()
}

#[tokio::test]
async fn handshakes_come_with_other_methods_too() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let meta = admin.source("meta", "bowline-test-meta").await;
    let subscribe = |token: &str| format!("?hub.mode=subscribe&hub.challenge=1158&hub.verify_token={token}");
    let answer = ask(&stack, Method::GET, &meta, &subscribe("bowline-test-meta"), &[]).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "1158"));
    assert_eq!(ask(&stack, Method::GET, &meta, &subscribe("other"), &[]).await.status, 403);
    assert_eq!(ask(&stack, Method::GET, &meta, "", &[]).await.refused(405), "method_not_allowed");

    let okta = admin.source("okta", "bowline-test-okta").await;
    let answer =
        ask(&stack, Method::GET, &okta, "", &[("x-okta-verification-challenge", "my \"challenge\"")]).await;
    assert_eq!(answer.json(), json!({"verification": "my \"challenge\""}));

    let events = admin.source("cloudevents-webhook", "bowline-test-ce").await;
    let origin = [("webhook-request-origin", "events.example.com")];
    let answer = ask(&stack, Method::OPTIONS, &events, "", &origin).await;
    assert_eq!((answer.status, answer.header("webhook-allowed-origin")), (200, "events.example.com"));

    let trello = admin.source("trello", "bowline-test-trello").await;
    assert_eq!(ask(&stack, Method::HEAD, &trello, "", &[]).await.status, 200);

    let x = admin.source("x-twitter", "bowline-test-x").await;
    let answer = ask(&stack, Method::GET, &x, "?crc_token=word", &[]).await;
    let mac = sign::hmac_sha256(b"bowline-test-x", &[b"word"]);
    let token = answer.json()["response_token"].as_str().unwrap().to_owned();
    assert_eq!(token, format!("sha256={}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, mac)));
    assert_eq!(ask(&stack, Method::GET, &x, "?crc_token=%7B%7D", &[]).await.status, 400);
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_secret_comes_by_a_handshake_once() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = stack.admin().source("asana", "").await;
    let secret = [("x-hook-secret", "bowline-test-asana-b537207f20cbfa02")];
    let answer = ask(&stack, Method::POST, &source, "", &secret).await;
    assert_eq!((answer.status, answer.header("x-hook-secret")), (200, secret[0].1), "{}", answer.text());

    let body = r#"{"events":[{"action":"changed"}]}"#;
    let mac = hex::encode(sign::hmac_sha256(secret[0].1.as_bytes(), &[body.as_bytes()]));
    post(&stack, &source, &vec![("x-hook-signature".to_owned(), mac)], body).await.accepted();

    let stranger = ask(&stack, Method::POST, &source, "", &[("x-hook-secret", "of-a-stranger")]).await;
    assert_eq!(stranger.refused(400), "missing_header");
    assert!(!stack.logs().contains(secret[0].1));
}

/// Ed25519 under the seed of 32 sevens; the key's id is `a`.
const KEY_SET: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}]}"#;
pub(super) const TOKEN: &str = "eyJhbGciOiAiRWREU0EiLCAia2lkIjogImEifQ.eyJpc3MiOiAicHJvdmlkZXIudGVzdCJ9.\
    JDIMtER4sc_h1fea27eSgUUDrRYYWt9fk1vw5-5wAJxxNMI3-EKsOnPqJugNY6V9Lv02n1SBg4LYZ5mBB6ZhCQ";

#[tokio::test]
async fn a_token_is_verified_by_keys_that_are_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let keys = tokio::spawn(async move {
        // One connection is all there is: a second fetch would fail.
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", KEY_SET.len());
        stream.write_all(format!("{head}{KEY_SET}").as_bytes()).await.unwrap();
    });
    let stack = Stack::builder().dispatchers(0).start().await;
    let scheme = |issuer: &str| {
        json!({
            "algorithm": "jwt", "body_bound": false,
            "signature": {"sources": ["header:authorization"], "prefix": "Bearer "},
            "jwt": {"algorithms": ["EdDSA"], "issuer": issuer},
            "key_source": {"kind": "jwks", "url": url},
        })
    };
    let good = stack.admin().source_like(custom(scheme("provider.test")), "").await.id;
    let bearer = |token: &str| vec![("authorization".to_owned(), format!("Bearer {token}"))];
    post(&stack, &good, &bearer(TOKEN), "{}").await.accepted();
    keys.await.unwrap();
    post(&stack, &good, &bearer(TOKEN), "{}").await.accepted();
    let answer = post(&stack, &good, &bearer(&TOKEN.replace(".JDIM", ".KDIM")), "{}").await;
    assert_eq!(answer.refused(401), "signature_mismatch");
    let other = stack.admin().source_like(custom(scheme("another.test")), "").await.id;
    assert_eq!(post(&stack, &other, &bearer(TOKEN), "{}").await.refused(401), "invalid_token");
}

#[tokio::test]
async fn an_unsigned_request_counts_when_its_provider_confirms_it() {
    let provider = Receiver::scripted([Reply::Status(200), Reply::Status(404), Reply::Status(500)]).await;
    let stack = Stack::builder().dispatchers(0).start().await;
    let scheme = json!({
        "algorithm": "fetch-back", "body_bound": false, "signature": {"sources": []},
        "key_source": {"kind": "fetch-back", "url": format!("http://{}/payments/{{form:id}}", provider.address())},
    });
    let source = stack.admin().source_like(custom(scheme), "bowline-test-api-key").await.id;
    let form = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    post(&stack, &source, &form, "id=tr_1").await.accepted();
    assert_eq!(post(&stack, &source, &form, "id=tr_2").await.refused(401), "not_confirmed");
    assert_eq!(post(&stack, &source, &form, "id=tr_3").await.refused(503), "keys_unavailable");
    assert_eq!(post(&stack, &source, &form, "id=../x").await.refused(401), "untrusted_key_place");
    let asked = provider.requests();
    assert_eq!((asked.len(), asked[0].path.as_str()), (3, "/payments/tr_1"));
    assert_eq!(asked[0].header("authorization"), "Bearer bowline-test-api-key");
}
