//! What a service says to a configuration it cannot use, what it tells of itself, and what it never tells.

use bowline_proto::v1;
use bowline_tests::admin::{self, KEY};
use bowline_tests::service::{Kind, Service};
use bowline_tests::{BOUND, Provider, Receiver, Reply, Stack, http, sign};

#[tokio::test]
async fn all_faults_are_reported_at_once_and_the_exit_code_is_64() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Ingest, Kind::Dispatcher] {
        let faulty = [
            ("BOWLINE_POSTGRES_URL", "mysql://nobody:a-password-not-to-be-shown@nowhere/x"),
            ("BOWLINE_POSTGRES_POOL_SIZE", "1000"),
            ("BOWLINE_REDIS_PREFIX", "Not A Slug"),
            ("BOWLINE_ADMIN_BOOTSTRAP_KEY", "too-short-key"),
            ("BOWLINE_DISPATCHER_DRAIN_TIMEOUT", "soon"),
            ("BOWLINE_EGRESS_ALLOW_CIDRS", "10.0.0.0/99"),
            ("BOWLINE_INGEST_LISTEN", "here"),
            ("BOWLINE_NO_SUCH_THING", "1"),
        ];
        let settings = faulty.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let mut service = Service::launch(kind, kind.binary(), settings, folder.path()).unwrap();
        let status = service.await_end().await;
        let log = service.log();
        assert_eq!(status.code(), Some(64), "{log}");
        for named in [
            "postgres.url",
            "postgres.pool_size",
            "redis.prefix",
            "secrets.keyring",
            "admin.bootstrap_key",
            "dispatcher.drain_timeout",
            "egress.allow_cidrs",
            "ingest.listen",
            "BOWLINE_NO_SUCH_THING",
        ] {
            assert!(log.contains(named), "{named} is not named in:\n{log}");
        }
        assert!(!log.contains("a-password-not-to-be-shown") && !log.contains("too-short-key"), "{log}");
    }
}

#[tokio::test]
async fn a_dangerous_combination_is_refused() {
    let mut stack = Stack::builder().ingests(0).dispatchers(0).start().await;
    let mut service = stack.launch(Kind::Dispatcher, &[("BOWLINE_DISPATCHER_DRAIN_TIMEOUT", "5s")]).unwrap();
    assert_eq!(service.await_end().await.code(), Some(64));
    assert!(service.log().contains("dispatcher.drain_timeout"), "{}", service.log());
}

#[tokio::test]
async fn each_service_tells_how_it_is() {
    let stack = Stack::start().await;
    let receiver = Receiver::start().await;
    stack.admin().endpoint(admin::endpoint(receiver.url())).await;
    Provider::create(&stack).await.push("one").await.accepted();
    receiver.await_count(1, BOUND).await;
    for service in stack.ingests.iter().chain(&stack.dispatchers) {
        for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/other", 404)] {
            let url = format!("{}{path}", service.ops_url());
            let answer = http::send(::http::Method::GET, &url, &Vec::new(), "").await.unwrap();
            assert_eq!(answer.status, status, "{path}: {}", answer.text());
            if path == "/metrics" {
                assert!(answer.text().contains("bowline_"), "{}", answer.text());
            }
        }
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let stack = Stack::builder().set("BOWLINE_LOG_FILTER", "trace").start().await;
    let admin = stack.admin();
    let receiver = Receiver::scripted([Reply::Status(500), Reply::Hang]).await;
    // More attempts than answers: one may be over before its request arrives.
    let endpoint = v1::Endpoint {
        timeout: Some(admin::duration(std::time::Duration::from_secs(1))),
        ..admin::with_waits(receiver.url(), &[std::time::Duration::ZERO; 9])
    };
    let (endpoint, endpoint_secret) = admin.endpoint(endpoint).await;
    let provider = Provider::create(&stack).await;
    let source_secret = sign::test_secret("logs");
    admin.source("standard", &source_secret).await;
    let event = provider.push("one").await.accepted();
    provider.push("one").await;
    Provider { secret: "another-secret-of-an-impostor".into(), ..provider.clone() }
        .push("two")
        .await
        .refused(401);
    admin.await_delivery(&event, &endpoint, v1::DeliveryState::Delivered).await;
    let bad_key = admin::Admin::new(&stack.ingests[0].admin_url(), Some("bowline-test-wrong-key-9876543210"));
    bad_key.sources().list_sources(v1::ListSourcesRequest::default()).await.unwrap_err();
    let rotate = v1::RotateEndpointSecretRequest { id: endpoint, ..Default::default() };
    let rotated = admin.endpoints().rotate_endpoint_secret(rotate).await.unwrap().into_inner().secret;

    let logs = stack.logs();
    assert!(logs.len() > 1000, "there is something to look at");
    let password = stack.database.url.split(':').nth(2).and_then(|rest| rest.split('@').next()).unwrap();
    let secrets = [
        ("bootstrap key", KEY),
        ("a wrong key", "bowline-test-wrong-key-9876543210"),
        ("endpoint", &endpoint_secret),
        ("rotated", &rotated),
        ("provider", &provider.secret),
        ("source", &source_secret),
        ("keyring", "Ym93bGluZS10ZXN0LWtleXJpbmctMzItYnl0ZXMhISE="),
        ("Postgres password", password),
    ];
    for (whose, secret) in secrets {
        let line = logs.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{whose}: {line:?}");
    }
    // At rest they are sealed.
    for secret in [&endpoint_secret, &provider.secret, &source_secret] {
        let found = format!("SELECT count(*) FROM secrets WHERE position('{secret}'::bytea IN sealed) > 0");
        assert_eq!(stack.database.count(&found).await, 0);
    }
}

#[tokio::test]
async fn check_config_and_version_answer_without_starting() {
    for kind in [Kind::Ingest, Kind::Dispatcher] {
        let binary = bowline_tests::binaries::find(kind.binary()).unwrap();
        let version = std::process::Command::new(&binary).arg("--version").output().unwrap();
        assert!(version.status.success());
        assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
        let unknown = std::process::Command::new(&binary).arg("--no-such-flag").output().unwrap();
        assert!(!unknown.status.success());
    }
}
