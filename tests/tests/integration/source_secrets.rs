//! Secrets of sources: issued elsewhere, with names of their own, and the end of the old ones.

use bowline_proto::v1;
use bowline_proto::v1::set_source_secret_request::Value;
use bowline_tests::admin::{self, Admin, reason, violations};
use bowline_tests::http::{self, Answer};
use bowline_tests::sign::{self, Headers};
use bowline_tests::{Cli, Stack};
use hyper::Method;
use serde_json::json;
use std::time::Duration;
use tempfile::TempDir;
use tonic::Code;

use super::sources_over_http::{custom, headers};

async fn set(
    admin: &Admin,
    id: &str,
    name: &str,
    value: Value,
    overlap_s: u64,
) -> Result<v1::SetSourceSecretResponse, tonic::Status> {
    let request = v1::SetSourceSecretRequest {
        id: id.to_owned(),
        name: name.to_owned(),
        value: Some(value),
        overlap: (overlap_s > 0).then(|| admin::duration(Duration::from_secs(overlap_s))),
    };
    Ok(admin.sources().set_source_secret(request).await?.into_inner())
}

fn text(secret: &str) -> Value {
    Value::Secret(secret.to_owned())
}

async fn send(url: &str, headers: &Headers) -> Answer {
    http::post(url, headers, "{}").await.unwrap()
}

#[tokio::test]
async fn a_secret_issued_elsewhere_takes_over_at_once_or_after_an_overlap() {
    let mut stack = Stack::builder().ingests(2).dispatchers(1).start().await;
    let admin = stack.admin();
    let id = admin.source("github", "bowline-test-first").await;
    let sent = std::cell::Cell::new(0);
    let signed = |secret: &str| {
        sent.set(sent.get() + 1);
        sign::github(secret, &format!("d-{}", sent.get()), "push", b"{}")
    };
    let urls: Vec<String> =
        stack.ingests.iter().map(|ingest| format!("{}/in/{id}", ingest.http_url())).collect();

    let answer = set(&admin, &id, "", text("bowline-test-second"), 60).await.unwrap();
    assert_eq!(answer.source.unwrap().secrets.len(), 2);
    for secret in ["bowline-test-first", "bowline-test-second"] {
        send(&urls[0], &signed(secret)).await.accepted();
    }
    // At once: whichever replica is asked, and at the very next request.
    let answer = set(&admin, &id, "default", text("bowline-test-third"), 0).await.unwrap();
    assert_eq!(answer.unconfirmed_replicas, [""; 0]);
    assert_eq!(answer.source.unwrap().secrets.len(), 1);
    for url in &urls {
        for old in ["bowline-test-first", "bowline-test-second"] {
            assert_eq!(send(url, &signed(old)).await.refused(401), "signature_mismatch");
        }
        send(url, &signed("bowline-test-third")).await.accepted();
    }

    // A replica that hangs is named, unless it is dead by then; it commits nothing by the old secret later.
    stack.ingests[1].pause();
    let answer = set(&admin, &id, "", text("bowline-test-fourth"), 0).await.unwrap();
    let dead = stack.database.count("SELECT count(*) FROM replicas WHERE dead_at IS NOT NULL").await;
    assert_eq!(answer.unconfirmed_replicas.len() as i64, 1 - dead, "{answer:?}");
    stack.ingests[1].resume();
    send(&urls[1], &signed("bowline-test-third")).await.refused(401);
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'SetSourceSecret' AND outcome = 'OK'";
    assert_eq!(stack.database.count(audited).await, 3);
    assert!(!stack.logs().contains("bowline-test-fourth"));
}

