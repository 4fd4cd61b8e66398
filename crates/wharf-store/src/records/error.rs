//! How a store fails.

use std::{error, sync::Arc};

use super::{Key, TRANSACTION_LIMIT, VALUE_LIMIT, Version};

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The key does not hold what was expected. Nothing was changed.
    #[error("key {key} {}, which was not expected", held(*.current))]
    Conflict {
        /// Which key.
        key: Key,
        /// The version of what it holds.
        current: Option<Version>,
    },
    /// The store cannot be used now; later it may.
    #[error("store {store}: {problem}")]
    Unavailable {
        /// Which store: a file or an address.
        store: String,
        /// What is in the way.
        problem: &'static str,
        /// What the back end says.
        source: Option<Arc<dyn error::Error + Send + Sync>>,
    },
    /// No store takes this. Nothing was changed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store does not work, and trying again does not help.
    #[error("store {store}: {problem}")]
    Broken {
        /// Which store: a file or an address.
        store: String,
        /// What is wrong with it.
        problem: String,
        /// What the back end says.
        source: Option<Arc<dyn error::Error + Send + Sync>>,
    },
}

/// What is wrong with a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Its values are too large together.
    #[error("the values have {0} bytes; {VALUE_LIMIT} are allowed")]
    Large(usize),
    /// It has too many parts.
    #[error("the transaction has {0} checks and operations; {TRANSACTION_LIMIT} are allowed")]
    Many(usize),
    /// It changes a key twice.
    #[error("the transaction changes key {0} twice")]
    Twice(Key),
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

fn held(current: Option<Version>) -> String {
    current.map_or_else(|| "holds nothing".to_owned(), |version| format!("holds version {version}"))
}
