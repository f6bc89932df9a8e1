//! Keeps the data of bindings fresh: at most one refresh each 250 ms, whichever replica does it, and
//! always one after the last payload.
//!
//! The replica that commits a payload refreshes; if it dies first, another one finds in Postgres that
//! the source has payloads newer than the data. That is looked for where a replica has died, and now and then;
//! which bindings there are, where the configuration has changed. Where nothing happens, nothing is read.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::agenda::{Agenda, PACE};
use super::{DATA_BYTES_MAX, Touched, Watches, evaluate};
use crate::id::{BindingId, SourceId, TenantId};
use crate::query::{Queries, QueryError};
use crate::store::{Error, Pool, bindings, payloads, replicas};

/// How soon the death of a replica is heard of.
const DEATHS_POLL: Duration = Duration::from_secs(2);
/// Whether or not one has died.
const LOOK_AT_LEAST_EACH: Duration = Duration::from_secs(30);

/// What became of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    Done,
    /// Another one began less than [`PACE`] ago.
    TooSoon,
    /// The binding or its source is gone, or has just been changed.
    Nothing,
    /// Not all was read: the binding says so, and the next refresh goes on.
    Unfinished,
}

#[derive(Debug)]
pub struct Refresher {
    pool: Pool,
    queries: Arc<Queries>,
    touched: Arc<Touched>,
    pub watches: Arc<Watches>,
    /// Of the configuration, as the snapshot tells them.
    versions: watch::Receiver<i64>,
    known: Mutex<Known>,
}

/// The bindings there are.
#[derive(Debug, Default)]
struct Known {
    version: i64,
    sources: HashMap<BindingId, SourceId>,
    bindings: HashMap<SourceId, HashSet<(TenantId, BindingId)>>,
}

impl Known {
    fn take(&mut self, row: &bindings::Change) {
        self.version = self.version.max(row.config_version);
        if let Some(source) = self.sources.remove(&row.id)
            && let Some(bindings) = self.bindings.get_mut(&source)
        {
            bindings.remove(&(row.tenant_id, row.id));
            if bindings.is_empty() {
                self.bindings.remove(&source);
            }
        }
        if !row.deleted {
            self.sources.insert(row.id, row.source_id);
            self.bindings.entry(row.source_id).or_default().insert((row.tenant_id, row.id));
        }
    }
}

/// What is known of those who may have left a binding behind.
#[derive(Debug, Default)]
struct Deaths {
    last: Option<DateTime<Utc>>,
    looked: Option<Instant>,
}

impl Deaths {
    /// Whether one has died since this was asked last, or that is long ago.
    fn ask_for_a_look(&mut self, last: Option<DateTime<Utc>>, now: Instant) -> bool {
        let wanted = last != self.last || self.looked.is_none_or(|looked| now - looked >= LOOK_AT_LEAST_EACH);
        if wanted {
            *self = Self { last, looked: Some(now) };
        }
        wanted
    }

    /// A payload may have come before its binding was known here.
    fn look_again(&mut self) {
        self.looked = None;
    }
}

impl Refresher {
    pub fn new(
        pool: Pool,
        queries: Arc<Queries>,
        touched: Arc<Touched>,
        watches: Arc<Watches>,
        versions: watch::Receiver<i64>,
    ) -> Self {
        Self { pool, queries, touched, watches, versions, known: Mutex::default() }
    }

    /// For the life of the process.
    pub async fn run(self: Arc<Self>) -> Result<Infallible, Error> {
        let (mut agenda, mut running) = (Agenda::default(), JoinSet::new());
        let mut tasks = HashMap::new();
        let (mut versions, mut deaths) = (self.versions.clone(), Deaths::default());
        versions.mark_changed();
        let mut poll = tokio::time::interval(DEATHS_POLL);
        loop {
            let now = Instant::now();
            while let Some(id) = agenda.begin(now) {
                let refresher = Arc::clone(&self);
                let task = running.spawn(async move { refresher.refresh(id).await });
                tasks.insert(task.id(), id);
            }
            let next = agenda.next();
            tokio::select! {
                sources = self.touched.taken() => {
                    let known = self.known.lock();
                    let bindings = sources.iter().filter_map(|source| known.bindings.get(source)).flatten();
                    for (tenant, id) in bindings {
                        agenda.want(*tenant, *id, Instant::now());
                    }
                }
                Some(ended) = running.join_next_with_id() => {
                    let (task, outcome) = match ended {
                        Ok((task, outcome)) => (task, Some(outcome)),
                        // The panic has been logged; only its own binding is the worse for it.
                        Err(failed) => (failed.id(), None),
                    };
                    let Some(id) = tasks.remove(&task) else { continue };
                    let again = match outcome {
                        Some(Ok(Refreshed::TooSoon | Refreshed::Unfinished)) => true,
                        Some(Ok(Refreshed::Done | Refreshed::Nothing)) | None => false,
                        Some(Err(error)) => {
                            tracing::warn!(%error, binding = %id, "a binding was not refreshed");
                            true
                        }
                    };
                    agenda.end(id, again.then(|| Instant::now() + PACE));
                }
                () = sleep_until(next) => {}
                () = changed(&mut versions) => {
                    if self.follow().await? {
                        deaths.look_again();
                    }
                }
                _ = poll.tick() => {
                    for (tenant, id) in self.behind(&mut deaths).await? {
                        agenda.want(tenant, id, Instant::now());
                    }
                }
            }
        }
    }

