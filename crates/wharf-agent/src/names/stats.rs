//! What the server did.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the server did since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Everything that came, also what made no sense.
    pub queries: u64,
    /// Answered from the table, with authority.
    pub answered: u64,
    /// Asked of upstreams; equal questions at the same time are asked once.
    pub forwarded: u64,
    /// Answered from what upstreams said before.
    pub cache_hits: u64,
    /// Answered with SERVFAIL: no upstream knew an answer in time, or too much was asked at once.
    pub failures: u64,
    /// Refused: who asked is no container of ours.
    pub refused: u64,
    /// Malformed, or nothing that this server does.
    pub malformed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// [`Stats`] as they grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) queries: Counter,
    pub(super) answered: Counter,
    pub(super) forwarded: Counter,
    pub(super) cache_hits: Counter,
    pub(super) failures: Counter,
    pub(super) refused: Counter,
    pub(super) malformed: Counter,
}

impl Counter {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self) -> Stats {
        Stats {
            queries: self.queries.get(),
            answered: self.answered.get(),
            forwarded: self.forwarded.get(),
            cache_hits: self.cache_hits.get(),
            failures: self.failures.get(),
            refused: self.refused.get(),
            malformed: self.malformed.get(),
        }
    }
}
