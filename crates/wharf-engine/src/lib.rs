//! The Docker Engine API as Wharf speaks it: what engines send ([`wire`]) as values of the model, and a [`Client`] with
//! deadlines, streams and upgrades, over whatever carries it.

mod body;
mod client;
mod error;
mod lines;
mod pulse;
mod tls;
mod transport;
pub mod wire;

pub use crate::{
    body::{Body, BodyError, collect, empty, full, incoming},
    client::Client,
    error::Error,
    lines::Lines,
    pulse::Pulse,
    tls::{TlsClient, TlsError, TlsFiles, TlsServed, TlsServer},
    transport::{Io, Stream},
};
