//! Wakes those who watch a binding, in whichever replica it was refreshed.
//!
//! Redis tells within milliseconds; a look into Postgres finds what it did not tell, and what changes
//! otherwise: a deleted binding, a deleted source.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::id::{BindingId, TenantId};
use crate::store::{Error, Pool, bindings};
use crate::streams::Streams;
use crate::watch::{Full, Place, Places};

const WATCHES_MAX: usize = 1000;
/// A few dashboards full of them.
const WATCHES_PER_TENANT_MAX: usize = 256;
const POLL: Duration = Duration::from_millis(250);
/// While Redis tells.
const POLL_WHILE_TOLD: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_secs(1);
/// Pub/sub topic of the ids of refreshed bindings.
const TOPIC: &str = "bindings";

/// Everybody who watches in this process.
#[derive(Debug)]
pub struct Watches {
    pool: Pool,
    streams: Option<Streams>,
    told: std::sync::atomic::AtomicBool,
    places: Arc<Places>,
    by_binding: Mutex<HashMap<BindingId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    /// Counts what may have changed it.
    wake: watch::Sender<u64>,
    watchers: usize,
    /// As Postgres had it at the last look.
    seen: Option<bindings::State>,
}

/// One who watches, until dropped.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    id: BindingId,
    place: Arc<Place>,
    woken: watch::Receiver<u64>,
}

impl Watch {
    /// Looks again from here on: what happens after this call wakes. The number rises each time that something
    /// may have changed, for all who watch the binding in this process.
    pub fn rearm(&mut self) -> u64 {
        *self.woken.borrow_and_update()
    }

    /// Taken for as long as somebody holds it.
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// Until something may have changed.
    pub async fn woken(&mut self) {
        // The sender lives as long as a watcher does.
        let _ = self.woken.changed().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut by_binding = self.watches.by_binding.lock();
        if let Some(watched) = by_binding.get_mut(&self.id) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                by_binding.remove(&self.id);
            }
        }
    }
}

impl Watches {
    pub fn new(pool: Pool, streams: Option<Streams>) -> Self {
        let places = Places::new(WATCHES_MAX, WATCHES_PER_TENANT_MAX);
        Self { pool, streams, told: false.into(), places, by_binding: Mutex::default() }
    }

    pub fn watch(self: &Arc<Self>, tenant: TenantId, id: BindingId) -> Result<Watch, Full> {
        let place = self.places.take(tenant)?;
        let mut by_binding = self.by_binding.lock();
        let watched = by_binding.entry(id).or_insert_with(|| Watched {
            wake: watch::Sender::new(0),
            watchers: 0,
            seen: None,
        });
        watched.watchers += 1;
        Ok(Watch { watches: Arc::clone(self), id, place, woken: watched.wake.subscribe() })
    }

    /// A binding has new data: those who watch it here look at once, those elsewhere are told.
    pub async fn tell(&self, id: BindingId) {
        self.wake(id);
        if let Some(streams) = &self.streams
            && let Err(error) = streams.tell(TOPIC, id.0.as_bytes()).await
        {
            tracing::debug!(%error, binding = %id, "watchers elsewhere will find out by themselves");
        }
    }

    fn wake(&self, id: BindingId) {
        if let Some(watched) = self.by_binding.lock().get(&id) {
            watched.wake.send_modify(|count| *count += 1);
        }
    }

    /// Listens and looks for the life of the process.
    pub async fn run(&self) -> Result<Infallible, Error> {
        tokio::select! {
            ended = self.look() => ended,
            never = self.listen() => match never {},
        }
    }

    async fn listen(&self) -> Infallible {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(streams) = &self.streams else { return std::future::pending().await };
        loop {
            if let Ok(mut topic) = streams.listen(TOPIC).await {
                self.told.store(true, Relaxed);
                while let Some(message) = topic.next().await {
                    if let Ok(id) = uuid::Uuid::from_slice(&message) {
                        self.wake(BindingId(id));
                    }
                }
                self.told.store(false, Relaxed);
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn look(&self) -> Result<Infallible, Error> {
        loop {
            let told = self.told.load(std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(if told { POLL_WHILE_TOLD } else { POLL }).await;
            let watched: Vec<_> = self.by_binding.lock().keys().copied().collect();
            if watched.is_empty() {
                continue;
            }
            let states = {
                let client = self.pool.get().await?;
                bindings::states(&client, &watched).await?
            };
            let mut by_binding = self.by_binding.lock();
            for id in watched {
                let Some(watched) = by_binding.get_mut(&id) else { continue };
                let now = states.get(&id).copied();
                if now != watched.seen {
                    watched.seen = now;
                    watched.wake.send_modify(|count| *count += 1);
                }
            }
        }
    }
}
