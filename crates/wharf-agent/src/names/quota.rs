//! How many may be busy at once: altogether, and for each of those that ask.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
pub(super) struct Quota<K> {
    most: usize,
    most_each: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    quota: Arc<Quota<K>>,
    key: K,
}

// === impl Quota ===

impl<K: Eq + Hash + Clone> Quota<K> {
    pub(super) fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { most, most_each, taken: Mutex::new(Taken { all: 0, each: HashMap::new() }) })
    }

    /// A place for that one, unless it has its share or all are taken.
    pub(super) fn take(self: &Arc<Self>, key: &K) -> Option<Place<K>> {
        let mut taken = self.lock();
        let each = taken.each.get(key).copied().unwrap_or_default();
        if taken.all >= self.most || each >= self.most_each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(key.clone(), each + 1);
        Some(Place { quota: self.clone(), key: key.clone() })
    }
}

impl<K> Quota<K> {
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        // Counts are changed in steps that cannot panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.quota.lock();
        taken.all -= 1;
        // Whoever has a place has a count, so it is always there.
        if let Some(each) = taken.each.get_mut(&self.key) {
            *each -= 1;
            if *each == 0 {
                taken.each.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_its_share_and_all_together_no_more_than_there_is() {
        let quota = Quota::new(3, 2);
        let mut held: Vec<_> = [1, 1, 2].iter().map(|key| quota.take(key).unwrap()).collect();
        assert!(quota.take(&1).is_none());
        assert!(quota.take(&3).is_none());
        held.remove(0);
        assert!(quota.take(&3).is_some());
        drop(held);
        assert!(quota.lock().each.is_empty());
        assert_eq!(quota.lock().all, 0);
    }
}
