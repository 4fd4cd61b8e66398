//! Where what must outlive a manager is kept: small values under keys, changed by compare-and-swap, followed by watches.
//!
//! [`Memory`] is the specification; [`File`] keeps the same promises across restarts. Every store passes the suite in
//! `conformance`.
//!
//! **Invariant:** no leases and no sessions. What expires is a record that its owner renews and others judge by their
//! own clocks.

mod error;
mod file;
mod history;
mod key;
mod memory;
mod record;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;

use std::{collections::BTreeSet, fmt, pin::Pin};

use bytes::Bytes;

pub use self::{
    error::{Error, Invalid},
    file::File,
    history::{Change, Event, History, Watch},
    key::{KEY_LIMIT, Key, KeyError, Prefix},
    memory::Memory,
    record::{Record, RecordError},
};

/// The most bytes of the values of one transaction. Consul takes 512 KiB a request, in which values are base64.
pub const VALUE_LIMIT: usize = 256 << 10;

/// The most checks and operations of one transaction together. Consul takes 64, etcd 128.
pub const TRANSACTION_LIMIT: usize = 64;

/// What a store's method gives: a boxed future, so that stores can be chosen at run time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A count of a store's changes: every transaction that changes something gets the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The transaction that put it.
    pub version: Version,
}

/// What a key must hold for a change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// Nothing.
    Absent,
    /// The value that was put by this version.
    Version(Version),
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which key.
    pub key: Key,
    /// What it must hold.
    pub expect: Expect,
}

/// A change that a transaction makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The key holds this value from now on.
    Put {
        /// Which key.
        key: Key,
        /// Its new value.
        value: Bytes,
    },
    /// The key holds nothing from now on.
    Delete {
        /// Which key.
        key: Key,
    },
}

/// All that is stored below a prefix, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The values in the order of their keys.
    pub entries: Vec<(Key, Versioned)>,
    /// The store's version at that moment: a watch from here misses nothing.
    pub version: Version,
}

/// A store of small values.
///
/// Reads and writes are linearizable: what was answered is seen by whoever asks afterwards, through whichever manager.
/// A write whose future is dropped, or that fails with [`Error::Unavailable`] or [`Error::Broken`], may have happened.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// What the key holds.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Versioned>>;

    /// What is stored below the prefix.
    fn list<'a>(&'a self, prefix: &'a Prefix) -> Answer<'a, Listing>;

    /// Makes all the changes, in one version, if all the checks hold; else none, and the error is the first
    /// [`Error::Conflict`]. Gives the store's version afterwards: the new one, or the present one if nothing had to
    /// change. No key may be changed twice in one transaction.
    fn transact(&self, checks: Vec<Check>, operations: Vec<Operation>) -> Answer<'_, Version>;

    /// Follows the changes below the prefix that came after the version, which is that of a [`Listing`] or of a change.
    fn watch<'a>(&'a self, prefix: &'a Prefix, from: Version) -> Answer<'a, Watch>;

    /// Stores a value if the key holds what is expected. Gives the value's version.
    fn put(&self, key: &Key, value: Bytes, expect: Expect) -> Answer<'_, Version> {
        self.transact(vec![Check { key: key.clone(), expect }], vec![Operation::Put { key: key.clone(), value }])
    }

    /// Removes a value if the key holds what is expected. Gives the store's version afterwards.
    fn delete(&self, key: &Key, expect: Expect) -> Answer<'_, Version> {
        self.transact(vec![Check { key: key.clone(), expect }], vec![Operation::Delete { key: key.clone() }])
    }
}

// === impl Version ===

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

// === impl Check ===

impl Check {
    /// Whether it holds, given the version of what the key holds.
    fn hold(&self, current: Option<Version>) -> Result<(), Error> {
        let holds = match self.expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Version(version) => current == Some(version),
        };
        if holds { Ok(()) } else { Err(Error::Conflict { key: self.key.clone(), current }) }
    }
}

// === impl Operation ===

impl Operation {
    /// The key that it changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Refuses a transaction that some back end could not take.
fn admit(checks: &[Check], operations: &[Operation]) -> Result<(), Invalid> {
    let count = checks.len() + operations.len();
    if count > TRANSACTION_LIMIT {
        return Err(Invalid::Many(count));
    }
    let mut bytes = 0;
    let mut keys = BTreeSet::new();
    for operation in operations {
        if let Operation::Put { value, .. } = operation {
            bytes += value.len();
        }
        if !keys.insert(operation.key()) {
            return Err(Invalid::Twice(operation.key().clone()));
        }
    }
    if bytes > VALUE_LIMIT {
        return Err(Invalid::Large(bytes));
    }
    Ok(())
}
