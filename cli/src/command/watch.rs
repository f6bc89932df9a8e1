//! Watches: what comes is shown until the command is stopped, across lost connections.

use std::future::Future;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tonic::{Code, Response, Status, Streaming};

use super::paging;
use crate::failure::Failure;
use crate::output::{self, Form, Growing, Row};

/// After a lost connection, doubled up to the most.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Where to begin.
#[derive(Debug, Clone, Args)]
pub struct Begin {
    /// Go on where an earlier watch ended, with the cursor it named and the same filters
    #[arg(long, default_value = "", hide_default_value = true)]
    cursor: String,
    /// Begin at this time: RFC 3339, or how long ago (`90s`, `2h`, `3days`); default: now
    #[arg(long, value_parser = paging::moment, value_name = "TIME", conflicts_with = "cursor")]
    since: Option<paging::Moment>,
}

impl Begin {
    pub(crate) fn start_time(&self) -> Option<prost_types::Timestamp> {
        self.since.map(paging::Moment::timestamp)
    }
}

/// A message of a watch: what it shows, if it is no heartbeat, and the cursor.
pub(crate) type Told<V> = (Option<V>, String);

/// Follows what `open(cursor)` gives until Ctrl-C. A connection that was had and is lost is made again.
///
/// # Errors
/// What the admin API refuses, or that it was never there.
pub(crate) async fn follow<M, V, F>(
    form: Form,
    begin: &Begin,
    mut open: impl FnMut(String) -> F,
    mut view: impl FnMut(M) -> Told<V>,
) -> Result<(), Failure>
where
    V: Row + Serialize,
    F: Future<Output = Result<Response<Streaming<M>>, Status>>,
{
    let mut cursor = begin.cursor.clone();
    let mut table = Growing::default();
    let watched = async {
        let (mut connected, mut pause) = (false, PAUSE_MIN);
        loop {
            let ended = match open(cursor.clone()).await {
                Ok(stream) => {
                    (connected, pause) = (true, PAUSE_MIN);
                    let mut messages = stream.into_inner();
                    loop {
                        match messages.message().await {
                            Ok(Some(message)) => {
                                let (shown, reached) = view(message);
                                if let Some(shown) = shown {
                                    show(form, &shown, &reached, &mut table)?;
                                }
                                cursor = reached;
                            }
                            Ok(None) => break Status::unavailable("the stream ended"),
                            Err(status) => break status,
                        }
                    }
                }
                Err(status) => status,
            };
            if !connected || !may_pass(&ended) {
                return Err(Failure::from(ended));
            }
            eprintln!("bowline: {}; going on from where it was", ended.message());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    };
    let outcome = tokio::select! {
        failed = watched => failed,
        stopped = tokio::signal::ctrl_c() => stopped.map_err(|error| Failure::Other(error.into())),
    };
    if form == Form::Table && !cursor.is_empty() {
        eprintln!("more: --cursor {cursor}");
    }
    outcome
}

/// A replica that stops or is gone, or has too many watches: another one, or a little later.
fn may_pass(status: &Status) -> bool {
    let of_transport = std::error::Error::source(status).is_some();
    of_transport
        || matches!(
            status.code(),
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled
        )
}

/// One line, in either form.
fn show<V: Row + Serialize>(form: Form, shown: &V, cursor: &str, table: &mut Growing) -> Result<(), Failure> {
    if form == Form::Table {
        return table.show(shown);
    }
    let mut document = serde_json::to_value(shown).map_err(anyhow::Error::from)?;
    document["cursor"] = cursor.into();
    output::text(&format!("{document}\n"))
}
