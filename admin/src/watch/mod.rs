//! The stream of what is committed to a log, from a cursor on.
//!
//! A row is read when the reader has room for it: who reads slowly holds a page, and goes on from where he
//! is. What was committed since the last look, or since the time it begins at, is sent in the order of its
//! transactions; more than a page of it is a backlog, and comes in the order it lies in.

mod place;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::TenantId;
use bowline_core::store::Error;
use bowline_core::store::watching::{self, Found, Log, Part, Reading};
use bowline_core::watch::{self, Watch, Watches};
use chrono::{DateTime, Utc};
use deadpool_postgres::Object;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::AdminContext;
use crate::call::Call;
use crate::fault::Fault;
use crate::page::Listing;
use crate::streaming::{Encoded, Held, Outgoing, Part as Sent, Room, Watched, encode};

pub(crate) use place::Key;
use place::{Backlog, Place, Stage};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// Keys held at a time.
const PAGE: usize = 1000;
/// Rows read at a time, and about their bytes; at least one.
const ROWS: usize = 64;
const ROWS_BYTES: u64 = 256 * 1024;
/// Of a row, beside its body.
const ROW_BYTES: u64 = 1024;
/// What is as young as this is kept, whatever the retention.
const SURELY_KEPT: Duration = Duration::from_secs(600);

/// In the order they were asked for; what is gone meanwhile is left out.
pub(crate) type Rows<F> = Vec<(<F as Feed>::Key, <F as Feed>::Row)>;

/// A log as one watch wants it.
pub(crate) trait Feed: Sized + Send + Sync + 'static {
    const LOG: Log;
    type Key: Key;
    type Row: Send + Sync;
    type Message: prost::Message;

    fn find(
        &self,
        client: &Object,
        reading: &Reading<Self::Key>,
    ) -> impl Future<Output = Result<Vec<Found<Self::Key>>, Error>> + Send;

    fn read(
        &self,
        client: &Object,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Rows<Self>, Error>> + Send;

    /// Without a row: a heartbeat.
    fn message(&self, row: Option<Self::Row>, cursor: String) -> Self::Message;
}

/// Whose log a watch reads, and where it is asked to begin.
pub(crate) struct Begin<'a> {
    pub(crate) tenant: TenantId,
    /// What its cursors are bound to.
    pub(crate) listing: Listing,
    pub(crate) cursor: &'a str,
    /// Without a cursor; `None`: now.
    pub(crate) time: Option<DateTime<Utc>>,
}

/// What the services need to be watched.
#[derive(Clone)]
pub(crate) struct Watching {
    pub(crate) watches: Arc<Watches>,
    pub(crate) room: Arc<Room>,
    pub(crate) stopping: CancellationToken,
}

/// The transaction of a row, its key, the row, and the room it takes.
type Loaded<F> = (u64, <F as Feed>::Key, <F as Feed>::Row, Option<Held>);

struct Watcher<F: Feed> {
    context: Arc<AdminContext>,
    tenant: TenantId,
    feed: F,
    listing: Listing,
    watch: Watch,
    room: Arc<Room>,
    stopping: CancellationToken,
    /// After the last message.
    place: Place<F::Key>,
    /// To be read, and to be sent; both after `place`.
    found: VecDeque<(u64, F::Key, u64)>,
    rows: VecDeque<Loaded<F>>,
    /// Where it stands when those are sent.
    then: Option<Place<F::Key>>,
    /// The first message says where it begins.
    greeted: bool,
}

