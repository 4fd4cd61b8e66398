//! The latest changes of a store, and the watches that read them.
//!
//! There is one history for a store and not one queue for a watch: however many watch, and however slowly, memory is
//! bounded by the constants below. Who falls out of the history is told so by [`Event::Resync`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Key, Prefix, Version};

/// This many transactions are remembered: some seconds of a busy fleet.
const COMMIT_LIMIT: usize = 4096;

/// Keys and values of this many bytes are remembered, so that a run of large values does not fill the memory.
const BYTE_LIMIT: usize = 8 << 20;

/// One key's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key holds this value now.
    Put {
        /// Which key.
        key: Key,
        /// Its value.
        value: Bytes,
    },
    /// The key holds nothing now.
    Deleted {
        /// Which key.
        key: Key,
    },
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// One transaction's changes below the prefix, in its order.
    Changed {
        /// The transaction's version, which is also that of each value that it put.
        version: Version,
        /// At least one change.
        changes: Vec<Change>,
    },
    /// Changes were missed. The watch ends with this: list, and watch from the listing's version.
    Resync,
}

/// The latest changes of one store, in the order of their versions.
#[derive(Debug)]
pub struct History {
    commits: Mutex<Commits>,
    latest: watch::Sender<Version>,
}

/// Follows the changes below a prefix.
#[derive(Debug)]
pub struct Watch {
    history: Arc<History>,
    latest: watch::Receiver<Version>,
    prefix: Prefix,
    /// Everything up to here was told.
    position: Version,
}

#[derive(Debug)]
struct Commits {
    /// All changes after this version are held.
    base: Version,
    held: VecDeque<Commit>,
    bytes: usize,
}

#[derive(Debug)]
struct Commit {
    version: Version,
    changes: Vec<Change>,
}

// === impl History ===

impl History {
    /// A history that begins after the version.
    pub fn new(base: Version) -> Arc<Self> {
        let commits = Mutex::new(Commits { base, held: VecDeque::new(), bytes: 0 });
        Arc::new(Self { commits, latest: watch::Sender::new(base) })
    }

    /// Adds a transaction, whose version is greater than all before, and wakes the watches.
    pub fn push(&self, version: Version, changes: Vec<Change>) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        commits.bytes += size(&changes);
        commits.held.push_back(Commit { version, changes });
        while commits.held.len() > COMMIT_LIMIT || commits.bytes > BYTE_LIMIT {
            let Some(oldest) = commits.held.pop_front() else { break };
            commits.bytes -= size(&oldest.changes);
            commits.base = oldest.version;
        }
        drop(commits);
        self.latest.send_replace(version);
    }

    /// Follows the changes below the prefix after the version. One that is yet to come is waited for.
    pub fn watch(self: &Arc<Self>, prefix: &Prefix, from: Version) -> Watch {
        let latest = self.latest.subscribe();
        Watch { history: Arc::clone(self), latest, prefix: prefix.clone(), position: from }
    }

    /// A watch that can only tell [`Event::Resync`], for a version that the store never had.
    pub fn lost(prefix: &Prefix) -> Watch {
        Self::new(Version(u64::MAX)).watch(prefix, Version(0))
    }
}

// === impl Watch ===

impl Watch {
    /// The next event, when it comes. May be dropped and called again. When the store is gone, nothing comes any more.
    pub async fn next(&mut self) -> Event {
        loop {
            // Marked as seen before looking, so that what comes in between wakes the wait below.
            self.latest.mark_unchanged();
            if let Some(event) = self.look() {
                return event;
            }
            // The sender is part of the history, which this watch holds: it cannot be gone.
            if self.latest.changed().await.is_err() {
                return Event::Resync;
            }
        }
    }

    fn look(&mut self) -> Option<Event> {
        let commits = self.history.commits.lock().unwrap_or_else(PoisonError::into_inner);
        if self.position < commits.base {
            return Some(Event::Resync);
        }
        let first = commits.held.partition_point(|commit| commit.version <= self.position);
        for commit in commits.held.range(first..) {
            self.position = commit.version;
            let covered = commit.changes.iter().filter(|change| self.prefix.covers(change.key()));
            let changes: Vec<Change> = covered.cloned().collect();
            if !changes.is_empty() {
                return Some(Event::Changed { version: commit.version, changes });
            }
        }
        None
    }
}

// === impl Change ===

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Deleted { key } => key,
        }
    }
}

fn size(changes: &[Change]) -> usize {
    let bytes = |change: &Change| match change {
        Change::Put { key, value } => key.as_str().len() + value.len(),
        Change::Deleted { key } => key.as_str().len(),
    };
    changes.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(name: &str) -> Vec<Change> {
        vec![Change::Deleted { key: Key::new(name).unwrap() }]
    }

    #[tokio::test]
    async fn the_count_of_remembered_transactions_is_bounded() {
        let history = History::new(Version(0));
        let limit = COMMIT_LIMIT as u64;
        for version in 1..=limit + 1 {
            history.push(Version(version), deleted("a"));
        }
        assert_eq!(history.watch(&Prefix::all(), Version(0)).next().await, Event::Resync);
        let event = history.watch(&Prefix::all(), Version(1)).next().await;
        assert_eq!(event, Event::Changed { version: Version(2), changes: deleted("a") });
    }

    #[tokio::test]
    async fn other_prefixes_do_not_hold_a_watch_up() {
        let history = History::new(Version(0));
        let mut watch = history.watch(&Prefix::new("a/").unwrap(), Version(0));
        history.push(Version(1), deleted("b/1"));
        history.push(Version(2), deleted("a/1"));
        assert_eq!(watch.next().await, Event::Changed { version: Version(2), changes: deleted("a/1") });
    }
}
