//! The Docker API in front of the fleet.
//!
//! **Invariant:** every operation of the API has exactly one row in [`routes::ROUTES`], and a request is answered by its
//! row alone. Handlers return a `Result`; one place turns an error into an answer.

mod answer;
mod archive;
mod build;
mod call;
mod choose;
mod containers;
mod dispatch;
mod doctor;
mod events;
mod everywhere;
mod execs;
mod explain;
mod forward;
mod hijack;
mod images;
mod links;
mod listen;
mod local;
mod networks;
mod newer;
mod nodes;
mod owner;
mod pattern;
mod place;
mod platform;
mod plugins;
mod pull;
mod registry;
mod routes;
mod serve;
mod transfer;
mod upload;
mod volumes;

use self::listen::Peer;
pub use self::listen::{Access, ListenError, Listener};
pub(crate) use self::{
    answer::{failure, of_engine, with_status},
    build::BuildKits,
    call::{App, container},
    execs::Execs,
    serve::serve,
    transfer::Transfers,
};
#[cfg(any(test, fuzzing))]
pub(crate) use self::{dispatch::captured, hijack::rewritten};