impl Watching {
    pub(crate) async fn start<F: Feed>(
        &self,
        context: &Arc<AdminContext>,
        call: &Call,
        feed: F,
        Begin { tenant, listing, cursor, time }: Begin<'_>,
    ) -> Result<Outgoing, Fault> {
        let given: Option<Place<F::Key>> = listing.position(cursor).map_err(|_| {
            Fault::field("cursor", "is not one of this method, or belongs to another filter or tenant")
        })?;
        let watch = self.watches.watch(tenant)?;
        let taken = watch.place();
        let client = context.client().await?;
        let begin = match given {
            Some(_) => watching::look(&client).await?,
            None => watch::begin(&client).await?,
        };
        let now = Place::at(begin.ended_below, begin.low);
        let place = match (given, time) {
            // Numbers that have not been given: the database is not the one it was.
            (Some(given), _) if given.end() > begin.next => return Err(Fault::CursorExpired),
            (Some(given), _) => given,
            (None, None) => now,
            (None, Some(time)) => Place {
                backlog: Some(Backlog {
                    until: now.from,
                    high: begin.high,
                    next_low: now.low,
                    stage: Stage::Sorted(None),
                }),
                ..Place::at(0, time)
            },
        };
        let watcher = Watcher {
            context: Arc::clone(context),
            tenant,
            feed,
            listing,
            watch,
            room: Arc::clone(&self.room),
            stopping: self.stopping.clone(),
            place,
            found: VecDeque::new(),
            rows: VecDeque::new(),
            then: None,
            greeted: false,
        };
        if given.is_some() {
            watcher.check_kept(&client, DateTime::<Utc>::MAX_UTC).await?;
        }
        drop(client);
        Ok(Outgoing::new(call, taken, watcher))
    }
}

impl<F: Feed> Watched for Watcher<F> {
    async fn next(&mut self) -> Result<Option<Sent>, Fault> {
        if !self.greeted {
            self.greeted = true;
            return Ok(Some(self.heartbeat()));
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            if let Some((tx, key, row, held)) = self.rows.pop_front() {
                self.place = self.place.after(tx, key);
                self.settle();
                let message = self.feed.message(Some(row), self.listing.token(&self.place));
                return Ok(Some(Sent::of(Encoded::new(encode(&message), held))));
            }
            if self.stopping.is_cancelled() {
                return Err(Fault::Stopping);
            }
            if Instant::now() >= heartbeat {
                return Ok(Some(self.heartbeat()));
            }
            if !self.found.is_empty() {
                self.read().await?;
            } else if let Some(backlog) = self.place.backlog {
                match backlog.stage {
                    Stage::Sorted(last) => self.find_sorted(backlog, last.is_some()).await?,
                    Stage::Part(part) => self.find_part(backlog, part).await?,
                }
            } else {
                let mark = tokio::select! {
                    mark = self.watch.mark() => mark,
                    () = tokio::time::sleep_until(heartbeat) => continue,
                    () = self.stopping.cancelled() => continue,
                };
                if let Some(mark) = mark {
                    self.follow(&mark).await?;
                }
            }
        }
    }
}

impl<F: Feed> Watcher<F> {
    fn heartbeat(&self) -> Sent {
        Sent::small(&self.feed.message(None, self.listing.token(&self.place)))
    }

    /// Goes on from a page that is sent.
    fn settle(&mut self) {
        if self.found.is_empty()
            && self.rows.is_empty()
            && let Some(then) = self.then.take()
        {
            self.place = then;
        }
    }

    /// What has ended since the last look.
    async fn follow(&mut self, mark: &watch::Mark) -> Result<(), Fault> {
        let until = mark.span.until;
        if until <= self.place.from {
            return Ok(());
        }
        let after = Place::at(until, mark.next_low);
        if mark.is_quiet(self.tenant, self.place.from) {
            self.place = after;
            return Ok(());
        }
        if let Some(found) = self.find_all(until, mark.span.high).await? {
            self.take(found, after);
        } else {
            let (high, next_low) = (mark.span.high, mark.next_low);
            let stage = Stage::Part(Part::Strays(None));
            self.place.backlog = Some(Backlog { until, high, next_low, stage });
        }
        Ok(())
    }

    /// A backlog in the order of its transactions, if it is no more than a page.
    async fn find_sorted(&mut self, backlog: Backlog<F::Key>, begun: bool) -> Result<(), Fault> {
        match self.find_all(backlog.until, backlog.high).await? {
            Some(found) => self.take(found, self.place.after_stage()),
            // It does not grow: the cursor is of another version, which holds more.
            None if begun => return Err(Fault::CursorExpired),
            None => self.place.backlog = Some(backlog.in_parts()),
        }
        Ok(())
    }

