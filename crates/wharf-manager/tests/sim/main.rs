//! The manager on simulated engines that fail in every way that engines and networks do.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not there")]

mod addresses;
mod agent;
mod creates;
mod spanned;
mod state;
mod told;
mod world;
