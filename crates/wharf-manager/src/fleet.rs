//! The state of the fleet: one task writes it, everybody else reads snapshots of it.
//!
//! **Invariant:** nothing here waits for an engine. A [`Link`] is the way to one; who uses it holds no part of the state.

mod events;
mod job;
mod labels;
mod link;
mod orphans;
mod reader;
mod state;
mod supervisor;
mod watcher;
mod writer;

pub(crate) use self::{
    events::NodeEvent,
    labels::LabelFile,
    link::Link,
    orphans::{Creation, MARK, Orphans},
    supervisor::supervise,
    writer::{Fleet, now},
};
