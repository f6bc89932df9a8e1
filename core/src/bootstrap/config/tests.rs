//! What a person who writes a configuration meets.

use std::time::Duration;

use super::*;

const SAMPLE: &str = include_str!("../../../../deploy/config.sample.toml");
const KEYRING: &str = "k1:Ym93bGluZS1zYW1wbGUta2V5LWRvLW5vdC11c2UtaXQ=";

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn read(toml_text: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_parts(toml_text, environment(variables), Service::Ingest)
}

fn faults(toml_text: Option<&str>, variables: &[(&str, &str)]) -> Vec<String> {
    read(toml_text, variables).unwrap_err().faults
}

/// The two keys without which nothing is read.
fn required() -> Vec<(&'static str, &'static str)> {
    vec![("BOWLINE_POSTGRES_URL", "postgres://u:hush@db.test/bowline"), ("BOWLINE_SECRETS_KEYRING", KEYRING)]
}

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    required().into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn the_sample_is_read_and_shows_the_defaults() {
    let sample = read(Some(SAMPLE), &[]).unwrap();
    let redis = ("BOWLINE_REDIS_URL", "redis://localhost:6379/0");
    let postgres = ("BOWLINE_POSTGRES_URL", "postgres://bowline:bowline@localhost:5432/bowline");
    let mut bare = read(None, &[redis, postgres, ("BOWLINE_SECRETS_KEYRING", KEYRING)]).unwrap();
    // Debug shows every field but secrets.
    assert_eq!(format!("{sample:#?}"), format!("{bare:#?}"));
    // Each optional key is in the sample too, commented out.
    let uncommented = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let full = read(Some(&uncommented), &[]).unwrap();
    assert_eq!(full.ingest.public_url.as_deref(), Some("https://hooks.example.com"));
    assert!(full.ingest.tls.is_some());
    assert!(full.admin.bootstrap_key.is_some() && full.postgres.direct_url.is_some());
    bare.admin.bootstrap_key = full.admin.bootstrap_key;
}

