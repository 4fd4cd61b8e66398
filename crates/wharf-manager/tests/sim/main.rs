//! The manager on simulated engines that fail in every way that engines and networks do.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not there")]

mod creates;
mod state;
mod world;
