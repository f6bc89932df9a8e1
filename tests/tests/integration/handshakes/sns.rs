//! Amazon SNS has a URL of its own visited before it sends anything there. What plays Amazon here is a server on
//! this machine: the deployment trusts its authority, reaches it through its forward proxy, and the source takes
//! certificates from its address; the rest is the preset.

use bowline_core::preset;
use bowline_proto::v1;
use bowline_tests::http::{self, Answer};
use bowline_tests::receiver::{Receiver, Reply};
use bowline_tests::{Authority, ConnectProxy, Stack};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey};
use serde_json::{Value, json};

use super::headers;
use crate::sources_over_http::custom;

const KEY: &str = include_str!("../../../../core/src/scheme/testdata/rsa-private.pem");
const TOPIC: &str = "arn:aws:sns:test-1:000000000000:bowline-test";
const CONFIRM: &str = "https://127.0.0.1/?Action=ConfirmSubscription&Token=bowline-test-token";

/// The server, and what it signs with.
struct Amazon {
    key: KeyPair,
    server: Receiver,
    url: String,
}

impl Amazon {
    fn message(kind: &str, id: &str) -> Value {
        json!({
            "Type": kind, "MessageId": id, "TopicArn": TOPIC, "Message": "bowline test",
            "Timestamp": "2026-01-31T12:00:00.000Z", "SignatureVersion": "2",
            "SigningCertURL": "https://127.0.0.1/SimpleNotificationService-test.pem",
        })
    }

    fn confirmation(url: &str) -> Value {
        let mut message = Self::message("SubscriptionConfirmation", "confirm-1");
        message["SubscribeURL"] = url.into();
        message["Token"] = "bowline-test-token".into();
        message
    }

    /// <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>
    fn signed(&self, mut message: Value) -> Value {
        let names =
            ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];
        let lines = names.iter().filter_map(|name| Some(format!("{name}\n{}\n", message[*name].as_str()?)));
        let signature = self.key.sign(lines.collect::<String>().as_bytes()).unwrap();
        message["Signature"] = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, signature).into();
        message
    }

    async fn post(&self, message: &Value) -> Answer {
        let headers = headers([
            ("content-type", "text/plain; charset=UTF-8"),
            ("x-amz-sns-message-type", message["Type"].as_str().unwrap()),
            ("x-amz-sns-message-id", message["MessageId"].as_str().unwrap()),
        ]);
        http::post(&self.url, &headers, message.to_string()).await.unwrap()
    }

    /// What was asked of it, in order.
    fn asked(&self) -> Vec<String> {
        let asked = self.server.requests();
        asked.iter().map(|one| format!("{}?{}", one.path, one.query)).collect()
    }
}

/// The preset's, at another host.
fn scheme() -> Value {
    let scheme = preset::find("aws-sns").unwrap().description().scheme.clone();
    let mut scheme = serde_json::to_value(scheme).unwrap();
    scheme["key_source"]["host"] = r"127\.0\.0\.1".into();
    scheme["require_equal"][0]["equals"] = TOPIC.into();
    scheme
}

#[tokio::test]
async fn a_subscription_is_confirmed_by_a_visit() {
    let authority = Authority::new("bowline test servers");
    let server = Receiver::secure(authority.server(None)).await;
    let proxy = ConnectProxy::start_to(server.address()).await;
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), authority.pem()).unwrap();
    let stack = Stack::builder()
        .dispatchers(0)
        .set_ingest("BOWLINE_EGRESS_PROXY_URL", &proxy.url())
        .set_ingest("SSL_CERT_FILE", trusted.path().to_str().unwrap())
        .start()
        .await;
    let source = v1::Source { preset: "aws-sns".into(), event_type: String::new(), ..custom(scheme()) };
    let source = stack.admin().source_like(source, "").await;
    let key = KeyPair::from_pem_and_sign_algo(KEY, &PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap().pem();
    let amazon = Amazon { key, server, url: stack.inbound(&source.id) };
    let events = async || stack.database.count("SELECT count(*) FROM events").await;

    // Nobody is visited for a message that Amazon did not sign.
    amazon.server.answer(Reply::Json(200, certificate));
    let mut forged = amazon.signed(Amazon::confirmation(CONFIRM));
    forged["Token"] = "of-a-stranger".into();
    assert_eq!(amazon.post(&forged).await.refused(401), "signature_mismatch");
    assert_eq!(amazon.asked(), ["/SimpleNotificationService-test.pem?"]);

    // Nor anybody but Amazon.
    for elsewhere in ["https://localhost/?Token=x", "http://127.0.0.1/?Token=x", "https://127.0.0.1:8443/"] {
        let answer = amazon.post(&amazon.signed(Amazon::confirmation(elsewhere))).await;
        assert_eq!(answer.refused(400), "untrusted_url", "{elsewhere}");
    }
    let mut other = Amazon::confirmation(CONFIRM);
    other["TopicArn"] = "arn:aws:sns:test-1:000000000000:of-a-stranger".into();
    assert_eq!(amazon.post(&amazon.signed(other)).await.status, 401, "another topic");
    assert_eq!(amazon.asked().len(), 1, "{:?}", amazon.asked());

    // A visit that fails is made again when the message comes again.
    let confirmation = amazon.signed(Amazon::confirmation(CONFIRM));
    amazon.server.answer(Reply::Status(500));
    let refused = amazon.post(&confirmation).await;
    assert_eq!(refused.refused(503), "not_confirmed");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{refused:?}");
    amazon.server.answer(Reply::Status(200));
    assert_eq!(amazon.post(&confirmation).await.status, 200);
    let visit = "/?Action=ConfirmSubscription&Token=bowline-test-token";
    assert_eq!(amazon.asked()[1..], [visit, visit]);
    assert_eq!(events().await, 0);

    // What is sent then is verified with the certificate that is at hand.
    let notification = amazon.signed(Amazon::message("Notification", "message-1"));
    amazon.post(&notification).await.accepted();
    assert_eq!((events().await, amazon.asked().len()), (1, 3));
    assert!(proxy.asked().iter().all(|asked| asked == "127.0.0.1:443"), "{:?}", proxy.asked());
}
