//! What was refused for a cause that is mended becomes an event after all, once.

use bowline_proto::v1;
use bowline_proto::v1::set_source_secret_request::Value;
use bowline_tests::admin::{Admin, KEY, endpoint, reason};
use bowline_tests::sign::{self, Headers};
use bowline_tests::{BOUND, Cli, Receiver, Stack, eventually, http};
use futures_util::future::join_all;
use serde_json::json;
use tonic::{Code, Status};

use super::sources_over_http::{custom, headers};

const WRONG: &str = "bowline-test-wrong";
const RIGHT: &str = "bowline-test-right";
const BODY: &str = "{\"n\": 1}";

async fn refuse(stack: &Stack, source: &str, query: &str, sent: &Headers) -> v1::Rejection {
    let url = format!("{}{query}", stack.inbound(source));
    let answer = http::post(&url, sent, BODY).await.unwrap();
    assert!(answer.status >= 400, "{answer:?}");
    // It is written after the answer.
    let id = eventually(BOUND, async || {
        let listed = list(&stack.admin(), source).await;
        listed.first().map(|rejection| rejection.id.clone()).ok_or("not yet")
    })
    .await;
    let request = v1::GetRejectionRequest { id };
    stack.admin().sources().get_rejection(request).await.unwrap().into_inner().rejection.unwrap()
}

async fn list(admin: &Admin, source: &str) -> Vec<v1::Rejection> {
    let request = v1::ListRejectionsRequest { source_id: source.to_owned(), ..Default::default() };
    admin.sources().list_rejections(request).await.unwrap().into_inner().rejections
}

async fn reprocess(admin: &Admin, id: &str) -> Result<v1::ReprocessRejectionResponse, Status> {
    let request = v1::ReprocessRejectionRequest { id: id.to_owned() };
    Ok(admin.sources().reprocess_rejection(request).await?.into_inner())
}

async fn mend(admin: &Admin, source: &str) {
    let request = v1::SetSourceSecretRequest {
        id: source.to_owned(),
        value: Some(Value::Secret(RIGHT.into())),
        ..Default::default()
    };
    admin.sources().set_source_secret(request).await.unwrap();
}

fn refused_again(refused: Result<v1::ReprocessRejectionResponse, Status>, why: &str) {
    let refused = refused.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REJECTION_REFUSED"));
    assert!(refused.message().contains(why), "{refused:?}");
}

#[tokio::test]
async fn a_mended_secret_lets_it_in_once_however_often_it_is_tried() {
    let stack = Stack::start().await;
    let (admin, receiver) = (stack.admin(), Receiver::start().await);
    let (endpoint, _) = admin.endpoint(endpoint(receiver.url())).await;
    let source = admin.source("rkt", &format!("whsec_{WRONG}")).await;
    let secret = format!("whsec_{RIGHT}");
    let rejection = refuse(&stack, &source, "?page=1", &sign::rkt(&secret, BODY.as_bytes())).await;
    assert_eq!((rejection.code.as_str(), rejection.left_out.as_str()), ("signature_mismatch", ""));
    assert_eq!((&rejection.body[..], rejection.method.as_str()), (BODY.as_bytes(), "POST"));
    assert!(
        rejection.path.ends_with("?page=1")
            && rejection.headers.iter().any(|it| it.name == "x-rkt-signature")
    );
    refused_again(reprocess(&admin, &rejection.id).await, "signature_mismatch");

    let request = v1::SetSourceSecretRequest {
        id: source.clone(),
        value: Some(Value::Secret(secret)),
        ..Default::default()
    };
    admin.sources().set_source_secret(request).await.unwrap();
    // This source knows no deduplication key: that there is one event is the rejection's own doing.
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let tries = (0..8).map(|at| reprocess(if at % 2 == 0 { &admin } else { &by_dispatcher }, &rejection.id));
    let answers: Vec<_> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1, "{answers:?}");
    let event_id = &answers[0].event_id;
    assert!(answers.iter().all(|answer| answer.event_id == *event_id), "{answers:?}");
    admin.await_delivery(event_id, &endpoint, v1::DeliveryState::Delivered).await;
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);
    assert_eq!(receiver.await_count(1, BOUND).await.len(), 1);
    let shown = &list(&admin, &source).await[0];
    assert_eq!((&shown.event_id, shown.reprocess_time.is_some()), (event_id, true));
    let audited = "SELECT count(*) FROM audit_log WHERE action = 'ReprocessRejection' AND outcome = 'OK'";
    assert_eq!(stack.database.count(audited).await, 1);
}

#[tokio::test]
async fn what_the_sender_sent_again_meanwhile_is_not_accepted_twice() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let source = admin.source("github", WRONG).await;
    let sent = sign::github(RIGHT, "d-1", "push", BODY.as_bytes());
    let rejection = refuse(&stack, &source, "", &sent).await;
    mend(&admin, &source).await;
    let id = http::post(&stack.inbound(&source), &sent, BODY).await.unwrap().accepted();
    let answer = reprocess(&admin, &rejection.id).await.unwrap();
    assert_eq!((answer.event_id, answer.duplicate), (id, true));
    assert_eq!(stack.database.count("SELECT count(*) FROM events").await, 1);

    let gone = v1::DeleteSourceRequest { id: source, ..Default::default() };
    let other = admin.source("github", WRONG).await;
    let rejection = refuse(&stack, &other, "", &sent).await;
    admin.sources().delete_source(gone).await.unwrap();
    refused_again(reprocess(&admin, &rejection.id).await, "signature_mismatch");
    let unknown = reprocess(&admin, "rej_01h2xcejqtf2nbrexx3vqjhp41").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn timestamps_are_judged_as_of_the_receipt() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let source = admin.source("stripe", RIGHT).await;
    let old = sign::stripe(RIGHT, sign::unix_now(-1000), BODY.as_bytes());
    let rejection = refuse(&stack, &source, "", &old).await;
    refused_again(reprocess(&admin, &rejection.id).await, "timestamp_too_old");
    // As if it had come in when it was signed, and had been refused for another reason.
    let earlier = "UPDATE rejections SET create_time = create_time - interval '1000 seconds'";
    stack.database.sql().execute(earlier, &[]).await.unwrap();
    assert!(!reprocess(&admin, &rejection.id).await.unwrap().duplicate);
}

