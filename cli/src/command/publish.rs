//! `bowline publish`, also `bowline event publish`: an event of an app of one's own.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use bowline_proto::v1;
use clap::Args;
use serde::Serialize;

use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};

/// What the API takes at most.
const BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub struct Publish {
    /// Event type, such as order.created
    #[arg(long = "type", visible_alias = "event-type", value_name = "TYPE")]
    event_type: String,
    /// The body itself
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file")]
    data: Option<String>,
    /// File that holds the body, byte for byte; `-`, or neither of the two: standard input
    #[arg(long, value_name = "PATH")]
    data_file: Option<PathBuf>,
    /// Content type of the body; default: application/json, and then it must be JSON
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    content_type: String,
    /// Label that endpoints filter on
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// Makes the call safe to repeat for 24 h: the same key is the same event
    #[arg(long, default_value = "", hide_default_value = true, value_name = "KEY")]
    idempotency_key: String,
}

#[derive(Debug, Serialize)]
struct Published {
    event_id: String,
    duplicate: bool,
}

/// # Errors
/// What the admin API refuses, or a body that cannot be read.
pub async fn run(publish: Publish, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let body = publish.body()?;
    let request = v1::PublishEventRequest {
        tenant_id: tenant.to_owned(),
        event_type: publish.event_type,
        channel: publish.channel,
        content_type: publish.content_type,
        body: body.into(),
        idempotency_key: publish.idempotency_key,
    };
    let response = admin.events().publish_event(request).await?.into_inner();
    let published = Published { event_id: response.event_id, duplicate: response.duplicate };
    let again = if published.duplicate { "yes: its idempotency key brought it before" } else { "" };
    let lines = [("event", published.event_id.clone()), ("duplicate", again.to_owned())];
    output::one(form, &published, &lines)
}

impl Publish {
    fn body(&self) -> Result<Vec<u8>, Failure> {
        if let Some(data) = &self.data {
            return Ok(data.clone().into_bytes());
        }
        match self.data_file.as_deref().filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let place = format!("--data-file {}", path.display());
                let file = fs::File::open(path).map_err(|error| unreadable(&place, &error))?;
                read_bounded(&place, file)
            }
            None if self.data_file.is_none() && io::stdin().is_terminal() => {
                Err(Failure::Usage("the body is missing: --data, --data-file, or standard input".to_owned()))
            }
            None => read_bounded("standard input", io::stdin().lock()),
        }
    }
}

fn read_bounded(place: &str, from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    from.take(BYTES_MAX + 1).read_to_end(&mut body).map_err(|error| unreadable(place, &error))?;
    if body.len() as u64 > BYTES_MAX {
        return Err(Failure::Configuration(format!("{place}: an event has at most {BYTES_MAX} bytes")));
    }
    Ok(body)
}

fn unreadable(place: &str, error: &io::Error) -> Failure {
    Failure::Configuration(format!("{place}: {error}"))
}
