//! `bowline trigger`: sends a source what its provider would send, signed as the provider signs.

use std::time::{Duration, Instant};

use bowline_core::preset::{self, Preset};
use bowline_core::secrets::Secret;
use bowline_proto::v1;
use chrono::Utc;
use clap::Args;
use serde::Serialize;

use super::paging::Paging;
use super::{key_value, name, source};
use crate::client::{Admin, AdminArguments};
use crate::failure::Failure;
use crate::nearest;
use crate::output::{self, Form};
use crate::secret_input::SecretInput;
use crate::view::SourceView;

/// What it cannot do, and who can.
const UNSIGNED: &str = "trigger signs only by presets: what a source with a scheme of its own takes is sent with curl, as docs/schemes.md shows";
const TIMEOUT: Duration = Duration::from_secs(30);
/// More of an answer than this is nobody's answer to a webhook.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Args)]
pub struct TriggerArguments {
    /// Whose example to send: standard, github, stripe, shopify, slack, or any other preset that has one
    preset: String,
    /// Name or id of the source; default: the only one with this preset
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "SOURCE",
        conflicts_with = "url"
    )]
    source: String,
    /// The receive URL itself; then no admin API is needed
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The delivery's id as the provider would give it; default: a new one. The same once more is a duplicate
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// With --url: what the preset asks for, as the source has it; may be repeated
    #[arg(long = "parameter", value_parser = key_value, value_name = "NAME=VALUE", requires = "url")]
    parameters: Vec<(String, String)>,
    #[command(flatten)]
    secret: SecretInput,
}

#[derive(Debug, Serialize)]
struct Answered {
    url: String,
    id: String,
    status: u16,
    body: String,
    took_ms: f64,
}

/// # Errors
/// When there is no such preset, source or secret, nobody answers, or the answer is not 2xx.
pub async fn run(arguments: TriggerArguments, admin: &AdminArguments, form: Form) -> Result<(), Failure> {
    let preset = preset::find(&arguments.preset)
        .filter(|preset| preset.example().is_some())
        .ok_or_else(|| Failure::Usage(unknown(&arguments.preset)))?;
    let secret = arguments.secret.read()?.ok_or_else(|| {
        Failure::Usage(
            "the secret of the source is needed to sign: --secret-env, --secret-file or --secret-stdin"
                .to_owned(),
        )
    })?;
    let (url, parameters, custom) = if let Some(url) = arguments.url {
        (url, arguments.parameters.into_iter().collect(), false)
    } else {
        let found = choose(&Admin::new(admin)?, &admin.tenant, &arguments.source, preset.name()).await?;
        let custom = found.preset == preset::CUSTOM;
        (found.receive_url, found.parameters, custom)
    };
    // Without any it is the preset's example values that are signed.
    let own = (!parameters.is_empty()).then(|| preset::configured(preset.name(), &parameters)).flatten();
    let own = own.transpose().map_err(|fault| Failure::Usage(fault.to_string()))?;
    let id = arguments.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let answered = send(own.as_deref().unwrap_or(preset), &Secret::new(secret), url, id).await?;
    let lines = [
        ("sent", format!("{} example to {}", preset.name(), answered.url)),
        ("id", answered.id.clone()),
        ("answer", format!("{} {}", answered.status, answered.body)),
        ("took", format!("{:.1} ms", answered.took_ms)),
    ];
    output::one(form, &answered, &lines)?;
    if (200..300).contains(&answered.status) {
        return Ok(());
    }
    let hint = if custom { format!("; {UNSIGNED}") } else { String::new() };
    Err(Failure::Answer(format!("the source refused it with status {}{hint}", answered.status)))
}

async fn send(preset: &Preset, secret: &Secret, url: String, id: String) -> Result<Answered, Failure> {
    let example = preset
        .sign_example_to(&url, secret, Utc::now(), &id)
        .map_err(|error| Failure::Configuration(format!("cannot sign the example: {error}")))?;
    // There is one TLS provider in Bowline; that it was installed before is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    let started = Instant::now();
    let mut response = client
        .post(&url)
        .headers(example.headers)
        .body(example.body)
        .send()
        .await
        .map_err(|error| Failure::Answer(format!("{url} did not answer: {}", chain(&error))))?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    body.truncate(ANSWER_BYTES_MAX);
    let body = String::from_utf8_lossy(&body).trim().to_owned();
    Ok(Answered { url, id, status, body, took_ms: started.elapsed().as_secs_f64() * 1_000.0 })
}

/// The source that is meant; one that cannot be told is named with what there is.
async fn choose(admin: &Admin, tenant: &str, which: &str, preset: &str) -> Result<SourceView, Failure> {
    let tenant = &name::tenant_id(admin, tenant).await?;
    if !which.is_empty() {
        return Ok(name::source(admin, tenant, which).await?.into());
    }
    let filter = v1::SourceFilter { preset: preset.to_owned(), ..v1::SourceFilter::default() };
    let mut found = source::find(admin, tenant, filter, &Paging::first(10)).await?.items;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::Answer(format!(
            "there is no source with the preset {preset}: make one with `bowline source create NAME --preset {preset}`"
        ))),
        _ => {
            let names: Vec<&str> = found.iter().map(|source| source.name.as_str()).collect();
            Err(Failure::Usage(format!("say which source by --source: {}", names.join(", "))))
        }
    }
}

fn unknown(preset: &str) -> String {
    if preset == preset::CUSTOM {
        return UNSIGNED.to_owned();
    }
    let known = preset::all().filter(|preset| preset.example().is_some()).map(Preset::name);
    let question = nearest::question(preset, known);
    let otherwise = if question.is_empty() { format!("; {UNSIGNED}") } else { String::new() };
    format!(
        "there is no example of a preset {preset:?}{question} (`bowline preset list` shows all){otherwise}"
    )
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
