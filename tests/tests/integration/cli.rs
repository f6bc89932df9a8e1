//! The command line against running services: every noun by its names, and what is said when it fails.

mod auth;
mod by_hand;
mod documents;
mod endpoints;
mod payloads;
mod watch;

use bowline_tests::cli::Said;
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Cli, Receiver, Reply, Stack, eventually};
use tempfile::TempDir;

async fn stack() -> (Stack, Cli) {
    let stack = Stack::start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    (stack, cli)
}

/// The file's path, for an argument.
fn file(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_endpoint_is_made_read_changed_and_ended_by_its_name() {
    let (_stack, cli) = stack().await;
    let url = "http://127.0.0.1:1/hook";
    let created = cli
        .json(&[
            "endpoint",
            "create",
            "shop",
            "--url",
            url,
            "--event-type",
            "order.*",
            "--channel",
            "eu",
            "--header",
            "X-Team: billing",
            "--timeout",
            "20s",
            "--concurrency",
            "3",
            "--retry-schedule",
            "1s,5m",
            "--retry-jitter",
            "0",
            "--retry-max-age",
            "3h",
            "--disable-after-failures",
            "4",
            "--disable-after",
            "1h",
            "--label",
            "team=shop",
        ])
        .await;
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"), "{created}");
    let got = cli.json(&["endpoint", "get", "shop"]).await;
    assert_eq!(got, created["endpoint"]);
    assert_eq!(
        (&got["retry"], &got["disable"]),
        (
            &serde_json::json!({
                "max_attempts": 3, "schedule": {"waits": ["1s", "5m"], "jitter": 0.0}, "max_age": "3h"
            }),
            &serde_json::json!({"after_failures": 4, "after": "1h"})
        )
    );
    let id = got["id"].as_str().unwrap();
    assert_eq!(cli.json(&["endpoint", "get", id]).await, got);

    let changed = cli
        .json(&[
            "endpoint",
            "update",
            "shop",
            "--max-attempts",
            "7",
            "--clear",
            "channels",
            "--timeout",
            "9s",
        ])
        .await;
    assert_eq!((&changed["retry"]["max_attempts"], &changed["timeout"]), (&7.into(), &"9s".into()));
    assert_eq!(changed["retry"]["schedule"], got["retry"]["schedule"]);
    assert_eq!((&changed["channels"], &changed["headers"]), (&serde_json::json!([]), &got["headers"]));
    let grown =
        cli.json(&["endpoint", "update", "shop", "--retry-exponential", "--retry-initial", "2s"]).await;
    assert_eq!(grown["retry"]["exponential"]["initial"], "2s");

    let narrowed = cli.json(&["endpoint", "update", "shop", "--filter", "event.data.total > 100"]).await;
    assert_eq!(narrowed["filter"], "event.data.total > 100");
    assert_eq!(cli.json(&["endpoint", "update", "shop", "--clear", "filter"]).await["filter"], "");

    for (verb, state) in [("pause", "paused"), ("disable", "disabled"), ("enable", "enabled")] {
        assert_eq!(cli.json(&["endpoint", verb, "shop"]).await["state"], state);
    }
    let rotated = cli.json(&["endpoint", "rotate-secret", "shop", "--overlap", "1h"]).await;
    assert_ne!(rotated["secret"], created["secret"]);
    assert_eq!(rotated["endpoint"]["secrets"].as_array().unwrap().len(), 2);
    let stale =
        cli.refused(1, &["endpoint", "delete", "shop", "--etag", got["etag"].as_str().unwrap()]).await;
    assert!(stale.contains("ETAG_MISMATCH"), "{stale}");
    assert_eq!(cli.json(&["endpoint", "delete", "shop"]).await["id"], id);
    let gone = cli.refused(1, &["endpoint", "get", "shop"]).await;
    assert!(gone.contains("there is no endpoint \"shop\""), "{gone}");
}

#[tokio::test]
async fn a_source_is_made_read_changed_and_ended_by_its_name() {
    let (_stack, cli) = stack().await;
    let created =
        cli.json(&["source", "create", "pushes", "--preset", "github", "--path", "/hooks/gh"]).await;
    let got = cli.json(&["source", "get", "pushes"]).await;
    assert_eq!(got, created["source"]);
    // What holds where nothing was said.
    assert_eq!((&got["dedup_ttl"], &got["body_limit_bytes"]), (&"1day".into(), &26_214_400.into()));
    let changed = cli.json(&["source", "update", "pushes", "--name", "gh", "--dedup-ttl", "2h"]).await;
    assert_eq!((&changed["name"], &changed["dedup_ttl"]), (&"gh".into(), &"2h".into()));
    let cleared = cli.json(&["source", "update", "gh", "--clear", "dedup-ttl", "--clear", "path"]).await;
    assert_eq!((&cleared["dedup_ttl"], &cleared["path"]), (&"1day".into(), &"".into()));
    let keyed = cli.json(&["source", "update", "gh", "--dedup-key", "request.json.id"]).await;
    assert_eq!((&keyed["dedup_key"], &keyed["dedup_ttl"]), (&"request.json.id".into(), &"1day".into()));
    // A limit nobody set follows the preset.
    let other = cli.json(&["source", "update", "gh", "--preset", "stripe"]).await;
    assert_eq!(other["body_limit_bytes"], 1_048_576);

    assert_eq!(cli.json(&["source", "disable", "gh"]).await["enabled"], false);
    assert_eq!(cli.json(&["source", "enable", "gh"]).await["enabled"], true);
    let given = cli
        .run(&["source", "rotate-secret", "gh", "--secret-stdin", "-o", "json"], b"issued-by-them\n")
        .await;
    assert_eq!(given.json()["secret"], "issued-by-them", "{given:?}");
    assert_eq!(cli.json(&["source", "delete", "gh"]).await["id"], got["id"]);
    assert!(
        cli.refused(1, &["source", "get", got["id"].as_str().unwrap()])
            .await
            .starts_with("bowline: not found")
    );
}

#[tokio::test]
async fn an_event_is_published_and_shown_to_the_last_byte() {
    let (_stack, cli) = stack().await;
    let publish = ["publish", "--type", "order.created", "--channel", "eu", "--idempotency-key", "k-7"];
    let published = cli.json(&[&publish[..], &["--data", r#"{"id": 7}"#]].concat()).await;
    let folder = TempDir::new().unwrap();
    let same = file(&folder, "order.json", r#"{"id": 7}"#);
    let again = cli.json(&[&["event"], &publish[..], &["--data-file", &same]].concat()).await;
    assert_eq!((&again["event_id"], &again["duplicate"]), (&published["event_id"], &true.into()));
    let id = published["event_id"].as_str().unwrap();
    let shown = cli.json(&["event", "get", id]).await;
    assert_eq!((&shown["body"], &shown["channel"]), (&r#"{"id": 7}"#.into(), &"eu".into()));
    let text = cli.ok(&["event", "get", id]).await.text();
    assert!(text.contains("order.created") && text.ends_with("\n\n{\"id\": 7}\n"), "{text}");

    let bytes = b"\x00\xff\r\nno line end";
    let binary = ["publish", "--type", "blob", "--content-type", "application/octet-stream", "-o", "json"];
    let id = cli.run(&binary, bytes).await.json()["event_id"].as_str().unwrap().to_owned();
    assert_eq!(cli.ok(&["event", "get", &id, "--raw"]).await.out, bytes);
    assert_eq!(cli.json(&["event", "get", &id]).await["body_base64"], "AP8NCm5vIGxpbmUgZW5k");
}

/// The token that a table's list names for what follows.
fn more(said: &Said) -> Vec<String> {
    let line = said.err.trim().strip_prefix("more: ").unwrap_or_else(|| panic!("{said:?}"));
    line.split(' ').map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn a_list_says_that_there_is_more_and_goes_on_there() {
    let (stack, cli) = stack().await;
    stack.admin().publish_many("order.created", 5).await;
    let first = cli.ok(&["event", "list", "--limit", "2", "--since", "1h"]).await;
    let mut next: Vec<&str> = vec!["event", "list", "--limit", "4"];
    let more = more(&first);
    next.extend(more.iter().map(String::as_str));
    let rest = cli.ok(&next).await;
    assert_eq!((first.text().lines().count(), rest.text().lines().count()), (1 + 2, 1 + 3));
    assert_eq!(rest.err, "");
    assert_eq!(cli.ok(&["event", "list", "--all"]).await.text().lines().count(), 1 + 5);

    let page = cli.json(&["event", "list", "--limit", "3"]).await;
    let token = page["next_page_token"].as_str().unwrap();
    let last = cli.json(&["event", "list", "--page-token", token]).await;
    assert_eq!((last["events"].as_array().unwrap().len(), &last["next_page_token"]), (2, &"".into()));
    let wrong = cli.refused(1, &["event", "list", "--page-token", token, "--channel", "x"]).await;
    assert!(wrong.starts_with("bowline: invalid argument: --page-token"), "{wrong}");
}

#[tokio::test]
async fn why_an_endpoint_is_disabled_is_shown_and_redriving_to_it_warns() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::scripted([Reply::Status(410)]).await;
    cli.ok(&["endpoint", "create", "gone", "--url", &receiver.url()]).await;
    cli.ok(&["endpoint", "create", "other", "--url", &receiver.url(), "--event-type", "none"]).await;
    cli.ok(&["endpoint", "pause", "other"]).await;
    cli.ok(&["publish", "--type", "order.created", "--data", "{}"]).await;
    let letters = eventually(BOUND, async || {
        let letters = cli.json(&["dead-letter", "list", "--endpoint", "gone"]).await["dead_letters"].clone();
        if letters.as_array().unwrap().is_empty() { Err("no dead letter") } else { Ok(letters) }
    })
    .await;
    // It is disabled after its outcome is recorded.
    eventually(BOUND, async || {
        let table = cli.ok(&["endpoint", "list"]).await.text();
        let row = table.lines().find(|line| line.starts_with("gone")).unwrap_or_default();
        holds(row.contains("disabled (") && row.contains("410"), table.clone())
    })
    .await;
    let id = letters[0]["delivery_id"].as_str().unwrap();
    for which in [&["--endpoint", "gone"][..], &["--all"], &[id]] {
        let said = cli.ok(&[&["dead-letter", "redrive", "--dry-run"], which].concat()).await;
        assert!(
            said.err.contains("warning: endpoint gone is disabled") && !said.err.contains("other"),
            "{said:?}"
        );
    }
    assert_eq!(cli.json(&["delivery", "list", "--endpoint", "gone"]).await["deliveries"][0]["id"], id);
    let table = cli.ok(&["delivery", "list"]).await.text();
    assert!(table.lines().nth(1).unwrap().contains("  gone  "), "{table}");
    for retry in [&["retry", id][..], &["delivery", "retry", id]] {
        let said = cli.ok(retry).await;
        assert!(said.err.contains("warning: endpoint gone is disabled"), "{said:?}");
    }
    let shown = cli.ok(&["delivery", "get", id]).await.text();
    assert!(shown.contains("  gone, disabled ("), "{shown}");
    cli.ok(&["endpoint", "enable", "gone"]).await;
    assert_eq!(cli.ok(&["dead-letter", "redrive", "--all"]).await.err, "");
}

#[tokio::test]
async fn what_is_wrong_is_said_once_and_by_the_name_of_its_flag() {
    let (stack, cli) = stack().await;
    let text = cli.refused(1, &["endpoint", "create", "Shop", "--url", "ftp://x", "--timeout", "99s"]).await;
    for flag in ["the name: ", "--url: ", "--timeout: "] {
        assert_eq!(text.matches(flag).count(), 1, "{text}");
    }
    assert_eq!(text.lines().count(), 1 + 3, "{text}");
    let slip = cli.refused(1, &["source", "create", "a", "--preset", "strype"]).await;
    assert!(slip.contains("--preset: there is no preset `strype`: did you mean stripe?"), "{slip}");
    assert!(!slip.contains("paypal"), "{slip}");
    let window = cli.refused(1, &["delivery", "list", "--since", "1h", "--until", "2h"]).await;
    assert!(window.starts_with("bowline: invalid argument: --") && window.lines().count() == 1, "{window}");
    assert!(!window.contains("filter."), "{window}");
    for url in [stack.ingests[0].http_url(), stack.ingests[0].ops_url()] {
        let text = Cli::new(&url).refused(1, &["source", "list"]).await;
        assert!(text.contains(&format!("{url} does not look like a Bowline admin API")), "{text}");
    }
}

#[tokio::test]
async fn weak_secrets_are_refused_when_made_and_when_rotated() {
    let (_stack, cli) = stack().await;
    let folder = TempDir::new().unwrap();
    let short = file(&folder, "short", "bowline");
    let some = file(&folder, "some", "bowline-test-secret");
    let weak = file(&folder, "weak", "whsec_Ym93bGluZS10ZXN0");
    cli.ok(&["endpoint", "create", "shop", "--url", "http://127.0.0.1:1/"]).await;
    cli.ok(&["source", "create", "pushes", "--preset", "github", "--secret-file", &some]).await;
    for refused in [
        &["source", "create", "a", "--preset", "github", "--secret-file", &short][..],
        &["source", "rotate-secret", "pushes", "--secret-file", &short],
        &["endpoint", "create", "a", "--url", "http://127.0.0.1:1/", "--secret-file", &weak],
        &[
            "endpoint",
            "create",
            "a",
            "--url",
            "http://127.0.0.1:1/",
            "--format",
            "chimpbase",
            "--secret-file",
            &short,
        ],
        &["endpoint", "rotate-secret", "shop", "--secret-file", &weak],
    ] {
        let text = cli.refused(1, refused).await;
        assert!(text.contains("the secret: is too short") && !text.contains("bowline-test"), "{text}");
    }
}

#[tokio::test]
async fn every_metric_has_its_help() {
    let (stack, cli) = stack().await;
    let receiver = Receiver::start().await;
    cli.ok(&["endpoint", "create", "shop", "--url", &receiver.url()]).await;
    cli.ok(&["publish", "--type", "order.created", "--data", "{}"]).await;
    receiver.await_count(1, BOUND).await;
    for service in stack.ingests.iter().chain(&stack.dispatchers) {
        let url = format!("{}/metrics", service.ops_url());
        let text =
            bowline_tests::http::send(http::Method::GET, &url, &Vec::default(), "").await.unwrap().text();
        let named = |mark: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| Some(line.strip_prefix(mark)?.split(' ').next()?.to_owned()))
                .collect()
        };
        let (types, helped) = (named("# TYPE "), named("# HELP "));
        assert!(types.len() > 3, "{text}");
        for name in types {
            assert!(helped.contains(&name), "{name} has no help");
        }
    }
}

/// Whether reflection knows this name, asked in one of its two versions.
macro_rules! reflected {
    ($version:ident, $admin:expr, $symbol:expr) => {{
        use tonic_reflection::pb::$version as pb;
        let ask = pb::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(pb::server_reflection_request::MessageRequest::FileContainingSymbol(
                $symbol.to_owned(),
            )),
        };
        let asked = futures_util::stream::iter([ask]);
        let mut client = pb::server_reflection_client::ServerReflectionClient::new($admin.channel());
        let answer = client.server_reflection_info(asked).await.unwrap().into_inner().message().await;
        matches!(
            answer.ok().flatten().and_then(|answer| answer.message_response),
            Some(pb::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
        )
    }};
}

#[tokio::test]
async fn reflection_serves_the_details_of_errors_in_both_versions() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    for name in ["BadRequest", "ErrorInfo", "ResourceInfo", "RetryInfo"] {
        let symbol = format!("google.rpc.{name}");
        assert!(reflected!(v1, admin, symbol) && reflected!(v1alpha, admin, symbol), "{symbol}");
    }
    assert!(!reflected!(v1, admin, "google.rpc.Nothing"));
}
