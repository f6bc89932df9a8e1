//! A source of any listed provider is made by one call or one line: its preset, its secret, and what else
//! the preset needs.

use std::collections::BTreeMap;

use bowline_core::preset::{self, Preset};
use bowline_proto::v1;
use bowline_tests::admin::violations;
use bowline_tests::http;
use bowline_tests::{Cli, Stack};
use tempfile::TempDir;

/// A public key of P-256, as the provider shows it.
const SENDGRID: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+evkZBR8wQLZIyTQmdknwaUOQtV6CKEW/+wKKYGdjGVwuvfRKIiQKmoMHWet0QMSPIWatpv46UMck4STDUt+7g==";

/// The parameters that a source of this preset has to give.
fn needed(preset: &Preset) -> BTreeMap<String, String> {
    let parameters = preset.description().parameters.iter();
    let needed = parameters.filter(|(_, parameter)| parameter.default.is_none());
    needed.map(|(name, parameter)| (name.clone(), parameter.example.clone().unwrap())).collect()
}

/// A secret as the provider would issue it.
fn issued(preset: &Preset) -> String {
    match preset.name() {
        // Keys of pairs whose other half is not ours to make.
        "paddle-classic" => {
            return include_str!("../../../core/src/scheme/testdata/rsa-certificate.pem").into();
        }
        "sendgrid" => return SENDGRID.into(),
        _ => {}
    }
    let made = preset.scheme().unwrap().generate_secret();
    made.public.unwrap_or_else(|| made.secret.expose_str().unwrap().to_owned())
}

fn source(preset: &str, parameters: &BTreeMap<String, String>) -> v1::Source {
    v1::Source { preset: preset.into(), parameters: parameters.clone(), ..Default::default() }
}

#[tokio::test]
async fn a_source_of_every_preset_is_made_with_one_call() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let admin = stack.admin();
    let listed = admin.sources().list_presets(v1::ListPresetsRequest::default()).await.unwrap().into_inner();
    let listed: BTreeMap<String, v1::Preset> =
        listed.presets.into_iter().map(|preset| (preset.name.clone(), preset)).collect();
    for preset in preset::all().filter(|preset| preset.scheme().is_some()) {
        let (name, parameters) = (preset.name(), needed(preset));
        let told: Vec<&String> =
            listed[name].parameters.iter().filter(|it| it.required).map(|it| &it.name).collect();
        assert_eq!(told, parameters.keys().collect::<Vec<_>>(), "{name}");
        let need = listed[name].secrets[0].need();
        let secret = if need == v1::SecretNeed::Optional { String::new() } else { issued(preset) };
        let made = admin.source_like(source(name, &parameters), &secret).await;
        assert_eq!((made.preset.as_str(), &made.parameters), (name, &parameters));
        assert_eq!(made.secrets.len(), usize::from(!secret.is_empty()), "{name}");
        if parameters.is_empty() {
            continue;
        }
        let request =
            v1::CreateSourceRequest { source: Some(source(name, &BTreeMap::new())), ..Default::default() };
        let refused = admin.sources().create_source(request).await.unwrap_err();
        let missing: Vec<String> =
            parameters.keys().map(|parameter| format!("source.parameters[{parameter}]")).collect();
        assert_eq!(violations(&refused), missing, "{name}");
    }
    // Each of them is served: one that cannot be is in no snapshot, and answers 404.
    for id in ["paypal", "google-pubsub", "plaid"] {
        let filter = v1::SourceFilter { preset: id.into(), ..Default::default() };
        let request = v1::ListSourcesRequest { filter: Some(filter), ..Default::default() };
        let found = admin.sources().list_sources(request).await.unwrap().into_inner().sources;
        let answer = http::post(&stack.inbound(&found[0].id), &Vec::new(), "{}").await.unwrap();
        assert!([400, 401].contains(&answer.status), "{id}: {}", answer.text());
    }
}

