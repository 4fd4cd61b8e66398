use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is wrong with an engine. The default is nothing. Shares are in per mille of the requests, or of the events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Every answer comes so much later.
    pub delay_ms: u64,
    /// Requests are taken and never answered, until this is lifted.
    pub hung: bool,
    /// Connections are closed as soon as they are made, and those that are open at once.
    pub refusing: bool,
    /// Requests whose connection is reset before anything was done.
    pub reset: u16,
    /// Changes that are done, and whose connection is reset in the place of an answer.
    pub lose_answers: u16,
    /// Requests that fail with a 500.
    pub failing: u16,
    /// Events that are never sent.
    pub drop_events: u16,
    /// Events that are sent twice.
    pub double_events: u16,
    /// Events that are sent after the next one.
    pub reorder_events: u16,
    /// How far its clock is ahead (or, below zero, behind).
    pub clock_ahead_ms: i64,
}

impl Faults {
    /// Takes connections and requests, and never answers.
    pub fn hung() -> Self {
        Self { hung: true, ..Self::default() }
    }

    /// Takes no connection.
    pub fn refusing() -> Self {
        Self { refusing: true, ..Self::default() }
    }

    pub(crate) fn delay(&self) -> Option<Duration> {
        (self.delay_ms > 0).then(|| Duration::from_millis(self.delay_ms))
    }
}

/// One step of a schedule: after a pause, an engine gets these faults.
#[derive(Debug, Clone)]
pub struct Step {
    /// How long after the step before.
    pub after: Duration,
    /// Which engine, by its number.
    pub engine: usize,
    /// What is wrong with it from then on.
    pub faults: Faults,
}
