//! A map that is cheap to copy and change a little: shards are shared between copies until changed.
//!
//! A snapshot is replaced as a whole at each configuration write; with a plain map every write would
//! copy every endpoint there is.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, LazyLock};

/// Entries of a shard, on average, before the map is spread over more of them.
const SHARD_FILL: usize = 64;
const SPREAD: usize = 4;

/// One seed for all: copies of a map must agree on the shard of a key.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[derive(Debug, Clone)]
pub(super) struct Sharded<K, V> {
    shards: Vec<Arc<HashMap<K, V>>>,
    len: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { shards: Vec::new(), len: 0 }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Sharded<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        self.shards[self.shard(key)].get(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.len >= self.shards.len() * SHARD_FILL {
            self.spread();
        }
        let shard = self.shard(&key);
        if Arc::make_mut(&mut self.shards[shard]).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Looked at first: a key that is not there copies no shard.
        self.get(key)?;
        let shard = self.shard(key);
        let removed = Arc::make_mut(&mut self.shards[shard]).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Changes the value of a key, which is made when missing and dropped when `change` says it is
    /// of no more use.
    pub(super) fn change<Q>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> Use)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
        V: Default,
    {
        if self.get(key).is_none() {
            self.insert(key.to_owned(), V::default());
        }
        let shard = self.shard(key);
        let entries = Arc::make_mut(&mut self.shards[shard]);
        if let Some(value) = entries.get_mut(key)
            && change(value) == Use::None
        {
            entries.remove(key);
            self.len -= 1;
        }
    }

    /// Only of a map that has shards.
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The number of shards is a power of two.
        HASHER.hash_one(key) as usize & (self.shards.len() - 1)
    }

    fn spread(&mut self) {
        let wanted = (self.shards.len() * SPREAD).max(1);
        let mut shards: Vec<HashMap<K, V>> = (0..wanted).map(|_| HashMap::new()).collect();
        for shard in self.shards.drain(..) {
            for (key, value) in Arc::unwrap_or_clone(shard) {
                let at = HASHER.hash_one(&key) as usize & (wanted - 1);
                shards[at].insert(key, value);
            }
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }
}

/// Whether a value is worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Some,
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_had() {
        let mut map: Sharded<u32, u32> = Sharded::default();
        assert_eq!((map.remove(&1), map.get(&1), map.len()), (None, None, 0));
        for n in 0..10_000 {
            map.insert(n, n);
        }
        let copy = map.clone();
        map.insert(3, 30);
        assert_eq!(map.remove(&4), Some(4));
        map.insert(10_000, 0);
        assert_eq!((map.len(), copy.len()), (10_000, 10_000));
        assert_eq!((map.get(&3), map.get(&4), map.get(&10_000)), (Some(&30), None, Some(&0)));
        assert_eq!((copy.get(&3), copy.get(&4), copy.get(&10_000)), (Some(&3), Some(&4), None));
        assert_eq!(copy.values().map(|n| u64::from(*n)).sum::<u64>(), 49_995_000);
    }

    #[test]
    fn a_small_change_copies_one_shard() {
        let mut map: Sharded<u32, u32> = Sharded::default();
        for n in 0..10_000 {
            map.insert(n, n);
        }
        let copy = map.clone();
        map.insert(3, 30);
        let own = map.shards.iter().zip(&copy.shards).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!(own, 1);
        assert!(map.shards.len() > 100);
    }

    #[test]
    fn values_come_and_go_by_change() {
        let mut map: Sharded<String, u32> = Sharded::default();
        for _ in 0..2 {
            map.change("a", |n| {
                *n += 1;
                Use::Some
            });
        }
        assert_eq!((map.get("a"), map.len()), (Some(&2), 1));
        map.change("a", |_| Use::None);
        assert_eq!((map.get("a"), map.len()), (None, 0));
    }
}