#[tokio::test]
async fn a_named_secret_is_for_who_asks_by_its_name_alone() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let request = v1::CreateSourceRequest {
        source: Some(v1::Source { preset: "meta".into(), ..Default::default() }),
        secret: "bowline-test-app".into(),
        named_secrets: [("verify_token".to_owned(), "bowline-test-token".to_owned())].into(),
        request_id: "once".into(),
        ..Default::default()
    };
    let made = admin.sources().create_source(request.clone()).await.unwrap().into_inner();
    let source = made.source.unwrap();
    let again = admin.sources().create_source(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.source.unwrap().id, source.id);
    let other = v1::CreateSourceRequest {
        named_secrets: [("verify_token".to_owned(), "bowline-other".to_owned())].into(),
        ..request
    };
    assert_eq!(reason(&admin.sources().create_source(other).await.unwrap_err()), "REQUEST_ID_REUSED");

    let subscribe = async |token: &str| {
        let query = format!("?hub.mode=subscribe&hub.challenge=1158&hub.verify_token={token}");
        let url = format!("{}{query}", stack.inbound(&source.id));
        http::send(Method::GET, &url, &Vec::new(), "").await.unwrap().status
    };
    assert_eq!((subscribe("bowline-test-token").await, subscribe("bowline-test-app").await), (200, 403));
    set(&admin, &source.id, "verify_token", text("bowline-test-newer"), 0).await.unwrap();
    assert_eq!((subscribe("bowline-test-newer").await, subscribe("bowline-test-token").await), (200, 403));
    // What the app secret signs is verified, what the token signs is not.
    let url = stack.inbound(&source.id);
    let signed = |secret: &str| {
        let mac = hex::encode(sign::hmac_sha256(secret.as_bytes(), &[b"{}"]));
        headers([("x-hub-signature-256", &format!("sha256={mac}"))])
    };
    send(&url, &signed("bowline-test-app")).await.accepted();
    assert_eq!(send(&url, &signed("bowline-test-newer")).await.refused(401), "signature_mismatch");
    // A new one that verifies leaves those with names alone.
    let rotate = v1::RotateSourceSecretRequest { id: source.id.clone(), ..Default::default() };
    admin.sources().rotate_source_secret(rotate).await.unwrap();
    assert_eq!(subscribe("bowline-test-newer").await, 200);
    send(&url, &signed("bowline-test-app")).await.refused(401);
}

#[tokio::test]
async fn an_expression_asks_for_secrets_by_name() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let verify = "constant_time_eq(header('x-door'), secret('door')) \
                  && constant_time_eq(header('x-house'), secret('house'))";
    let request = v1::CreateSourceRequest {
        source: Some(v1::Source { verify: verify.into(), event_type: "a.b".into(), ..Default::default() }),
        named_secrets: ["door", "house"].map(|name| (name.to_owned(), format!("bowline-{name}"))).into(),
        ..Default::default()
    };
    let made = admin.sources().create_source(request).await.unwrap().into_inner().source.unwrap();
    let url = stack.inbound(&made.id);
    let ask =
        async |door: &str, house: &str| send(&url, &headers([("x-door", door), ("x-house", house)])).await;
    ask("bowline-door", "bowline-house").await.accepted();
    assert_eq!(ask("bowline-house", "bowline-door").await.refused(401), "wrong_signature");
    set(&admin, &made.id, "door", text("bowline-gate"), 60).await.unwrap();
    ask("bowline-door", "bowline-house").await.accepted();
    ask("bowline-gate", "bowline-house").await.accepted();
    set(&admin, &made.id, "door", text("bowline-arch"), 0).await.unwrap();
    ask("bowline-gate", "bowline-house").await.refused(401);
    ask("bowline-arch", "bowline-house").await.accepted();
}

