//! The requests by which providers ask whose URL it is: each is answered as its provider expects, over a socket,
//! and makes no event. Those of Slack, Meta, Okta, X, Trello, Asana and `CloudEvents` are in [`super::presets`].

mod sns;

use bowline_proto::v1;
use bowline_tests::http::{self, Answer};
use bowline_tests::{Stack, sign};
use hyper::Method;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::json;

use super::sources_over_http::headers;

const SECRET: &str = "bowline-test-handshake";

/// One handshake of a source with [`SECRET`].
struct Asked {
    preset: &'static str,
    method: Method,
    query: &'static str,
    headers: sign::Headers,
    body: &'static str,
}

fn get(preset: &'static str, query: &'static str) -> Asked {
    Asked { preset, method: Method::GET, query, headers: Vec::new(), body: "" }
}

async fn ask(stack: &Stack, asked: Asked) -> Answer {
    let source = stack.admin().source(asked.preset, SECRET).await;
    let url = format!("{}{}", stack.inbound(&source), asked.query);
    http::send(asked.method, &url, &asked.headers, asked.body).await.unwrap()
}

#[tokio::test]
async fn a_challenge_comes_back_as_its_provider_expects() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let answer = ask(&stack, get("dropbox", "?challenge=abc123")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "abc123"));
    // As Dropbox asks for: nobody may make a page of ours out of it.
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let answer = ask(&stack, get("nylas", "?challenge=bc609b38-c81f")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "bc609b38-c81f"));

    let post = |preset, query, body| Asked { method: Method::POST, body, ..get(preset, query) };
    let answer = ask(&stack, post("microsoft-graph", "?validationToken=Validation%3A%20a%3Cb", "")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "Validation: a<b"));
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");

    let grid = r#"[{"id":"2d","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]"#;
    let grid = Asked {
        headers: headers([("aeg-event-type", "SubscriptionValidation")]),
        ..post("azure-event-grid", "?code=bowline-test-handshake", grid)
    };
    assert_eq!(ask(&stack, grid).await.json(), json!({"validationResponse": "512d38b6"}));

    let head = Asked { method: Method::HEAD, ..get("intercom", "") };
    assert_eq!(ask(&stack, head).await.status, 200);
    let form = headers([("content-type", "application/x-www-form-urlencoded")]);
    let ping = Asked { headers: form, ..post("woocommerce", "", "webhook_id=7") };
    assert_eq!(ask(&stack, ping).await.status, 200);
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn what_is_answered_with_the_help_of_the_secret_signs_nothing_else() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    // Braintree's own example, with the names of its keys.
    let source = v1::Source {
        preset: "braintree".into(),
        parameters: [("public_key".to_owned(), "bt_public".to_owned())].into(),
        ..Default::default()
    };
    let braintree = admin.source_like(source, "bt_private").await.id;
    let challenge = async |text: &str| {
        let url = format!("{}?bt_challenge={text}", stack.inbound(&braintree));
        http::send(Method::GET, &url, &Vec::new(), "").await.unwrap()
    };
    let answer = challenge("20f9f8ed05f77439fe955c977e4c8a53").await;
    assert_eq!(answer.text(), "bt_public|5a5664ec9e7d6bcc0283f68105c87b26e44656d9");
    for odd in ["goodbye%20cruel%20world", "20f9f8ed05"] {
        assert_eq!(challenge(odd).await.status, 400, "{odd}");
    }

    let zoom = admin.source("zoom", SECRET).await;
    let body = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let at = sign::unix_now(0).to_string();
    let validate = async |secret: &str| {
        let signed = format!("v0:{at}:{body}");
        let mac = hex::encode(sign::hmac_sha256(secret.as_bytes(), &[signed.as_bytes()]));
        let signature = format!("v0={mac}");
        let headers = headers([("x-zm-request-timestamp", &at), ("x-zm-signature", &signature)]);
        http::post(&stack.inbound(&zoom), &headers, body).await.unwrap()
    };
    let token = hex::encode(sign::hmac_sha256(SECRET.as_bytes(), &[b"qgg8vlvZRS6UYooatFL8Aw"]));
    let expected = json!({"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": token});
    assert_eq!(validate(SECRET).await.json(), expected);
    assert_eq!(validate("another").await.refused(401), "signature_mismatch");
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn notion_brings_its_secret_while_there_is_none() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let source = stack.admin().source("notion", "").await;
    let url = stack.inbound(&source);
    let bring = async |secret: &str| {
        http::post(&url, &Vec::new(), format!("{{\"verification_token\":\"{secret}\"}}"))
            .await
            .unwrap()
            .status
    };
    assert_eq!(bring("secret_bowline-test-first").await, 200);
    assert_eq!(bring("secret_bowline-test-second").await, 400, "a stranger's");
    let send = async |secret: &str| {
        let body = r#"{"id":"n-1","type":"page.created"}"#;
        let mac = hex::encode(sign::hmac_sha256(secret.as_bytes(), &[body.as_bytes()]));
        let signature = format!("sha256={mac}");
        http::post(&url, &headers([("x-notion-signature", &signature)]), body).await.unwrap()
    };
    send("secret_bowline-test-first").await.accepted();
    assert_eq!(send("secret_bowline-test-second").await.refused(401), "signature_mismatch");
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);
}

#[tokio::test]
async fn discord_is_answered_its_ping_and_nobody_else_is() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (key, stranger) =
        (KeyPair::generate_for(&PKCS_ED25519).unwrap(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let source = stack.admin().source("discord", &hex::encode(key.public_key_raw())).await;
    let at = sign::unix_now(0).to_string();
    let send = async |key: &KeyPair, at: &str, signed: &str, body: &str| {
        let signature = hex::encode(key.sign(format!("{at}{signed}").as_bytes()).unwrap());
        let headers = headers([("x-signature-ed25519", &signature), ("x-signature-timestamp", at)]);
        http::post(&stack.inbound(&source), &headers, body.to_owned()).await.unwrap()
    };
    let ping = r#"{"id":"1","application_id":"2","type":1,"version":1}"#;
    let answer = send(&key, &at, ping, ping).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"type": 1})));
    assert_eq!(answer.header("content-type"), "application/json");

    // Discord itself tries with signatures that are wrong, and takes nothing but a 401.
    assert_eq!(send(&stranger, &at, ping, ping).await.refused(401), "signature_mismatch");
    assert_eq!(send(&key, &at, "{}", ping).await.refused(401), "signature_mismatch");
    let unsigned = http::post(&stack.inbound(&source), &Vec::new(), ping).await.unwrap();
    assert_eq!(unsigned.refused(400), "missing_header");
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 0);

    let command = r#"{"id":"3","application_id":"2","type":2,"data":{"name":"test"}}"#;
    assert_eq!(send(&stranger, &at, command, command).await.refused(401), "signature_mismatch");
    send(&key, &at, command, command).await.accepted();
}
