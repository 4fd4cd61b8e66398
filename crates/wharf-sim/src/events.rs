//! An engine's event stream: a short history, and those who follow it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{Dice, Faults};

/// Events that a later subscription can ask for. A real engine keeps 64, and lets a slow reader wait for ever.
const KEPT: usize = 4096;

#[derive(Debug)]
pub(crate) struct Events {
    log: Mutex<Log>,
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    /// The number of the first line that is kept.
    first: u64,
    lines: VecDeque<Arc<Line>>,
    /// A line that is to be sent after the next.
    late: Option<Arc<Line>>,
}

/// An event as it is sent, and when it happened by the engine's clock.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) nanos: i64,
    pub(crate) text: String,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { log: Mutex::default(), count: watch::channel(0).0 }
    }

    pub(crate) fn publish(&self, line: Line, faults: &Faults, dice: &mut Dice) {
        if dice.per_mille(faults.drop_events) {
            return;
        }
        let line = Arc::new(line);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if dice.per_mille(faults.reorder_events) && log.late.is_none() {
            log.late = Some(line);
            return;
        }
        if dice.per_mille(faults.double_events) {
            log.push(Arc::clone(&line));
        }
        log.push(line);
        if let Some(late) = log.late.take() {
            log.push(late);
        }
        let count = log.first + log.lines.len() as u64;
        drop(log);
        self.count.send_replace(count);
    }

    /// Where a subscription begins: at what happens next, or after a time.
    pub(crate) fn begin(&self, since: Option<i64>) -> u64 {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let end = log.first + log.lines.len() as u64;
        let Some(since) = since else { return end };
        log.lines.iter().position(|line| line.nanos >= since).map_or(end, |at| log.first + at as u64)
    }

    /// The line of that number, when it is there; and the number of the next.
    pub(crate) async fn next(&self, number: u64) -> (Arc<Line>, u64) {
        let mut count = self.count.subscribe();
        loop {
            {
                let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                let number = number.max(log.first);
                let index = usize::try_from(number - log.first).unwrap_or(usize::MAX);
                if let Some(line) = log.lines.get(index) {
                    return (Arc::clone(line), number + 1);
                }
            }
            // The sender is as old as the engine: it does not go away while it is followed.
            if count.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Log {
    fn push(&mut self, line: Arc<Line>) {
        self.lines.push_back(line);
        if self.lines.len() > KEPT {
            self.lines.pop_front();
            self.first += 1;
        }
    }
}
