//! Whoever watches a log (events, or attempts) of a tenant.
//!
//! 1. One poller a process and log looks how far the transactions of the database have come, and whose rows
//!    are new ([`Watches::run`]); only while somebody watches. Commits of the hot path tell nobody.
//! 2. It says so in a [`Mark`], which every [`Watch`] of the process sees. Most need nothing more than that: there
//!    is nothing new for their tenant.
//! 3. The others read by themselves, from their own cursor on, when their reader has room: who reads slowly
//!    holds a page, and nobody up. A few read at a time ([`Watch::turn`]), so that calls find a connection.
//!
//! That no row is missed is shown in [`strays`](crate::store::strays).

mod horizon;
mod places;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::id::TenantId;
use crate::store::watching::{self, Log, Look, Span};
use crate::store::{Error, Pool};
use horizon::Horizon;
pub use places::{Full, Place, Places};

pub const WATCHES_MAX: usize = 512;
pub const WATCHES_PER_TENANT_MAX: usize = 64;
const POLL: Duration = Duration::from_millis(200);
/// Of one process and log.
const READS_MAX: usize = 2;
/// How long a watch waits for its beginning to be exact.
const BEGIN_MAX: Duration = Duration::from_secs(1);
const BEGIN_POLL: Duration = Duration::from_millis(20);
/// No transaction of Bowline is open for longer, unless a standby keeps its commit waiting.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// How far the log has come.
#[derive(Debug, Clone)]
pub struct Mark {
    /// What has ended since the mark before.
    pub span: Span,
    /// For what ends after it, as [`Span::low`].
    pub next_low: DateTime<Utc>,
    /// Which tenants were looked at, and whether they have rows in the span.
    looked: HashMap<TenantId, bool>,
}

impl Mark {
    /// Nothing of this tenant is in the log from transaction `from` up to the end of the span.
    pub fn is_quiet(&self, tenant: TenantId, from: u64) -> bool {
        from >= self.span.from && self.looked.get(&tenant) == Some(&false)
    }
}

/// Everybody who watches one log in this process.
#[derive(Debug)]
pub struct Watches {
    pool: Pool,
    log: Log,
    places: Arc<Places>,
    begun: Notify,
    marks: watch::Sender<Option<Arc<Mark>>>,
    reads: Semaphore,
}

/// One who watches, until dropped.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    place: Arc<Place>,
    marks: watch::Receiver<Option<Arc<Mark>>>,
}

impl Watch {
    /// The latest mark, once there is one that was not seen.
    pub async fn mark(&mut self) -> Option<Arc<Mark>> {
        // The sender lives as long as a watcher does.
        let _ = self.marks.changed().await;
        self.marks.borrow_and_update().clone()
    }

    /// Taken for as long as somebody holds it.
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }

    /// A place among the few that read.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.watches.reads.acquire().await.ok()
    }
}

impl Watches {
    pub fn new(pool: Pool, log: Log) -> Self {
        Self {
            pool,
            log,
            places: Places::new(WATCHES_MAX, WATCHES_PER_TENANT_MAX),
            begun: Notify::new(),
            marks: watch::Sender::new(None),
            reads: Semaphore::new(READS_MAX),
        }
    }

    pub fn watch(self: &Arc<Self>, tenant: TenantId) -> Result<Watch, Full> {
        let place = self.places.take(tenant)?;
        self.begun.notify_one();
        Ok(Watch { watches: Arc::clone(self), place, marks: self.marks.subscribe() })
    }

    /// Looks for the life of the process.
    pub async fn run(&self) -> Result<Infallible, Error> {
        loop {
            let begun = self.begun.notified();
            if self.places.tenants().is_empty() {
                begun.await;
            }
            self.poll().await?;
        }
    }

    /// While somebody watches. What was not looked at meanwhile is in no mark: who watched nevertheless, with a
    /// cursor from elsewhere, reads.
    async fn poll(&self) -> Result<(), Error> {
        let (mut horizon, mut last) = (Horizon::default(), None);
        loop {
            let tenants = self.places.tenants();
            if tenants.is_empty() {
                return Ok(());
            }
            let client = self.pool.get().await?;
            let look = watching::look(&client).await?;
            if let Some(next_low) = horizon.advance(&look) {
                // The first only says how far it is.
                let (from, low) = last.unwrap_or((look.ended_below, next_low));
                let span = Span { from, until: look.ended_below, low, high: look.high };
                let looked = match last {
                    Some(_) if span.until > span.from => Some(self.looked(&client, &tenants, &span).await?),
                    Some(_) => None,
                    None => Some(HashMap::new()),
                };
                if let Some(looked) = looked {
                    last = Some((span.until, next_low));
                    self.marks.send_replace(Some(Arc::new(Mark { span, next_low, looked })));
                }
            }
            drop(client);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether each of these tenants has rows in the span.
    async fn looked(
        &self,
        client: &Object,
        tenants: &[TenantId],
        span: &Span,
    ) -> Result<HashMap<TenantId, bool>, Error> {
        let news = watching::news(client, self.log, tenants, span).await?;
        Ok(tenants.iter().map(|tenant| (*tenant, news.contains(tenant))).collect())
    }
}

/// Where a watch begins that begins now: what ends from here on is in it. For that the number of the first
/// transaction and a time before which none from there on had its number must be known; while a transaction
/// stays open, the time is a bound instead that holds for all of Bowline's own.
pub async fn begin(client: &Object) -> Result<Look, Error> {
    let began = tokio::time::Instant::now();
    let first = watching::look(client).await?;
    let mut look = first;
    while look.ended_below < first.next {
        if began.elapsed() > BEGIN_MAX {
            return Ok(Look { low: first.low - OPEN_MAX, ..first });
        }
        tokio::time::sleep(BEGIN_POLL).await;
        look = watching::look(client).await?;
    }
    Ok(Look { low: first.low, ..look })
}
