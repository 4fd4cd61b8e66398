//! The Docker Engine API as Wharf speaks it: what engines send ([`wire`]) as values of the model, and a client.

pub mod wire;
