//! Where providers put what they sign: in forms and JSON, in URLs with escapes, in headers that come twice. What a
//! running ingest takes is what `bowline verify` takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_tests::cli::Cli;
use bowline_tests::sign::{self, Headers};
use bowline_tests::{Stack, http};
use serde_json::{Value, json};

const MAILGUN: &str = "key-bowline-test-mailgun";
const HUBSPOT: &str = "bowline-test-hubspot";

/// A request to a source, and whether its provider signed it.
struct Case {
    id: &'static str,
    preset: &'static str,
    /// Behind the source's URL.
    query: &'static str,
    headers: Headers,
    body: Vec<u8>,
    refused: Option<(u16, &'static str)>,
}

fn case(id: &'static str, preset: &'static str, headers: Headers, body: impl Into<Vec<u8>>) -> Case {
    Case { id, preset, query: "", headers, body: body.into(), refused: None }
}

fn refused(mut case: Case, status: u16, code: &'static str) -> Case {
    case.refused = Some((status, code));
    case
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn of_type(content_type: &str) -> Headers {
    vec![header("content-type", content_type)]
}

/// Timestamp, token and signature as Mailgun makes them.
fn stamped(token: &str, shift_s: i64) -> [String; 3] {
    let timestamp = sign::unix_now(shift_s).to_string();
    let signature = sign::hmac_sha256(MAILGUN.as_bytes(), &[timestamp.as_bytes(), token.as_bytes()]);
    [timestamp, token.to_owned(), hex::encode(signature)]
}

fn urlencoded([timestamp, token, signature]: [String; 3], rest: &str) -> String {
    format!("recipient=a%40example.com&timestamp={timestamp}&token={token}&signature={signature}{rest}")
}

fn multipart(fields: &[String; 3]) -> Vec<u8> {
    let mut body = b"--bowline\r\ncontent-disposition: form-data; filename=\"; name=token; \"; \
                     name=\"attachment-1\"\r\ncontent-type: application/octet-stream\r\n\r\n\x00\xff\r\n"
        .to_vec();
    for (name, value) in ["timestamp", "token", "signature"].iter().zip(fields) {
        let part = format!("--bowline\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(b"--bowline--\r\n");
    body
}

fn mailgun() -> Vec<Case> {
    let form = || of_type("application/x-www-form-urlencoded");
    let parts = || of_type("multipart/form-data; boundary=bowline");
    let mut forged = stamped("token-5", 0);
    forged[1] = "token-6".into();
    let [timestamp, token, signature] = stamped("token-7", 0);
    // A link that reads like a form, and a name that is no text: JSON all the same.
    let webhook = format!(
        r#"{{"signature":{{"timestamp":"{timestamp}","token":"{token}","signature":"{signature}"}},
            "event-data":{{"event":"clicked","id":"e-1","url":"https://example.com/?a&signature=&token=&b","\ud83d":1}}}}"#
    );
    vec![
        case("a form", "mailgun", form(), urlencoded(stamped("token-1", 0), "&event=delivered")),
        case("a form with a file", "mailgun", parts(), multipart(&stamped("token-2", 0))),
        case("json", "mailgun", of_type("application/json"), webhook),
        refused(
            case("a form of yesterday", "mailgun", form(), urlencoded(stamped("token-3", -86_400), "")),
            401,
            "timestamp_too_old",
        ),
        refused(case("another token", "mailgun", parts(), multipart(&forged)), 401, "signature_mismatch"),
        refused(case("no signature", "mailgun", form(), "timestamp=1&token=a"), 400, "missing_field"),
        refused(case("no boundary", "mailgun", of_type("multipart/form-data"), "x"), 400, "malformed_field"),
    ]
}

/// What `HubSpot` signs for `query`, if it has the URL as `signed`.
fn hubspot(id: &'static str, url: &str, query: &'static str, signed: &str) -> Case {
    let body = r#"[{"eventId":1,"subscriptionType":"contact.creation"}]"#;
    let timestamp = (sign::unix_now(0) * 1000).to_string();
    let content = ["POST", url, signed, body, &timestamp].map(str::as_bytes);
    let signature = STANDARD.encode(sign::hmac_sha256(HUBSPOT.as_bytes(), &content));
    let headers =
        vec![header("x-hubspot-signature-v3", &signature), header("x-hubspot-request-timestamp", &timestamp)];
    Case { query, ..case(id, "hubspot-v3", headers, body) }
}

fn escapes(url: &str) -> Vec<Case> {
    const QUERY: &str = "?to=https%3A%2F%2Fexample.com%2F%3Fa&m=%40%21%24%27%28%29%2A%2C%3B&n=%26%3D%20%253A";
    const SIGNED: &str = "?to=https://example.com/?a&m=@!$'()*,;&n=%26%3D%20%253A";
    vec![
        hubspot("escapes", url, QUERY, SIGNED),
        refused(
            hubspot("too many escapes", url, QUERY, &SIGNED.replace("%20", " ")),
            401,
            "signature_mismatch",
        ),
        refused(hubspot("another escape", url, "?a=%3B", "?a=:"), 401, "signature_mismatch"),
    ]
}

fn twice(secret: &str) -> Vec<Case> {
    let body = br#"{"type":"contact.created","data":{}}"#;
    let wrong = format!("v1,{}=", "A".repeat(43));
    let signed = |right: [bool; 2]| {
        let mut headers = sign::standard(secret, "msg_1", sign::unix_now(0), body);
        let at = headers.iter().position(|(name, _)| name == "webhook-signature").unwrap();
        let (name, signature) = headers.remove(at);
        headers.extend(right.map(|right| header(&name, if right { &signature } else { &wrong })));
        headers
    };
    let mut github = sign::github("bowline-test-github-secret", "delivery-1", "push", b"{}");
    let right = github.iter().find(|(name, _)| name == "x-hub-signature-256").unwrap().clone();
    github.push(right);
    vec![
        case("the first of two headers", "standard", signed([true, false]), body),
        case("the last of two headers", "standard", signed([false, true]), body),
        refused(
            case("neither of two headers", "standard", signed([false, false]), body),
            401,
            "signature_mismatch",
        ),
        refused(case("one signature twice", "github", github, "{}"), 400, "malformed_header"),
    ]
}

fn vector(case: &Case, secret: &str, url: &str) -> Value {
    json!({
        "id": case.id,
        "scheme": case.preset,
        "request": {
            "method": "POST",
            "url": format!("{url}{}", case.query),
            "headers": case.headers,
            "body_b64": STANDARD.encode(&case.body),
        },
        "secrets": [secret],
        "now": sign::unix_now(0),
        "expected": if case.refused.is_some() { "invalid" } else { "valid" },
    })
}

#[tokio::test]
async fn a_running_ingest_and_the_judge_of_vectors_agree_on_where_signatures_stand() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let standard = sign::test_secret("standard");
    let mut vectors = Vec::new();
    for (preset, secret) in [
        ("mailgun", MAILGUN),
        ("hubspot-v3", HUBSPOT),
        ("standard", &standard),
        ("github", "bowline-test-github-secret"),
    ] {
        let source = admin.source(preset, secret).await;
        let url = format!("http://ingest.test/in/{source}");
        let cases = mailgun().into_iter().chain(escapes(&url)).chain(twice(&standard));
        for case in cases.filter(|case| case.preset == preset) {
            let at = format!("{}{}", stack.inbound(&source), case.query);
            let answer = http::post(&at, &case.headers, case.body.clone()).await.unwrap();
            let said = (answer.status, answer.json()["error"]["code"].as_str().map(str::to_owned));
            let wanted = case.refused.map_or((200, None), |(status, code)| (status, Some(code.to_owned())));
            assert_eq!(said, wanted, "{}: {}", case.id, answer.text());
            vectors.push(vector(&case, secret, &url));
        }
    }
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let said =
        cli.run(&["verify", "--vectors", "-", "--check"], Value::from(vectors).to_string().as_bytes()).await;
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[tokio::test]
async fn a_form_of_mailgun_is_known_by_its_token_and_has_the_type_it_says() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let source = admin.source("mailgun", MAILGUN).await;
    let post = async |body: String| {
        let headers = of_type("application/x-www-form-urlencoded");
        http::post(&stack.inbound(&source), &headers, body).await.unwrap()
    };
    let form = urlencoded(stamped("token-1", 0), "&event=dropped");
    let id = post(form.clone()).await.accepted();
    assert_eq!(post(form).await.json(), json!({"id": id, "duplicate": true}));
    // What a route forwards is no event of Mailgun's own.
    let message = post(urlencoded(stamped("token-2", 0), "&body-plain=hello")).await.accepted();
    for (id, event_type) in [(id, "dropped"), (message, "mailgun.event")] {
        let request = bowline_proto::v1::GetEventRequest { id };
        let event = admin.events().get_event(request).await.unwrap().into_inner().event.unwrap();
        assert_eq!(event.event_type, event_type);
    }
}
