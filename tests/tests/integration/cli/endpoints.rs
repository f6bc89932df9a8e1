//! The flags of `bowline endpoint`: what each writes, what its receiver sees, and how a wrong one is named.

use bowline_tests::{BOUND, Receiver, Reply, eventually, sign};
use serde_json::json;
use tempfile::tempdir;

use super::{file, stack};

const URL: [&str; 2] = ["--url", "http://127.0.0.1:1/hook"];

const ACME: &str = r#"
algorithm = "hmac-sha256"
content = "{timestamp}:{body}" # what they sign

[signature]
sources = ["header:x-acme-signature"]
encoding = "hex"
layout = { item_sep = ";", kv_sep = "=", signature_key = "sig", timestamp_key = "ts" }

[timestamp]
unit = "s"
"#;

#[tokio::test]
async fn a_format_of_ones_own_is_made_from_a_file_and_its_flags() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::start().await;
    let folder = tempdir().unwrap();
    let (scheme, secret) =
        (file(&folder, "acme.toml", ACME), file(&folder, "secret", "bowline-test-acme-secret\n"));
    let url = receiver.url();
    let create = [
        "endpoint",
        "create",
        "acme",
        "--url",
        &url,
        "--format",
        "custom",
        "--custom-scheme",
        &scheme,
        "--custom-header",
        "x-acme-event=event_type",
        "--custom-header",
        "x-acme-attempt=attempt_id",
        "--transform",
        "{'order': event.data.id}",
        "--secret-file",
        &secret,
    ];
    let created = cli.json(&create).await;
    let format = &created["endpoint"]["custom_format"];
    assert_eq!(format["headers"], json!({"x-acme-event": "event_type", "x-acme-attempt": "attempt_id"}));
    assert_eq!(format["scheme"]["signature"]["layout"]["signature_key"], "sig");
    assert_eq!(created["endpoint"]["transform"], "{'order': event.data.id}");

    cli.ok(&["publish", "--type", "order.created", "--data", r#"{"id": 7}"#]).await;
    let request = receiver.await_count(1, BOUND).await.remove(0);
    assert_eq!((request.header("x-acme-event"), request.json()), ("order.created", json!({"order": 7})));
    let given = request.header("x-acme-signature");
    let (timestamp, signature) = given.strip_prefix("ts=").and_then(|rest| rest.split_once(";sig=")).unwrap();
    let content = [timestamp.as_bytes(), b":", &request.body];
    assert_eq!(signature, hex::encode(sign::hmac_sha256(b"bowline-test-acme-secret", &content)));

    // The same scheme as JSON, and one thing changed leaves the other.
    let json_text = serde_json::to_string(&format["scheme"]).unwrap();
    let as_json = file(&folder, "acme.json", &json_text);
    let same = cli.json(&["endpoint", "update", "acme", "--custom-scheme", &as_json]).await;
    assert_eq!(&same["custom_format"], format);
    let header = ["endpoint", "update", "acme", "--custom-header", "x-acme-kind=event_type"];
    let changed = cli.json(&header).await;
    assert_eq!(changed["custom_format"]["scheme"], format["scheme"]);
    assert_eq!(changed["custom_format"]["headers"], json!({"x-acme-kind": "event_type"}));
}

#[tokio::test]
async fn what_is_wrong_in_a_scheme_is_named_by_the_flag_and_the_field() {
    let (_stack, cli) = stack().await;
    let folder = tempdir().unwrap();
    let create = [&["endpoint", "create", "acme", "--format", "custom"][..], &URL].concat();
    for (name, text, says) in [
        ("wrong.toml", ACME.replace("\"hex\"", "\"hexx\""), "--custom-scheme signature.encoding"),
        ("unbound.toml", ACME.replace(":{body}", ""), "--custom-scheme content"),
        ("unknown.toml", format!("colour = 1\n{ACME}"), "colour"),
        ("broken.toml", "algorithm =".to_owned(), "--custom-scheme"),
    ] {
        let path = file(&folder, name, &text);
        let said = cli.run(&[&create[..], &["--custom-scheme", &path]].concat(), b"").await;
        assert!(said.code.is_some_and(|code| code != 0) && said.out.is_empty(), "{name}: {said:?}");
        assert!(said.err.contains(says) && said.err.contains("--custom-scheme"), "{name}: {}", said.err);
    }
    let path = file(&folder, "acme.toml", ACME);
    let wrong = [&create[..], &["--custom-scheme", &path, "--custom-header", "x-acme=colour"]].concat();
    let said = cli.refused(1, &wrong).await;
    assert!(said.contains("--custom-header [x-acme]"), "{said}");
    let standard = [&["endpoint", "create", "acme", "--custom-scheme", &path][..], &URL].concat();
    assert!(cli.refused(1, &standard).await.contains("--custom-scheme"), "a format that has its own scheme");
}

#[tokio::test]
async fn statuses_mean_what_the_flag_says() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::scripted([Reply::Status(404)]).await;
    let url = receiver.url();
    let create = ["endpoint", "create", "shop", "--url", &url];
    let own = ["--on-status", "404,420-429=dead", "--on-status", "5xx=30s", "--on-status", "410=retry"];
    let created = cli.json(&[&create[..], &own].concat()).await;
    let expected = json!([
        {"statuses": ["404", "420-429"], "then": "dead"},
        {"statuses": ["5xx"], "then": "30s"},
        {"statuses": ["410"], "then": "retry"},
    ]);
    assert_eq!(created["endpoint"]["retry"]["overrides"], expected);
    let text = cli.ok(&["endpoint", "get", "shop"]).await.text();
    assert!(text.contains("404,420-429=dead; 5xx=30s; 410=retry"), "{text}");

    // The first attempt is the last one.
    cli.ok(&["publish", "--type", "order.created", "--data", "{}"]).await;
    let letter = eventually(BOUND, async || {
        let letters = cli.json(&["dead-letter", "list", "--endpoint", "shop"]).await["dead_letters"].clone();
        letters.get(0).cloned().ok_or("no dead letter")
    })
    .await;
    assert_eq!(receiver.count(), 1, "{letter}");

    // Another policy leaves them; others replace them all.
    let fixed = cli.json(&["endpoint", "update", "shop", "--retry-fixed", "2s", "--max-attempts", "4"]).await;
    assert_eq!(fixed["retry"]["fixed"]["wait"], "2s");
    assert_eq!((&fixed["retry"]["overrides"], &fixed["retry"]["max_attempts"]), (&expected, &json!(4)));
    let grown = ["--retry-exponential", "--retry-initial", "1s", "--retry-factor", "3", "--retry-max", "9m"];
    let grown =
        cli.json(&[&["endpoint", "update", "shop", "--on-status", "503=dead"][..], &grown].concat()).await;
    assert_eq!(grown["retry"]["exponential"], json!({"initial": "1s", "factor": 3.0, "max": "9m"}));
    assert_eq!(grown["retry"]["overrides"], json!([{"statuses": ["503"], "then": "dead"}]));

    for (wrong, code, says) in [
        ("404", 2, "STATUSES=WHAT"),
        ("404=soon", 2, "neither dead, retry nor a wait"),
        ("4yy=dead", 1, "--on-status [0]"),
        ("200=dead", 1, "--on-status [0]"),
    ] {
        let said = cli.refused(code, &["endpoint", "update", "shop", "--on-status", wrong]).await;
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[tokio::test]
async fn the_kind_of_a_secret_is_chosen_and_only_the_public_half_stays_visible() {
    let (stack, cli) = stack().await;
    let receiver = Receiver::start().await;
    let url = receiver.url();
    let pair = cli.json(&["endpoint", "create", "shop", "--url", &url, "--secret-kind", "ed25519"]).await;
    let private = pair["secret"].as_str().unwrap();
    let public = pair["endpoint"]["secrets"][0]["public_key"].as_str().unwrap();
    assert!(private.starts_with("whsk_") && public.starts_with("whpk_"), "{pair}");
    let jwks = pair["endpoint"]["jwks_url"].as_str().unwrap();
    let path = jwks.strip_prefix("http://ingest.test").unwrap();
    let url = format!("{}{path}", stack.ingests[0].http_url());
    let keys = bowline_tests::http::send(http::Method::GET, &url, &Vec::new(), "").await.unwrap();
    assert_eq!(keys.json()["keys"].as_array().unwrap().len(), 1);
    cli.ok(&["publish", "--type", "order.created", "--data", "{}"]).await;
    let request = receiver.await_count(1, BOUND).await.remove(0);
    assert!(request.header("webhook-signature").starts_with("v1a,"), "{request:?}");

    // The kind stays until another is asked for.
    let again = cli.json(&["endpoint", "rotate-secret", "shop"]).await;
    assert!(again["secret"].as_str().unwrap().starts_with("whsk_"), "{again}");
    let shared = cli.json(&["endpoint", "rotate-secret", "shop", "--secret-kind", "hmac"]).await;
    assert!(shared["secret"].as_str().unwrap().starts_with("whsec_"), "{shared}");
    let given = ["endpoint", "rotate-secret", "shop", "--secret-stdin", "--output", "json"];
    let secret = sign::test_secret("given-on-stdin");
    assert_eq!(cli.run(&given, secret.as_bytes()).await.json()["secret"], secret);

    let chatbase = ["endpoint", "create", "b", "--format", "chatbase", "--secret-kind", "ed25519"];
    let said = cli.refused(1, &[&chatbase[..], &URL].concat()).await;
    assert!(said.contains("--secret-kind"), "{said}");
    assert!(cli.refused(2, &["endpoint", "create", "c", "--secret-kind", "rsa"]).await.contains("ed25519"));
}

#[tokio::test]
async fn headers_rates_and_names_are_written_and_set_back() {
    let (_stack, cli) = stack().await;
    let folder = tempdir().unwrap();
    let headers = file(&folder, "headers", "X-Api-Key: bowline-test-key\n\nX-Team: billing\n");
    let create = [
        "endpoint",
        "create",
        "shop",
        "--headers-file",
        &headers,
        "--header",
        "X-Region: eu",
        "--rate",
        "12.5",
        "--display-name",
        "The shop",
        "--request-id",
        "made-once",
    ];
    let create = [&create[..], &URL].concat();
    let created = cli.json(&create).await;
    let endpoint = &created["endpoint"];
    // Made once, however often it is said.
    assert_eq!(cli.json(&create).await["endpoint"]["id"], endpoint["id"]);
    // What is a secret by its name is not shown again.
    let expected = json!({"X-Api-Key": "(sealed)", "X-Team": "billing", "X-Region": "eu"});
    assert_eq!(endpoint["headers"], expected);
    assert_eq!((&endpoint["rate"], &endpoint["display_name"]), (&json!(12.5), &json!("The shop")));

    let renamed = cli.json(&["endpoint", "update", "shop", "--name", "store", "--rate", "0.5"]).await;
    assert_eq!((&renamed["name"], &renamed["rate"]), (&json!("store"), &json!(0.5)));
    let fields = ["rate", "headers", "display-name", "retry", "disable", "concurrency", "timeout", "labels"];
    let mut clear = vec!["endpoint", "update", "store"];
    fields.iter().for_each(|field| clear.extend(["--clear", field]));
    let cleared = cli.json(&clear).await;
    assert_eq!((&cleared["rate"], &cleared["headers"]), (&json!(0.0), &json!({})));
    assert_eq!((&cleared["timeout"], &cleared["concurrency"]), (&json!("10s"), &json!(16)));
    let both = cli.run(&["endpoint", "update", "store", "--rate", "1", "--clear", "rate"], b"").await;
    assert!(both.code != Some(0) && both.err.contains("both given and cleared"), "{both:?}");
    let broken = file(&folder, "broken", "X-Api-Key bowline-test-key\n");
    let said = cli.run(&["endpoint", "update", "store", "--headers-file", &broken], b"").await;
    assert!(said.code != Some(0) && said.err.contains("line 1"), "{said:?}");
    assert!(!said.err.contains("bowline-test"), "{said:?}");
}

#[tokio::test]
async fn a_list_shows_the_endpoints_that_are_asked_for() {
    let (_stack, cli) = stack().await;
    for (name, format, label) in
        [("a", "standard", "team=x"), ("b", "chimpbase", "team=x"), ("c", "standard", "team=y")]
    {
        let create = ["endpoint", "create", name, "--format", format, "--label", label];
        cli.ok(&[&create[..], &URL].concat()).await;
    }
    cli.ok(&["endpoint", "pause", "c"]).await;
    for (flags, names) in [
        (&[][..], &["a", "b", "c"][..]),
        (&["--name", "b"], &["b"]),
        (&["--format", "standard"], &["a", "c"]),
        (&["--label", "team=x"], &["a", "b"]),
        (&["--state", "paused"], &["c"]),
        (&["--state", "enabled", "--format", "standard"], &["a"]),
        (&["--state", "disabled"], &[]),
    ] {
        let listed = cli.json(&[&["endpoint", "list"][..], flags].concat()).await;
        let found: Vec<&str> =
            listed["endpoints"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(found, names, "{flags:?}");
    }
    let table = cli.ok(&["endpoint", "list"]).await.text();
    let rows: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rows, ["a", "b", "c"], "{table}");
}

#[tokio::test]
async fn several_types_in_one_flag_are_warned_of() {
    let (_stack, cli) = stack().await;
    let create = [&["endpoint", "create", "late", "--event-type", "push,issues"][..], &URL].concat();
    let made = cli.ok(&create).await;
    assert!(made.err.contains("push,issues is one event type"), "{made:?}");
    let apart = ["endpoint", "update", "late", "--event-type", "push", "--event-type", "issues"];
    let made = cli.ok(&apart).await;
    assert!(!made.err.contains("warning"), "{made:?}");
}
