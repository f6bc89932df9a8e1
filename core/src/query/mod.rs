//! Queries over the payloads of a source: the latest, an aggregate, a list.
//!
//! They see exactly the newest payloads of the source's window, by receipt. Postgres says each time
//! which those are; what one of them holds at a [`path`] is read once and remembered in a [`column`].
//! [`work`] sees to it that reading keeps nobody else waiting. [`number`] makes numbers of what is found, [`aggregate`] folds them, [`order`] sorts.

mod aggregate;
mod column;
pub mod number;
mod order;
mod path;
mod work;

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::try_join;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use aggregate::{Aggregate, Aggregated, Op, Span};
pub use order::{Order, SortKey, sort};
pub use path::{Content, FieldPath, Found, PathError};

use crate::apart::Stopping;
use crate::defaults;
use crate::id::{SourceId, TenantId};
use crate::source::SourceSpec;
use crate::store::payloads::{self, Payload};
use crate::store::{Connection, Error};
use aggregate::{Numbers, fold};
use column::{Column, Columns, Reading};
use work::Workplace;

pub const LIST_LIMIT_DEFAULT: u32 = 10;
pub const LIST_LIMIT_MAX: u32 = 1000;
/// A page ends before its bodies pass this, unless it is one body alone.
pub const PAGE_BYTES_MAX: i64 = 3 * 1024 * 1024;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error(
        "reading the field took too long: it is read of {read} of {of} payloads{}; a dotted path is read sooner, and of fewer payloads with a smaller query_window_payloads of the source",
        if *.is_kept { ", and the next call goes on from there" } else { "" }
    )]
    Unfinished {
        read: usize,
        of: usize,
        /// What was read is remembered.
        is_kept: bool,
    },
    #[error("making the fields of the widget took too long: have fewer of them, or dotted paths")]
    ProjectionTooLong,
    /// Or it stops.
    #[error("this replica reads as many large payloads as it may: try again, or at another one")]
    Busy,
}

impl From<Stopping> for QueryError {
    fn from(_: Stopping) -> Self {
        Self::Busy
    }
}

/// How many of a source's payloads queries see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceWindow {
    pub tenant_id: TenantId,
    pub source_id: SourceId,
    pub payloads: u32,
}

impl SourceWindow {
    /// What is stored no longer than the newest few is not seen longer either.
    pub fn of(tenant_id: TenantId, source_id: SourceId, spec: &SourceSpec) -> Self {
        let seen = spec.query_window_payloads.unwrap_or(defaults::QUERY_WINDOW_PAYLOADS);
        let stored = spec.max_stored_payloads().unwrap_or(u32::MAX);
        Self { tenant_id, source_id, payloads: seen.min(stored) }
    }
}

/// One of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Query {
    Latest,
    Aggregate(Aggregate),
    List(List),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_by: Option<FieldPath>,
    #[serde(default)]
    pub order: Order,
}

/// Where a page of a list goes on: the window as the first page saw it, and how much of it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPosition {
    /// The newest id that the first page saw.
    pub until: Uuid,
    /// Payloads on the pages before.
    pub done: u32,
}

/// A page, and where the next one begins if the limit is not reached and there is more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub payloads: Vec<Payload>,
    pub next: Option<ListPosition>,
}

const NUMBERS: Reading<Numbers> = Reading {
    read: Numbers::of,
    heap_bytes: |numbers| match numbers {
        Numbers::Many(many) => size_of_val(&**many),
        Numbers::None | Numbers::One(_) => 0,
    },
};

const SORT_KEYS: Reading<Option<SortKey>> = Reading {
    read: |path, body| path.first(body).map(SortKey::of),
    heap_bytes: |key| key.as_ref().map_or(0, SortKey::heap_bytes),
};

/// Answers queries; one a process, for the columns it keeps.
#[derive(Debug)]
pub struct Queries {
    numbers: Columns<Numbers>,
    sort_keys: Columns<Option<SortKey>>,
    workplace: Workplace,
}

impl Default for Queries {
    fn default() -> Self {
        Self { numbers: Columns::new(), sort_keys: Columns::new(), workplace: Workplace::new() }
    }
}

impl Queries {
    /// The newest payload, if there is one.
    pub async fn latest(&self, client: &Connection, window: SourceWindow) -> Result<Option<Payload>, Error> {
        payloads::latest(client, window).await
    }

    /// Over what was received in `(now - window, now]`.
    pub async fn aggregate(
        &self,
        client: &Connection,
        window: SourceWindow,
        asked: &Aggregate,
        now: DateTime<Utc>,
    ) -> Result<Aggregated, QueryError> {
        let begin = now - asked.window.length();
        let Some(field) = &asked.field else {
            let count = payloads::count(client, window, (begin, now)).await?;
            return Ok(fold(asked.op, std::iter::repeat_n(1.0, count)));
        };
        let within = |received: DateTime<Utc>| begin < received && received <= now;
        let reading = (&NUMBERS, self.workplace.begin(window.tenant_id));
        let column = self.numbers.of(client, window, field, reading).await?;
        let oldest_first = column.entries.iter().rev().filter(|entry| within(entry.received));
        Ok(fold(asked.op, oldest_first.flat_map(|entry| entry.value.as_slice()).copied()))
    }