#[test]
fn the_environment_goes_over_the_file() {
    let config = read(
        Some(SAMPLE),
        &[
            ("BOWLINE_POSTGRES_POOL_SIZE", "12"),
            ("BOWLINE_EGRESS_ALLOW_CIDRS", "127.0.0.0/8, ::1/128"),
            ("BOWLINE_EGRESS_ALLOW_HTTP", "true"),
            ("BOWLINE_INGEST_LISTEN", "127.0.0.1:0"),
            ("BOWLINE_INGEST_BODY_TIMEOUT", "1m 30s"),
            ("BOWLINE_INGEST_BATCH_BYTES_MAX", "1MiB"),
            ("BOWLINE_INGEST_TENANT_SHARE", "1"),
            ("BOWLINE_REDIS_URL", ""),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.postgres.pool_size, 12);
    assert_eq!(config.egress.allow_cidrs.len(), 2);
    assert!(config.egress.allow_http);
    assert_eq!(config.ingest.listen.port(), 0);
    assert_eq!(config.ingest.body_timeout, Duration::from_secs(90));
    assert_eq!(config.ingest.batch_bytes_max, 1 << 20);
    // Empty is unset: the file's stands.
    assert!(config.redis.url.is_some());
}

#[test]
fn services_have_ports_of_their_own() {
    let read = |service| Config::from_parts(None, environment(&required()), service).unwrap();
    let (ingest, dispatcher) = (read(Service::Ingest), read(Service::Dispatcher));
    assert_eq!((ingest.admin.listen.port(), ingest.ops.listen.port()), (8081, 8082));
    assert_eq!((dispatcher.admin.listen.port(), dispatcher.ops.listen.port()), (8091, 8092));
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = r#"
        loose = 1
        [postgres]
        pool_size = 1
        [redis]
        url = "http://x"
        prefix = "Not A Slug"
        shards = "many"
        typo = 1
        [admin]
        bootstrap_key = "short"
        listen = "localhost"
        [log]
        format = "xml"
        [egress]
        allow_cidrs = ["10.0.0.0/33", "0.0.0.0/0"]
        allow_ports = [0]
        allow_http = "maybe"
        [ingest]
        body_timeout = 30
        header_timeout = "1h"
        tenant_share = 2
        tls_key_file = "tls.key"
        trusted_proxies = ["10.0.0.0/8", "all"]
        arriving_bytes_max = "1MiB"
        batch_bytes_max = "8MB"
        public_url = "https://u:hush@x"
        [nonsense]
        key = 1
    "#;
    let expected = [
        "`loose` stands outside of any [section]",
        "BOWLINE_NONSUCH is not a variable of Bowline",
        "postgres.url: is required: postgres://user:password@host:5432/database (or set BOWLINE_POSTGRES_URL)",
        "postgres.pool_size: 1 is out of range: 2 to 64",
        "redis.url: is not a Redis URL: redis://user:password@host:6379/0",
        "redis.prefix: `Not A Slug`: expected 1 to 32 characters of a-z, 0-9 and `-`",
        "redis.shards: expected a whole number, found string",
        "redis.typo is unknown",
        "secrets.keyring: is required: `id:` and the base64 of 32 random bytes (or set BOWLINE_SECRETS_KEYRING)",
        "admin.bootstrap_key: has 5 characters; 24 to 256 are needed",
        "admin.listen: `localhost`: expected address:port such as 127.0.0.1:8080 or [::]:8080 (port 0: any free one)",
        "log.format: `xml`: expected text or json",
        "egress.allow_cidrs: `10.0.0.0/33`: expected a network such as 10.1.0.0/16",
        "egress.allow_cidrs: `0.0.0.0/0`: opens every address there is: name the networks that are meant",
        "egress.allow_http: `maybe`: expected true or false",
        "egress.allow_ports: `0`: expected a port, 1 to 65535",
        "ingest.public_url: expected http(s)://host[:port][/path] without user, query or fragment",
        "ingest.tls_cert_file: is missing: tls_key_file is set",
        "ingest.trusted_proxies: `all`: expected a network such as 10.1.0.0/16 or an address",
        "ingest.tenant_share: 2 is out of range: above 0, at most 1",
        "ingest.header_timeout: 1h is out of range: 1s to 1m",
        "ingest.body_timeout: expected a text in quotes, found integer",
        "ingest.arriving_bytes_max: 1048576 is out of range: 25MiB to 64GiB",
        "ingest.batch_bytes_max: `8MB`: expected a size such as 8MiB, 512KiB or a number of bytes",
        "BOWLINE_INGEST_NOPE is not a variable of Bowline",
        "the section [nonsense] is unknown",
        "BOWLINE_TYPO_KEY is not a variable of Bowline",
    ];
    let variables = [("BOWLINE_INGEST_NOPE", "1"), ("BOWLINE_NONSUCH", "1"), ("BOWLINE_TYPO_KEY", "1")];
    assert_eq!(faults(Some(text), &variables), expected);
}

#[test]
fn secrets_appear_in_no_fault_and_no_debug() {
    let variables = [
        ("BOWLINE_POSTGRES_URL", "postgres://u:hush-a@[/x"),
        ("BOWLINE_REDIS_URL", "redis//u:hush-b@h"),
        ("BOWLINE_SECRETS_KEYRING", "hush-c"),
        ("BOWLINE_ADMIN_BOOTSTRAP_KEY", "hush-d"),
        ("BOWLINE_INGEST_PUBLIC_URL", "https://u:hush-e@x"),
    ];
    let found = faults(None, &variables);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(!found.concat().contains("hush"), "{found:#?}");
    assert!(!faults(Some("[postgres]\nurl = hush"), &[]).concat().contains("hush"));

    let key = ("BOWLINE_ADMIN_BOOTSTRAP_KEY", "bwl_hush-hush-hush-hush-hush");
    let config = read(None, &with(&[key, ("BOWLINE_REDIS_URL", "redis://u:hush@h:6379")])).unwrap();
    assert!(!format!("{config:?}").contains("hush"));
    assert_eq!(config.postgres.target(), "db.test:5432/bowline");
}

#[test]
fn dangerous_combinations_are_refused() {
    let table: [(&[(&str, &str)], &str); 3] = [
        (&[("BOWLINE_DISPATCHER_DRAIN_TIMEOUT", "59s")], "dispatcher.drain_timeout is 59s, shorter"),
        (&[("BOWLINE_DISPATCHER_IN_FLIGHT_MAX", "20000")], "dispatcher.in_flight_max is larger"),
        (&[("BOWLINE_INGEST_BATCH_BYTES_MAX", "129MiB")], "ingest.batch_bytes_max is larger"),
    ];
    for (more, start) in table {
        let found = faults(None, &with(more));
        assert!(found[0].starts_with(start), "{found:?}");
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let config = read(
        None,
        &with(&[
            ("BOWLINE_ADMIN_URL", "http://localhost:8081"),
            ("BOWLINE_ADMIN_KEY", "bwl_x"),
            ("BOWLINE_TENANT", "default"),
            ("BOWLINE_TEST_REDIS_URL", "redis://localhost:1"),
            ("BOWLINE_CONFIG", "/etc/bowline.toml"),
            ("BOWLINE_INGEST_PORT", "tcp://10.0.0.1:8080"),
            ("BOWLINE_INGEST_SERVICE_HOST", "10.0.0.1"),
            ("BOWLINE_INGEST_SERVICE_PORT_HTTP", "8080"),
            ("BOWLINE_INGEST_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ]),
    );
    assert!(config.is_ok(), "{config:?}");
}

#[test]
fn a_file_that_is_no_toml_or_cannot_be_read_says_so() {
    let found = faults(Some("[postgres]\nurl = \"x\"\npool_size = = 3\n"), &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("the file is not TOML: line 3: "), "{found:?}");
    let args = Args { config: Some("/no/such/file.toml".into()), ..Args::default() };
    let found = Config::load(&args, Service::Ingest).unwrap_err();
    assert!(found.to_string().contains("the file /no/such/file.toml cannot be read"), "{found}");
}

#[test]
fn the_public_url_falls_back_to_the_address() {
    let mut config = read(None, &required()).unwrap().ingest;
    assert_eq!(config.public_url_or("0.0.0.0:81".parse().unwrap()), "http://localhost:81");
    assert_eq!(config.public_url_or("127.0.0.1:81".parse().unwrap()), "http://127.0.0.1:81");
    config =
        read(None, &with(&[("BOWLINE_INGEST_PUBLIC_URL", "https://hooks.example.com/")])).unwrap().ingest;
    assert_eq!(config.public_url_or("127.0.0.1:81".parse().unwrap()), "https://hooks.example.com");
}