    /// All that is not known up to there, by transaction and key; `None` if that is more than a page.
    async fn find_all(&self, until: u64, high: DateTime<Utc>) -> Result<Option<Vec<Found<F::Key>>>, Fault> {
        let (span, known) = (self.place.span(until, high), self.place.known());
        let limit = PAGE as i64 + 1;
        let mut found = Vec::new();
        let _turn = self.watch.turn().await;
        let client = self.context.client().await?;
        self.check_kept(&client, Utc::now() - SURELY_KEPT).await?;
        for part in [Part::Strays(None), Part::Others(None)] {
            let reading = Reading { span, known, part, limit };
            found.extend(self.feed.find(&client, &reading).await?);
            if found.len() > PAGE {
                return Ok(None);
            }
        }
        found.sort_unstable_by_key(|found| (found.tx, found.key));
        Ok(Some(found))
    }

    /// The next page of a part of a backlog.
    async fn find_part(&mut self, backlog: Backlog<F::Key>, part: Part<F::Key>) -> Result<(), Fault> {
        let (span, known) = (self.place.span(backlog.until, backlog.high), self.place.known());
        let reading = Reading { span, known, part, limit: PAGE as i64 };
        let found = {
            let _turn = self.watch.turn().await;
            let client = self.context.client().await?;
            self.check_kept(&client, Utc::now() - SURELY_KEPT).await?;
            self.feed.find(&client, &reading).await?
        };
        let then = match found.last() {
            Some(last) if found.len() >= PAGE => self.place.after(last.tx, last.key),
            _ => self.place.after_stage(),
        };
        self.take(found, then);
        Ok(())
    }

    fn take(&mut self, found: Vec<Found<F::Key>>, then: Place<F::Key>) {
        let wanted = found.into_iter().filter(|found| found.wanted);
        self.found = wanted.map(|found| (found.tx, found.key, found.bytes)).collect();
        self.then = Some(then);
        self.settle();
    }

    /// The rows of the next few keys.
    async fn read(&mut self) -> Result<(), Fault> {
        let (mut keys, mut bytes) = (Vec::new(), 0);
        for (tx, key, size) in self.found.iter().take(ROWS) {
            bytes += size + ROW_BYTES;
            if bytes > ROWS_BYTES && !keys.is_empty() {
                bytes -= size + ROW_BYTES;
                break;
            }
            keys.push((*tx, *key, size + ROW_BYTES));
        }
        // Before the turn: who reads slowly keeps nobody else from reading.
        let mut held = tokio::select! {
            held = self.room.take(Some(self.tenant), bytes as usize) => held?,
            () = self.stopping.cancelled() => return Err(Fault::Stopping),
        };
        let rows = {
            let _turn = self.watch.turn().await;
            let client = self.context.client().await?;
            let wanted: Vec<F::Key> = keys.iter().map(|(_, key, _)| *key).collect();
            self.feed.read(&client, &wanted).await?
        };
        self.found.drain(..keys.len());
        let mut txs = keys.into_iter();
        for (key, row) in rows {
            // In the order of the keys, of which some may be gone.
            if let Some((tx, _, bytes)) = txs.find(|(_, known, _)| *known == key) {
                self.rows.push_back((tx, key, row, held.split(bytes as usize)));
            }
        }
        self.settle();
        Ok(())
    }

    /// Whether nothing that is still to be sent can have been taken away.
    async fn check_kept(&self, client: &Object, if_before: DateTime<Utc>) -> Result<(), Fault> {
        // Who asks for a time gets what is left of it.
        if self.place.from == 0 || self.place.low > if_before {
            return Ok(());
        }
        if self.place.low < watching::kept_since(client, F::LOG, self.tenant).await? {
            return Err(Fault::CursorExpired);
        }
        Ok(())
    }
}