    /// With `sort_by` all that is visible is sorted and the limit taken then.
    pub async fn list(
        &self,
        client: &Connection,
        window: SourceWindow,
        asked: &List,
        from: Option<ListPosition>,
    ) -> Result<Page, QueryError> {
        let done = from.map_or(0, |position| position.done).min(asked.limit);
        let left = asked.limit - done;
        if left == 0 {
            return Ok(Page { payloads: Vec::new(), next: None });
        }
        match &asked.sort_by {
            None => Ok(self.by_receipt(client, window, asked.order, from, (done, left)).await?),
            Some(path) => self.sorted(client, window, (path, asked.order), from, (done, left)).await,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what was asked, and where the page begins")]
    async fn by_receipt(
        &self,
        client: &Connection,
        window: SourceWindow,
        order: Order,
        from: Option<ListPosition>,
        (done, left): (u32, u32),
    ) -> Result<Page, Error> {
        let until = match (from, order) {
            (Some(position), _) => position.until,
            (None, Order::Desc) => Uuid::max(),
            // The newest may be on no page but the last.
            (None, Order::Asc) => match payloads::newest(client, window).await? {
                Some(newest) => newest,
                None => return Ok(Page { payloads: Vec::new(), next: None }),
            },
        };
        let span = (i64::from(done), i64::from(left));
        let payloads = payloads::page(client, window, order, until, span, PAGE_BYTES_MAX).await?;
        let until = match (from, order) {
            (None, Order::Desc) => payloads.first().map_or(until, |newest| newest.event_id.0),
            _ => until,
        };
        let taken = payloads.len() as u32;
        let more = taken > 0 && taken < left && {
            let next = (i64::from(done + taken), 1);
            !payloads::page(client, window, order, until, next, 0).await?.is_empty()
        };
        let next = more.then_some(ListPosition { until, done: done + taken });
        Ok(Page { payloads, next })
    }

    #[allow(clippy::too_many_arguments, reason = "what was asked, and where the page begins")]
    async fn sorted(
        &self,
        client: &Connection,
        window: SourceWindow,
        (path, order): (&FieldPath, Order),
        from: Option<ListPosition>,
        (done, left): (u32, u32),
    ) -> Result<Page, QueryError> {
        let select = |column: &Column<Option<SortKey>>| {
            let newest = column.entries.first().map_or(Uuid::max(), |entry| entry.id);
            let until = from.map_or(newest, |position| position.until);
            let seen = column.in_order(order).filter(|id| *id <= until);
            (until, seen.skip(done as usize).take(left as usize).collect::<Vec<_>>())
        };
        // Most often the window is as it was: then what is asked for is what it was, and comes along.
        let (until, asked, payloads) = match self.sort_keys.kept(window, path) {
            None => {
                let reading = (&SORT_KEYS, self.workplace.begin(window.tenant_id));
                let column = self.sort_keys.of(client, window, path, reading).await?;
                let (until, asked) = select(&column);
                let payloads = payloads::named(client, &asked, PAGE_BYTES_MAX).await?;
                (until, asked, payloads)
            }
            Some(kept) => {
                let (_, likely) = select(&kept);
                let (ids, payloads) =
                    try_join(payloads::ids(client, window), payloads::named(client, &likely, PAGE_BYTES_MAX))
                        .await?;
                let reading = (&SORT_KEYS, self.workplace.begin(window.tenant_id));
                let column = self.sort_keys.follow(client, (window, path), kept, &ids, reading).await?;
                let (until, asked) = select(&column);
                let payloads = if asked == likely {
                    payloads
                } else {
                    payloads::named(client, &asked, PAGE_BYTES_MAX).await?
                };
                (until, asked, payloads)
            }
        };
        let taken = payloads.len() as u32;
        let more = taken > 0 && (taken as usize) < asked.len();
        let next = more.then_some(ListPosition { until, done: done + taken });
        Ok(Page { payloads, next })
    }

    /// Work over a result of so many bytes, that is told how much time it has.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        tenant: TenantId,
        bytes: usize,
        work: impl FnOnce(Duration) -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        self.workplace.begin(tenant).run(bytes, true, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_no_larger_than_what_is_stored() {
        let of = |seen, stored| {
            let spec = SourceSpec {
                query_window_payloads: seen,
                max_stored_payloads: stored,
                ..SourceSpec::default()
            };
            SourceWindow::of(TenantId::new(), SourceId::new(), &spec).payloads
        };
        assert_eq!((of(None, None), of(Some(5), None), of(None, Some(7))), (1000, 5, 7));
        assert_eq!((of(Some(5), Some(7)), of(Some(7), Some(5))), (5, 5));
    }

    #[test]
    fn a_query_keeps_its_form() {
        let text = r#"{"type":"aggregate","window":"1h","op":"sum","field":"errors"}"#;
        let query: Query = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&query).unwrap(), text);
        let text = r#"{"type":"list","limit":10,"sort_by":"$.at","order":"asc"}"#;
        let query: Query = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&query).unwrap(), text);
        assert_eq!(serde_json::to_string(&Query::Latest).unwrap(), r#"{"type":"latest"}"#);
    }
}
