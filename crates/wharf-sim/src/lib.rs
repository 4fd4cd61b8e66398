//! Simulated Docker engines: thousands in one process, each at an address of its own, speaking enough of the Engine API over
//! real HTTP that a manager cannot tell them from real ones; seeded, and with faults on command and on schedule.
//!
//! What is simulated is what a manager sees: containers, images, networks, volumes, events. Nothing runs.

mod answer;
mod api;
mod dice;
mod engine;
mod events;
mod fault;
mod networks;
mod render;
mod serve;
mod sim;

pub use crate::{
    dice::Dice,
    engine::{Containers, Engine, Shape, State},
    fault::{Faults, Step},
    sim::{Listen, Sim},
};
