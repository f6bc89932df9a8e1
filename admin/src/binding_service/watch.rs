//! The stream of a binding's states.
//!
//! A state is read when the reader has room for it, so that a slow one is given the newest. Those who watch the
//! same binding share what is [looked](super::looks) up.

use std::sync::Arc;
use std::time::Duration;

use bowline_core::binding::Watch;
use bowline_core::id::{BindingId, TenantId};
use bowline_core::store::bindings::State;
use bowline_proto::v1;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Bindings;
use super::looks::Looks;
use crate::call::Call;
use crate::fault::Fault;
use crate::streaming::{Outgoing, Part, Watched};
use crate::validate;

const HEARTBEAT: Duration = Duration::from_secs(15);

struct Watching {
    looks: Arc<Looks>,
    tenant: TenantId,
    id: BindingId,
    watch: Watch,
    sent: Option<State>,
    /// The first look is its own: what was written before it was asked for is in it.
    has_looked: bool,
    stopping: CancellationToken,
}

impl Bindings {
    pub(super) async fn watch(
        &self,
        call: &Call,
        request: v1::WatchBindingRequest,
    ) -> Result<Outgoing, Fault> {
        let id: BindingId = validate::id("id", &request.id)?;
        let sent = match request.cursor.as_str() {
            "" => None,
            cursor => {
                let state = read_cursor(cursor);
                Some(state.ok_or_else(|| Fault::field("cursor", "is not one that this method gave"))?)
            }
        };
        let tenant = self.looks.tenant_of(call.scope(), id).await?;
        let watch = self.refresher.watches.watch(tenant, id)?;
        let place = watch.place();
        let watching = Watching {
            looks: Arc::clone(&self.looks),
            tenant,
            id,
            watch,
            sent,
            has_looked: false,
            stopping: self.stopping.clone(),
        };
        Ok(Outgoing::new(call, place, watching))
    }
}

impl Watched for Watching {
    async fn next(&mut self) -> Result<Option<Part>, Fault> {
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            // Before the look: what changes after it wakes.
            let changes = self.watch.rearm();
            let since = self.has_looked.then_some(changes);
            let seen = tokio::select! {
                seen = self.looks.look(self.tenant, self.id, changes, since) => seen?,
                () = self.stopping.cancelled() => return Err(Fault::Stopping),
            };
            self.has_looked = true;
            if self.sent != Some(seen.state) {
                self.sent = Some(seen.state);
                return Ok(Some(seen.part()));
            }
            // What lies ready is held by nobody who waits.
            drop(seen);
            tokio::select! {
                () = self.watch.woken() => {}
                () = tokio::time::sleep_until(heartbeat) => {
                    let cursor = self.sent.map(|sent| write_cursor(&sent)).unwrap_or_default();
                    return Ok(Some(Part::small(&v1::WatchBindingResponse { binding: None, cursor })));
                }
                () = self.stopping.cancelled() => return Err(Fault::Stopping),
            }
        }
    }
}

pub(super) fn write_cursor(state: &State) -> String {
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