    /// Learns which bindings there are; whether there is news.
    async fn follow(&self) -> Result<bool, Error> {
        let version = self.known.lock().version;
        let changes = {
            let client = self.pool.get().await?;
            bindings::changed(&client, version).await?
        };
        if !changes.is_empty() {
            let mut known = self.known.lock();
            for change in &changes {
                known.take(change);
            }
            self.touched.want(known.bindings.keys().copied().collect());
        }
        Ok(!changes.is_empty())
    }

    /// Whose source has received something that the data does not show, because who took it in is no more.
    async fn behind(&self, deaths: &mut Deaths) -> Result<Vec<(TenantId, BindingId)>, Error> {
        if self.known.lock().sources.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.pool.get().await?;
        let last = replicas::last_death(&client).await?;
        if deaths.ask_for_a_look(last, Instant::now()) {
            bindings::behind(&client).await
        } else {
            Ok(Vec::new())
        }
    }

    async fn refresh(&self, id: BindingId) -> Result<Refreshed, Error> {
        let client = self.pool.get().await?;
        if !bindings::begin_refresh(&client, id, PACE).await? {
            return Ok(Refreshed::TooSoon);
        }
        drop(client);
        self.refresh_now(id).await
    }

    /// Whenever the last one was: for a binding that somebody asks for or has changed.
    pub async fn refresh_now(&self, id: BindingId) -> Result<Refreshed, Error> {
        let client = self.pool.get().await?;
        let Some(binding) = bindings::find(&client, None, id).await? else { return Ok(Refreshed::Nothing) };
        let Some(window) = payloads::window(&client, None, binding.source_id).await? else {
            return Ok(Refreshed::Nothing);
        };
        // Taken first: what is committed later may be in the data, and is looked for again.
        let horizon = payloads::horizon(&client).await?;
        let made = match binding.spec.refused() {
            Some((field, error)) => Err(Unmade { why: format!("{field}: {error}"), goes_on: false }),
            None => made(evaluate(&client, &self.queries, window, &binding.spec).await)?,
        };
        let (data, error) = match &made {
            Ok(data) => (Some(&data[..]), ""),
            Err(unmade) => (None, unmade.why.as_str()),
        };
        let written = bindings::keep(&client, &binding, data, error, &horizon).await?;
        drop(client);
        if written {
            self.watches.tell(id).await;
        }
        Ok(if made.is_err_and(|unmade| unmade.goes_on) { Refreshed::Unfinished } else { Refreshed::Done })
    }
}

/// Why a binding keeps the data it has; it says so.
#[derive(Debug)]
struct Unmade {
    why: String,
    /// Another refresh comes farther.
    goes_on: bool,
}

/// The data, or what the binding says instead; an error is nothing that a binding could say.
fn made(evaluated: Result<Vec<u8>, QueryError>) -> Result<Result<Vec<u8>, Unmade>, Error> {
    let too_large = |bytes| format!("the data has {bytes} bytes; at most {DATA_BYTES_MAX} are kept");
    Ok(match evaluated {
        Ok(data) if data.len() > DATA_BYTES_MAX => Err(Unmade { why: too_large(data.len()), goes_on: false }),
        Ok(data) => Ok(data),
        Err(QueryError::Store(error)) => return Err(error),
        Err(error) => {
            let goes_on = matches!(error, QueryError::Busy | QueryError::Unfinished { is_kept: true, .. });
            Err(Unmade { why: error.to_string(), goes_on })
        }
    })
}

/// One who tells no more will not tell of a change.
async fn changed(versions: &mut watch::Receiver<i64>) {
    if versions.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_made_is_said_and_what_goes_on_is_tried_again() {
        let unfinished = |is_kept| QueryError::Unfinished { read: 3, of: 9, is_kept };
        for (error, goes_on, said) in [
            (unfinished(true), true, "3 of 9 payloads, and the next call goes on"),
            (unfinished(false), false, "3 of 9 payloads; a dotted path"),
            (QueryError::ProjectionTooLong, false, "fewer of them"),
            (QueryError::Busy, true, "try again"),
        ] {
            let unmade = made(Err(error)).unwrap().unwrap_err();
            assert_eq!(unmade.goes_on, goes_on, "{}", unmade.why);
            assert!(unmade.why.contains(said), "{}", unmade.why);
        }
        assert_eq!(made(Ok(vec![1])).unwrap().unwrap(), [1]);
        let large = made(Ok(vec![0; DATA_BYTES_MAX + 1])).unwrap().unwrap_err();
        assert!(!large.goes_on && large.why.contains("1048577 bytes"), "{}", large.why);
        let away = Error::TimedOut(Duration::from_secs(1));
        assert!(made(Err(QueryError::Store(away))).is_err());
    }

    #[test]
    fn a_look_is_taken_at_first_after_a_death_and_now_and_then() {
        let (mut deaths, start) = (Deaths::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        let died = |s: i64| DateTime::from_timestamp(s, 0);
        let asked = [
            (0, None, true),
            (2, None, false),
            (4, died(3), true),
            (6, died(3), false),
            (8, died(7), true),
            (37, died(7), false),
            (38, died(7), true),
            (40, died(7), false),
        ];
        for (now, last, wanted) in asked {
            assert_eq!(deaths.ask_for_a_look(last, at(now)), wanted, "after {now} s");
        }
        deaths.look_again();
        assert!(deaths.ask_for_a_look(died(7), at(42)));
    }
}
