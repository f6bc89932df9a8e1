//! Each preset takes what its provider sends and answers as its provider expects.

use bowline_proto::v1;
use bowline_tests::http::{self, Answer};
use bowline_tests::sign::{self, Headers};
use bowline_tests::{Stack, admin::Admin};
use serde_json::json;

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
