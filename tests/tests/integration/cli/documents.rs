//! What the documents say, done as they say it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};

use bowline_cli::dev::Ready;
use bowline_tests::cli::tested_block;
use bowline_tests::{BOUND, Receiver, binaries, eventually, http, sign};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{file, stack};

/// A script with `bowline` on its PATH and no setting from outside.
fn shell(script: &str, folder: &Path) -> Command {
    let programs = binaries::find("bowline").unwrap().parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOWLINE_")) {
        command.env_remove(name);
    }
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `bowline dev`, started by the README's own line; stopped when it is dropped.
struct Dev {
    child: Child,
    data: std::path::PathBuf,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Its keepers end what it leaves when it is killed.
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

#[tokio::test]
async fn the_first_steps_of_the_readme_work_as_they_stand() {
    let folder = TempDir::new().unwrap();
    let receiver = Receiver::start().await;
    // At an address of this test's own, where no other takes a port between its choice and its use.
    let [.., a, b, c] = uuid::Uuid::now_v7().into_bytes();
    let own = Ipv4Addr::new(127, a.max(1), b, c);
    let port = || bowline_cli::local::port::free().unwrap();
    let webhooks = SocketAddr::from((own, port()));
    let admin = std::iter::repeat_with(port).find(|port| *port != webhooks.port()).unwrap();
    let admin = SocketAddr::from((own, admin));
    // Nobody may enter a folder of tempfile's, and Postgres has an account of its own.
    let data = std::env::temp_dir().join(format!("bowline-readme-{}", uuid::Uuid::now_v7()));
    let here = |block: &str| {
        tested_block("README.md", block)
            .replace("127.0.0.1:8080", &webhooks.to_string())
            .replace("127.0.0.1:8081", &admin.to_string())
            .replace("http://127.0.0.1:9000/hook", &receiver.url())
            .replace("/var/tmp/bowline", data.to_str().unwrap())
    };
    let log = folder.path().join("dev.log");
    let ready_file = folder.path().join("ready.json");
    let start = format!("exec {} --ready-file {}", here("dev").trim(), ready_file.display());
    let child = shell(&start, folder.path())
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut dev = Dev { child, data: data.clone() };
    let ready = eventually(BOUND, async || Ready::read(&ready_file).map_err(|error| error.to_string())).await;
    assert_eq!(ready.ingest_url, format!("http://{webhooks}"));

    let done = shell(&here("first-steps"), folder.path()).output().await.unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let arrived = &receiver.await_count(1, BOUND).await[0];
    assert_eq!(
        (arrived.json()["type"].clone(), arrived.json()["data"]["id"].clone()),
        (json!("order.created"), json!(7))
    );
    let said = text(&done);
    assert!(said.contains("answer") && said.lines().last().unwrap().contains("push"), "{said}");

    // The sender's secret is not the one of the source, until the page's own lines mend that.
    let begin = here("first-steps").lines().find(|line| line.starts_with("export ")).unwrap().to_owned();
    let refuse = format!(
        "{begin}; echo bowline-test-wrong > wrong.secret
        bowline source set-secret pushes --secret-file wrong.secret
        ! bowline trigger github --source pushes --secret-file github.secret"
    );
    let done = shell(&refuse, folder.path()).output().await.unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let list = format!("{begin}; bowline rejection list pushes --output json");
    let id = eventually(BOUND, async || {
        let listed = shell(&list, folder.path()).output().await.unwrap();
        let listed: Value = serde_json::from_slice(&listed.stdout).map_err(|_| text(&listed))?;
        listed["rejections"][0]["id"].as_str().map(ToOwned::to_owned).ok_or_else(|| listed.to_string())
    })
    .await;
    for (block, says) in [("refused", "event  evt_"), ("replay", "events")] {
        let script = format!("{begin}\n{}", here(block).replace("rej_...", &id));
        let done = shell(&script, folder.path()).output().await.unwrap();
        let said = text(&done);
        assert!(done.status.success() && said.contains(says), "{said}");
    }

    let key = std::fs::read_to_string(&ready.admin_key_file).unwrap();
    // A log is read by others: it says where the key is, and neither it nor a password.
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains(ready.admin_key_file.to_str().unwrap()), "{log}");
    for pid in ready.pids.ingest.iter().chain(&ready.pids.dispatcher) {
        assert!(log.contains(&format!("is up, process {pid}\n")), "{log}");
    }
    for secret in [key.trim(), &ready.postgres_url, &ready.redis_url] {
        assert!(!log.contains(secret), "{log}");
    }
    kill(Pid::from_raw(dev.child.id().unwrap() as i32), Signal::SIGTERM).unwrap();
    assert!(dev.child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_scheme_of_ones_own_verifies_as_its_page_says() {
    let (stack, cli) = stack().await;
    let folder = TempDir::new().unwrap();
    file(&folder, "ours.toml", &tested_block("docs/schemes.md", "ours.toml"));
    let create = format!("{} --output json", tested_block("docs/schemes.md", "own-scheme").trim());
    let made = shell(&create, folder.path())
        .env("BOWLINE_ADMIN_URL", stack.ingests[0].admin_url())
        .env("BOWLINE_ADMIN_KEY", bowline_tests::admin::KEY)
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let secret = std::fs::read_to_string(folder.path().join("acme.secret")).unwrap();
    let secret = secret.trim();
    let url = stack.inbound(made["source"]["id"].as_str().unwrap());
    let signed = |age_s: i64, secret: &str| {
        let timestamp = sign::unix_now(-age_s).to_string();
        let mac = hex::encode(sign::hmac_sha256(secret.as_bytes(), &[timestamp.as_bytes(), b".", b"{}"]));
        let headers = [("x-acme-signature", format!("sha256={mac}")), ("x-acme-timestamp", timestamp)];
        headers.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    let send = async |age_s, secret| http::post(&url, &signed(age_s, secret), "{}").await.unwrap();
    let id = send(0, secret).await.accepted();
    assert_eq!(cli.json(&["event", "get", &id]).await["event_type"], "acme.event");
    assert_eq!(send(0, "another-secret").await.refused(401), "signature_mismatch");
    assert_eq!(send(400, secret).await.refused(401), "timestamp_too_old");

    let said = shell(&tested_block("docs/schemes.md", "curl"), folder.path())
        .env("ACME_URL", &url)
        .output()
        .await
        .unwrap();
    assert!(said.status.success(), "{}", text(&said));
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said)));
    let event = cli.json(&["event", "get", said["id"].as_str().unwrap_or_else(|| panic!("{said}"))]).await;
    assert_eq!(event["body"], r#"{"id": 7}"#);

    let broken = tested_block("docs/schemes.md", "ours.toml")
        .replace("\"hex\"", "\"hax\"")
        .replace("hmac-sha256", "hmac-sha257")
        .replace("tolerance_past_s", "tolerance_passed_s");
    let broken = file(&folder, "broken.toml", &broken);
    let said = cli.refused(1, &["source", "create", "broken", "--scheme", &broken]).await;
    for place in
        ["--scheme algorithm: ", "--scheme signature.encoding: ", "--scheme timestamp.tolerance_passed_s: "]
    {
        assert!(said.contains(place), "{said}");
    }
}

#[tokio::test]
async fn an_envelope_looks_as_its_page_says() {
    let (_stack, cli) = stack().await;
    let (standard, raw) = (Receiver::start().await, Receiver::start().await);
    cli.ok(&["endpoint", "create", "standard", "--url", &standard.url()]).await;
    cli.ok(&["endpoint", "create", "raw", "--url", &raw.url(), "--format", "raw"]).await;
    let bodies: [(&str, &str, &[u8]); 3] = [
        ("json", "application/json", br#"{"id": 7}"#),
        ("text", "text/plain", b"hello"),
        ("binary", "application/octet-stream", b"\x00\xff"),
    ];
    for (at, (block, content_type, body)) in bodies.into_iter().enumerate() {
        let published =
            cli.run(&["publish", "--type", "order.created", "--content-type", content_type], body).await;
        assert_eq!(published.code, Some(0), "{published:?}");
        let arrived = standard.await_count(at + 1, BOUND).await.swap_remove(at);
        let time = arrived.json()["timestamp"].as_str().unwrap().to_owned();
        let expected = tested_block("docs/formats.md", block).replace("2026-01-31T12:00:00.000Z", &time);
        assert_eq!(String::from_utf8_lossy(&arrived.body), expected.trim());
        let arrived = raw.await_count(at + 1, BOUND).await.swap_remove(at);
        assert_eq!((&arrived.body[..], arrived.header("content-type")), (body, content_type));
    }
}
