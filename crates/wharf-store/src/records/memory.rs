//! The store that forgets with its process. It is the specification of all others.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Answer, Change, Check, Error, History, Key, Listing, Operation, Prefix, Store, Version, Versioned, Watch};

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    history: Arc<History>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Versioned>,
    version: Version,
}

// === impl Memory ===

impl Default for Memory {
    fn default() -> Self {
        Self { state: Mutex::default(), history: History::new(Version::default()) }
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, checks: &[Check], operations: Vec<Operation>) -> Result<Version, Error> {
        super::admit(checks, &operations)?;
        let mut state = self.state();
        for check in checks {
            check.hold(state.entries.get(&check.key).map(|held| held.version))?;
        }
        let version = Version(state.version.0 + 1);
        let mut changes = Vec::new();
        for operation in operations {
            match operation {
                Operation::Put { key, value } => {
                    state.entries.insert(key.clone(), Versioned { value: value.clone(), version });
                    changes.push(Change::Put { key, value });
                }
                Operation::Delete { key } => {
                    if state.entries.remove(&key).is_some() {
                        changes.push(Change::Deleted { key });
                    }
                }
            }
        }
        if !changes.is_empty() {
            state.version = version;
            // Under the lock, so that the history has the order of the versions.
            self.history.push(version, changes);
        }
        Ok(state.version)
    }
}

impl Store for Memory {
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>> {
        Box::pin(async { Ok(self.state().entries.get(key).cloned()) })
    }

    fn list<'a>(&'a self, prefix: &'a Prefix) -> Answer<'a, Listing> {
        Box::pin(async {
            let state = self.state();
            let from = state.entries.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
            let below = from.take_while(|(key, _)| prefix.covers(key));
            let entries = below.map(|(key, value)| (key.clone(), value.clone())).collect();
            Ok(Listing { entries, version: state.version })
        })
    }

    fn transact(&self, checks: Vec<Check>, operations: Vec<Operation>) -> Answer<'_, Version> {
        Box::pin(async move { self.commit(&checks, operations) })
    }

    fn watch<'a>(&'a self, prefix: &'a Prefix, from: Version) -> Answer<'a, Watch> {
        Box::pin(async move {
            let present = self.state().version;
            Ok(if from > present { History::lost(prefix) } else { self.history.watch(prefix, from) })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::conformance::conformance;

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_conforms() {
        conformance(async || Arc::new(Memory::new()) as Arc<dyn Store>).await;
    }
}
