//! The stream of a binding's states.
//!
//! A state is read when the reader has room for it, so that a slow one is given the newest, and holds
//! nothing but its place.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::binding::Watch;
use bowline_core::id::BindingId;
use bowline_core::store::bindings::{self, State};
use bowline_proto::v1;
use futures_util::stream::unfold;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Bindings, found};
use crate::AdminContext;
use crate::call::Call;
use crate::fault::{Fault, to_status};
use crate::present;
use crate::validate;

const HEARTBEAT: Duration = Duration::from_secs(15);

pub(crate) type Stream =
    Pin<Box<dyn futures_util::Stream<Item = Result<v1::WatchBindingResponse, Status>> + Send>>;

struct Watching {
    context: Arc<AdminContext>,
    call: Call,
    id: BindingId,
    watch: Watch,
    sent: Option<State>,
    stopping: CancellationToken,
    ended: bool,
}

impl Bindings {
    pub(super) async fn watch(&self, call: Call, request: v1::WatchBindingRequest) -> Result<Stream, Fault> {
        let id: BindingId = validate::id("id", &request.id)?;
        let sent = match request.cursor.as_str() {
            "" => None,
            cursor => {
                let state = read_cursor(cursor);
                Some(state.ok_or_else(|| Fault::field("cursor", "is not one that this method gave"))?)
            }
        };
        let watch = self.refresher.watches.watch(id).ok_or(Fault::WatchesFull)?;
        let client = self.context.client().await?;
        found(bindings::find(&client, call.scope(), id).await?, id)?;
        drop(client);
        let watching = Watching {
            context: Arc::clone(&self.context),
            call,
            id,
            watch,
            sent,
            stopping: self.stopping.clone(),
            ended: false,
        };
        Ok(Box::pin(unfold(watching, |mut watching| async move {
            if watching.ended {
                return None;
            }
            let next = watching.next().await.map_err(|fault| {
                watching.ended = true;
                to_status(&fault, &watching.call.id)
            });
            Some((next, watching))
        })))
    }
}

impl Watching {
    async fn next(&mut self) -> Result<v1::WatchBindingResponse, Fault> {
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            // Before the look: what changes after it wakes.
            self.watch.rearm();
            if let Some(news) = self.look().await? {
                return Ok(news);
            }
            tokio::select! {
                () = self.watch.woken() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    let cursor = self.sent.map(|sent| write_cursor(&sent)).unwrap_or_default();
                    return Ok(v1::WatchBindingResponse { binding: None, cursor });
                }
                () = self.stopping.cancelled() => return Err(Fault::Stopping),
            }
        }
    }

    /// The binding, if it is not as it was sent last.
    async fn look(&mut self) -> Result<Option<v1::WatchBindingResponse>, Fault> {
        let client = self.context.client().await?;
        let binding = found(bindings::find(&client, self.call.scope(), self.id).await?, self.id)?;
        let kept = bindings::kept(&client, self.id).await?;
        let revision = kept.as_ref().map_or(0, |kept| kept.revision);
        let state = State { config_version: binding.config_version, revision, stale: binding.stale };
        if self.sent == Some(state) {
            return Ok(None);
        }
        self.sent = Some(state);
        let shown = present::binding(&binding, kept.as_ref())?;
        Ok(Some(v1::WatchBindingResponse { binding: Some(shown), cursor: write_cursor(&state) }))
    }
}

fn write_cursor(state: &State) -> String {
    format!("{}.{}.{}", state.config_version, state.revision, u8::from(state.stale))
}

fn read_cursor(text: &str) -> Option<State> {
    let mut parts = text.split('.');
    let state = State {
        config_version: parts.next()?.parse().ok()?,
        revision: parts.next()?.parse().ok()?,
        stale: match parts.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        },
    };
    parts.next().is_none().then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_state() {
        for state in [
            State { config_version: 7, revision: 0, stale: false },
            State { config_version: i64::MAX, revision: 12, stale: true },
        ] {
            assert_eq!(read_cursor(&write_cursor(&state)), Some(state));
        }
        for bad in ["", "1", "1.2", "1.2.3", "1.2.0.4", "a.2.0", "1..0"] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }
}
