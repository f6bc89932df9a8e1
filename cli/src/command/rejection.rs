//! `bowline rejection`: what a source has refused, and why.

use bowline_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::name::WhichSource;
use super::paging::{self, Paging};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form, Row};
use crate::view::RejectionView;

#[derive(Debug, Subcommand)]
pub enum RejectionCommand {
    /// List what a source has refused, newest first
    List(List),
    /// Show one with its headers and its body
    Get(Get),
    /// Verify some again, with the secrets of now; what passes becomes an event, once
    #[command(after_help = "Examples:
  bowline rejection list payments
  bowline source set-secret payments --secret-env STRIPE_SECRET
  bowline rejection reprocess rej_... rej_...")]
    Reprocess(Reprocess),
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    source: WhichSource,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub struct Which {
    /// Id of the rejection (`rej_...`)
    id: String,
}

#[derive(Debug, Args)]
pub struct Reprocess {
    /// Ids of the rejections (`rej_...`)
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    rejection: Which,
    /// Only what is kept of the body, byte by byte
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Default, Serialize)]
struct Accepted {
    event_id: String,
    duplicate: bool,
}

/// One of several.
#[derive(Debug, Serialize)]
struct Verified {
    rejection_id: String,
    #[serde(flatten)]
    accepted: Accepted,
    /// Why it became no event; empty where it did.
    error: String,
}

impl Row for Verified {
    const HEADINGS: &'static [&'static str] = &["REJECTION", "EVENT", "NOTE"];
    const SPARSE: &'static [&'static str] = &["NOTE"];

    fn cells(&self) -> Vec<String> {
        let before = if self.accepted.duplicate { "it was there before" } else { "" };
        let note = if self.error.is_empty() { before.to_owned() } else { self.error.replace('\n', ";") };
        vec![self.rejection_id.clone(), self.accepted.event_id.clone(), note]
    }
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: RejectionCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        RejectionCommand::List(list) => show_list(list, admin, tenant, form).await,
        RejectionCommand::Get(get) => show(get, admin, form).await,
        RejectionCommand::Reprocess(reprocess) => match <[String; 1]>::try_from(reprocess.ids) {
            Ok([id]) => verify_one(id, admin, form).await,
            Err(ids) => verify_some(ids, admin, form).await,
        },
    }
}

async fn verify(id: String, admin: &Admin) -> Result<Accepted, Failure> {
    let request = v1::ReprocessRejectionRequest { id };
    let answer = admin.sources().reprocess_rejection(request).await?.into_inner();
    Ok(Accepted { event_id: answer.event_id, duplicate: answer.duplicate })
}

async fn verify_one(id: String, admin: &Admin, form: Form) -> Result<(), Failure> {
    let accepted = verify(id, admin).await?;
    let lines = [
        ("event", accepted.event_id.clone()),
        ("", if accepted.duplicate { "(it was there before)".to_owned() } else { String::new() }),
    ];
    output::one(form, &accepted, &lines)
}

/// One that is refused again does not keep the others from their turn.
async fn verify_some(ids: Vec<String>, admin: &Admin, form: Form) -> Result<(), Failure> {
    let asked = ids.len();
    let mut verified = Vec::with_capacity(asked);
    for id in ids {
        let (accepted, error) = match verify(id.clone(), admin).await {
            Ok(accepted) => (accepted, String::new()),
            Err(failure) => (Accepted::default(), failure.to_string()),
        };
        verified.push(Verified { rejection_id: id, accepted, error });
    }
    let refused = verified.iter().filter(|one| !one.error.is_empty()).count();
    output::list(form, "rejections", &verified, "")?;
    if refused == 0 {
        return Ok(());
    }
    Err(Failure::Answer(format!("{refused} of {asked} did not become an event")))
}

async fn show_list(list: List, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let source_id = list.source.id(admin, tenant).await?;
    let listed = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListRejectionsRequest { source_id: source_id.clone(), page_size, page_token };
        async move {
            let page = admin.sources().list_rejections(request).await?.into_inner();
            let rejections: Vec<RejectionView> = page.rejections.into_iter().map(Into::into).collect();
            Ok((rejections, page.next_page_token))
        }
    })
    .await?;
    paging::show(form, "rejections", &listed, None)
}

async fn show(get: Get, admin: &Admin, form: Form) -> Result<(), Failure> {
    let request = v1::GetRejectionRequest { id: get.rejection.id };
    let rejection = admin.sources().get_rejection(request).await?.into_inner().rejection.unwrap_or_default();
    if get.raw {
        return output::bytes(&rejection.body);
    }
    let view = RejectionView::from(rejection);
    output::one(form, &view, &view.lines())
}
