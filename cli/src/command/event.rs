//! `bowline event`: what came in.

use bowline_proto::v1;
use clap::{Args, Subcommand};

use super::paging::{self, Paging, Window};
use super::{name, publish, there, watch};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::view::{EventTold, EventView};

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Publish an event of an app of yours (as `bowline publish`)
    Publish(Box<publish::Publish>),
    /// List events, newest first
    List(Box<ListEvents>),
    /// Show one event with its headers and its body
    Get(GetEvent),
    /// Show each event as it is committed, a line each, until stopped
    #[command(after_help = "Examples:
  bowline event watch --source stripe
  bowline event watch --since 1h --body --output json | jq .event.body")]
    Watch(Box<WatchEvents>),
}

#[derive(Debug, Args)]
pub struct ListEvents {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    paging: Paging,
}

/// Which events are meant.
#[derive(Debug, Args)]
struct Which {
    /// Only from this source: its name or id
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SOURCE")]
    source: String,
    /// Only of exactly this type
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TYPE")]
    event_type: String,
    /// Only of exactly this channel
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
}

impl Which {
    async fn filter(self, admin: &Admin, tenant: &str) -> Result<v1::EventFilter, Failure> {
        Ok(v1::EventFilter {
            source_id: name::source_id(admin, tenant, &self.source).await?,
            event_type: self.event_type,
            channel: self.channel,
            ..v1::EventFilter::default()
        })
    }
}

#[derive(Debug, Args)]
pub struct WatchEvents {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    begin: watch::Begin,
    /// With headers and bodies of at most 1 MiB; in `--output json`
    #[arg(long)]
    body: bool,
}

#[derive(Debug, Args)]
pub struct GetEvent {
    /// Id of the event: `evt_...`
    id: String,
    /// Write the body and nothing else, byte for byte
    #[arg(long)]
    raw: bool,
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: EventCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        EventCommand::Publish(publish) => publish::run(*publish, admin, tenant, form).await,
        EventCommand::List(list) => show(*list, admin, tenant, form).await,
        EventCommand::Watch(watch) => follow(*watch, admin, tenant, form).await,
        EventCommand::Get(get) => {
            let request = v1::GetEventRequest { id: get.id };
            let response = admin.events().get_event(request).await?.into_inner();
            let event = there(response.event, "event")?;
            if get.raw { output::bytes(&event.body) } else { detail(event, form) }
        }
    }
}

async fn show(list: ListEvents, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let filter = v1::EventFilter {
        start_time: list.window.start(),
        end_time: list.window.end(),
        ..list.which.filter(admin, tenant).await?
    };
    let listed = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListEventsRequest {
            tenant_id: tenant.to_owned(),
            page_size,
            page_token,
            filter: Some(filter.clone()),
        };
        async move {
            let page = admin.events().list_events(request).await?.into_inner();
            let events: Vec<EventView> = page.events.into_iter().map(Into::into).collect();
            Ok((events, page.next_page_token))
        }
    })
    .await?;
    paging::show(form, "events", &listed, Some(list.window))
}

async fn follow(watched: WatchEvents, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let WatchEvents { which, begin, body } = watched;
    let request = v1::WatchEventsRequest {
        tenant_id: tenant.to_owned(),
        filter: Some(which.filter(admin, tenant).await?),
        cursor: String::new(),
        start_time: begin.start_time(),
        include_body: body,
    };
    let open = |cursor| {
        let (mut events, request) = (admin.events(), v1::WatchEventsRequest { cursor, ..request.clone() });
        async move { events.watch_events(request).await }
    };
    let view = |told: v1::WatchEventsResponse| {
        let view = |event| if body { EventView::whole(event) } else { event.into() };
        (told.event.map(|event| EventTold { event: view(event) }), told.cursor)
    };
    watch::follow(form, &begin, open, view).await
}

fn detail(event: v1::Event, form: Form) -> Result<(), Failure> {
    let event = EventView::whole(event);
    let source = if event.source_id.is_empty() { "(published)" } else { &event.source_id };
    let mut lines = vec![
        ("id", event.id.clone()),
        ("tenant", event.tenant_id.clone()),
        ("source", source.to_owned()),
        ("event type", event.event_type.clone()),
        ("channel", event.channel.clone()),
        ("received", event.create_time.clone()),
        ("content type", event.content_type.clone()),
        ("bytes", event.body_size_bytes.to_string()),
    ];
    let where_so = [("flag", &event.flag), ("body dropped", &event.body_drop_time)];
    lines.extend(
        where_so.into_iter().filter(|(_, said)| !said.is_empty()).map(|(name, said)| (name, said.clone())),
    );
    output::one(form, &event, &lines)?;
    if form == Form::Json {
        return Ok(());
    }
    let headers = event.headers.iter().flatten().map(|header| format!("{}: {}", header.name, header.value));
    let body = match &event.body {
        Some(text) => text.lines().map(ToOwned::to_owned).collect(),
        None => vec!["(not text: --raw writes its bytes)".to_owned()],
    };
    // As on the wire: headers, an empty line, the body.
    let gap = std::iter::once(String::new());
    let shown = gap.clone().chain(headers).chain(gap).chain(body);
    shown.map(|line| format!("{}\n", output::printable(&line))).try_for_each(|line| output::text(&line))
}