#[tokio::test]
async fn what_carried_a_secret_is_not_kept_and_said_so() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let named = |verify: &str| v1::CreateSourceRequest {
        source: Some(v1::Source { verify: verify.into(), event_type: "a.b".into(), ..Default::default() }),
        named_secrets: [("token".to_owned(), RIGHT.to_owned())].into(),
        ..Default::default()
    };
    let token = headers([("x-token", WRONG), ("x-kind", "order")]);
    for (verify, left_out, body) in [
        ("constant_time_eq(header('x-token'), secret('token'))", "the header `x-token`", BODY),
        ("constant_time_eq(request.query.token, secret('token'))", "the query", BODY),
        ("constant_time_eq(request.json.token, secret('token')) || false", "the body", ""),
    ] {
        let made = admin.sources().create_source(named(verify)).await.unwrap().into_inner().source.unwrap();
        let rejection = refuse(&stack, &made.id, &format!("?token={WRONG}"), &token).await;
        assert_eq!((rejection.left_out.as_str(), &rejection.body[..]), (left_out, body.as_bytes()));
        let kept = rejection.headers.iter().any(|header| header.name == "x-token");
        assert_eq!(kept, !left_out.contains("x-token"), "{verify}");
        assert_eq!(rejection.path.contains(WRONG), !left_out.contains("query"), "{verify}");
        refused_again(reprocess(&admin, &rejection.id).await, left_out);
    }
    let scheme = json!({"algorithm": "token", "signature": {"sources": ["header:authorization"], "prefix": "Bearer "}});
    let source = admin.source_like(custom(scheme), RIGHT).await.id;
    let rejection = refuse(&stack, &source, "", &headers([("authorization", "Bearer other")])).await;
    refused_again(reprocess(&admin, &rejection.id).await, "the header `authorization`");

    // A signature is no secret: it stays, and is judged again.
    let verify =
        "constant_time_eq(hex.encode(hmac_sha256(secret('token'), request.body)), header('x-signature'))";
    let made = admin.sources().create_source(named(verify)).await.unwrap().into_inner().source.unwrap();
    let mac = hex::encode(sign::hmac_sha256(b"bowline-test-new-token", &[BODY.as_bytes()]));
    let rejection = refuse(&stack, &made.id, "", &headers([("x-signature", &mac)])).await;
    assert_eq!((rejection.left_out.as_str(), &rejection.body[..]), ("", BODY.as_bytes()));
    let request = v1::SetSourceSecretRequest {
        id: made.id,
        name: "token".into(),
        value: Some(Value::Secret("bowline-test-new-token".into())),
        ..Default::default()
    };
    admin.sources().set_source_secret(request).await.unwrap();
    assert!(!reprocess(&admin, &rejection.id).await.unwrap().duplicate);
}

#[tokio::test]
async fn the_command_line_lists_shows_and_reprocesses_them() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, cli) = (stack.admin(), Cli::new(&stack.ingests[0].admin_url()));
    let source = admin
        .source_like(
            v1::Source { name: "pushes".into(), preset: "github".into(), ..Default::default() },
            WRONG,
        )
        .await;
    let sent = sign::github(RIGHT, "d-1", "push", BODY.as_bytes());
    let id = refuse(&stack, &source.id, "", &sent).await.id;
    let listed = cli.ok(&["rejection", "list", "--source", "pushes"]).await.text();
    assert!(listed.contains(&id) && listed.contains("signature_mismatch"), "{listed}");
    assert_eq!(cli.ok(&["rejection", "get", &id, "--raw"]).await.out, BODY.as_bytes());
    let shown = cli.json(&["rejection", "get", &id]).await;
    assert_eq!((&shown["body"], &shown["method"]), (&BODY.into(), &"POST".into()));
    let refused = cli.refused(1, &["rejection", "reprocess", &id]).await;
    assert!(refused.contains("REJECTION_REFUSED") && refused.contains("signature_mismatch"), "{refused}");
    mend(&admin, &source.id).await;
    let accepted = cli.json(&["rejection", "reprocess", &id]).await;
    assert_eq!(accepted["duplicate"], false);
    assert_eq!(
        cli.json(&["rejection", "list", "pushes"]).await["rejections"][0]["event_id"],
        accepted["event_id"]
    );
    // One of several that is refused keeps the others from nothing.
    let both = ["rejection", "reprocess", "rej_01h2xcejqtf2nbrexx3vqjhp41", &id, "--output", "json"];
    let said = cli.run(&both, b"").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("1 of 2 did not become an event"), "{said:?}");
    let both = said.json()["rejections"].clone();
    assert!(both[0]["error"].as_str().unwrap().starts_with("not found: "), "{both}");
    assert_eq!((&both[1]["event_id"], &both[1]["duplicate"]), (&accepted["event_id"], &true.into()));
    let page = v1::ListRejectionsRequest { source_id: source.id, page_size: 1, ..Default::default() };
    let page = admin.sources().list_rejections(page).await.unwrap().into_inner();
    assert_eq!((page.rejections.len(), page.next_page_token.as_str()), (1, ""));
}