#[tokio::test]
async fn parameters_decide_where_a_token_is_read_and_change_with_the_preset() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, secret) = (stack.admin(), "bowline-test-hasura");
    let of = |header: &str| BTreeMap::from([("header".to_owned(), header.to_owned())]);
    let made = admin.source_like(source("hasura", &of("x-mine")), secret).await;
    let ask = async |header: &str| {
        let headers = vec![(header.to_owned(), secret.to_owned())];
        http::post(&stack.inbound(&made.id), &headers, "{}").await.unwrap()
    };
    ask("x-mine").await.accepted();
    assert_eq!(ask("x-hasura-webhook-secret").await.refused(400), "missing_header");

    let update = async |source: v1::Source, fields: &[&str]| {
        let paths = fields.iter().map(ToString::to_string).collect();
        let request = v1::UpdateSourceRequest {
            source: Some(v1::Source { id: made.id.clone(), ..source }),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        admin.sources().update_source(request).await.map(|answer| answer.into_inner().source.unwrap())
    };
    update(source("", &of("x-other")), &["parameters"]).await.unwrap();
    ask("x-other").await.accepted();
    ask("x-mine").await.refused(400);
    let refused = update(source("", &of("no header")), &["parameters"]).await.unwrap_err();
    assert_eq!(violations(&refused), ["source.parameters"]);
    let changed = update(source("github", &BTreeMap::new()), &["preset"]).await.unwrap();
    assert!(changed.parameters.is_empty());
    let refused = update(source("plaid", &BTreeMap::new()), &["preset"]).await.unwrap_err();
    assert_eq!(violations(&refused), ["source.parameters[client_id]"]);
}

#[tokio::test]
async fn one_line_makes_a_source_and_the_help_says_what_it_needs() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let help = cli.ok(&["source", "create", "--help"]).await.text();
    let folder = TempDir::new().unwrap();
    for preset in preset::all() {
        let known = &preset.description().parameters;
        if known.is_empty() {
            continue;
        }
        let name = preset.name();
        let row = help.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
        let mut arguments =
            vec!["source".to_owned(), "create".into(), name.into(), "--preset".into(), name.into()];
        for (parameter, value) in needed(preset) {
            assert!(row.contains(&format!("{parameter}*")), "{row}");
            arguments.extend(["--parameter".into(), format!("{parameter}={value}")]);
        }
        if !preset.scheme().unwrap().needs_no_secret() {
            let path = folder.path().join(name);
            std::fs::write(&path, issued(preset)).unwrap();
            arguments.extend(["--secret-file".into(), path.to_str().unwrap().into()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(cli.json(&arguments).await["source"]["preset"], name);
    }
    let refused = cli.refused(1, &["source", "create", "a", "--preset", "paypal"]).await;
    assert!(
        refused.contains("--parameter [webhook_id]") && refused.contains("as the dashboard shows"),
        "{refused}"
    );

    let text = cli.ok(&["preset", "list"]).await.text();
    assert_eq!(text.lines().count(), 1 + preset::all().len());
    assert!(
        text.lines().any(|line| line.starts_with("google-pubsub ") && line.contains("audience*, email*"))
    );
    let shown = cli.json(&["preset", "show", "meta"]).await;
    assert_eq!(
        (&shown["algorithm"], &shown["secrets"][1]["name"]),
        (&"hmac-sha256".into(), &"verify_token".into())
    );
    let text = cli.ok(&["preset", "show", "stripe"]).await.text();
    for part in
        ["https://docs.stripe.com/webhooks#verify-manually", "header:stripe-signature", "5m old", "json:/id"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(cli.refused(1, &["preset", "show", "nobody"]).await.contains("not found"));
}

#[tokio::test]
async fn trigger_signs_with_the_parameters_that_the_source_has() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let cli = Cli::new(&stack.ingests[0].admin_url());
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "bowline-test-secret").unwrap();
    let secret = ["--secret-file", secret.to_str().unwrap()];
    let create = ["source", "create", "mine", "--preset", "hasura", "--parameter", "header=x-mine"];
    let made = cli.json(&[&create[..], &secret].concat()).await;
    let url = stack.inbound(made["source"]["id"].as_str().unwrap());
    let line = ["trigger", "hasura", "--url", &url, "--parameter", "header=x-mine"];
    let sent = cli.json(&[&line[..], &secret].concat()).await;
    assert_eq!(sent["status"], 200, "{sent}");
    let without = cli.run(&[&line[..4], &secret].concat(), b"").await;
    assert!(without.err.contains("status 400"), "{without:?}");
}
