//! The agent of a node: it joins the containers of its node to those of the others, and answers for their names.
//!
//! It is told what there is to do by a manager and keeps to what it was told last while there is none. What it makes is
//! kernel state: containers keep talking while it is replaced.

mod agent;
mod credentials;
mod manager;
pub mod names;
mod probe;
pub mod wire;
mod wiring;

use std::{net::SocketAddr, path::PathBuf};

pub use crate::agent::{Error, cleanup, run};

/// What an agent is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the manager is.
    pub manager: SocketAddr,
    /// A join token; needed once, and again if the fleet has another certificate authority. `None` also where a file `token`
    /// in the data folder has one.
    pub token: Option<String>,
    /// A folder of its own, for its key and what it was told.
    pub data: PathBuf,
    /// Where the host's files are; `None` where they are its own.
    pub root: Option<PathBuf>,
    /// The Docker engine of the host, by which the node is known that an agent is of which somebody started by hand.
    pub engine: wharf_model::Endpoint,
    /// What is told of its version.
    pub version: String,
}
