//! DockerCoins: a worker asks a random number generator for bytes, has them hashed, and keeps the hashes that begin with a
//! zero as coins; a page shows how fast. Each service is slow in a way of its own: that is what one learns from it.

pub mod hasher;
mod http;
pub mod rng;
mod run;
pub mod webui;
pub mod worker;

pub use crate::{
    http::{Answer, serve},
    run::{main, say},
};
