//! What one field has in each payload of a window, kept between calls.
//!
//! Payloads never change, so what was read of one is true for good; which of them are in the window is
//! asked of Postgres each time. A column remembers how far it has seen, and only what may have come
//! since is read with its body. What does not fit the memory is read anew.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use uuid::Uuid;

use super::SourceWindow;
use super::path::FieldPath;
use crate::id::SourceId;
use crate::store::payloads::{self, Horizon};
use crate::store::{Connection, Error};

/// What all columns of one kind may take.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    source_id: SourceId,
    payloads: u32,
    path: Arc<str>,
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
    known: Horizon,
    bytes: usize,
    pub(super) entries: Vec<Arc<Entry<T>>>,
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

    /// The column as it is now.
    pub(super) async fn of(
        &self,
        client: &Connection,
        window: SourceWindow,
        path: &FieldPath,
        reading: &Reading<T>,
    ) -> Result<Arc<Column<T>>, Error> {
        let key = Key { source_id: window.source_id, payloads: window.payloads, path: path.as_str().into() };
        let kept = self.kept.get(&key);
        let none = Horizon::none();
        let known = kept.as_ref().map_or(&none, |column| &column.known);
        let entry =
            |id, received, body: &[u8]| Arc::new(Entry { id, received, value: (reading.read)(path, body) });

        // In an unchanged window each row is where it was: no lookup by id.
        let before: &[_] = kept.as_ref().map_or(&[], |column| &column.entries);
        let mut by_id: Option<HashMap<Uuid, &Arc<Entry<T>>>> = None;
        let mut place = 0;
        let mut entries = Vec::with_capacity(before.len() + 1);
        let mut missing = Vec::new();
        let now_known = payloads::scan(client, window, known, |id, fresh| {
            let was = match before.get(place) {
                Some(next) if next.id == id => Some(next),
                _ => {
                    let by_id =
                        by_id.get_or_insert_with(|| before.iter().map(|entry| (entry.id, entry)).collect());
                    by_id.get(&id).copied()
                }
            };
            if was.is_some() {
                place += 1;
            }
            match (was, fresh) {
                (Some(was), _) => entries.push(Some(Arc::clone(was))),
                (None, Some((received, body))) => entries.push(Some(entry(id, received, body))),
                // Into a window that shrank and grew again, for one.
                (None, None) => {
                    missing.push((entries.len(), id));
                    entries.push(None);
                }
            }
        })
        .await?;
        for (at, id) in missing {
            // One by one: bodies may be large, and this is rare.
            let found = payloads::named(client, &[id], i64::MAX).await?;
            entries[at] = found.first().map(|payload| entry(id, payload.received, &payload.body));
        }
        let entries: Vec<_> = entries.into_iter().flatten().collect();
        let each = size_of::<Entry<T>>() + 2 * size_of::<usize>() + size_of::<Arc<Entry<T>>>();
        let bytes = entries.iter().map(|entry| each + (reading.heap_bytes)(&entry.value)).sum();
        let column = Arc::new(Column { known: now_known, bytes, entries });
        self.kept.insert(key, Arc::clone(&column));
        Ok(column)
    }
}
