//! Endpoints that were paused or disabled when something for them was put off for long. Who enables one makes due what
//! waits for it; what this dispatcher put off in the same moment, not knowing of it yet, is made due here.

use std::collections::HashSet;
use std::sync::Arc;

use bowline_core::endpoint::EndpointState;
use bowline_core::id::EndpointId;
use bowline_core::snapshot::Snapshot;
use bowline_core::store::{self, Pool, endpoints};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::record::Recorder;

const ROWS_AT_ONCE: i64 = 5_000;

#[derive(Debug)]
pub(crate) struct Asleep {
    snapshot: Arc<Snapshot>,
    /// No more than there are endpoints.
    endpoints: Mutex<HashSet<EndpointId>>,
    added: Notify,
}

impl Asleep {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, endpoints: Mutex::default(), added: Notify::new() }
    }

    /// Something for it was given to the recorder, to be put off.
    pub(crate) fn add(&self, id: EndpointId) {
        self.endpoints.lock().insert(id);
        if self.is_awake(id) {
            self.added.notify_one();
        }
    }

    fn is_awake(&self, id: EndpointId) -> bool {
        self.snapshot.endpoint(id).is_some_and(|live| live.endpoint.state == EndpointState::Enabled)
    }

    fn take_awake(&self) -> Vec<EndpointId> {
        let mut asleep = self.endpoints.lock();
        asleep.retain(|id| self.snapshot.endpoint(*id).is_some());
        asleep.extract_if(|id| self.is_awake(*id)).collect()
    }

    /// Follows the configuration for ever.
    pub(crate) async fn wake(&self, pool: &Pool, recorder: &Recorder) -> Result<(), store::Error> {
        let mut versions = self.snapshot.versions();
        loop {
            // What is said from here on wakes again.
            versions.mark_unchanged();
            let awake = self.take_awake();
            if !awake.is_empty() {
                recorder.flush().await;
                if let Err(error) = make_due(pool, &awake).await {
                    self.endpoints.lock().extend(awake);
                    return Err(error);
                }
            }
            tokio::select! {
                changed = versions.changed() => if changed.is_err() { return Ok(()) },
                () = self.added.notified() => {}
            }
        }
    }
}

async fn make_due(pool: &Pool, ids: &[EndpointId]) -> Result<(), store::Error> {
    let client = pool.get().await?;
    for id in ids {
        while endpoints::make_due(&client, *id, ROWS_AT_ONCE).await? == ROWS_AT_ONCE {}
    }
    Ok(())
}
