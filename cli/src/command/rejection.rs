//! `bowline rejection`: what a source has refused, and why.

use bowline_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::name;
use super::paging::{self, Paging};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::RejectionView;

#[derive(Debug, Subcommand)]
pub enum RejectionCommand {
    /// List what a source has refused, newest first
    List(List),
    /// Show one with its headers and its body
    Get(Get),
    /// Verify one again, with the secrets of now; what passes becomes an event, once
    #[command(after_help = "Examples:
  bowline rejection list payments
  bowline source set-secret payments --secret-env STRIPE_SECRET
  bowline rejection reprocess rej_...")]
    Reprocess(Which),
}

#[derive(Debug, Args)]
pub struct List {
    /// Name or id of the source
    source: String,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Args)]
pub struct Which {
    /// Id of the rejection (`rej_...`)
    id: String,
}

#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    rejection: Which,
    /// Only what is kept of the body, byte by byte
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Serialize)]
struct Accepted {
    event_id: String,
    duplicate: bool,
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: RejectionCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        RejectionCommand::List(list) => show_list(list, admin, tenant, form).await,
        RejectionCommand::Get(get) => show(get, admin, form).await,
        RejectionCommand::Reprocess(which) => {
            let request = v1::ReprocessRejectionRequest { id: which.id };
            let answer = admin.sources().reprocess_rejection(request).await?.into_inner();
            let lines = [
                ("event", answer.event_id.clone()),
                ("", if answer.duplicate { "(it was there before)".to_owned() } else { String::new() }),
            ];
            output::one(form, &Accepted { event_id: answer.event_id, duplicate: answer.duplicate }, &lines)
        }
    }
}

async fn show_list(list: List, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let source_id = name::source_id(admin, tenant, &list.source).await?;
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
