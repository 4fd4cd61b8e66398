//! The DNS server that a node's agent runs for the containers of its node.
//!
//! A container's question arrives with the container's own address. What its networks know by that name is answered
//! from the [`Table`], with authority; everything else is asked of the name servers of the host, or of those that the
//! container's user gave, and kept in a bounded cache.

mod cache;
mod dice;
mod forwarder;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod message;
mod quota;
mod reply;
mod respond;
mod server;
mod stats;
mod table;
#[cfg(test)]
mod testing;
mod upstream;
mod wire;

#[cfg(any(test, fuzzing))]
pub use self::fuzzing::fuzz;
pub use self::{
    server::{Config, Server},
    stats::Stats,
    table::{Answer, Container, Data, Endpoint, Need, Network, NetworkId, Table},
};
