//! What one field has in each payload of a window, kept between calls.
//!
//! Payloads never change, so what was read of one is true for good; which of them are in the window is
//! asked of Postgres each time, and most often the answer is the same as before: then nothing else is read.
//! What is new is read with its body, as far as there is time ([`super::work`]). What does not fit the memory is
//! read anew.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use uuid::Uuid;

use super::order::{Order, SortKey, sort};
use super::path::FieldPath;
use super::work::Work;
use super::{PAGE_BYTES_MAX, QueryError, SourceWindow};
use crate::id::SourceId;
use crate::store::Connection;
use crate::store::payloads;

/// What all columns of one kind may take.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    source_id: SourceId,
    payloads: u32,
    path: Arc<str>,
}

impl Key {
    fn of(window: SourceWindow, path: &FieldPath) -> Self {
        Self { source_id: window.source_id, payloads: window.payloads, path: path.as_str().into() }
    }
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) id: Uuid,
    pub(super) received: DateTime<Utc>,
    pub(super) value: T,
}

/// The window, newest first.
#[derive(Debug)]
pub(super) struct Column<T> {
    bytes: usize,
    pub(super) entries: Vec<Arc<Entry<T>>>,
    /// The places of the entries in each order, once it was asked for.
    sorted: [OnceLock<Box<[u32]>>; 2],
}

impl<T> Column<T> {
    fn new(entries: Vec<Arc<Entry<T>>>, reading: &Reading<T>) -> Self {
        let each = size_of::<Entry<T>>()
            + 2 * size_of::<usize>()
            + size_of::<Arc<Entry<T>>>()
            + 2 * size_of::<u32>();
        let bytes = entries.iter().map(|entry| each + (reading.heap_bytes)(&entry.value)).sum();
        Self { bytes, entries, sorted: Default::default() }
    }

    /// Whether these are its payloads, in its order.
    fn is_of(&self, ids: &[Uuid]) -> bool {
        self.entries.iter().map(|entry| &entry.id).eq(ids)
    }
}

impl Column<Option<SortKey>> {
    /// Its payloads in that order.
    pub(super) fn in_order(&self, order: Order) -> impl Iterator<Item = Uuid> {
        let places = self.sorted[usize::from(order == Order::Desc)].get_or_init(|| {
            let keys = self.entries.iter().map(|entry| entry.value.as_ref());
            let mut placed: Vec<(u32, Option<&SortKey>)> = (0..).zip(keys).collect();
            sort(&mut placed, order, |(_, key)| *key);
            placed.into_iter().map(|(place, _)| place).collect()
        });
        places.iter().map(|place| self.entries[*place as usize].id)
    }
}

/// How a field is read from a body, and what that takes beside itself.
pub(super) struct Reading<T> {
    pub(super) read: fn(&FieldPath, &[u8]) -> T,
    pub(super) heap_bytes: fn(&T) -> usize,
}

#[derive(Debug)]
pub(super) struct Columns<T: Send + Sync + 'static> {
    kept: Cache<Key, Arc<Column<T>>>,
}

impl<T: Send + Sync + 'static> Columns<T> {
    pub(super) fn new() -> Self {
        let kept = Cache::builder()
            .max_capacity(BYTES_MAX)
            .weigher(|_, column: &Arc<Column<T>>| u32::try_from(column.bytes).unwrap_or(u32::MAX))
            .time_to_idle(IDLE_MAX)
            .build();
        Self { kept }
    }

    /// The column as it was when it was asked for last, if it is remembered.
    pub(super) fn kept(&self, window: SourceWindow, path: &FieldPath) -> Option<Arc<Column<T>>> {
        self.kept.get(&Key::of(window, path))
    }

    /// The column as it is now.
    pub(super) async fn of(
        &self,
        client: &Connection,
        window: SourceWindow,
        path: &FieldPath,
        reading: (&Reading<T>, Work<'_>),
    ) -> Result<Arc<Column<T>>, QueryError> {
        let kept = self.kept(window, path).unwrap_or_else(|| Arc::new(Column::new(Vec::new(), reading.0)));
        let ids = payloads::ids(client, window).await?;
        self.follow(client, (window, path), kept, &ids, reading).await
    }

    /// The column of the payloads that are in the window now; of most the value is known.
    #[allow(clippy::too_many_arguments, reason = "what is known, and what of it is asked")]
    pub(super) async fn follow(
        &self,
        client: &Connection,
        (window, path): (SourceWindow, &FieldPath),
        kept: Arc<Column<T>>,
        ids: &[Uuid],
        (reading, mut work): (&Reading<T>, Work<'_>),
    ) -> Result<Arc<Column<T>>, QueryError> {
        if kept.is_of(ids) {
            return Ok(kept);
        }
        let mut known: HashMap<Uuid, Arc<Entry<T>>> =
            kept.entries.iter().map(|entry| (entry.id, Arc::clone(entry))).collect();
        let unknown: Vec<Uuid> = ids.iter().filter(|id| !known.contains_key(id)).copied().collect();
        let mut rest = &unknown[..];
        let (mut is_whole, mut failed) = (true, None);
        while is_whole && !rest.is_empty() {
            let found = payloads::named(client, rest, PAGE_BYTES_MAX).await?;
            // What comes before the last one and was not found is not stored any more.
            let last = found.last().and_then(|last| rest.iter().position(|id| *id == last.event_id.0));
            rest = last.map_or(&[], |last| &rest[last + 1..]);
            let bodies = found.iter().map(|payload| payload.body.clone()).collect();
            let values = work.read(path, bodies, reading.read).await.unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            });
            is_whole = values.len() == found.len();
            known.extend(found.into_iter().zip(values).map(|(payload, value)| {
                let id = payload.event_id.0;
                (id, Arc::new(Entry { id, received: payload.received, value }))
            }));
        }
        let entries = ids.iter().filter_map(|id| known.remove(id)).collect();
        // Also where there was no time for all of it: who asks next goes on from here, if there is room for it.
        let column = self.keep(window, path, Column::new(entries, reading));
        if is_whole && failed.is_none() {
            return Ok(column);
        }
        let is_kept = column.bytes as u64 <= BYTES_MAX;
        let unfinished = QueryError::Unfinished { read: column.entries.len(), of: ids.len(), is_kept };
        Err(failed.unwrap_or(unfinished))
    }

    fn keep(&self, window: SourceWindow, path: &FieldPath, column: Column<T>) -> Arc<Column<T>> {
        let column = Arc::new(column);
        self.kept.insert(Key::of(window, path), Arc::clone(&column));
        column
    }
}