#[tokio::test]
async fn what_is_no_secret_of_the_source_is_refused() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let basic = json!({"algorithm": "basic", "signature": {"sources": ["header:authorization"]}});
    let credentials = |username: &str, password: &str| v1::BasicCredentials {
        username: username.into(),
        password: password.into(),
    };
    let request = v1::CreateSourceRequest {
        source: Some(custom(basic)),
        basic: Some(credentials("hook", "bowline:test")),
        ..Default::default()
    };
    let source = admin.sources().create_source(request).await.unwrap().into_inner().source.unwrap();
    let url = stack.inbound(&source.id);
    let known = headers([("authorization", "Basic aG9vazpib3dsaW5lOnRlc3Q=")]);
    send(&url, &known).await.accepted();
    let other = Value::Basic(credentials("hook", "another-password"));
    set(&admin, &source.id, "", other.clone(), 0).await.unwrap();
    send(&url, &known).await.refused(401);
    send(&url, &headers([("authorization", "Basic aG9vazphbm90aGVyLXBhc3N3b3Jk")])).await.accepted();

    let github = admin.source("github", "bowline-test-first").await;
    for (name, value, field) in [
        ("", text(""), "secret"),
        ("", text("short"), "secret"),
        ("", other, "basic"),
        ("Bad Name", text("bowline-test-second"), "name"),
        ("token", text("short"), "secret"),
    ] {
        let refused = set(&admin, &github, name, value, 0).await.unwrap_err();
        assert_eq!(violations(&refused), [field], "{name}");
    }
    for at in 0..16 {
        set(&admin, &github, &format!("n{at}"), text("bowline-test-named"), 1).await.unwrap();
    }
    let refused = set(&admin, &github, "n16", text("bowline-test-named"), 1).await.unwrap_err();
    assert_eq!(violations(&refused), ["name"]);
    let insecure = v1::Source { insecure: true, ..Default::default() };
    let insecure = admin.source_like(insecure, "").await.id;
    let refused = set(&admin, &insecure, "", text("bowline-test-second"), 0).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NO_SECRET_USED"));
    let refused = set(&admin, "src_01h2xcejqtf2nbrexx3vqjhp41", "", text("bowline-test"), 0).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_command_line_sets_them_without_showing_them() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (app, token) = (file("app", "bowline-test-app"), file("token", "bowline-test-token\n"));
    let pair = format!("verify_token={token}");
    let made = cli
        .json(&[
            "source",
            "create",
            "pages",
            "--preset",
            "meta",
            "--secret-file",
            &app,
            "--named-secret-file",
            &pair,
        ])
        .await;
    let names = |source: &serde_json::Value| -> Vec<String> {
        let secrets = source["secrets"].as_array().unwrap();
        let mut names: Vec<String> =
            secrets.iter().map(|secret| secret["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&made["source"]), ["default", "verify_token"]);
    let set =
        ["source", "set-secret", "pages", "--name", "verify_token", "--secret-file", &app, "--overlap", "1h"];
    let changed = cli.ok(&[&set[..], &["-o", "json"]].concat()).await;
    assert_eq!(names(&changed.json()), ["default", "verify_token", "verify_token"]);
    assert!(!changed.text().contains("bowline-test"), "{changed:?}");
    assert!(cli.refused(2, &["source", "set-secret", "pages"]).await.contains("--secret-file"));
    let user = ["source", "set-secret", "pages", "--username", "acme", "--secret-file", &app];
    assert!(cli.refused(1, &user).await.contains("does not verify HTTP Basic"));
}

#[tokio::test]
async fn a_rotation_without_overlap_names_who_has_not_confirmed() {
    // Without a dispatcher nobody declares a replica that hangs dead.
    let mut stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    let id = stack.admin().source("github", "bowline-test-first").await;
    let hanging = "SELECT id FROM replicas ORDER BY started_at DESC LIMIT 1";
    let hanging: uuid::Uuid = stack.database.sql().query_one(hanging, &[]).await.unwrap().get(0);
    let hanging = bowline_core::id::ReplicaId(hanging).to_string();
    stack.ingests[1].pause();
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let rotated = cli.ok(&["source", "rotate-secret", &id, "--output", "json"]).await;
    assert_eq!(rotated.json()["unconfirmed_replicas"], json!([hanging]));
    assert!(rotated.err.contains("have not confirmed yet") && rotated.err.contains(&hanging), "{rotated:?}");
    // It hangs still, or takes nothing by the old secret when it wakes.
    stack.ingests[1].resume();
    let old = sign::github("bowline-test-first", "d-1", "push", b"{}");
    send(&format!("{}/in/{id}", stack.ingests[1].http_url()), &old).await.refused(401);
    let secret = rotated.json()["secret"].as_str().unwrap().to_owned();
    for (ingest, delivery) in stack.ingests.iter().zip(["d-2", "d-3"]) {
        let new = sign::github(&secret, delivery, "push", b"{}");
        send(&format!("{}/in/{id}", ingest.http_url()), &new).await.accepted();
    }
}
