//! Which sources have received something since somebody looked.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::SourceId;

/// Where the journal leaves its notes. Sources that nobody asks for cost it one look into a set.
#[derive(Debug, Default)]
pub struct Touched {
    wanted: ArcSwap<HashSet<SourceId>>,
    noted: Mutex<HashSet<SourceId>>,
    some: Notify,
}

impl Touched {
    /// From now on only these sources are noted.
    pub fn want(&self, sources: HashSet<SourceId>) {
        self.wanted.store(Arc::new(sources));
    }

    /// Of each batch, after its commit. No larger than what is wanted.
    pub fn note(&self, sources: impl Iterator<Item = SourceId>) {
        let wanted = self.wanted.load();
        if wanted.is_empty() {
            return;
        }
        let mut sources = sources.filter(|source| wanted.contains(source)).peekable();
        if sources.peek().is_some() {
            self.noted.lock().extend(sources);
            self.some.notify_one();
        }
    }

    /// Waits for notes and takes them.
    pub async fn taken(&self) -> HashSet<SourceId> {
        loop {
            let noted = std::mem::take(&mut *self.noted.lock());
            if !noted.is_empty() {
                return noted;
            }
            self.some.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_wanted_is_noted_and_each_once() {
        let (touched, wanted, other) = (Touched::default(), SourceId::new(), SourceId::new());
        touched.note([wanted].into_iter());
        touched.want([wanted].into());
        touched.note([other].into_iter());
        touched.note([wanted, other, wanted].into_iter());
        assert_eq!(touched.taken().await, HashSet::from([wanted]));
        let again = async { touched.taken().await };
        let (taken, ()) = tokio::join!(again, async { touched.note([wanted].into_iter()) });
        assert_eq!(taken, HashSet::from([wanted]));
    }
}
