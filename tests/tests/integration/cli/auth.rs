//! Authentication to receivers from the command line: secrets come from files and standard input alone.

use bowline_tests::Authority;
use serde_json::json;
use tempfile::tempdir;

use super::{file, stack};

#[tokio::test]
async fn auth_and_certificates_are_given_by_files_and_never_shown() {
    let (_stack, cli) = stack().await;
    let folder = tempdir().unwrap();
    let secret = file(&folder, "secret", "bowline-test-cli-secret\n");
    let create = ["endpoint", "create", "crm", "--url", "https://crm.example/in"];
    let created =
        cli.json(&[&create[..], &["--basic-user", "bowline", "--auth-secret-file", &secret]].concat()).await;
    assert_eq!(created["endpoint"]["auth"], json!({"method": "basic", "username": "bowline"}));

    let bare = ["endpoint", "create", "bare", "--url", "https://crm.example/in"];
    let oauth = ["--oauth2-token-url", "https://id.example/token", "--oauth2-client-id", "shop"];
    for method in [&["--bearer"][..], &["--basic-user", "bowline"], &oauth] {
        let said = cli.refused(2, &[&bare[..], method].concat()).await;
        let expected = "give --auth-secret-file, --auth-secret-env or --auth-secret-stdin";
        assert!(said.contains(method[0]) && said.contains(expected), "{said}");
    }
    // The secret it has is for the way it has.
    cli.refused(2, &["endpoint", "update", "crm", "--bearer"]).await;
    let renamed = cli.json(&["endpoint", "update", "crm", "--basic-user", "bowline2"]).await;
    assert_eq!(renamed["auth"]["username"], "bowline2");

    let update = ["endpoint", "update", "crm"];
    let said =
        cli.run(&[&update[..], &["--bearer", "--auth-secret-stdin"]].concat(), b"bowline-test-t2\n").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let oauth = [
        "--oauth2-token-url",
        "https://id.example/token",
        "--oauth2-client-id",
        "shop",
        "--oauth2-scope",
        "hooks.write",
        "--auth-secret-file",
        &secret,
    ];
    let changed = cli.json(&[&update[..], &oauth].concat()).await;
    assert_eq!(
        changed["auth"],
        json!({
            "method": "client_credentials", "token_url": "https://id.example/token", "client_id": "shop",
            "scopes": ["hooks.write"], "audience": "", "secret_in_body": false
        })
    );
    // A new secret alone leaves the rest as it is.
    let rotated = cli.json(&[&update[..], &["--auth-secret-file", &secret]].concat()).await;
    assert_eq!(rotated["auth"], changed["auth"]);

    let authority = Authority::new("bowline test clients");
    let own = authority.client("bowline");
    let (certificate, key) = (file(&folder, "tls.crt", &own.certificate), file(&folder, "tls.key", &own.key));
    let certificates = ["--client-certificate", &certificate, "--client-key", &key];
    let secured = cli.json(&[&update[..], &certificates].concat()).await;
    assert_eq!(secured["tls"], json!({"client_certificate": own.certificate, "ca_certificates": ""}));
    let text = cli.ok(&["endpoint", "get", "crm"]).await.text();
    assert!(text.contains("OAuth 2 client credentials (shop at https://id.example/token)"), "{text}");
    assert!(text.contains("client certificate") && !text.contains("bowline-test"), "{text}");

    let cleared = cli.json(&[&update[..], &["--clear", "auth", "--clear", "tls"]].concat()).await;
    assert_eq!((&cleared["auth"], &cleared["tls"]), (&json!(null), &json!(null)));
    let alone = cli.run(&[&update[..], &["--auth-secret-file", &secret]].concat(), b"").await;
    assert!(alone.code != Some(0) && alone.err.contains("--basic-user"), "{alone:?}");
}
