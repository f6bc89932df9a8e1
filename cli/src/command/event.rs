//! `bowline event`: what came in.

use bowline_proto::v1;
use clap::{Args, Subcommand};

use super::paging::{self, Limit, Window};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::EventView;

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// List events, newest first
    List(ListEvents),
}

#[derive(Debug, Args)]
pub struct ListEvents {
    /// Only from this source (`src_...`)
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    source: String,
    /// Only of exactly this type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    event_type: String,
    /// Only of exactly this channel
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    limit: Limit,
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: EventCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let EventCommand::List(list) = command;
    let filter = v1::EventFilter {
        source_id: list.source,
        event_type: list.event_type,
        channel: list.channel,
        start_time: list.window.start(),
        end_time: list.window.end(),
    };
    let events: Vec<EventView> = paging::collect(list.limit, |page_size, page_token| {
        let request = v1::ListEventsRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.events().list_events(request).await?.into_inner();
            Ok((page.events.into_iter().map(Into::into).collect(), page.next_page_token))
        }
    })
    .await?;
    output::list(form, "events", &events)
}
